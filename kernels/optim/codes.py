"""Block-wise 8-bit codes and stochastic rounding in plain torch: the CPU path, and what the Triton kernels mirror.

A block of 256 elements shares one fp32 scale, its largest magnitude. Codes are *power codes*: a uniform grid on a root
of the value, so that the relative precision is best near the largest element and falls off slowly over many decades.

- First moment: int8, value = (code / 127)³ · scale. Relative half-step 1.2 % at the top, 5.5 % at 1e-2 of it, 12 % at
  1e-3; smaller than 6e-8 of it becomes zero. Rounded to nearest (in the root domain).
- Second moment: uint8, value = (code / 255)⁶ · scale, that is, the cube for the denominator √v. A positive value never
  becomes 0, since Adam divides by its root.

With β₂ = 0.999 one step moves v by a thousandth, less than half a grid step of any 8-bit code (or of bf16): rounded
to nearest it would never move. So v is rounded stochastically, without bias, between its two neighbours on the grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .columns import BLOCK

SMALLEST_SCALE = 1e-37


def blocks(value: Tensor) -> Tensor:
    """View a flat tensor as ``[blocks, BLOCK]``, padded with zeros."""
    missing = -value.numel() % BLOCK
    return torch.nn.functional.pad(value, (0, missing)).view(-1, BLOCK)


def block_scale(value: Tensor) -> Tensor:
    """Largest magnitude of each block, ``[blocks]``; not finite when any element of the block is not."""
    largest = blocks(value).abs().amax(dim=1)
    return torch.where(largest < SMALLEST_SCALE, 0.0, largest)


def _shares(value: Tensor, scale: Tensor) -> Tensor:
    """Magnitudes as shares of their block's scale, 0 where the block is zero."""
    share = blocks(value).abs() / scale[:, None]
    return torch.where(scale[:, None] > 0, share, 0.0).view(-1)[: value.numel()]


def _spread(scale: Tensor, count: int) -> Tensor:
    return scale.repeat_interleave(BLOCK)[:count]


def encode_signed(value: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (int8) and scales of a flat fp32 tensor."""
    scale = block_scale(value)
    magnitude = (127 * _shares(value, scale).pow(1 / 3)).add_(0.5).floor_().clamp_(max=127)
    return (magnitude.nan_to_num_(0) * value.sign().nan_to_num_(0)).to(torch.int8), scale


def decode_signed(code: Tensor, scale: Tensor) -> Tensor:
    """The flat fp32 tensor that codes and scales stand for."""
    return (code.float() / 127).pow_(3).mul_(_spread(scale, code.numel()))


def encode_unsigned(value: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Codes (uint8) and scales of a flat, non-negative fp32 tensor.

    Args:
        value: the second moment.
        generator: source of the stochastic rounding; ``None`` rounds to the nearest root.
    """
    scale = block_scale(value)
    share = _shares(value, scale)
    root = (255 * share.pow(1 / 6)).nan_to_num_(0)
    if generator is None:
        code = (root + 0.5).floor_()
    else:
        below = root.floor().clamp_(0, 254)
        low, high = (below / 255).pow(6), ((below + 1) / 255).pow(6)
        draw = torch.rand(value.shape, generator=generator, device=value.device)
        code = below + (draw * (high - low) < share - low)
    code = torch.where(share > 0, code.clamp(1, 255), 0.0)
    return code.to(torch.uint8), scale


def decode_unsigned(code: Tensor, scale: Tensor) -> Tensor:
    """The flat fp32 tensor that codes and scales stand for."""
    return (code.float() / 255).pow_(6).mul_(_spread(scale, code.numel()))


def round_to_bf16(value: Tensor, generator: torch.Generator) -> Tensor:
    """Round an fp32 tensor to either neighbour in bf16 so that the expectation is the value."""
    random = torch.randint(0, 1 << 16, value.shape, generator=generator, device=value.device, dtype=torch.int32)
    rounded = (value.contiguous().view(torch.int32) + random).bitwise_and_(-65536).view(torch.float32)
    return torch.where(value.isnan(), value, rounded).to(torch.bfloat16)


def mixed_seed(*numbers: int) -> int:
    """One seed, below 2⁶³, out of several numbers (the finalizer of splitmix64, applied to each in turn)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
