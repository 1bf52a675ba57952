"""Reductions, normalisations, softmax and losses: FLOPs per input element, one read in, one write out."""

from __future__ import annotations

from collections.abc import Callable

from ..ops import ITEMSIZE, OpRecord, TensorMeta
from .cost import (
    Cost,
    UnpriceableError,
    arithmetic_dtype,
    bytes_read,
    bytes_written,
    flatten,
    output,
    tensor,
    touched_bytes,
)

#: FLOPs per input element. Softmax: max, subtract, exp, sum, divide. Normalisations: mean, variance, scale, shift.
FLOPS_PER_INPUT: dict[str, int] = {
    "sum": 1, "mean": 1, "prod": 1, "amax": 1, "amin": 1, "max": 1, "min": 1, "aminmax": 2, "argmax": 1, "argmin": 1,
    "all": 0, "any": 0, "count_nonzero": 0, "nansum": 1, "logsumexp": 4, "cumsum": 1, "cumprod": 1, "logcumsumexp": 4,
    "norm": 2, "linalg_vector_norm": 2, "_foreach_norm": 2, "_foreach_max": 1, "var": 4, "std": 4, "var_mean": 4,
    "std_mean": 4, "_softmax": 5, "softmax": 5, "_safe_softmax": 5, "_log_softmax": 5, "log_softmax": 5,
    "native_layer_norm": 8, "native_group_norm": 8, "native_batch_norm": 8, "cudnn_batch_norm": 8,
    "_native_batch_norm_legit": 8, "_batch_norm_with_update": 8, "rms_norm": 4, "_fused_rms_norm": 4, "mse_loss": 3,
    "binary_cross_entropy": 6, "smooth_l1_loss": 5, "huber_loss": 5, "dist": 3, "equal": 0, "trace": 1,
    "avg_pool2d": 1, "_adaptive_avg_pool2d": 1, "max_pool2d_with_indices": 1,
    "_masked_softmax": 5, "binary_cross_entropy_with_logits": 8,
}  # fmt: skip

#: FLOPs per element of the incoming gradient (the first argument).
FLOPS_PER_GRADIENT: dict[str, int] = {
    "_softmax_backward_data": 4, "_log_softmax_backward_data": 4, "native_layer_norm_backward": 14,
    "native_group_norm_backward": 14, "native_batch_norm_backward": 14, "cudnn_batch_norm_backward": 14,
    "_fused_rms_norm_backward": 10, "batch_norm_backward": 14, "_masked_softmax_backward": 4, "avg_pool2d_backward": 1,
    "_adaptive_avg_pool2d_backward": 1, "max_pool2d_with_indices_backward": 1,
}  # fmt: skip


def _reduction(flops_per_element: int) -> Callable[[OpRecord], Cost]:
    def price(record: OpRecord) -> Cost:
        inputs = list(flatten(record.args[:1]))
        if not inputs:
            raise UnpriceableError(f"{record.name}: no shapes")
        flops = float(flops_per_element * sum(meta.numel for meta in inputs))
        dtype = arithmetic_dtype(*inputs, *record.outputs[:1])  # softmax may widen half precision
        return Cost(flops, bytes_read(record), bytes_written(record), "vector" if flops else "none", dtype)

    return price


def _nll_forward(record: OpRecord) -> Cost:
    """Of the log-probabilities [N, C] only one per target is read."""
    scores, target = tensor(record, 0), tensor(record, 1)
    picked = target.numel * ITEMSIZE.get(scores.dtype, 4)
    return Cost(float(target.numel), picked + target.nbytes, bytes_written(record), "vector", scores.dtype)


def _nll_backward(record: OpRecord) -> Cost:
    """Zeroes the whole gradient [N, C], then writes one element per target."""
    grad, scores, target = tensor(record, 0), tensor(record, 1), tensor(record, 2)
    picked = target.numel * ITEMSIZE.get(scores.dtype, 4)
    return Cost(
        float(target.numel), grad.nbytes + target.nbytes, scores.numel * ITEMSIZE.get(scores.dtype, 4) + picked,
        "vector", scores.dtype,
    )  # fmt: skip


def _comparison_sort(record: OpRecord) -> Cost:
    """Sorts and top-k make a data-dependent number of passes; one read and one write is the least they can do."""
    source: TensorMeta = tensor(record, 0)
    written = touched_bytes(record.outputs) if record.outputs else source.nbytes
    return Cost(0.0, source.nbytes, written, "none", source.dtype, estimated=True)


def _unique(record: OpRecord) -> Cost:
    source = tensor(record, 0)
    written = output(record).nbytes if record.outputs else source.nbytes
    return Cost(0.0, source.nbytes, written, "none", source.dtype, estimated=True)


RULES: dict[str, Callable[[OpRecord], Cost]] = {
    f"aten::{name}": _reduction(flops) for name, flops in {**FLOPS_PER_INPUT, **FLOPS_PER_GRADIENT}.items()
}
RULES |= {
    "aten::nll_loss_forward": _nll_forward,
    "aten::nll_loss2d_forward": _nll_forward,
    "aten::nll_loss_backward": _nll_backward,
    "aten::nll_loss2d_backward": _nll_backward,
    "aten::cumsum_": _reduction(1),
}
RULES |= {f"aten::{name}": _comparison_sort for name in ("sort", "topk", "argsort", "kthvalue", "median", "mode")}
RULES |= {f"aten::{name}": _unique for name in ("nonzero", "_unique2", "unique_consecutive", "unique_dim", "bincount")}
