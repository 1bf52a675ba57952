"""A federated client's training step: the work that edgeroof profiles.

    step = build_client_step(ClientConfig(model="small", optimizer="adamw-fused"))
    for batch in step.batches:
        result = step.run(batch)

The step opens the phases data, zero_grad, forward, loss, backward and optimizer. Logits and loss are computed apart, so
that each has its phase; together they are what ``model(labels=...)`` computes. Nothing in the step waits for the
device, but for fp16, whose gradient scaler has to know whether to skip the update.
"""

from __future__ import annotations

from typing import Any

from ..errors import DeviceError, OutOfMemoryError, WorkloadError
from .client_config import ClientConfig
from .huggingface import LoadedModel, check_positions, load_model, resolve_model
from .lora import add_lora
from .memory import available_bytes, fixed_bytes, is_out_of_memory, shares_system_memory
from .optimizers import optimizer_spec
from .precision import Precision
from .samsum import Dataset, load_dataset
from .step import SMALLER_STATE, ClientStep, ParameterInfo, StepResult

__all__ = ["ClientConfig", "ClientStep", "ParameterInfo", "StepResult", "build_client_step"]


def build_client_step(config: ClientConfig, *, check_memory: bool = True) -> ClientStep:
    """Build model, data and optimizer, ready to run.

    torch's global random generator is seeded at the end, so equal configurations give equal losses.

    Args:
        config: what to build.
        check_memory: refuse, before anything is allocated, what cannot fit. On a CPU, where running out of memory gets
            the process killed without a message, the activations of the whole batch are checked as well.

    Raises:
        UsageError: unknown model.
        DeviceError: the CUDA device is not there.
        WorkloadError: model, data, precision or optimizer cannot be used here.
        OutOfMemoryError: the step cannot fit.
    """
    import torch

    _check_device(config.device)
    Precision(config.precision, config.device).check()
    try:
        step = _build(config, check_memory)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{config.model} does not fit in the memory of {config.device}; try {SMALLER_STATE}"
        ) from error
    torch.manual_seed(config.seed)
    return step


def _build(config: ClientConfig, check_memory: bool) -> ClientStep:
    if check_memory:
        _check_fixed_memory(config)
    loaded = load_for_training(config, config.device)
    step = ClientStep(config, loaded, client_data(config, loaded))
    if check_memory and (config.device == "cpu" or shares_system_memory(config.device)):
        _check_activations(step)
    return step


def _check_device(device: str) -> None:
    import torch

    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise DeviceError(
            f"{device} was asked for, but this PyTorch ({torch.__version__}) finds no CUDA device; use cpu"
        )
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise DeviceError(f"there is no {device}: this machine has {torch.cuda.device_count()} CUDA device(s)")


def client_data(config: ClientConfig, loaded: LoadedModel) -> Dataset:
    """The examples of the configured client.

    Raises:
        WorkloadError: the data cannot be used.
    """
    return load_dataset(
        loaded.model.config,
        path=config.data,
        dialogues=config.dialogues,
        seed=config.seed,
        tokenizer_location=loaded.tokenizer_location,
    ).shard(config.client, config.clients, config.seed)


def load_for_training(config: ClientConfig, device: str, **options: Any) -> LoadedModel:
    """The configured model on ``device``, with its adapters and checkpoints, in training mode.

    Args:
        config: what to build.
        device: where; ``"meta"`` for shapes only.
        **options: passed on to :func:`~.huggingface.load_model`.

    Raises:
        WorkloadError: the model cannot be used here.
    """
    attention = "eager" if config.attention == "flash" else config.attention
    loaded = load_model(
        config.model, attention=attention, seed=config.seed, device=device, dropout=config.dropout, **options
    )
    check_positions(loaded, config.source_length + (config.target_length if loaded.causal else 0))
    if not loaded.causal and not hasattr(loaded.model, "prepare_decoder_input_ids_from_labels"):
        raise WorkloadError(
            f"{type(loaded.model).__name__} cannot make decoder inputs from labels, so it cannot be run"
        )
    if config.precision == "bf16-pure":
        loaded.model.to(Precision(config.precision, config.device).weights)
    if config.lora_rank is not None:
        add_lora(loaded.model, config.lora_rank, config.seed)
    if config.checkpointing:
        _enable_checkpointing(loaded.model)
    _fuse(loaded.model, config)
    loaded.model.train()
    return loaded


def _fuse(model: Any, config: ClientConfig) -> None:
    """Put in edgeroof's operators, as far as they are wanted."""
    if not config.fused and config.attention != "flash":
        return
    from ..kernels.patch import FLASH, fuse

    whole = FLASH if config.fused else ("attention",)
    fuse(model, only=whole if config.attention == "flash" else None)


def _enable_checkpointing(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise WorkloadError(f"{type(model).__name__} does not support checkpointing; leave it off")
    settings = {"use_reentrant": False}  # this kind also works when the inputs need no gradient, as with LoRA
    if hasattr(model, "activation_checkpointing_enable"):  # its name in newer transformers
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)


def _check_fixed_memory(config: ClientConfig) -> None:
    """Refuse a model whose weights, gradients and optimizer states alone are too much."""
    if resolve_model(config.model).weights:
        return  # the shapes are known only once it is loaded
    model = load_for_training(config, "meta").model
    weight_bytes = Precision(config.precision, config.device).weights.itemsize
    needed = fixed_bytes(model, weight_bytes, optimizer_spec(config.optimizer).states)
    available = available_bytes(config.device)
    if needed > available:
        raise OutOfMemoryError(
            f"{config.model} needs {_gb(needed)} for weights, gradients and optimizer states, and {config.device} has "
            f"{_gb(available)} free, so no batch size fits; try {SMALLER_STATE}"
        )


def _check_activations(step: ClientStep) -> None:
    batch = step.config.micro_batch
    if batch == 1:
        return
    available = available_bytes(step.config.device)
    if step.pending_bytes() + batch * step.activation_bytes() > available:
        raise OutOfMemoryError(step.memory_advice(batch))


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
