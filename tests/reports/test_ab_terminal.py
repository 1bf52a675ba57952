"""The A/B result in the terminal and as Markdown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeroof.reports import ab_terminal, ab_view
from edgeroof.reports.ab_markdown import to_markdown

from .sample_ab import HOSTILE, sample_ab, with_energy


def printed(result, width: int, encoding: str = "utf-8", color: str | None = None) -> str:
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=buffer, width=width, color_system=color, force_terminal=bool(color), highlight=False)
    ab_terminal.render(result, console)
    buffer.seek(0)
    return buffer.read()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("hostile", [True, False])
def test_it_fits_and_numbers_are_whole(width, hostile):
    text = printed(with_energy(sample_ab(hostile=hostile)), width)
    assert max(map(len, text.splitlines())) <= width
    if not hostile:  # a name that long is cut on purpose
        assert "…" not in text
    for bad in ("nan", "None", "inf"):
        assert bad not in text.replace("information", "").split()
    for number in ("28.0", "80.0", "16.1"):
        assert number in text


def test_the_table_says_what_the_result_says():
    text = printed(sample_ab(hostile=False), 130)
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith(("torch-", "edgeroof", "broken"))}
    assert "BASE" in lines["torch-fused"]
    assert "FASTER" in lines["edgeroof"]
    assert "1.24×" in lines["edgeroof"]
    assert "SLOWER" in lines["torch-foreach"]
    assert "SAME" in lines["edgeroof-8bit"]
    assert "WRONG" in next(line for line in text.splitlines() if line.startswith("broken-math") and "WRONG" in line)
    small = text[text.index("FLAN-T5-small") :]
    assert "48 ms" in small or "47.7 ms" in small  # 620 µs × 77 million parameters
    assert "96.9 %" in next(line for line in small.splitlines() if line.startswith("torch-fused") and "%" in line)


def test_what_is_missing_has_its_reason():
    text = printed(sample_ab(hostile=False), 120)
    assert "missing: not installed" in text
    assert "wrong: error 0.7, allowed 0.2" in text
    assert "energy not measured: RAPL: no CPU package here" in text


def test_doubts_are_said():
    text = " ".join(printed(sample_ab(), 120).split())
    assert "Other programs used 40.0 % of the processors" in text
    assert "lora-small: the working set fits in the cache" in text
    result = sample_ab()
    result["problems"][0]["aa"]["verdict"] = "FASTER"
    result["settings"]["pairs"] = 100
    doubts = " ".join(ab_view.warnings(result))
    assert "A/A says FASTER" in doubts
    assert "32 pairs only" in doubts


def test_the_noise_is_printed():
    result = sample_ab()
    assert "A/A says SAME" in printed(result, 120)
    for problem in result["problems"]:
        wall = problem["aa"]["comparisons"]["wall"]
        assert ab_view.floor_ratio(problem) >= max(wall["high"], 1 / wall["low"])


def test_the_headline_names_every_timed_provider_and_the_wrong_one():
    (lead, _) = ab_view.headlines(sample_ab(hostile=False))
    for part in ("torch-fused takes", "edgeroof is 1.24 times as fast", "torch-foreach takes 12.1 times as long",
                 "edgeroof-8bit is the same", "broken-math is wrong"):  # fmt: skip
        assert part in lead
    assert "apex" not in lead


def test_energy_and_device_time_have_columns_where_they_exist():
    result = with_energy(sample_ab(hostile=False))
    assert "1,250 mJ" in printed(result, 140)
    assert "energy" not in printed(sample_ab(hostile=False), 140).split("HOW TO READ")[0]
    for entry in result["problems"][0]["results"]:
        if "times_us" in entry:
            entry["times_us"]["device"] = {"median": 123.0}
    text = printed(result, 140)
    assert "wall" in text
    assert "123 µs" in text


def test_parts_have_their_own_table():
    text = printed(sample_ab(hostile=False), 120)
    assert "part of the call" in text
    assert "optimizer" in text
    assert "rest" in text


def test_names_are_never_markup_or_escapes():
    for color in (None, "truecolor"):
        text = printed(sample_ab(), 120, color=color)
        assert "\x1b[31m\n" not in text
        assert HOSTILE not in text
        assert "onerror" in text


def test_ascii_consoles_are_served():
    assert "torch-fused" in printed(sample_ab(hostile=False), 100, encoding="ascii")


def test_markdown_tables_are_whole():
    text = to_markdown(with_energy(sample_ab()))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count("|") - line.count("\\|") for line in rows}
    assert widths == {6, 13}
    assert "| 20.0 |" in text  # passes of foreach
    assert "| 7.00 |" in text
    assert "Not timed: " in text
    assert "\x1b" not in text
