"""Launches of the kernels of T5's layer norm: how rows are shared out among programs."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import operator
from .dropout import threshold_and_scale
from .support import launch_options, on_device

#: Longest row that the kernels take; it is whole in the registers of one program.
MAX_COLUMNS = 8192

#: Bytes of a thread's access.
ACCESS_BYTES = 16

#: Accesses of a thread that are in flight for each tensor; the backward pass keeps more tensors in registers.
FORWARD_ACCESSES, BACKWARD_ACCESSES = 4, 2

#: Threads of a multiprocessor that run the backward pass at once, with up to 80 registers each.
RESIDENT_THREADS = 768

#: Tile of the kernel that adds up the parts of the weight's gradient: most have one row of tiles only, all in flight.
PARTS, PART_COLUMNS, PART_WARPS = 512, 16, 8

_TRITON_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})


class Form(NamedTuple):
    """How a program is laid out.

    Attributes:
        rows: that it takes at once, a power of two.
        width: elements of a row with padding, a power of two.
        vector: elements of an access.
        warps: of a program.
        programs: that run at the same time on the whole GPU.
    """

    rows: int
    width: int
    vector: int
    warps: int
    programs: int


def launch_form(rows: int, columns: int, itemsize: int, accesses: int, processors: int) -> Form:
    """Layout for rows, where a thread has so many accesses in flight for each tensor.

    A block is as wide as a row, up to 256 threads; of longer rows a thread takes two accesses or more. It takes as many
    rows at once as make up its accesses, or fewer where there are too few for all multiprocessors.

    Args:
        rows: how many there are.
        columns: of a row.
        itemsize: bytes of an element of the narrowest tensor.
        accesses: of a thread.
        processors: multiprocessors of the GPU.
    """
    vector = ACCESS_BYTES // itemsize
    width = max(vector, 1 << (columns - 1).bit_length())
    vectors = width // vector
    threads = min(512, max(32, vectors if vectors <= 256 else vectors // 2))
    programs = processors * (RESIDENT_THREADS // threads)
    at_once = max(1, accesses * threads // vectors)
    while at_once > 1 and rows < at_once * programs:
        at_once //= 2
    return Form(at_once, width, vector, threads // 32, programs)


def programs_of(rows: int, form: Form) -> int:
    """Programs of the backward pass: as many as run at the same time, or fewer that have equally much to do."""
    tiles = -(-rows // form.rows)
    return -(-tiles // -(-tiles // form.programs))


def takes_triton(rows: Tensor, *dtypes: torch.dtype) -> bool:
    """Whether the kernels run for such rows and other tensors of these types."""
    known = _TRITON_DTYPES.issuperset((rows.dtype, *dtypes))
    return known and 0 < rows.shape[-1] <= MAX_COLUMNS and operator.use_triton(rows)


def launch_forward(
    residual: Tensor | None, x: Tensor, weight: Tensor, seed: Tensor | None, eps: float, dropout: float,
    total: Tensor | None, normed: Tensor, rstd: Tensor,
) -> None:  # fmt: skip
    """Fill ``total``, if there is a ``residual``, ``normed`` and ``rstd``, which are contiguous."""
    from .rms_norm_kernels import rms_norm_kernel

    if not rstd.numel():
        return
    residual = None if residual is None else residual.contiguous()
    form = _form(FORWARD_ACCESSES, normed, residual, x, total)
    with on_device(x.device):
        rms_norm_kernel[(-(-rstd.numel() // form.rows),)](
            residual, x.contiguous(), weight.contiguous(), seed, total, normed, rstd, rstd.numel(), x.shape[-1], eps,
            *threshold_and_scale(dropout), **_options(form),
        )  # fmt: skip


def launch_backward(
    grad: Tensor, grad_total: Tensor | None, total: Tensor, weight: Tensor, rstd: Tensor, seed: Tensor | None,
    dropout: float, grad_residual: Tensor, grad_x: Tensor | None, grad_weight: Tensor | None,
) -> None:  # fmt: skip
    """Fill the last three, which are contiguous."""
    from .rms_norm_kernels import add_parts_kernel, rms_norm_backward_kernel

    if not rstd.numel():
        if grad_weight is not None:
            grad_weight.zero_()
        return
    columns = total.shape[-1]
    grad_total = None if grad_total is None else grad_total.contiguous()
    form = _form(BACKWARD_ACCESSES, grad, grad_total, total, grad_residual, grad_x)
    programs = programs_of(rstd.numel(), form)
    parts = None if grad_weight is None else weight.new_empty((programs, columns), dtype=torch.float32)
    with on_device(total.device):
        rms_norm_backward_kernel[(programs,)](
            grad_total, grad.contiguous(), total.contiguous(), weight.contiguous(), rstd, seed, grad_residual, grad_x,
            parts, rstd.numel(), columns, *threshold_and_scale(dropout), **_options(form),
        )  # fmt: skip
        if parts is not None:
            add_parts_kernel[(-(-columns // PART_COLUMNS),)](
                parts, grad_weight, programs, columns, COUNT=PARTS, WIDTH=PART_COLUMNS,
                **launch_options() | {"num_warps": PART_WARPS},
            )  # fmt: skip


def _form(accesses: int, rows: Tensor, *others: Tensor | None) -> Form:
    columns = rows.shape[-1]
    itemsize = min(tensor.element_size() for tensor in (rows, *others) if tensor is not None)
    return launch_form(rows.numel() // columns, columns, itemsize, accesses, _processors(rows.device))


def constants_of(form: Form) -> dict[str, int]:
    """The constants of a launch."""
    return {"ROWS": form.rows, "WIDTH": form.width, "VECTOR": form.vector}


def _options(form: Form) -> dict[str, Any]:
    return constants_of(form) | launch_options() | {"num_warps": form.warps}


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
