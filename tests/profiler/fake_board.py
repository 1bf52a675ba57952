"""A Jetson that is not there: a file system with what it says of itself, and an ``nvpmodel`` that changes it."""

from __future__ import annotations

from pathlib import Path

from edgeroof.profiler.nvpmodel import Board

CONFIGURATION = """\
< POWER_MODEL ID=0 NAME=MAXN >
< POWER_MODEL ID=1 NAME=MODE_15W >
< POWER_MODEL ID=2 NAME=MODE_30W >
< POWER_MODEL ID=3 NAME=MODE_50W >
"""
#: Mode 1 needs a reboot, mode 3 is refused without a word; every call is written down.
TOOL = """\
#!/bin/sh
echo "$2" >> {root}/calls
case "$2" in
  1) echo "NVPM WARN: Reboot required for changing to this power mode: 1"; read answer; exit 255 ;;
  3) exit 1 ;;
esac
printf 'pmode:%04d' "$2" > {root}/var/lib/nvpmodel/status
"""


def make_board(root: Path, *, mode: int = 2, is_root: bool = True) -> Board:
    """A board in a mode."""
    for name, text in (
        ("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0"),
        ("etc/nvpmodel.conf", CONFIGURATION),
        ("var/lib/nvpmodel/status", f"pmode:{mode:04d}"),
        ("bin/nvpmodel", TOOL.format(root=root)),
        ("calls", ""),
    ):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "bin/nvpmodel").chmod(0o755)
    return Board(root, str(root / "bin/nvpmodel"), is_root, settle_s=0.0)


def calls(board: Board) -> list[int]:
    """The modes that were asked for, in order."""
    return [int(line) for line in (board.root / "calls").read_text().split()]
