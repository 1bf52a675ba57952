"""A codec: a reducer and a quantiser, the payload they make, and the client's memory of what was left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ....errors import UpdateError, UsageError
from ..update import Message, Update, all_finite
from .quantisers import QUANTISERS, Quantiser
from .reducers import REDUCERS, Layout, Memory, Reducer, everything, size_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Codec:
    """How updates are compressed.

    Attributes:
        reducer: which numbers travel.
        quantiser: in how many bits.
    """

    reducer: Reducer
    quantiser: Quantiser

    @property
    def name(self) -> str:
        """What the user types."""
        return self.quantiser.name if self.reducer.name == "all" else f"{self.reducer.name}+{self.quantiser.name}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.reducer.title}, {self.quantiser.title}"

    @property
    def is_lossless(self) -> bool:
        """Whether what arrives is what was sent."""
        return self.reducer.name == "all" and self.quantiser.name == "fp32"

    def payload_bytes(self, layout: Layout) -> int:
        """Bytes of the arrays of a compressed update; a header of some hundred bytes comes on top.

        Args:
            layout: shapes of the update's tensors, in order.
        """
        kept = self.reducer.kept(layout)
        return self.quantiser.size(kept) + self.reducer.place_bytes * kept

    def encode(self, update: Update, memory: Memory | None = None) -> Message:
        """Compress an update.

        Args:
            update: floating tensors by name.
            memory: what the reducer keeps between rounds.

        Raises:
            UpdateError: the update holds values that are no finite numbers.
        """
        vector = flatten(update)
        if not all_finite(vector):
            raise UpdateError("the update holds values that are no finite numbers")
        values, where = self.reducer.encode(vector, _layout(update), {} if memory is None else memory)
        return Message({**self.quantiser.encode(values), **where}, {"codec": self.name})

    def decode(self, message: Message, like: Mapping[str, Tensor]) -> Update:
        """Rebuild an update; only ``like`` says what shapes and types it has.

        Raises:
            UpdateError: the message was made by another codec, or does not fit.
        """
        codec = message.about.get("codec")
        if codec != self.name:
            raise UpdateError(f"the payload was made by {codec or 'no codec'} and should be made by {self.name}")
        layout = _layout(like)
        values = self.quantiser.decode(message.arrays, self.reducer.kept(layout))
        return unflatten(self.reducer.decode(values, message.arrays, layout), like)


@dataclass
class Compressor:
    """One client's side of a codec: what a round leaves out is added to the next round's update (error feedback).

    Without it, sparse and low-rank updates lose the same small values every round (S. Karimireddy et al.,
    arXiv 1901.09847).

    Attributes:
        codec: the codec.
        feedback: whether to keep what was left out; by default where the codec needs it.
        residual: what was left out so far, fp32 [N].
        memory: of the reducer.
    """

    codec: Codec
    feedback: bool | None = None
    residual: Tensor | None = None
    memory: Memory = field(default_factory=dict)

    def compress(self, update: Update) -> Message:
        """Compress an update and what earlier rounds left out.

        Raises:
            UpdateError: see :meth:`Codec.encode`; the memory is unchanged then.
        """
        keeps = self.codec.reducer.needs_feedback if self.feedback is None else self.feedback
        if not keeps:
            return self.codec.encode(update, self.memory)
        vector = flatten(update)
        if self.residual is not None:
            vector = vector + self.residual
        full = unflatten(vector, {name: tensor.float() for name, tensor in update.items()})
        message = self.codec.encode(full, self.memory)
        self.residual = vector - flatten(self.codec.decode(message, full))
        return message


def parse_codec(text: str) -> Codec:
    """A codec from its name: ``none``, a quantiser, a reducer, or ``reducer+quantiser``.

    Raises:
        UsageError: it is none of these.
    """
    reducer, quantiser = everything(), QUANTISERS["fp32"]
    parts = [part for part in text.lower().split("+") if part not in ("none", "fp32")] if text else [""]
    for position, part in enumerate(parts):
        kind, _, argument = part.partition(":")
        if part in QUANTISERS and position == len(parts) - 1:
            quantiser = QUANTISERS[part]
        elif kind in REDUCERS and position == 0:
            reducer = _reducer(kind, argument)
        else:
            known = [*QUANTISERS, *(f"{name}:{default}" for name, (_, default) in REDUCERS.items())]
            raise UsageError(f"unknown codec {text!r}; use {', '.join(known)}, or two joined as in topk:0.01+int8")
    return Codec(reducer, quantiser)


def register_quantiser(quantiser: Quantiser) -> None:
    """Make a quantiser known by its name to :func:`parse_codec`, and so to every ``--codec``; of this process only.

    Raises:
        UsageError: the name is taken, or cannot be part of a codec's name.
    """
    _check_name(quantiser.name)
    QUANTISERS[quantiser.name] = quantiser


def register_reducer(kind: str, make: Callable[[str], Reducer], default: str) -> None:
    """Make a reducer known to :func:`parse_codec`; of this process only.

    Args:
        kind: what the user types before the colon.
        make: the reducer from the text behind the colon; a ``ValueError`` says that the text makes no sense.
        default: the text where there is none.

    Raises:
        UsageError: the name is taken, or cannot be part of a codec's name.
    """
    _check_name(kind)
    REDUCERS[kind] = (make, default)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise UsageError(f"{name!r} cannot name a part of a codec; use small letters, digits and hyphens")
    if name in ("none", "all", "lora", *QUANTISERS, *REDUCERS):
        raise UsageError(f"there is a part of codecs called {name!r} already")


def _reducer(kind: str, argument: str) -> Reducer:
    make, default = REDUCERS[kind]
    try:
        return make(argument or default)
    except ValueError as error:
        raise UsageError(f"{kind}:{argument} makes no sense; use a number, such as {kind}:{default}") from error


def flatten(update: Mapping[str, Tensor]) -> Tensor:
    """All values as one fp32 vector, in the order of the update."""
    import torch

    parts = [tensor.detach().reshape(-1).float() for tensor in update.values()]
    return torch.cat(parts) if parts else torch.zeros(0)


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Update:
    """The tensors of an update from its vector, with the names, shapes and types of ``like``.

    Raises:
        UpdateError: the vector has another size.
    """
    if vector.numel() != size_of(_layout(like)):
        raise UpdateError(f"the payload holds {vector.numel():,} values where {size_of(_layout(like)):,} are expected")
    parts = vector.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape).to(tensor.dtype) for (name, tensor), part in zip(like.items(), parts)}


def _layout(update: Mapping[str, Tensor]) -> Layout:
    return [tuple(tensor.shape) for tensor in update.values()]
