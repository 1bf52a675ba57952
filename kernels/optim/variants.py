"""Every form in which the optimizers' kernels are launched, for ahead-of-time compilation.

A test compares the bytes that the compiler sees in each hot loop with the documented bytes per parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..variants import KernelVariant
from . import columns
from .formats import FORMATS, adamw_bytes_per_parameter

#: Triton's names of pointer types in a signature.
_POINTERS = {"fp32": "*fp32", "bf16": "*bf16", "fp16": "*fp16"}
_STATES = {"fp32": ("*fp32", "*fp32"), "bf16": ("*bf16", "*bf16"), "int8": ("*i8", "*u8")}

_ITEMSIZE = {"fp32": 4, "bf16": 2, "fp16": 2}


def adamw_update(param: str, state: str, *, stochastic: bool = False, shadow: bool = False) -> KernelVariant:
    """The update for parameters and gradients of one type."""
    first, second = _STATES[state]
    scale = "*fp32" if state == "int8" else "constexpr"
    signature = {
        "table": "*i64", "coefficients": "*fp32", "chunk_map": "*i32", "exp_avg": first, "exp_avg_sq": second,
        "scale1": scale, "scale2": scale,
    }  # fmt: skip
    constants: dict[str, Any] = {
        "PARAM_DTYPE": param, "GRAD_DTYPE": param, "SHADOW_DTYPE": "bf16" if shadow else None,
        "KIND": FORMATS[state].kind, "STOCHASTIC": stochastic, "CHUNK": columns.CHUNK, "TILE": FORMATS[state].tile,
    }  # fmt: skip
    if state != "int8":
        constants |= {"scale1": None, "scale2": None}
    extras = [text for text, wanted in (("stochastic rounding", stochastic), ("bf16 shadow", shadow)) if wanted]
    return KernelVariant(
        "adamw_kernel", ", ".join([param, f"{state} states", *extras]), "optim.adamw_kernels",
        signature | dict.fromkeys(constants, "constexpr"), constants, FORMATS[state].tile,
        adamw_bytes_per_parameter(param, state_dtype=state, shadow=shadow),
    )  # fmt: skip


def gradient_norm(grad: str) -> KernelVariant:
    """The norm of gradients of one type."""
    constants: dict[str, Any] = {
        "WIDTH": columns.TABLE_WIDTH, "GRAD_DTYPE": grad, "CHUNK": columns.CHUNK, "TILE": columns.TILE
    }  # fmt: skip
    signature = {"table": "*i64", "chunk_map": "*i32", "partials": "*fp32", "chunks": "i32", "programs": "i32"}
    return KernelVariant(
        "gradient_norm_kernel", grad, "optim.gradient_kernels", signature | dict.fromkeys(constants, "constexpr"),
        constants, columns.TILE, float(_ITEMSIZE[grad]),
    )  # fmt: skip


def adamw_prepare(*, scaled: bool, clipped: bool) -> KernelVariant:
    """The coefficients, with GradScaler or without, with clipping or without."""
    return _first_launch("adamw_prepare_kernel", "optim.adamw_kernels", "WIDTH", scaled=scaled, clipped=clipped)


def adafactor_begin(*, scaled: bool, clipped: bool) -> KernelVariant:
    """The first of Adafactor's launches, likewise."""
    return _first_launch("adafactor_begin_kernel", "optim.adafactor_kernels", "LANES", scaled=scaled, clipped=clipped)


def _first_launch(kernel: str, module: str, lanes: str, *, scaled: bool, clipped: bool) -> KernelVariant:
    optional = {
        "partials": "*fp32" if clipped else None, "norm": "*fp32" if clipped else None,
        "grad_scale": "*fp32" if scaled else None, "found_inf": "*fp32" if scaled else None,
    }  # fmt: skip
    constants: dict[str, Any] = {name: None for name, kind in optional.items() if kind is None}
    constants |= {"CLIP": clipped, "SKIP_NONFINITE": clipped, lanes: 256}
    signature = {"table": "*i64", "steps": "*fp32", "hyper": "*fp64", "coefficients": "*fp32"}
    signature |= {name: kind or "constexpr" for name, kind in optional.items()}
    signature |= {"tensors": "i32", "groups": "i32", "sums": "i32"}
    signature |= {name: "constexpr" for name in constants if name not in signature}
    extras = [text for text, wanted in (("GradScaler", scaled), ("clipping", clipped)) if wanted]
    return KernelVariant(kernel, ", ".join(extras) or "plain", module, signature, constants)


