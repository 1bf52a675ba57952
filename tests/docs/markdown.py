"""The pages of the documentation, their fenced blocks and their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w.-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block with its language, empty where none is named."""

    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        """The name of the file that the block is, when its first line is a comment that says so."""
        named = _FILE_NAME.match(self.text)
        return named.group(1) if named else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(language, text) for language, text in _FENCE.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def page_id(page: Path) -> str:
    """A page's path for the names of tests."""
    return str(page.relative_to(ROOT))
