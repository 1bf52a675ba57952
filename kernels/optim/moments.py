"""Adam's two moments of one tensor: flat storage, the entries they show in ``optimizer.state``, and conversions.

In fp32, bf16 and fp64 the entries are ``exp_avg`` and ``exp_avg_sq``, shaped and laid out as the parameter, which is
what ``torch.optim.AdamW`` saves and loads. 8-bit states have names of their own, so that no other optimizer takes
codes for values: ``exp_avg_q8`` and ``exp_avg_sq_q8`` (codes, flat) with ``exp_avg_scale`` and ``exp_avg_sq_scale``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import codes
from .columns import BLOCK
from .formats import FORMATS, StateFormat
from .layout import is_dense, padded

_NATIVE_FP64 = StateFormat("fp64", -1, torch.float64, torch.float64, 8.0)

#: Every entry that belongs to the moments, in any format.
STATE_KEYS = ("exp_avg", "exp_avg_sq", "exp_avg_q8", "exp_avg_scale", "exp_avg_sq_q8", "exp_avg_sq_scale")


def format_for(param: Tensor, wanted: StateFormat) -> StateFormat:
    """Format of a parameter's states: fp64 parameters keep theirs in fp64 whatever is wanted."""
    return _NATIVE_FP64 if param.dtype == torch.float64 else wanted


@dataclass(frozen=True)
class Moments:
    """Flat storage of both moments: values or codes ``[numel]``, and scales ``[ceil(numel / BLOCK)]`` for codes."""

    format: StateFormat
    first: Tensor
    second: Tensor
    scale1: Tensor | None = None
    scale2: Tensor | None = None

    @classmethod
    def zeros(cls, form: StateFormat, numel: int, device: torch.device) -> Moments:
        """Storage for ``numel`` elements, zero: the state before the first step."""
        first = torch.zeros(numel, dtype=form.first, device=device)
        second = torch.zeros(numel, dtype=form.second, device=device)
        if not form.quantized:
            return cls(form, first, second)
        count = padded(numel) // BLOCK
        return cls(form, first, second, torch.zeros(count, device=device), torch.zeros(count, device=device))

    def part(self, start: int, numel: int) -> Moments:
        """Views of ``numel`` elements from ``start``, which is a multiple of ``BLOCK``."""
        stop = start + numel
        if self.scale1 is None or self.scale2 is None:
            return Moments(self.format, self.first[start:stop], self.second[start:stop])
        scales = slice(start // BLOCK, (start + padded(numel)) // BLOCK)
        return Moments(
            self.format, self.first[start:stop], self.second[start:stop], self.scale1[scales], self.scale2[scales]
        )

    def tensors(self) -> list[Tensor]:
        """Everything that a step reads and writes."""
        return [tensor for tensor in (self.first, self.second, self.scale1, self.scale2) if tensor is not None]

    def values(self) -> tuple[Tensor, Tensor]:
        """Both moments, decoded; fp32 and fp64 storage is returned itself, not a copy."""
        if self.scale1 is not None and self.scale2 is not None:
            return codes.decode_signed(self.first, self.scale1), codes.decode_unsigned(self.second, self.scale2)
        if self.format.name == "bf16":
            return self.first.float(), self.second.float()
        return self.first, self.second

    def write(self, first: Tensor, second: Tensor, generator: torch.Generator | None) -> None:
        """Store values; reduced second moments are rounded stochastically when a generator is given."""
        if self.scale1 is not None and self.scale2 is not None:
            for target, source in zip((self.first, self.scale1), codes.encode_signed(first)):
                target.copy_(source)
            for target, source in zip((self.second, self.scale2), codes.encode_unsigned(second, generator)):
                target.copy_(source)
            return
        if self.format.name == "bf16" and generator is not None:
            second = codes.round_to_bf16(second, generator)
        self.first.copy_(first)
        self.second.copy_(second)

    def entries(self, param: Tensor) -> dict[str, Tensor]:
        """What ``optimizer.state[param]`` shows: views of this storage."""
        if self.scale1 is not None and self.scale2 is not None:
            return {
                "exp_avg_q8": self.first,
                "exp_avg_scale": self.scale1,
                "exp_avg_sq_q8": self.second,
                "exp_avg_sq_scale": self.scale2,
            }
        return {"exp_avg": shaped_like(self.first, param), "exp_avg_sq": shaped_like(self.second, param)}

    def adopt(self, state: dict[str, Any], param: Tensor) -> None:
        """Take over the moments of a state dictionary in any format; leaves zeros when it has none."""
        if "exp_avg_q8" in state:
            stored = Moments(FORMATS["int8"], *(state[key] for key in ("exp_avg_q8", "exp_avg_sq_q8")),
                             *(state[key] for key in ("exp_avg_scale", "exp_avg_sq_scale")))  # fmt: skip
            if self.format.quantized:
                for target, source in zip(self.tensors(), stored.tensors()):
                    target.copy_(source)
            else:
                self.write(*stored.values(), generator=None)
        elif "exp_avg" in state:
            self.write(flattened(state["exp_avg"], param), flattened(state["exp_avg_sq"], param), generator=None)


def shaped_like(flat: Tensor, param: Tensor) -> Tensor:
    """View flat storage with the parameter's shape, in its order of dimensions when that is dense."""
    if is_dense(param):
        return flat.as_strided(param.shape, param.stride(), flat.storage_offset())
    return flat.view(param.shape)


def flattened(value: Tensor, param: Tensor) -> Tensor:
    """Elements of a tensor of the parameter's shape in the order of :func:`shaped_like`, on its device."""
    wide = torch.float64 if param.dtype == torch.float64 else torch.float32
    flat = torch.empty(param.numel(), dtype=wide, device=param.device)
    shaped_like(flat, param).copy_(value)
    return flat
