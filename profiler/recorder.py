"""The op recorder: one step under a dispatch mode that sees every ATen op with its true tensors.

It runs in a pass of its own, so its cost (several times the step) touches no timing. Each op gets the phase it ran in,
the module whose forward called it, and whether autograd ran it. A backward op belongs to the module of the forward op
that made its autograd node: both carry the same sequence number. Gradient accumulation belongs to the parameter's
module.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .costs import is_metadata
from .ops import OpRecord, TensorMeta
from .phases import current_phase

DTYPE_NAMES: dict[torch.dtype, str] = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8",
    torch.float8_e5m2: "fp8",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.bool: "bool",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
}

#: Sequence number that autograd gives nodes without a forward op (AccumulateGrad).
_NO_SEQUENCE = 2**64 - 1


class OpRecorder(TorchDispatchMode):
    """Context manager that records every op dispatched inside it.

    Args:
        model: the module whose sub-modules name the ops; any number of forward passes may run.

    After the block, :attr:`records` holds the ops that launch kernels, in order of dispatch.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.records: list[OpRecord] = []
        self._model = model
        self._stacks: dict[int, list[str]] = {}
        self._module_of_sequence: dict[int, str] = {}
        self._last_backward_module = ""
        self._parameter_module = {
            id(parameter): name.rpartition(".")[0] for name, parameter in model.named_parameters(remove_duplicate=False)
        }
        self._hooks: list[Any] = []

    def __enter__(self) -> OpRecorder:
        for name, module in self._model.named_modules():
            if name:
                self._hooks.append(module.register_forward_pre_hook(self._entering(name)))
                self._hooks.append(module.register_forward_hook(self._left, always_call=True))
        super().__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        super().__exit__(*exc_info)
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the op and note it; called by the dispatcher."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name
        module, autograd = self._place(name)
        if not (is_metadata(name) or func.is_view or name.startswith(("profiler::", "prim::"))):
            self.records.append(_record(func, args, kwargs, result, module, autograd))
        return result

    def _entering(self, name: str) -> Any:
        def enter(module: torch.nn.Module, args: Any) -> None:
            self._stack().append(name)

        return enter

    def _left(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        self._stack().pop()

    def _stack(self) -> list[str]:
        return self._stacks.setdefault(threading.get_ident(), [])

    def _place(self, name: str) -> tuple[str, str]:
        """Module and autograd side of the op being dispatched."""
        stack = self._stack()
        module = stack[-1] if stack else ""
        if current_phase() == "backward":
            return self._place_in_backward(name, module)
        if torch.is_grad_enabled():
            self._module_of_sequence[torch._C._autograd._get_sequence_nr() - 1] = module
        return module, "forward" if current_phase() in ("forward", "loss") else "none"

    def _place_in_backward(self, name: str, recomputing_module: str) -> tuple[str, str]:
        if recomputing_module:
            if torch.is_grad_enabled():
                self._module_of_sequence[torch._C._autograd._get_sequence_nr() - 1] = recomputing_module
            return recomputing_module, "recompute"
        node = torch._C._current_autograd_node()
        if node is None:
            summed = name in ("aten::add", "aten::add_")  # gradients of a tensor that was used more than once
            return self._last_backward_module, "accumulate" if summed else "backward"
        if node._sequence_nr() == _NO_SEQUENCE:
            variable = getattr(node, "variable", None)
            return self._parameter_module.get(id(variable), ""), "accumulate"
        self._last_backward_module = self._module_of_sequence.get(node._sequence_nr(), "")
        return self._last_backward_module, "backward"


def _record(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, module: str, autograd: str
) -> OpRecord:
    arguments = func._schema.arguments
    values: list[Any] = []
    mutated: list[int] = []
    for position, argument in enumerate(arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name, argument.default_value)
        values.append(_plain(value))
        if argument.alias_info is not None and argument.alias_info.is_write:
            mutated.append(position)
    return OpRecord(
        name=func._schema.name,
        args=tuple(values),
        outputs=tuple(_tensors(result)),
        mutated=tuple(mutated),
        phase=current_phase(),
        module=module,
        autograd=autograd,
    )


def _plain(value: Any) -> Any:
    """A tensor's metadata; lists element by element; everything else that is small, as it is."""
    if isinstance(value, torch.Tensor):
        return tensor_meta(value)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return str(value)


def _tensors(result: Any) -> list[TensorMeta]:
    if isinstance(result, torch.Tensor):
        return [tensor_meta(result)]
    if isinstance(result, (list, tuple)):
        return [meta for item in result for meta in _tensors(item)]
    return []


def tensor_meta(value: torch.Tensor) -> TensorMeta:
    """Shape, type, stride (elements) and storage of a tensor, fake and meta tensors included."""
    shape = tuple(int(size) for size in value.shape)
    dtype = DTYPE_NAMES.get(value.dtype, str(value.dtype).removeprefix("torch."))
    if value.layout is not torch.strided:
        return TensorMeta(shape, dtype)
    stride = tuple(int(step) for step in value.stride())
    return TensorMeta(shape, dtype, stride, value.untyped_storage()._cdata, int(value.storage_offset()))
