"""Whether somebody replaced what an optimizer keeps for its tensors.

A fused step works on memory of its own, of which ``optimizer.state`` shows views: what is changed in place there is
changed. Code that resets an optimizer by hand puts other tensors there, or other dictionaries, or removes them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from operator import is_
from typing import Any

from torch import Tensor

State = Mapping[Tensor, dict[str, Any]]


class StateWatch:
    """Remembers the entries of a state by identity; looking again takes some 30 µs for 300 tensors.

    Args:
        state: of an optimizer that has just made a step.
        names: entries that belong to the optimizer; what users add under other names is theirs.
    """

    def __init__(self, state: State, names: Collection[str]) -> None:
        self._names = names
        self._remember(state)

    def holds(self, state: State) -> bool:
        """Whether every entry is the same object as before; entries of tensors that came since are remembered."""
        values = _values(state)
        if len(values) == len(self._values) and all(map(is_, values, self._values)):
            return True
        for param, kept in self._kept.items():
            entries = state.get(param, {})
            if any(entries.get(name) is not value for name, value in kept.items()):
                return False
        self._remember(state)
        return True

    def _remember(self, state: State) -> None:
        self._values = _values(state)
        self._kept = {
            param: {name: entries[name] for name in self._names if name in entries} for param, entries in state.items()
        }


def _values(state: State) -> list[Any]:
    return list(chain.from_iterable(map(dict.values, state.values())))
