"""Shapes of the tensors an optimizer updates when FLAN-T5 is trained, whole or with LoRA, from the model's numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

Shape = tuple[int, ...]

VOCABULARY = 32128
POSITION_BUCKETS = 32


@dataclass(frozen=True)
class T5Size:
    """The numbers of a T5 v1.1 model (gated feed-forward, output projection of its own)."""

    d_model: int
    d_ff: int
    layers: int
    heads: int
    d_kv: int = 64
    vocabulary: int = VOCABULARY

    @property
    def inner(self) -> int:
        """Width of the projected queries, keys and values."""
        return self.heads * self.d_kv


FLAN_T5 = {
    "small": T5Size(d_model=512, d_ff=1024, layers=8, heads=6),
    "base": T5Size(d_model=768, d_ff=2048, layers=12, heads=12),
    "large": T5Size(d_model=1024, d_ff=2816, layers=24, heads=16),
    "xl": T5Size(d_model=2048, d_ff=5120, layers=24, heads=32),
}


def parameter_shapes(size: T5Size) -> list[Shape]:
    """Shape of every parameter, in the model's order: embedding, encoder, decoder, output projection."""
    embedding = (size.vocabulary, size.d_model)
    encoder = _stack(size, attentions=1)
    decoder = _stack(size, attentions=2)
    return [embedding, *encoder, *decoder, embedding]


def lora_shapes(size: T5Size, rank: int = 8) -> list[Shape]:
    """Shapes of the adapters on the query and value projections of all attentions, encoder first."""
    adapters: list[Shape] = [(rank, size.d_model), (size.inner, rank)]
    attentions = size.layers + 2 * size.layers
    return adapters * 2 * attentions


def elements(shapes: list[Shape] | tuple[Shape, ...]) -> int:
    """Number of parameters in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes)


def _stack(size: T5Size, attentions: int) -> list[Shape]:
    """Encoder (one attention a layer) or decoder (two); the first layer has the position bias."""
    norm = (size.d_model,)
    bias = (POSITION_BUCKETS, size.heads)
    shapes: list[Shape] = []
    for layer in range(size.layers):
        for attention in range(attentions):
            shapes += [(size.inner, size.d_model)] * 3 + [(size.d_model, size.inner)]
            shapes += [bias] if layer == attention == 0 else []
            shapes.append(norm)
        shapes += [(size.d_ff, size.d_model)] * 2 + [(size.d_model, size.d_ff), norm]
    return [*shapes, norm]
