"""Advice: what a person can do about a group of kernels, in one or two sentences.

Rules are tried in order; the first that fits speaks. A rule sees the op, the phase, the bound that most of the group's
time is under, and the group's fraction of the roof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..costs import matmul
from ..roofline import ROOF_FRACTION_FLOOR

#: From this fraction of the roof on, only moving fewer bytes or doing less arithmetic can help.
NEAR_ROOF = 0.75


class Group(NamedTuple):
    """A group of kernels as advice sees it."""

    op: str
    phase: str
    bound: str
    roof_fraction: float

    def is_any(self, *names: str) -> bool:
        """Whether the op is one of ``names``, in place or not."""
        return self.op.removeprefix("aten::").rstrip("_") in names


def _is_unfused_optimizer(group: Group) -> bool:
    return group.phase == "optimizer" and not group.op.startswith(("aten::_fused_", "edgeroof::"))


def _is_matmul(group: Group) -> bool:
    return group.op in matmul.RULES


def _is_unfused_rms_norm(group: Group) -> bool:
    return group.is_any("pow", "rsqrt", "mean")


#: Ops that go over [tokens, vocabulary].
_VOCABULARY_OPS = ("nll_loss_backward", "_log_softmax", "_log_softmax_backward_data")

RULES: tuple[tuple[Callable[[Group], bool], str], ...] = (
    (
        lambda g: g.phase == "optimizer" and g.is_any("_local_scalar_dense", "item"),
        "Each reads one number back to the host and waits for the device; keep step counters and learning rates on the "
        "device (capturable or fused optimizers do).",
    ),
    (
        _is_unfused_optimizer,
        "Every such op is a pass of its own over parameters, gradients and states. A fused optimizer makes one: try "
        "adamw-fused.",
    ),
    (
        lambda g: g.phase == "optimizer" and g.bound == "memory" and g.roof_fraction >= NEAR_ROOF,
        "Already near the memory roof in one pass: only fewer bytes help, such as 8-bit or bf16 states, or training "
        "fewer parameters (LoRA).",
    ),
    (
        lambda g: g.phase == "optimizer",
        "One pass over the states, below the bandwidth this device reaches on a plain copy: a kernel matter, not a "
        "traffic matter.",
    ),
    (
        lambda g: _is_matmul(g) and g.bound == "compute",
        "Compute-bound products: only a type with a higher peak on this device (see its roofs), or less work, helps.",
    ),
    (
        lambda g: _is_matmul(g) and g.bound == "memory",
        "Thin products that stream their operands: larger batches or fewer, wider products (fused q, k, v) raise their "
        "intensity.",
    ),
    (
        lambda g: _is_matmul(g) and g.bound == "latency",
        "Products too small to fill the device: a larger batch, or CUDA graphs to hide their launches.",
    ),
    (
        _is_matmul,
        "Products far below both roofs: shapes that fill the device badly (small batches per head, odd sizes). Pad to "
        "multiples of 8, use a larger batch, or sdpa attention for those inside attention.",
    ),
    (
        lambda g: g.is_any("_softmax", "_softmax_backward_data", "_safe_softmax"),
        "Softmax reads and writes the whole score matrix, as do the bias, mask and dropout around it: one fused kernel "
        "does all of them in a single pass.",
    ),
    (
        lambda g: g.is_any("bernoulli", "native_dropout", "native_dropout_backward"),
        "Dropout draws and stores a mask for every element: fuse it with its neighbour, or fine-tune with dropout 0.",
    ),
    (
        lambda g: g.is_any("copy", "clone", "_to_copy", "contiguous", "cat"),
        "Copies do no arithmetic: look for casts, transposed layouts made contiguous, and concatenations that can go.",
    ),
    (
        lambda g: g.is_any(*_VOCABULARY_OPS),
        "Work over the whole vocabulary: a fused (chunked) cross-entropy never stores the full logits and gradients.",
    ),
    (
        lambda g: g.is_any("embedding_dense_backward"),
        "The gradient of an embedding is written as a whole table, though a batch touches few of its rows: sparse "
        "gradients, or LoRA, which trains no table, leave it out.",
    ),
    (
        _is_unfused_rms_norm,
        "An RMS norm that runs as several passes (pow, mean, rsqrt, mul): one fused kernel reads and writes once.",
    ),
    (
        lambda g: g.bound == "latency",
        "Kernels shorter than the cost of launching them: fuse them, enlarge the batch, or replay the step as a CUDA "
        "graph.",
    ),
    (
        lambda g: g.roof_fraction >= NEAR_ROOF,
        "Near its roof already: only fusing it with a neighbour, so that its operands are not read again, can help.",
    ),
    (
        lambda g: g.roof_fraction < ROOF_FRACTION_FLOOR,
        "Far below both roofs: this kernel is slow for the work it does, so a better kernel (or a fused one) pays.",
    ),
    (
        lambda g: True,
        "Elementwise work between products: each op reads and writes its tensors once; fusing the chain removes the "
        "traffic in between.",
    ),
)


def advise(op: str, phase: str, bound: str, roof_fraction: float) -> str:
    """What to do about the group of kernels of ``op`` in ``phase``."""
    group = Group(op, phase, bound, roof_fraction)
    return next(text for applies, text in RULES if applies(group))
