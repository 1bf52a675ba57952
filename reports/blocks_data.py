"""Blocks of a report as JSON-ready data, for the pages' ``blocks.js``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .document import Block, Facts, Paragraph, caption


def blocks_data(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """What ``blocks.js`` draws, each with its ``type``."""
    return [{"type": type(block).__name__.lower(), **asdict(block), **_caption(block)} for block in blocks]


def _caption(block: Block) -> dict[str, str]:
    return {} if isinstance(block, (Paragraph, Facts)) else {"caption": caption(block)}
