"""The table of bytes in docs/fused-kernels.md: its script on a tiny model, and that the document has every block."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from edgeroof.workloads import ClientConfig

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("fused_bytes", BENCHMARKS / "fused_bytes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fused_bytes"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sides(script):
    """Bytes of the plain step, the fused one and the one with whole attentions."""
    eager = ClientConfig(
        model="tiny", batch_size=3, source_length=40, target_length=24, dialogues=3, steps=1, attention="eager"
    )
    fused = dataclasses.replace(eager, fused=True)
    return [script.bytes_of(config) for config in (eager, fused, dataclasses.replace(fused, attention="flash"))]


def blocks(script) -> set[str]:
    attentions = {f"{which}-{what}" for which in ("encoder: self", "decoder: self", "decoder: cross")
                  for what in (script.SCORES, script.PRODUCTS)}  # fmt: skip
    others = {f"{stack}: {what}" for stack in ("encoder", "decoder") for what in (script.NORMS, script.GATE)}
    return attentions | others | {script.LOSS, script.REST}


def test_every_block_is_found_and_none_moves_more_when_it_is_fused(script, sides):
    eager, fused, flash = sides
    assert {block for block, _ in eager} == blocks(script)
    for block in blocks(script) - {script.REST}:
        plain, ours = (sum(side[block, one] for one in ("forward", "backward")) for side in (eager, fused))
        assert (ours == plain) if script.PRODUCTS in block else (ours < plain / 2), block
    assert not any(bytes_ for (block, _), bytes_ in flash.items() if script.PRODUCTS in block)


def test_tables_have_a_line_for_each_block(script, sides):
    lines = list(script.table(*sides[:2], layers=2))
    assert len(lines) == 2 + len(blocks(script)) + 1
    assert all(re.fullmatch(r"\| .+ \|( [\d,]+ \|){4} \d+\.\d\d × \|", line) for line in lines[2:])
    assert len(list(script.attention_table(*sides, layers=2))) == 2 + 3


def test_the_document_has_all_blocks_in_both_precisions(script):
    text = script.DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index(script.BEGIN) : text.index(script.END)]
    for block in blocks(script):
        assert table.count(f"\n| {block}, ") == 2, block
    assert script.filled(text, ["new"]).count("new\n\n" + script.END) == 1
    with pytest.raises(ValueError, match="in the document"):
        script.filled("nothing", [])
