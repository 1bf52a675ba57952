"""The step that profilers watch: its phases, its loss, its answer when memory runs out."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import OutOfMemoryError
from ..profiler.phases import phase
from .batches import TOKEN_DEFINITION, Collator, HostBatch, StepBatch, plan_steps
from .client_config import PRECISIONS, ClientConfig
from .huggingface import LoadedModel
from .losses import causal_loss, chunked_seq2seq_loss, decoder_states, fused_seq2seq_loss, seq2seq_loss
from .memory import available_bytes, fitting_batch, is_out_of_memory, saved_bytes
from .optimizers import OptimizerSettings, build_optimizer, clips_itself, optimizer_spec
from .precision import Precision
from .samsum import Dataset
from .vocabulary import end_token

if TYPE_CHECKING:
    import torch

_DTYPES = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float64": "fp64"}

#: What to try when weights, gradients and optimizer states are too much.
SMALLER_STATE = "LoRA, precision bf16-pure, an optimizer with fewer states, or a smaller model"


@dataclass(frozen=True)
class StepResult:
    """What a step leaves behind.

    Attributes:
        loss: mean loss per target token, still on the device: reading it waits for the step.
        tokens: source + target tokens without padding.
        padded_tokens: with padding.
        examples: dialogues in the step.
    """

    loss: torch.Tensor
    tokens: int
    padded_tokens: int
    examples: int


class ParameterInfo(NamedTuple):
    """One parameter of the model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    trainable: bool


