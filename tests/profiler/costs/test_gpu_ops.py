"""Ops that only a GPU runs, on tensors without memory: argument positions, FLOPs and bytes, against torch's schemas."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

from edgeroof.profiler.costs import Cost, price, with_kernel_dtype
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.profiler.recorder import OpRecorder

aten = torch.ops.aten


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def cost_of(run: Callable[[], object]) -> Cost:
    with OpRecorder(torch.nn.Identity()) as recorder:
        run()
    (record,) = recorder.records
    cost = price(record)
    assert cost is not None
    return cost


QUERY = empty(2, 4, 16, 8, dtype=torch.bfloat16)
KEY, VALUE = (empty(2, 4, 24, 8, dtype=torch.bfloat16) for _ in range(2))
BIAS = empty(1, 4, 16, 24, dtype=torch.bfloat16).expand(2, 4, 16, 24)
OUT, GRAD = torch.empty_like(QUERY), torch.empty_like(QUERY)
LSE, SEED = empty(2, 4, 16), empty(dtype=torch.int64)
Q_BYTES, KV_BYTES, BIAS_BYTES = 2048, 3072, 3072  # the expanded bias exists once, not per batch entry


@pytest.mark.parametrize(
    ("run", "read"),
    [
        (lambda: aten._scaled_dot_product_flash_attention(QUERY, KEY, VALUE, 0.1), Q_BYTES + 2 * KV_BYTES),
        (
            lambda: aten._scaled_dot_product_efficient_attention(QUERY, KEY, VALUE, BIAS, True, 0.1),
            Q_BYTES + 2 * KV_BYTES + BIAS_BYTES,
        ),
        (
            lambda: aten._scaled_dot_product_cudnn_attention(QUERY, KEY, VALUE, BIAS, True, 0.1),
            Q_BYTES + 2 * KV_BYTES + BIAS_BYTES,
        ),
    ],
    ids=["flash", "efficient", "cudnn"],
)
def test_attention(run: Callable[[], object], read: int) -> None:
    cost = cost_of(run)
    assert cost.flops == sdpa_flop_count(QUERY.shape, KEY.shape, VALUE.shape)
    assert (cost.bytes_read, cost.unit, cost.dtype) == (read, "tensor", "bf16")
    assert Q_BYTES < cost.bytes_written < Q_BYTES + 2048  # and the log-sum-exp of each row


def efficient_backward(bias_wanted: bool) -> object:
    mask = [True, True, True, bias_wanted]
    return aten._scaled_dot_product_efficient_attention_backward(
        GRAD, QUERY, KEY, VALUE, BIAS, OUT, LSE, SEED, SEED, 0.1, mask
    )


@pytest.mark.parametrize(
    ("run", "with_bias", "bias_gradient"),
    [
        (
            lambda: aten._scaled_dot_product_flash_attention_backward(
                GRAD, QUERY, KEY, VALUE, OUT, LSE, None, None, 16, 24, 0.1, False, SEED, SEED
            ),
            False,
            0,
        ),
        (lambda: efficient_backward(False), True, 0),
        (lambda: efficient_backward(True), True, 2 * BIAS_BYTES),  # one gradient per batch entry, summed by a later op
        (
            lambda: aten._scaled_dot_product_cudnn_attention_backward(
                GRAD, QUERY, KEY, VALUE, OUT, LSE, SEED, SEED, BIAS, None, None, 16, 24, 0.1, False
            ),
            True,
            0,
        ),
    ],
    ids=["flash", "efficient", "efficient with bias gradient", "cudnn"],
)
def test_attention_backward(run: Callable[[], object], with_bias: bool, bias_gradient: int) -> None:
    cost = cost_of(run)
    assert cost.flops == sdpa_backward_flop_count(GRAD.shape, QUERY.shape, KEY.shape, VALUE.shape)
    read = 3 * Q_BYTES + 2 * KV_BYTES + 512 + (BIAS_BYTES if with_bias else 0)
    assert cost.bytes_read == pytest.approx(read, abs=16)  # and the random seed
    assert cost.bytes_written == Q_BYTES + 2 * KV_BYTES + bias_gradient


HALF = empty(8, 16, dtype=torch.float16)


@pytest.mark.parametrize(
    ("run", "read", "written", "dtype"),
    [
        (lambda: aten.native_dropout(HALF, 0.1, True), 256, 256 + 128, "fp16"),
        (lambda: aten.native_dropout(HALF[:1].expand(8, 16), 0.1, True), 32, 256 + 128, "fp16"),
        (lambda: aten.native_dropout_backward(HALF, empty(8, 16, dtype=torch.bool), 1.1), 256 + 128, 256, "fp16"),
        (lambda: aten._softmax(HALF, -1, True), 256, 512, "fp32"),  # half_to_float
        (lambda: HALF * empty(dtype=torch.float64), 264, 256, "fp16"),  # a 0-dimensional tensor widens nothing
        (lambda: aten._foreach_norm([empty(10), empty(6)]), 64, 8, "fp32"),
        (lambda: aten._foreach_mul_([HALF], empty()), 260, 256, "fp16"),  # clipping by a tensor
        (lambda: aten.cat([empty(0), empty(8, 4)]), 128, 128, "fp32"),
        (lambda: aten.mm(empty(0, 4), empty(4, 5)), 80, 0, "fp32"),
        (lambda: aten.expand_copy(empty(1, 4), [3, 4]), 16, 48, "fp32"),
        (lambda: aten.nll_loss2d_forward(empty(2, 5, 4, 4), empty(2, 4, 4, dtype=torch.int64), None, 1, -100),
         32 * (4 + 8), 8, "fp32"),
    ],
)  # fmt: skip
def test_bytes(run: Callable[[], object], read: int, written: int, dtype: str) -> None:
    cost = cost_of(run)
    assert (cost.bytes_read, cost.bytes_written, cost.dtype) == (read, written, dtype)


def index(*shape: int) -> torch.Tensor:
    return empty(*shape, dtype=torch.int64)


TABLE = empty(10, 6)


@pytest.mark.parametrize(
    ("run", "read", "written", "flops"),
    [
        # One value, broadcast over three rows of six.
        (lambda: aten.index_put_(TABLE, [index(3)], empty()), 24 + 4, 72, 0),
        (lambda: aten.index_put_(TABLE, [None, index(3)], empty(10, 3)), 24 + 120, 120, 0),
        (lambda: aten.index_put_(TABLE, [index(5, 1), index(2)], empty(5, 2)), 40 + 16 + 40, 40, 0),
        (lambda: aten.index_put_(TABLE, [index(3)], empty(3, 6), True), 24 + 72 + 72, 72, 18),
        (lambda: aten.index_put(TABLE, [index(3)], empty(3, 6), True), 24 + 72 + 240, 240, 18),
        (lambda: aten.index_fill_(TABLE, 0, index(2), 0.0), 16, 48, 0),
        (lambda: aten.scatter_(TABLE, 0, index(2, 6), 1.0), 96, 48, 0),
        (lambda: aten.scatter_add_(TABLE, 0, index(2, 6), empty(1, 6).expand(2, 6)), 96 + 24 + 48, 48, 12),
        (lambda: aten.index_add_(TABLE, 0, index(2), empty(2, 6)), 16 + 48 + 48, 48, 12),
    ],
)
def test_writes_by_index(run: Callable[[], object], read: int, written: int, flops: int) -> None:
    cost = cost_of(run)
    assert (cost.bytes_read, cost.bytes_written, cost.flops) == (read, written, flops)


def test_a_mask_leaves_the_number_of_writes_open() -> None:
    cost = cost_of(lambda: aten.index_put_(TABLE, [empty(10, dtype=torch.bool)], empty(4, 6)))
    assert cost.estimated
    assert cost.bytes_written == 96


def test_a_product_times_zero_beta_does_not_read_what_it_adds_to() -> None:
    target, left, right = empty(2, 16, 24), empty(2, 16, 8), empty(2, 8, 24)
    added = cost_of(lambda: torch.baddbmm(target, left, right))
    ignored = cost_of(lambda: torch.baddbmm(target, left, right, beta=0))
    assert added.bytes_read - ignored.bytes_read == 2 * 16 * 24 * 4
    assert added.flops == ignored.flops


@pytest.mark.parametrize(
    ("mask", "read"),
    [([True, True, False], 3072 + 864 + 2048), ([False, True, True], 3072 + 2048), ([True, False, False], 3072 + 864)],
)
def test_convolution_backward_reads_what_its_gradients_need(mask: list[bool], read: int) -> None:
    grad, source, weight = empty(2, 6, 8, 8), empty(2, 4, 8, 8), empty(6, 4, 3, 3)
    ones = [1, 1]
    cost = cost_of(
        lambda: aten.convolution_backward(grad, source, weight, [6], ones, ones, ones, False, [0, 0], 1, mask)
    )
    assert cost.bytes_read == read
    assert cost.flops == 2 * 2 * 64 * 6 * 4 * 9 * sum(mask[:2])


def fused(name: str, **given: object) -> Cost:
    """Cost of a fused step over 16 fp32 parameters, its arguments placed by torch's schema."""
    lists = tuple(TensorMeta((size,), "fp32") for size in (10, 6))
    empty_lists = given.pop("empty", ())
    schema = getattr(aten, name).default._schema
    values: list[object] = []
    for argument in schema.arguments:
        is_list = str(argument.type) == "List[Tensor]"
        default = () if argument.name in empty_lists else lists if is_list else argument.default_value
        values.append(given.get(argument.name, default))
    mutated = tuple(i for i, a in enumerate(schema.arguments) if a.alias_info is not None and a.alias_info.is_write)
    cost = price(OpRecord(f"aten::{name}", tuple(values), (), mutated))
    assert cost is not None
    return cost


