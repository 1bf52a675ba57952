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


@dataclass(frozen=True)
class Pending:
    """What a client remembers after a round whose update may or may not have been used.

    Attributes:
        round_number: of the round.
        residual: as :attr:`Compressor.residual`, if it was.
        memory: as :attr:`Compressor.memory`, if it was.
    """

    round_number: int
    residual: Tensor
    memory: Memory


@dataclass
class Compressor:
    """One client's side of a codec: what a round leaves out is added to the next round's update (error feedback).

    Without it, sparse and low-rank updates lose the same small values every round (S. Karimireddy et al.,
    arXiv 1901.09847). A round counts only when the server used its update: what it left out is pending until
    :meth:`settle` says so, and a round that was not used has never been, for what it sent is lost as well. Without
    feedback nothing is pending, and a reducer's memory is that of the last round, used or not.

    Attributes:
        codec: the codec.
        feedback: whether to keep what was left out; by default where the codec needs it.
        residual: what used rounds left out so far, fp32 [N].
        memory: of the reducer, after the last used round.
        pending: what a round left behind of which nobody knows yet whether it was used.
    """

    codec: Codec
    feedback: bool | None = None
    residual: Tensor | None = None
    memory: Memory = field(default_factory=dict)
    pending: Pending | None = None

    def compress(self, update: Update, round_number: int = 1) -> Message:
        """Compress an update and what earlier rounds left out.

        Args:
            update: floating tensors by name.
            round_number: from 1; :meth:`settle` has to name it for what is left out to be remembered.

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
        memory = dict(self.memory)
        message = self.codec.encode(full, memory)
        self.pending = Pending(round_number, vector - flatten(self.codec.decode(message, full)), memory)
        return message

    def settle(self, used_round: int) -> None:
        """Keep what the pending round left behind if that round is the last whose update was used, else forget it.

        Args:
            used_round: the last round in which the server used this client's update; 0 for none.
        """
        if self.pending is not None and self.pending.round_number == used_round:
            self.residual, self.memory = self.pending.residual, self.pending.memory
        self.pending = None

    def remembered(self) -> Update:
        """All that it remembers as named arrays, for :meth:`remember`."""
        import torch

        arrays = _arrays("", self.residual, self.memory)
        if self.pending is None:
            return arrays
        number = torch.tensor([self.pending.round_number])
        return {**arrays, _ROUND: number, **_arrays(_PENDING, self.pending.residual, self.pending.memory)}

    def remember(self, arrays: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`remembered` returned.

        Raises:
            UpdateError: it returned no such thing.
        """
        for name, tensor in arrays.items():
            plain = name.removeprefix(_PENDING)
            if not (name == _ROUND or plain == _RESIDUAL or plain.startswith(_MEMORY)):
                raise UpdateError(f"{name!r} is nothing that a client remembers")
            if not all_finite(tensor):
                raise UpdateError(f"{name} of a client's memory holds values that are no finite numbers")
        self.residual, self.memory = _read_arrays("", arrays)
        self.pending = None
        residual, memory = _read_arrays(_PENDING, arrays)
        if _ROUND not in arrays and residual is None and not memory:
            return
        number = arrays.get(_ROUND)
        if number is None or residual is None or number.shape != (1,) or number.is_floating_point():
            raise UpdateError("a client's pending round is cut short")
        self.pending = Pending(int(number), residual, memory)


#: Names of what a compressor remembers; what is pending has a prefix.
_RESIDUAL, _MEMORY, _PENDING, _ROUND = "residual", "memory.", "pending.", "pending.round"


def _arrays(prefix: str, residual: Tensor | None, memory: Memory) -> Update:
    entries = {_RESIDUAL: residual, **{f"{_MEMORY}{name}": tensor for name, tensor in memory.items()}}
    return {f"{prefix}{name}": tensor for name, tensor in entries.items() if tensor is not None}


def _read_arrays(prefix: str, arrays: Mapping[str, Tensor]) -> tuple[Tensor | None, Memory]:
    residual = arrays.get(prefix + _RESIDUAL)
    if residual is not None and (residual.dim() != 1 or str(residual.dtype) != "torch.float32"):
        raise UpdateError(f"what a client left out is {residual.dtype} {list(residual.shape)} instead of float32 [N]")
    start = prefix + _MEMORY
    return residual, {name.removeprefix(start): tensor for name, tensor in arrays.items() if name.startswith(start)}


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
