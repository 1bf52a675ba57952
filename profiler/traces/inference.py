"""Op records from what a trace recorded of an op's inputs.

Traces hold input shapes, types, strides (since torch 2.1) and plain values (since torch 2.1), and no outputs. Records
made from them say ``provenance="inferred"``. Nothing is guessed: where an argument the cost depends on is missing, the
record lacks it, and pricing answers ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from ..ops import OpRecord, TensorMeta
from .shape_rules import UNRECORDED
from .shapes import infer_outputs, is_broadcasting, is_possible, tensor_inputs
from .trace import Signature

DTYPES = {
    "float": "fp32", "double": "fp64", "c10::Half": "fp16", "c10::BFloat16": "bf16", "half": "fp16",
    "c10::Float8_e4m3fn": "fp8", "c10::Float8_e5m2": "fp8", "c10::Float8_e4m3fnuz": "fp8",
    "c10::Float8_e5m2fnuz": "fp8",
    "long int": "int64", "long": "int64", "long long": "int64", "__int64": "int64", "int64_t": "int64",
    "int": "int32", "int32_t": "int32", "short int": "int16", "short": "int16", "int16_t": "int16",
    "signed char": "int8", "char": "int8", "int8_t": "int8", "unsigned char": "uint8", "uint8_t": "uint8",
    "bool": "bool", "c10::complex<float>": "complex64", "c10::complex<double>": "complex128",
}  # fmt: skip
_LIST_TYPES = frozenset({"TensorList", "GenericList"})
#: A concatenation kernel names the width of what it copies, other kernels their type; either way traffic is known.
_KERNEL_DTYPES = (
    (re.compile(r"OpaqueType<1u?>"), "uint8"),
    (re.compile(r"OpaqueType<2u?>"), "int16"),
    (re.compile(r"OpaqueType<4u?>"), "int32"),
    (re.compile(r"OpaqueType<8u?>"), "int64"),
    (re.compile(r"<c10::BFloat16\b|\b__nv_bfloat16\b"), "bf16"),
    (re.compile(r"<c10::Half\b|\b__half\b"), "fp16"),
    (re.compile(r"<float\b"), "fp32"),
    (re.compile(r"<double\b"), "fp64"),
    (re.compile(r"<(?:long|int64_t)\b"), "int64"),
    (re.compile(r"<int\b"), "int32"),
)
#: Lists of the fused optimizers that hold one tensor per parameter: parameters, gradients, states.
_PARAMETER_LISTS = {
    "aten::_fused_adamw_": (0, 1, 2, 3), "aten::_fused_adam_": (0, 1, 2, 3), "aten::_fused_adagrad_": (0, 1, 2),
    "aten::_fused_sgd_": (0, 1),
}  # fmt: skip

_decode_lists = msgspec.json.Decoder(list[Any]).decode
_decode_strings = msgspec.json.Decoder(list[str]).decode


def infer_record(
    name: str, signature: Signature, *, kernel_name: str = "", manifest: Sequence[TensorMeta] = ()
) -> OpRecord | None:
    """The record of an op as far as a trace tells it.

    Args:
        name: of the op.
        signature: what the trace recorded of its inputs.
        kernel_name: of the kernel it launched, which tells the type of tensor lists (the trace does not).
        manifest: the trainable parameters, in case the op is a fused optimizer whose lists were too long to record.

    Returns:
        The record, or ``None`` when no shapes were recorded.
    """
    try:
        types = _decode_strings(signature.types)
        dims = _decode_lists(signature.dims)
        strides = _decode_lists(signature.strides) if signature.strides else []
        concrete = _decode_strings(signature.concrete) if signature.concrete else None
    except (msgspec.MsgspecError, RecursionError):
        return None
    list_dtype = _list_dtype(types, kernel_name) if not _LIST_TYPES.isdisjoint(types) else None
    args = [
        _argument(
            kind, _at(dims, i), _at(strides, i), UNRECORDED if concrete is None else _at(concrete, i) or "", list_dtype
        )
        for i, kind in enumerate(types)
    ]
    if manifest and name in _PARAMETER_LISTS:
        for position in _PARAMETER_LISTS[name]:
            if position < len(args) and not isinstance(args[position], tuple):
                args[position] = tuple(manifest)
    if is_broadcasting(name):
        args = _without_wrapped_numbers(args)
    return _record(name, args)


def _record(name: str, args: list[Any]) -> OpRecord:
    mutated: tuple[int, ...] = ()
    outputs: tuple[TensorMeta, ...] = ()
    written = tensor_inputs(name)
    out = [i for i, arg in enumerate(args) if isinstance(arg, TensorMeta) and written is not None and i >= written]
    if name.endswith("_") and not name.endswith("__"):
        mutated = (0,)
    elif out:
        outputs = (args[out[0]],)
        args = args[: out[0]]
    else:
        outputs = infer_outputs(name, args)
    plain = tuple(None if arg is UNRECORDED else arg for arg in args)
    return OpRecord(name, plain, outputs, mutated, provenance="inferred")


def _at(values: list[Any], position: int) -> Any:
    return values[position] if position < len(values) else None


def _argument(kind: str, dims: Any, strides: Any, concrete: Any, list_dtype: str | None) -> Any:
    if kind in _LIST_TYPES or _is_nested(dims):
        return _tensor_list(dims, strides, list_dtype)
    if kind in DTYPES:
        return _tensor(dims, strides, DTYPES[kind])
    if dims:
        return UNRECORDED  # a tensor of a type that is not known here
    return concrete if concrete is UNRECORDED else parse_value(concrete)


def _is_nested(dims: Any) -> bool:
    return isinstance(dims, list) and bool(dims) and isinstance(dims[0], list)


def _tensor(dims: Any, strides: Any, dtype: str) -> Any:
    if not isinstance(dims, list) or not is_possible(dims):
        return UNRECORDED
    stride = tuple(strides) if _is_integers(strides) and len(strides) == len(dims) else None
    return TensorMeta(tuple(dims), dtype, stride)


def _is_integers(values: Any) -> bool:
    return isinstance(values, list) and set(map(type, values)) <= {int}


def _tensor_list(dims: Any, strides: Any, dtype: str | None) -> Any:
    """Lists of more than 30 tensors lose their shapes; the types of their tensors are never recorded."""
    if not _is_nested(dims) or dtype is None:
        return UNRECORDED
    items = [_tensor(sizes, _at(strides or [], i), dtype) for i, sizes in enumerate(dims)]
    return UNRECORDED if UNRECORDED in items else tuple(items)


def _list_dtype(types: list[str], kernel_name: str) -> str | None:
    beside = {DTYPES[kind] for kind in types if kind in DTYPES}
    if len(beside) == 1:
        return beside.pop()
    return dtype_of_kernel(kernel_name)


def dtype_of_kernel(kernel_name: str) -> str | None:
    """Type of the elements a kernel works on, as its name tells; of an opaque copy only the width is right."""
    return next((dtype for pattern, dtype in _KERNEL_DTYPES if pattern.search(kernel_name)), None)


def _without_wrapped_numbers(args: list[Any]) -> list[Any]:
    """Python numbers reach elementwise kernels as 0-dimensional tensors (double, long); they are not memory traffic."""
    if not any(isinstance(arg, TensorMeta) and arg.shape for arg in args):
        return args
    return [None if isinstance(arg, TensorMeta) and not arg.shape else arg for arg in args]


def parse_value(text: str) -> Any:
    """The plain value in an entry of ``Concrete Inputs``: a number, a bool, a tuple of them, a string, ``None``."""
    if not text or text == "None":
        return None
    if text in ("True", "False"):
        return text == "True"
    if text.startswith("[") and text.endswith("]"):
        return tuple(parse_value(item.strip()) for item in text[1:-1].split(",") if item.strip())
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def input_shapes(signature: Signature) -> tuple[tuple[int, ...] | None, ...]:
    """Recorded shapes of an op's inputs; ``None`` for those that are not a single tensor."""
    try:
        types, dims = _decode_strings(signature.types), _decode_lists(signature.dims)
    except (msgspec.MsgspecError, RecursionError):
        return ()
    return tuple(tuple(sizes) if kind in DTYPES and _is_integers(sizes) else None for kind, sizes in zip(types, dims))


def describe(values: Sequence[Any], *, types: bool = True, longest: int = 4) -> str:
    """Tensors for people: ``[2048,512] fp32``; long lists are cut short."""
    texts = []
    for value in values:
        if isinstance(value, TensorMeta):
            shape = f"[{','.join(map(str, value.shape))}]"
            texts.append(f"{shape} {value.dtype}" if types else shape)
        elif isinstance(value, tuple) and value and isinstance(value[0], TensorMeta):
            inner = describe(value[:longest], types=types, longest=longest)
            texts.append(f"({inner}, … {len(value)} tensors)" if len(value) > longest else f"({inner})")
    return (", " if types else " ").join(texts)
