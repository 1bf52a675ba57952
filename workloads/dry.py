"""Dry runs of training steps and models: every op of the step, on a machine that need not be able to run it.

    dry = dry_step(ClientConfig(model="xl", batch_size=8, precision="bf16"))
    dry = dry_model("bert-large.json", mode="train", batch=8, sequence=512)
    dry.records, dry.describe(), dry.footprint

Nothing is computed and weights take no memory, so xl needs seconds and a few hundred megabytes. ``target_kind`` says
whose ops they are: those a step dispatches on ``"cuda"``, or on a ``"cpu"``, to be compared with a real run here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .batches import HostBatch
from .client import client_data, load_for_training
from .client_config import ClientConfig
from .footprint import Footprint, footprint_of
from .huggingface import LoadedModel
from .optimizers import OptimizerSettings
from .precision import Precision
from .samsum import Dataset
from .step import ClientStep, Inputs

if TYPE_CHECKING:
    import torch

    from ..profiler.costs import Cost
    from ..profiler.dryrun import Routing
    from ..profiler.lifetimes import MemoryTimeline
    from ..profiler.ops import OpRecord

SPREADS = ("even", "alike")
TARGETS = ("cuda", "cpu")


@dataclass(frozen=True)
class DryStep:
    """A step that was recorded without being run.

    Attributes:
        records: its ops in order, with phase, module and autograd side.
        memory: lifetimes of all storages.
        workload: what was run, see :meth:`describe`.
        tokens: of one step, without padding.
        padded_tokens: with padding.
        tf32: whether fp32 products run in TF32, which the records cannot show.
        target_kind: ``"cuda"`` or ``"cpu"``.
        compute_capability: that was assumed, None for any.
    """

    records: list[OpRecord]
    memory: MemoryTimeline
    workload: dict[str, Any]
    tokens: int
    padded_tokens: int
    tf32: bool
    target_kind: str
    compute_capability: tuple[int, int] | None = None

    @functools.cached_property
    def footprint(self) -> Footprint:
        """Memory of the step at its peak."""
        training = any(record.phase == "backward" for record in self.records)
        return footprint_of(self.memory, training=training, compute_capability=self.compute_capability)

    @functools.cached_property
    def costs(self) -> list[Cost | None]:
        """The cost of every record."""
        from ..profiler.projected import price_all

        return price_all(self.records, tf32=self.tf32)

    def on(self, compute_capability: tuple[int, int] | None) -> DryStep:
        """The same ops on another device of its :func:`op_stream_of`, which may differ in the memory they take."""
        return dataclasses.replace(self, compute_capability=compute_capability)

    def describe(self) -> dict[str, Any]:
        """The ``workload`` entry of ``run.json``."""
        return self.workload


def dry_model(
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
    routing: str = "even",
    target_kind: str = "cuda",
    compute_capability: tuple[int, int] | None = None,
) -> DryStep:
    """Record one pass of any model over full sequences, forward, loss and backward apart.

    Args:
        model: a name that :func:`~.huggingface.resolve_model` knows, such as the path of a ``config.json``; weights are
            never loaded.
        mode: ``"train"`` or ``"inference"``.
        batch: sequences.
        sequence: tokens of each.
        target_sequence: tokens a decoder beside an encoder reads; None means as many.
        precision: one of :data:`~.client_config.PRECISIONS`.
        attention: ``"eager"``, ``"sdpa"``, or :data:`~.classic_attention.CLASSIC`.
        optimizer: name in the registry. None ends the step after backward, and as nothing zeroes the gradients,
            backward adds to those of the step before.
        head: class of transformers, or ``"auto"``, see :func:`~.heads.choose_head`.
        routing: how a mixture of experts routes, ``"even"`` or ``"alike"``, see
            :class:`~edgeroof.profiler.dryrun.Routing`.
        target_kind: whose ops, ``"cuda"`` or ``"cpu"``.
        compute_capability: of the CUDA device; it decides which attention kernel is there.

    Raises:
        UsageError: unknown model, mode, optimizer or class.
        WorkloadError: transformers cannot build the model.
        CaptureError: what runs depends on values.
    """
    from .model_step import build_model_step

    _check(target_kind, TARGETS, "target_kind")
    _check(routing, SPREADS, "routing")
    with _dry(target_kind, compute_capability) as known:
        step = build_model_step(
            model, mode, batch=batch, sequence=sequence, target_sequence=target_sequence, precision=precision,
            attention=attention, optimizer=optimizer, head=head, settings=OptimizerSettings(device=target_kind),
            random_weights=True, experts="eager",
        )  # fmt: skip
        known.routing = routing_of(step.model.config, batch, routing)
        return _record(step, known, precision, target_kind, compute_capability)


def dry_step(
    config: ClientConfig, *, target_kind: str = "cuda", compute_capability: tuple[int, int] | None = None
) -> DryStep:
    """Record a client's training step, its batch of median size.

    Args:
        config: what to build; its device is replaced by ``target_kind``.
        target_kind: whose ops, ``"cuda"`` or ``"cpu"``.
        compute_capability: of the CUDA device; it decides which attention kernel is there.

    Raises:
        UsageError: unknown model.
        WorkloadError: model or data cannot be used.
        CaptureError: what runs depends on values.
    """
    _check(target_kind, TARGETS, "target_kind")
    config = dataclasses.replace(config, device=target_kind)
    with _dry(target_kind, compute_capability) as known:
        loaded = load_for_training(config, "cpu", random_weights=True, experts="eager")
        step = _FakeClientStep(config, loaded, client_data(config, loaded))
        known.routing = routing_of(loaded.model.config, config.micro_batch)
        return _record(step, known, config.precision, target_kind, compute_capability)


def op_stream_of(target_kind: str, compute_capability: tuple[int, int] | None) -> tuple[str, bool]:
    """What the ops of a step depend on: devices for which this is equal dispatch the same ones."""
    from ..profiler.cuda_standins import has_flash_attention

    return target_kind, target_kind == "cuda" and has_flash_attention(compute_capability)


class _FakeClientStep(ClientStep):
    """A client's step whose tensors are fake and pass for those of its device."""

    def __init__(self, config: ClientConfig, loaded: LoadedModel, dataset: Dataset) -> None:
        super().__init__(config, loaded, dataset, precision=Precision(config.precision, "cpu"))

    def _to_device(self, host: HostBatch) -> Inputs:
        import torch

        return Inputs(*(torch.from_numpy(array) for array in (host.input_ids, host.attention_mask, host.labels)))


