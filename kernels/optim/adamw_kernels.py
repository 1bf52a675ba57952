# ruff: noqa: N803
# mypy: disable-error-code=no-untyped-def
"""Triton kernels of AdamW: the step's coefficients, and the update of all tensors in one launch.

Every program of the update takes one chunk of one tensor. Whole tiles of 16-byte-aligned tensors go through an
unmasked loop, where ``tl.multiple_of`` lets Triton use 128-bit accesses; the rest goes through a masked, scalar one.
The hint is placed on a pointer that only the unmasked loop uses, since it holds there alone.
"""

import triton
import triton.language as tl

from . import columns
from .gradient_kernels import gradient_factor
from .tiles import (
    block_scale,
    cube_of_code,
    encode_signed,
    encode_unsigned,
    load,
    per_scale,
    random16,
    round_to_bf16,
    sixth_power_of_code,
    spread,
    store,
)

PARAM = tl.constexpr(columns.PARAM)
GRAD = tl.constexpr(columns.GRAD)
ALIGNED = tl.constexpr(columns.ALIGNED)
NUMEL = tl.constexpr(columns.NUMEL)
STATE = tl.constexpr(columns.STATE)
GROUP = tl.constexpr(columns.GROUP)
SEED = tl.constexpr(columns.SEED)
SHADOW = tl.constexpr(columns.SHADOW)
TABLE_WIDTH = tl.constexpr(columns.TABLE_WIDTH)
LR = tl.constexpr(columns.LR)
WEIGHT_DECAY = tl.constexpr(columns.WEIGHT_DECAY)
BETA1 = tl.constexpr(columns.BETA1)
BETA2 = tl.constexpr(columns.BETA2)
EPS = tl.constexpr(columns.EPS)
SIGN = tl.constexpr(columns.SIGN)
HYPER_WIDTH = tl.constexpr(columns.HYPER_WIDTH)
MAX_NORM = tl.constexpr(columns.MAX_NORM)
APPLY = tl.constexpr(columns.APPLY)
GRAD_FACTOR = tl.constexpr(columns.GRAD_FACTOR)
DECAY = tl.constexpr(columns.DECAY)
STEP_SIZE = tl.constexpr(columns.STEP_SIZE)
RSQRT_CORRECTION2 = tl.constexpr(columns.RSQRT_CORRECTION2)
EPSILON = tl.constexpr(columns.EPSILON)
KEEP1 = tl.constexpr(columns.KEEP1)
TAKE1 = tl.constexpr(columns.TAKE1)
KEEP2 = tl.constexpr(columns.KEEP2)
TAKE2 = tl.constexpr(columns.TAKE2)
STEP = tl.constexpr(columns.STEP)
COEFFICIENT_WIDTH = tl.constexpr(columns.COEFFICIENT_WIDTH)
BLOCK = tl.constexpr(columns.BLOCK)
BF16_STATE = tl.constexpr(1)
INT8_STATE = tl.constexpr(2)
TAIL = tl.constexpr(columns.TAIL)
FOR_PARAM = tl.constexpr(1)
FOR_SECOND_MOMENT = tl.constexpr(2)