class Inputs(NamedTuple):
    """A micro-batch on the device."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


class ClientStep:
    """One client's model, optimizer and data, and the step that trains them.

    Attributes:
        config: what it was built from.
        model: the model, in training mode, on the device.
        optimizer: over the trainable parameters.
        batches: the batches of the client's local training, for :meth:`run`, in any order and any number of times.
        dataset: the client's examples.
        scaler: of the loss, for fp16; None otherwise.
    """

    def __init__(
        self, config: ClientConfig, loaded: LoadedModel, dataset: Dataset, precision: Precision | None = None
    ) -> None:
        self.config = config
        self.model = loaded.model
        self.dataset = dataset
        self.batches = plan_steps(
            dataset, config.micro_batch, config.gradient_accumulation, config.local_epochs, config.seed, config.steps
        )
        self.precision = precision or Precision(config.precision, config.device)
        self._loaded = loaded
        self._trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        settings = OptimizerSettings(config.learning_rate, config.weight_decay, config.device, config.clip_norm)
        self.optimizer = build_optimizer(config.optimizer, self._trainable, settings)
        self.scaler = self.precision.scaler()
        self._collate = _collator(config, loaded)

    def run(self, batch: StepBatch) -> StepResult:
        """Train on one batch.

        Args:
            batch: one of :attr:`batches`.

        Raises:
            OutOfMemoryError: the step does not fit; the message names a batch size that should. Gradients are gone,
                the weights are those of before the step.
        """
        try:
            with self.precision.matrix_products():
                return self._run(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, outside the handler, have the failed step's tensors been freed.
        raise OutOfMemoryError(self.memory_advice(len(batch[0])))

    @property
    def device(self) -> torch.device:
        """Where the step runs."""
        import torch

        return torch.device(self.config.device)

    def padded_tokens(self, batch: StepBatch) -> int:
        """Size of ``batch`` with padding: source + target tokens."""
        return sum(self._collate(examples).padded_tokens for examples in batch)

    def describe(self) -> dict[str, Any]:
        """The ``workload`` entry of ``run.json``: everything needed to run the same again."""
        config = self.config
        return {
            "model": self._loaded.source.title,
            "model_source": self._loaded.source.location,
            "weights": self._loaded.description,
            "architecture": type(self.model).__name__,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "trainable_parameters": sum(parameter.numel() for parameter in self._trainable),
            "batch_size": config.micro_batch,
            "gradient_accumulation": config.gradient_accumulation,
            "source_length": config.source_length,
            "target_length": config.target_length,
            "padding": config.padding,
            "precision": config.precision,
            "precision_detail": PRECISIONS[config.precision],
            "optimizer": config.optimizer,
            "optimizer_detail": optimizer_spec(config.optimizer).description,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "clip_norm": config.clip_norm,
            "attention": config.attention,
            "checkpointing": config.checkpointing,
            "fused": config.fused,
            "chunked_loss": config.chunked_loss,
            "lora_rank": config.lora_rank,
            "dropout": config.dropout,
            "data": self.dataset.description,
            "dialogues": len(self.dataset),
            "tokens": TOKEN_DEFINITION,
            "local_epochs": config.local_epochs,
            "steps": len(self.batches),
            "client": config.client,
            "clients": config.clients,
            "seed": config.seed,
            "device": config.device,
        }

    def parameter_manifest(self) -> list[ParameterInfo]:
        """Every parameter once, in the model's order: traces lose the shapes of long tensor lists."""
        return [
            ParameterInfo(name, tuple(p.shape), _DTYPES.get(str(p.dtype), str(p.dtype)), p.numel(), p.requires_grad)
            for name, p in self.model.named_parameters()
        ]

    def _run(self, batch: StepBatch) -> StepResult:
        losses, hosts = [], []
        loss_tokens = sum(self._collate.loss_tokens(examples) for examples in batch) if len(batch) > 1 else 0
        for index, examples in enumerate(batch):
            with phase("data"):
                host = self._collate(examples)
                inputs = self._to_device(host)
            if index == 0:
                with phase("zero_grad"):
                    self.optimizer.zero_grad(set_to_none=True)
            loss = self._forward_loss(inputs)
            with phase("backward"):
                # Micro-batches count by their target tokens, so that accumulation equals one large batch.
                weighted = loss * (host.loss_tokens / loss_tokens) if len(batch) > 1 else loss
                (self.scaler.scale(weighted) if self.scaler else weighted).backward()
            losses.append(weighted.detach())
            hosts.append(host)
        with phase("optimizer"):
            self._update()
        return StepResult(
            loss=sum(losses[1:], losses[0]),
            tokens=sum(host.tokens for host in hosts),
            padded_tokens=sum(host.padded_tokens for host in hosts),
            examples=sum(map(len, batch)),
        )

    def _to_device(self, host: HostBatch) -> Inputs:
        import torch

        tensors = [torch.from_numpy(array) for array in (host.input_ids, host.attention_mask, host.labels)]
        if self.config.device != "cpu":
            tensors = [tensor.pin_memory().to(self.config.device, non_blocking=True) for tensor in tensors]
        return Inputs(*tensors)

    def _forward_loss(self, inputs: Inputs) -> torch.Tensor:
        with phase("forward"), self.precision.autocast():
            output = self._output(inputs)
        with phase("loss"), self.precision.autocast():
            return self._loss(output, inputs.labels)

    def _output(self, inputs: Inputs) -> torch.Tensor:
        """Logits, or what they are made of where the loss is taken in chunks."""
        arguments = {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask}
        if not self._loaded.causal:
            arguments["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels=inputs.labels)
        if self.config.chunked_loss:
            return decoder_states(self.model, **arguments)
        return self.model(**arguments, use_cache=False).logits

    def _loss(self, output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self._loaded.causal:
            return causal_loss(output, labels)
        if self.config.chunked_loss:
            return chunked_seq2seq_loss(self.model, output, labels)
        return fused_seq2seq_loss(output, labels) if self.config.fused else seq2seq_loss(output, labels)

    def _update(self) -> None:
        import torch

        if self.config.clip_norm is not None and not clips_itself(self.optimizer):
            if self.scaler:
                self.scaler.unscale_(self.optimizer)
            # foreach is torch's own choice; said aloud because it would choose otherwise for fake tensors
            torch.nn.utils.clip_grad_norm_(self._trainable, self.config.clip_norm, foreach=True)
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()

    def memory_advice(self, failed: int) -> str:
        """Free what a failed step left behind and say which batch should fit instead of ``failed`` examples."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.config.device != "cpu":
            torch.cuda.empty_cache()
        message = f"a batch of {failed} does not fit in the memory of {self.config.device}"
        fits = self._fitting_batch(failed)
        if fits:
            return f"{message}; a batch size of {fits} should (gradient accumulation can make up for it)"
        return f"{message}, and a smaller one hardly would; try checkpointing, shorter sequences, {SMALLER_STATE}"

    def pending_bytes(self) -> int:
        """Bytes that gradients, and optimizer states not there yet, will take."""
        states = 0.0 if self.optimizer.state else optimizer_spec(self.config.optimizer).states
        return int((1 + states) * sum(p.numel() * p.element_size() for p in self._trainable))

    def activation_bytes(self) -> int:
        """Bytes one example adds to the peak of a step, measured by running the forward pass on one.

        A lower bound when checkpointing is on: what a checkpoint recomputes is not seen.
        """
        inputs = self._to_device(self._collate(self.batches[0][0][:1]))
        logits_gradient = inputs.labels.numel() * self.model.config.vocab_size * 4
        return saved_bytes(self.model, lambda: self._forward_loss(inputs)) + logits_gradient

    def _fitting_batch(self, failed: int) -> int:
        try:
            per_example = self.activation_bytes()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return 0
        return fitting_batch(available_bytes(self.config.device), self.pending_bytes(), per_example, failed)


def _collator(config: ClientConfig, loaded: LoadedModel) -> Collator:
    pad = loaded.model.config.pad_token_id
    return Collator(
        source_length=config.source_length,
        target_length=config.target_length,
        padding=config.padding,
        causal=loaded.causal,
        pad=0 if pad is None else pad,  # masked, so any id will do
        end=end_token(loaded.model.config),
    )
