"""One pass of any Hugging Face model over a batch of full sequences: inference, or forward, loss and backward.

Unlike the client's step it has no data set: every sequence has the same length and no padding. The loss is the cross
entropy of the logits with labels at the same positions, without a shift; it has a phase of its own, so that forward and
backward are those of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError, WorkloadError
from ..profiler.phases import phase
from .client_config import PRECISIONS, ClientConfig
from .heads import choose_head
from .huggingface import check_positions, check_takes_tokens, load_model
from .optimizers import OptimizerSettings, build_optimizer
from .precision import Precision

if TYPE_CHECKING:
    import torch

MODES = ("train", "inference")


class Sequences(NamedTuple):
    """Token ids of one batch, (batch, length) each; ``decoder_ids`` only for an encoder with a decoder."""

    input_ids: torch.Tensor
    decoder_ids: torch.Tensor | None


@dataclass(frozen=True)
class PassResult:
    """What a pass leaves behind: the loss (None at inference) and how many tokens it took."""

    loss: Any
    tokens: int
    padded_tokens: int


def build_model_step(
    model: str,
    mode: str = "train",
    *,
    batch: int,
    sequence: int,
    target_sequence: int | None = None,
    precision: str = "fp32",
    attention: str = "eager",
    optimizer: str | None = None,
    head: str = "auto",
    settings: OptimizerSettings | None = None,
    random_weights: bool = False,
    experts: str | None = None,
) -> ModelStep:
    """Build a model on the CPU with a batch of tokens that are all alike.

    Args:
        model: a name that :func:`~.huggingface.resolve_model` knows, such as the path of a ``config.json``.
        mode: ``"train"`` or ``"inference"``.
        batch: sequences.
        sequence: tokens of each.
        target_sequence: tokens that the decoder beside an encoder reads; None means as many.
        precision: one of :data:`~.client_config.PRECISIONS`.
        attention: ``"eager"``, ``"sdpa"``, or :data:`~.classic_attention.CLASSIC`.
        optimizer: name in the registry; None ends the step after backward.
        head: class of transformers, or ``"auto"``, see :func:`~.heads.choose_head`.
        settings: of the optimizer.
        random_weights: see :func:`~.huggingface.load_model`.
        experts: see :func:`~.huggingface.load_model`.

    Raises:
        UsageError: an argument makes no sense.
        WorkloadError: transformers cannot build the model.
    """
    _check(model, mode, batch, sequence, target_sequence, precision)

    def model_class(config: Any) -> Any:
        return choose_head(config, mode, head)

    loaded = load_model(
        model, attention=attention, random_weights=random_weights, head=model_class, experts=experts
    )  # fmt: skip
    check_takes_tokens(loaded)
    check_positions(loaded, max(sequence, target_sequence or 0))
    if precision == "bf16-pure":
        loaded.model.to(Precision(precision, "cpu").weights)
    encoder_decoder = loaded.model.config.is_encoder_decoder
    sequences = Sequences(
        _tokens(batch, sequence), _tokens(batch, target_sequence or sequence) if encoder_decoder else None
    )
    chosen = None
    if optimizer and mode == "train":
        trainable = [parameter for parameter in loaded.model.parameters() if parameter.requires_grad]
        chosen = build_optimizer(optimizer, trainable, settings or OptimizerSettings())
    workload = {
        "model": loaded.source.title,
        "model_source": loaded.source.location,
        "weights": loaded.description,
        "architecture": type(loaded.model).__name__,
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "trainable_parameters": sum(p.numel() for p in loaded.model.parameters() if p.requires_grad),
        "mode": mode,
        "batch_size": batch,
        "source_length": sequence,
        "target_length": 0 if sequences.decoder_ids is None else sequences.decoder_ids.shape[1],
        "precision": precision,
        "precision_detail": PRECISIONS[precision],
        "optimizer": optimizer or "none",
        "attention": attention,
        "data": "full sequences of one token",
        "tokens": "all",
    }
    return ModelStep(
        loaded.model, sequences, workload, precision=Precision(precision, "cpu"), training=mode == "train",
        optimizer=chosen,
    )  # fmt: skip


def _check(model: str, mode: str, batch: int, sequence: int, target_sequence: int | None, precision: str) -> None:
    if mode not in MODES:
        raise UsageError(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
    # The client's configuration checks these in the same words.
    ClientConfig(
        model=model, batch_size=batch, source_length=sequence, target_length=target_sequence or 1,
        precision=precision, device="cuda",
    )  # fmt: skip


def _tokens(batch: int, length: int) -> torch.Tensor:
    """Token ids with values, whether or not other tensors are fake: what a model runs may depend on its mask."""
    import numpy as np
    import torch

    return torch.from_numpy(np.ones((batch, length), dtype=np.int64))


class ModelStep:
    """A model, its batch, and the pass over it.

    Attributes:
        model: in training mode, or in evaluation mode for inference.
        optimizer: None ends the step after backward, and leaves the gradients to the next one, which adds to them.
        batches: the one batch there is.
        scaler: of the loss, for fp16; None otherwise.
    """

    def __init__(
        self,
        model: Any,
        batch: Sequences,
        workload: dict[str, Any],
        *,
        precision: Precision,
        training: bool = True,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.batches = (batch,)
        self.precision = precision
        self.training = training
        self._workload = workload
        self.scaler = precision.scaler() if training and optimizer is not None else None
        model.train(training)

    @property
    def device(self) -> torch.device:
        """Where the step runs."""
        return self.batches[0].input_ids.device

    def padded_tokens(self, batch: Sequences) -> int:
        """Tokens of ``batch``."""
        return sum(ids.numel() for ids in batch if ids is not None)

    def describe(self) -> dict[str, Any]:
        """The ``workload`` entry of ``run.json``."""
        return self._workload

    def run(self, batch: Sequences) -> PassResult:
        """Run one pass."""
        with self.precision.matrix_products():
            loss = None
            if self.training:
                loss = self._train(batch)
            else:
                self._infer(batch)
        tokens = self.padded_tokens(batch)
        return PassResult(loss, tokens, tokens)

    def _infer(self, batch: Sequences) -> None:
        import torch

        with phase("forward"), torch.no_grad(), self.precision.autocast():
            self._forward(batch)

    def _train(self, batch: Sequences) -> torch.Tensor:
        if self.optimizer is not None:
            with phase("zero_grad"):
                self.optimizer.zero_grad(set_to_none=True)
        with phase("forward"), self.precision.autocast():
            output = self._forward(batch)
        with phase("loss"), self.precision.autocast():
            loss = _loss(output, batch)
        del output
        with phase("backward"):
            (self.scaler.scale(loss) if self.scaler else loss).backward()
        if self.optimizer is not None:
            with phase("optimizer"):
                self._update()
        return loss.detach()

    def _forward(self, batch: Sequences) -> Any:
        arguments: dict[str, Any] = {"input_ids": batch.input_ids}
        if batch.decoder_ids is not None:
            arguments["decoder_input_ids"] = batch.decoder_ids
        return self.model(**arguments)

    def _update(self) -> None:
        assert self.optimizer is not None
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()


def _loss(output: Any, batch: Sequences) -> torch.Tensor:
    from torch.nn import functional

    logits = next((output[key] for key in ("prediction_logits", "logits") if output.get(key) is not None), None)
    if logits is None:
        raise WorkloadError("the model gives no logits to train on; name a class with a head, such as BertForMaskedLM")
    labels = batch.input_ids if batch.decoder_ids is None else batch.decoder_ids
    if logits.shape[:-1] != labels.shape:  # one label a sequence, as in classification
        labels = labels[:, 0] % logits.shape[-1]
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