@triton.jit(do_not_specialize=["tensors", "groups", "sums"])
def adamw_prepare_kernel(
    table, steps, hyper, coefficients, partials, norm, grad_scale, found_inf, tensors, groups, sums,
    CLIP: tl.constexpr, SKIP_NONFINITE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One program: count the step and write the coefficients of every tensor, in float64 where it matters.

    ``grad_scale``, ``found_inf`` and ``partials`` may be ``None``. Nothing changes when the step is skipped.
    """
    lanes = tl.arange(0, WIDTH)
    limit = hyper + groups * HYPER_WIDTH + MAX_NORM
    skip, factor = gradient_factor(partials, norm, grad_scale, found_inf, limit, sums, CLIP, SKIP_NONFINITE, WIDTH)
    for first in range(0, tensors, WIDTH):
        index = first + lanes
        inside = index < tensors
        row = table + index.to(tl.int64) * TABLE_WIDTH
        active = tl.where(skip == 0, tl.load(row + GRAD, mask=inside, other=0), 0) != 0
        step = tl.load(steps + index, mask=inside, other=0.0) + tl.where(active, 1.0, 0.0)
        tl.store(steps + index, step, mask=active)

        group = hyper + tl.load(row + GROUP, mask=inside, other=0) * HYPER_WIDTH
        lr = tl.load(group + LR, mask=inside, other=0.0)
        beta1 = tl.load(group + BETA1, mask=inside, other=0.5)
        beta2 = tl.load(group + BETA2, mask=inside, other=0.5)
        power = tl.where(active, step, 1.0).to(tl.float64)
        correction1 = 1.0 - tl.exp(power * tl.log(beta1))
        correction2 = 1.0 - tl.exp(power * tl.log(beta2))

        out = coefficients + index.to(tl.int64) * COEFFICIENT_WIDTH
        sign = tl.load(group + SIGN, mask=inside, other=1.0)
        decay = lr * tl.load(group + WEIGHT_DECAY, mask=inside, other=0.0)
        epsilon = tl.load(group + EPS, mask=inside, other=0.0)
        tl.store(out + APPLY, tl.where(active, 1.0, 0.0), mask=inside)
        tl.store(out + GRAD_FACTOR, (factor * sign).to(tl.float32), mask=inside)
        tl.store(out + DECAY, decay.to(tl.float32), mask=inside)
        tl.store(out + STEP_SIZE, (lr / correction1).to(tl.float32), mask=inside)
        tl.store(out + RSQRT_CORRECTION2, (1.0 / tl.sqrt(correction2)).to(tl.float32), mask=inside)
        tl.store(out + EPSILON, epsilon.to(tl.float32), mask=inside)
        tl.store(out + KEEP1, beta1.to(tl.float32), mask=inside)
        tl.store(out + TAKE1, (1.0 - beta1).to(tl.float32), mask=inside)
        tl.store(out + KEEP2, beta2.to(tl.float32), mask=inside)
        tl.store(out + TAKE2, (1.0 - beta2).to(tl.float32), mask=inside)
        tl.store(out + STEP, step, mask=inside)


@triton.jit
def _update_tile(
    param, grad, exp_avg, exp_avg_sq, scale1, scale2, shadow,
    factor, decay, step_size, rsqrt_correction2, epsilon, keep1, take1, keep2, take2, seed, step, start, first, count,
    KIND: tl.constexpr, STOCHASTIC: tl.constexpr, MASKED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Read, update and write one tile; all pointers stand at the chunk's first element, ``start`` in its tensor."""
    lanes = first + tl.arange(0, TILE)
    mask = lanes < count
    p = load(param + lanes, mask, MASKED)
    g = load(grad + lanes, mask, MASKED) * factor
    m = load(exp_avg + lanes, mask, MASKED)
    v = load(exp_avg_sq + lanes, mask, MASKED)
    if KIND == INT8_STATE:
        blocks = first // BLOCK + tl.arange(0, TILE // BLOCK)
        occupied = blocks * BLOCK < count
        m = cube_of_code(m) * spread(keep1 * load(scale1 + blocks, occupied, MASKED), TILE) + take1 * g
        v = sixth_power_of_code(v) * spread(keep2 * load(scale2 + blocks, occupied, MASKED), TILE) + take2 * g * g
    else:
        m = keep1 * m + take1 * g
        v = keep2 * v + take2 * g * g
    p = p - decay * p
    if KIND == INT8_STATE:  # approximations within a few ulp are much finer than a code and save a tenth of the work
        root = tl.sqrt(v)
        inverse = tl.rsqrt(root * rsqrt_correction2 + epsilon)
        p = p - step_size * (m * inverse * inverse)
    else:
        p = p - step_size * (m / (tl.sqrt_rn(v) * rsqrt_correction2 + epsilon))

    if STOCHASTIC:
        store(param + lanes, round_to_bf16(p, random16(seed, start + first, step, FOR_PARAM, TILE)), mask, MASKED)
    else:
        store(param + lanes, p, mask, MASKED)
    if shadow is not None:
        store(shadow + lanes, p, mask, MASKED)

    if KIND == INT8_STATE:
        new_scale1 = block_scale(m, TILE)
        new_scale2 = block_scale(v, TILE)
        store(scale1 + blocks, new_scale1, occupied, MASKED)
        store(scale2 + blocks, new_scale2, occupied, MASKED)
        random = random16(seed, start + first, step, FOR_SECOND_MOMENT, TILE)
        store(exp_avg + lanes, encode_signed(m, spread(per_scale(new_scale1), TILE)), mask, MASKED)
        largest = spread(16581375.0 * per_scale(tl.sqrt(new_scale2)), TILE)
        store(exp_avg_sq + lanes, encode_unsigned(root, largest, random), mask, MASKED)
    elif KIND == BF16_STATE:
        random = random16(seed, start + first, step, FOR_SECOND_MOMENT, TILE)
        store(exp_avg + lanes, m, mask, MASKED)
        store(exp_avg_sq + lanes, round_to_bf16(v, random), mask, MASKED)
    else:
        store(exp_avg + lanes, m, mask, MASKED)
        store(exp_avg_sq + lanes, v, mask, MASKED)


@triton.jit
def adamw_kernel(
    table, coefficients, chunk_map, exp_avg, exp_avg_sq, scale1, scale2,
    PARAM_DTYPE: tl.constexpr, GRAD_DTYPE: tl.constexpr, SHADOW_DTYPE: tl.constexpr,
    KIND: tl.constexpr, STOCHASTIC: tl.constexpr, CHUNK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Update every tensor of a bucket: one program per chunk of ``CHUNK`` elements.

    ``scale1`` and ``scale2`` are ``None`` unless the states are 8-bit codes, ``SHADOW_DTYPE`` unless a copy is wanted.
    """
    chunk = tl.program_id(0).to(tl.int64)
    tensor = tl.load(chunk_map + chunk * 2).to(tl.int64)
    start = tl.load(chunk_map + chunk * 2 + 1).to(tl.int64) * CHUNK
    row = table + tensor * TABLE_WIDTH
    coefficients += tensor * COEFFICIENT_WIDTH
    if tl.load(coefficients + APPLY) != 0.0:
        factor = tl.load(coefficients + GRAD_FACTOR)
        decay = tl.load(coefficients + DECAY)
        step_size = tl.load(coefficients + STEP_SIZE)
        rsqrt_correction2 = tl.load(coefficients + RSQRT_CORRECTION2)
        epsilon = tl.load(coefficients + EPSILON)
        keep1 = tl.load(coefficients + KEEP1)
        take1 = tl.load(coefficients + TAKE1)
        keep2 = tl.load(coefficients + KEEP2)
        take2 = tl.load(coefficients + TAKE2)
        step = tl.load(coefficients + STEP)
        param = tl.load(row + PARAM)
        grad = tl.load(row + GRAD)
        seed = tl.load(row + SEED)
        count = tl.minimum(tl.load(row + NUMEL) - start, CHUNK).to(tl.int32)
        whole = tl.where(tl.load(row + ALIGNED) != 0, count // TILE, 0)
        state = tl.multiple_of(tl.load(row + STATE), BLOCK) + start
        exp_avg += state
        exp_avg_sq += state
        if scale1 is not None:
            scale1 += state // BLOCK
            scale2 += state // BLOCK
        shadow = None
        if SHADOW_DTYPE is not None:
            shadow = tl.multiple_of(tl.load(row + SHADOW).to(tl.pointer_type(SHADOW_DTYPE)), 16) + start

        fast_param = tl.multiple_of(param.to(tl.pointer_type(PARAM_DTYPE)), 16) + start
        fast_grad = tl.multiple_of(grad.to(tl.pointer_type(GRAD_DTYPE)), 16) + start
        for tile in range(whole):
            _update_tile(
                fast_param, fast_grad, exp_avg, exp_avg_sq, scale1, scale2, shadow,
                factor, decay, step_size, rsqrt_correction2, epsilon, keep1, take1, keep2, take2,
                seed, step, start, tile * TILE, count, KIND, STOCHASTIC, False, TILE,
            )  # fmt: skip
        slow_param = param.to(tl.pointer_type(PARAM_DTYPE)) + start
        slow_grad = grad.to(tl.pointer_type(GRAD_DTYPE)) + start
        for first in range(whole * TILE, count, TAIL):
            _update_tile(
                slow_param, slow_grad, exp_avg, exp_avg_sq, scale1, scale2, shadow,
                factor, decay, step_size, rsqrt_correction2, epsilon, keep1, take1, keep2, take2,
                seed, step, start, first, count, KIND, STOCHASTIC, True, TAIL,
            )  # fmt: skip