SCALE = TensorMeta((), "fp32")


@pytest.mark.parametrize(
    ("name", "given", "bytes_per_parameter"),
    [
        ("_fused_adamw_", {"empty": ("max_exp_avg_sqs",)}, 28),
        ("_fused_adamw_", {"empty": ("max_exp_avg_sqs",), "lr": SCALE}, 28),
        ("_fused_adamw_", {"amsgrad": True}, 36),
        ("_fused_adam_", {"empty": ("max_exp_avg_sqs",), "grad_scale": SCALE}, 32),  # unscaled gradients written back
        ("_fused_sgd_", {}, 20),
        ("_fused_sgd_", {"empty": ("momentum_buffer_list",)}, 12),
        ("_fused_sgd_", {"is_first_step": True}, 16),  # the buffers are only written
        ("_fused_sgd_", {"grad_scale": SCALE}, 24),
        ("_fused_sgd_", {"is_first_step": True, "grad_scale": SCALE}, 20),
        ("_fused_adagrad_", {}, 20),
        ("_fused_adagrad_", {"grad_scale": SCALE}, 24),
    ],
)
def test_fused_optimizers(name: str, given: dict[str, object], bytes_per_parameter: int) -> None:
    assert fused(name, **given).bytes == 16 * bytes_per_parameter


