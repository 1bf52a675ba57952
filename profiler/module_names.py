"""Names of modules."""

from __future__ import annotations

import re

_LAYER_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def module_group(name: str) -> str:
    """A module's name without its layer numbers: ``encoder.block.3.layer.0`` becomes ``encoder.block.*.layer.*``."""
    return _LAYER_NUMBER.sub("*", name)