@contextlib.contextmanager
def _dry(target_kind: str, compute_capability: tuple[int, int] | None) -> Iterator[Any]:
    from ..profiler.cuda_standins import as_on_cuda
    from ..profiler.dryrun import fake_tensors

    stand_ins = as_on_cuda(compute_capability) if target_kind == "cuda" else contextlib.nullcontext()
    with fake_tensors() as known, stand_ins:
        yield known


def _record(
    step: Any, known: Any, precision: str, target_kind: str, compute_capability: tuple[int, int] | None
) -> DryStep:
    from ..profiler.capture import representative_batch
    from ..profiler.dryrun import record_dry

    _prepare(step)
    dry = record_dry(step, representative_batch(step), known, owners(step))
    return DryStep(
        records=dry.records,
        memory=dry.memory,
        workload=step.describe() | {"dry_run": f"ops as on {target_kind}, nothing computed"} | _routing_words(known),
        tokens=dry.result.tokens,
        padded_tokens=dry.result.padded_tokens,
        tf32=precision == "tf32",
        target_kind=target_kind,
        compute_capability=compute_capability,
    )


def _routing_words(known: Any) -> dict[str, str]:
    """What was assumed of a mixture of experts; nothing when there is none."""
    routing = known.routing
    if routing is None:
        return {}
    spread = f"equally many tokens to each of {routing.experts}" if routing.spread == "even" else "all tokens alike"
    limit = "" if routing.capacity is None else f", at most {routing.capacity} of a sequence"
    return {"routing": spread + limit}


def _prepare(step: Any) -> None:
    """Bring the step where a warm-up would: gradients are there, the states of the optimizer, and the scale."""
    import torch

    trainable = [p for p in step.model.parameters() if p.requires_grad]
    if getattr(step, "training", True):
        for parameter in trainable:
            parameter.grad = torch.empty_like(parameter)
    if step.optimizer is not None:
        step.optimizer.step()
    if step.scaler is not None:
        step.scaler.scale(torch.zeros(()))


def owners(step: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that exist before the step, each after what it is."""
    import torch

    for tensor in (*step.model.parameters(), *step.model.buffers()):
        yield "weights", tensor
    for parameter in step.model.parameters():
        if parameter.grad is not None:
            yield "gradients", parameter.grad
    for state in step.optimizer.state.values() if step.optimizer is not None else ():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                yield "states", value


def routing_of(config: Any, sequences: int, spread: str = "even") -> Routing | None:
    """The routing to assume for a configuration, None when it has no experts."""
    from ..profiler.dryrun import Routing

    names = ("num_experts", "num_local_experts", "n_routed_experts")
    experts = next((getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)), None)
    if not experts:
        return None
    capacity = getattr(config, "expert_capacity", None)
    chosen = getattr(config, "num_experts_per_tok", 1)
    return Routing(experts, capacity if isinstance(capacity, int) else None, sequences, chosen, spread)


def _check(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