def test_unscaling_reads_and_writes_the_gradients() -> None:
    grads = [empty(10), empty(6)]
    cost = cost_of(lambda: aten._amp_foreach_non_finite_check_and_unscale_(grads, empty(), empty()))
    assert (cost.bytes_read, cost.bytes_written, cost.flops) == (64, 64, 16)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        ("void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_64x64_32x6_tn_align4>", "tf32"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x16", "tf32"),
        ("cutlass_tensorop_s1688fprop_optimized_tf32_128x128_32x4_nhwc_align4", "tf32"),
        ("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_warpgroupsize1x1x1_execute_segment_k_off", "tf32"),
        ("nvjet_sss_tf32_128x256_TNT", "tf32"),
        ("nvjet_tst_192x192_64x3_2x1_v_bz_coopA_TNT", "tf32"),  # no fp32 product gets a vector unit from nvjet
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80(AttentionKernel<float, Sm80>::Params)", "tf32"),
        ("fmha_cutlassB_f32_aligned_64x64_k64_dropout_sm80", "tf32"),
        ("fmha_cutlassB_f32_aligned_64x64_k64_dropout_sm75", "fp32"),
        ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x64x8_stage3", "fp32"),
        ("void cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>", "fp32"),
        ("ampere_sgemm_32x32_sliced1x4_tn", "fp32"),
    ],
)  # fmt: skip
def test_a_kernels_name_tells_tf32(kernel: str, dtype: str) -> None:
    cost = with_kernel_dtype(Cost(1e9, 1, 1, "vector", "fp32"), kernel)
    assert (cost.dtype, cost.unit) == (dtype, "tensor" if dtype == "tf32" else "vector")


@pytest.mark.parametrize(
    "kernel", ["nvjet_tst_192x192_64x3_2x1_v_bz_coopA_TNT", "fmha_cutlassF_bf16_aligned_64x64_rf_sm80"]
)
def test_a_half_precision_product_stays_what_it_is(kernel: str) -> None:
    cost = Cost(1e9, 1, 1, "tensor", "bf16")
    assert with_kernel_dtype(cost, kernel) == cost


def test_double_precision_has_matrix_units_too() -> None:
    cost = Cost(1e9, 1, 1, "vector", "fp64")
    assert with_kernel_dtype(cost, "cutlass_80_tensorop_d884gemm_64x64_16x3_nn_align1").unit == "tensor"
    assert with_kernel_dtype(cost, "volta_dgemm_64x64_nn").unit == "vector"
