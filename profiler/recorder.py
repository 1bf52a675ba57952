"""The op recorder: one step under a dispatch mode that sees every ATen op with its true tensors.

It runs in a pass of its own, so its cost (several times the step) touches no timing. Each op gets the phase it ran in,
the module whose forward called it, and whether autograd ran it. A backward op belongs to the module of the forward op
that made its autograd node: both carry the same sequence number. Gradient accumulation belongs to the parameter's
module, a sum of gradients inside the graph to the module whose backward brought the last of them.

Sequence numbers count per thread. On a GPU, backward and recomputation run on a thread of autograd's own, so a node is
known by its thread and its number. Which thread made the nodes of a backward pass follows from the pass: the user's own
runs over nodes of the forward's thread, one nested in reentrant checkpointing over nodes just recomputed on its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

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
    torch.float8_e4m3fnuz: "fp8",
    torch.float8_e5m2fnuz: "fp8",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.bool: "bool",
    torch.complex64: "complex64",
    torch.complex128: "complex128",
}

_Hook = TypeVar("_Hook", bound=Callable[..., None])

#: Sequence number that autograd gives nodes without a forward op (AccumulateGrad).
_NO_SEQUENCE = 2**64 - 1


def only_watches(hook: Any) -> bool:
    """Whether a hook of a module is the recorder's, which changes nothing that the module computes."""
    return getattr(hook, "edgeroof_only_watches", False)


def _watching(hook: _Hook) -> _Hook:
    hook.edgeroof_only_watches = True  # type: ignore[attr-defined]
    return hook


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
        self._module_of_node: dict[tuple[int, int], str] = {}  # by the thread that made it, and its sequence number
        self._forward_thread = threading.get_ident()
        self._maker_of_pass: dict[int, int] = {}  # backward pass to the thread that made its nodes
        self._just_recomputed: set[int] = set()  # threads
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
        @_watching
        def enter(module: torch.nn.Module, args: Any) -> None:
            self._stack().append(name)

        return enter

    @_watching
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
        self._forward_thread = threading.get_ident()
        self._note_node(module)
        return module, "forward" if current_phase() in ("forward", "loss") else "none"

    def _note_node(self, module: str) -> None:
        """The newest autograd node is of ``module``, unless an earlier op claimed it: not every op makes one."""
        newest = torch._C._autograd._get_sequence_nr() - 1
        self._module_of_node.setdefault((threading.get_ident(), newest), module)

    def _place_in_backward(self, name: str, recomputing_module: str) -> tuple[str, str]:
        maker = self._maker_of_nodes()
        if recomputing_module:
            self._note_node(recomputing_module)
            self._just_recomputed.add(threading.get_ident())
            return recomputing_module, "recompute"
        self._just_recomputed.discard(threading.get_ident())
        node = torch._C._current_autograd_node()
        if node is None:
            return "", "backward"  # the gradient that backward starts from
        if node._sequence_nr() == _NO_SEQUENCE:
            variable = getattr(node, "variable", None)
            return self._parameter_module.get(id(variable), ""), "accumulate"
        module = self._module_of_node.get((maker, node._sequence_nr()), "")
        return module, "accumulate" if _sums_gradients(name, node) else "backward"

    def _maker_of_nodes(self) -> int:
        """Thread that made the nodes of the backward pass that is running."""
        thread = threading.get_ident()
        maker = thread if thread in self._just_recomputed else self._forward_thread
        return self._maker_of_pass.setdefault(torch._C._current_graph_task_id(), maker)


def _sums_gradients(name: str, node: Any) -> bool:
    """Whether autograd's engine adds up gradients of a tensor used more than once, which it does on the node's watch.

    The formulas of torch's own nodes don't add; a user's ``autograd.Function`` may.
    """
    return name in ("aten::add", "aten::add_") and not isinstance(node, torch.autograd.function.BackwardCFunction)


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