def adafactor_pass(kernel: str, param: str, *, scale: bool = False, first_moment: bool = False) -> KernelVariant:
    """One of the three passes over tiles: ``sums``, ``rms`` or ``apply``."""
    item = _ITEMSIZE[param]
    signature = {"table": "*i64", "coefficients": "*fp32", "tiles": "*i32"}
    constants: dict[str, Any] = (
        {"GRAD_DTYPE": param} if kernel == "rms" else {"PARAM_DTYPE": param, "GRAD_DTYPE": param}
    )
    if kernel == "sums":
        signature |= {"partials": "*fp32", "sizes": "*fp32"}
        constants["SCALE"] = scale
        moved = item * (2 if scale else 1)
    elif kernel == "rms":
        signature |= {"factors": "*fp32", "full": "*fp32", "segment_sums": "*fp32", "squares": "*fp32"}
        moved = item
    else:
        signature |= {"factors": "*fp32", "full": "*fp32", "segment_sums": "*fp32"}
        signature["exp_avg"] = "*fp32" if first_moment else "constexpr"
        if not first_moment:
            constants = {"exp_avg": None, **constants}
        moved = 3 * item + (8 if first_moment else 0)
    signature |= {name: "constexpr" for name in constants if name not in signature}
    extras = [text for text, wanted in (("scale_parameter", scale), ("first moment", first_moment)) if wanted]
    return KernelVariant(
        f"adafactor_{kernel}_kernel", ", ".join([param, *extras]), "optim.adafactor_kernels", signature, constants,
        columns.TILE, float(moved), per_line=True,
    )  # fmt: skip


def adafactor_small(kernel: str) -> KernelVariant:
    """One of the launches that touch rows, columns and tensors only: ``factors`` or ``finish``."""
    tables = {"table": "*i64", "coefficients": "*fp32"}
    stepped = {"table": "*i64", "steps": "*fp32", "hyper": "*fp64", "coefficients": "*fp32"}
    signature, constants = {
        "factors": (
            {**tables, "segments": "*i32", "partials": "*fp32", "factors": "*fp32", "segment_sums": "*fp32"},
            {},
        ),
        "finish": ({**stepped, "squares": "*fp32", "sizes": "*fp32", "LANES": "constexpr"}, {"LANES": 1024}),
    }[kernel]
    return KernelVariant(f"adafactor_{kernel}_kernel", "all types", "optim.adafactor_kernels", signature, constants)


def variants() -> Iterator[KernelVariant]:
    """All variants, AdamW's first."""
    yield adamw_update("fp32", "fp32")
    yield adamw_update("fp32", "fp32", shadow=True)
    yield adamw_update("fp32", "bf16")
    yield adamw_update("fp32", "int8")
    yield adamw_update("fp16", "fp32")
    yield adamw_update("bf16", "fp32")
    yield adamw_update("bf16", "fp32", stochastic=True)
    yield adamw_update("bf16", "bf16", stochastic=True)
    yield adamw_update("bf16", "int8", stochastic=True)
    yield gradient_norm("fp32")
    yield gradient_norm("bf16")
    yield adamw_prepare(scaled=False, clipped=False)
    yield adamw_prepare(scaled=True, clipped=True)
    yield adafactor_begin(scaled=False, clipped=False)
    yield adafactor_begin(scaled=True, clipped=True)
    yield adafactor_pass("sums", "fp32")
    yield adafactor_pass("sums", "fp32", scale=True)
    yield adafactor_pass("sums", "bf16", scale=True)
    yield adafactor_small("factors")
    yield adafactor_pass("rms", "fp32")
    yield adafactor_pass("rms", "bf16")
    yield adafactor_small("finish")
    yield adafactor_pass("apply", "fp32")
    yield adafactor_pass("apply", "fp32", first_moment=True)
    yield adafactor_pass("apply", "bf16")
