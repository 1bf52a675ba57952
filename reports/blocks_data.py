"""Blocks of a report as JSON-ready data, for the pages' ``blocks.js``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .document import Block


def blocks_data(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """What ``blocks.js`` draws, each with its ``type``."""
    return [{"type": type(block).__name__.lower(), **asdict(block)} for block in blocks]
