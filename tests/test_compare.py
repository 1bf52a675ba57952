"""Comparisons of whole runs: what explains the difference, how surely, and what may not be mixed."""

import copy
import json
from pathlib import Path
from urllib.parse import parse_qs

import pandas as pd
import pytest

from edgeroof import cli, compare
from edgeroof.cli_compare import repeat_options
from edgeroof.errors import RunError, UsageError
from edgeroof.profiler.comparison.breakdown import NO_KERNEL
from edgeroof.profiler.comparison.differences import match
from edgeroof.profiler.comparison.side import group_repeated
from edgeroof.profiler.run import Run, save
from edgeroof.profiler.schema import OP_COLUMNS
from edgeroof.reports import document_html
from edgeroof.reports.compare import compare_document
from edgeroof.reports.document import Document, Figure, Table
from edgeroof.reports.text import number

from .reports.sample_run import imported_run, projected_run, sample_run
from .reports.test_document import printed


def measured(*, optimizer: float = 1.0, name: str = "adamw-fused", jitter: float = 0.01) -> Run:
    """A sample run whose optimizer takes ``optimizer`` times as long; times of its steps scatter by ``jitter``."""
    run = sample_run(1, hostile=False)
    is_optimizer = run.kernels["phase"] == "optimizer"
    run.kernels.loc[is_optimizer, "dur_us"] *= optimizer
    run.phases.loc[run.phases["phase"] == "optimizer", "device_ms"] *= optimizer
    scatter = [1 + jitter * offset for offset in (-1, -0.5, 0, 0.2, 0.6, 1)]
    phases = {row.phase: [row.device_ms * factor for factor in scatter] for row in run.phases.itertuples()}
    step_ms = float(run.phases["device_ms"].sum())
    run.summary["metrics"]["step_time_ms"] |= {"median": step_ms, "samples": [step_ms * f for f in scatter]}
    run.summary["metrics"]["phase_samples_ms"] = phases
    run.summary["workload"]["optimizer"] = name
    run.ops = pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in OP_COLUMNS.items()})
    return run


@pytest.fixture(scope="module")
def slower() -> dict:
    return compare.compare([[measured()], [measured(optimizer=3.0, name="adamw-foreach")]])


def phase(result: dict, name: str) -> dict:
    (found,) = (entry for entry in result["differences"][0]["phases"] if entry["phase"] == name)
    return found


def test_the_optimizer_explains_the_difference(slower: dict) -> None:
    optimizer = phase(slower, "optimizer")
    assert optimizer["share"] == pytest.approx(1.0)
    assert optimizer["verdict"] == "SLOWER"
    assert optimizer["interval"]["low"] < 2.0 < optimizer["interval"]["high"]
    assert phase(slower, "forward")["verdict"] == "SAME"
    assert slower["differences"][0]["step"]["delta_ms"] == pytest.approx(optimizer["delta_ms"])
    assert slower["differences"][0]["ops"][0]["op"] == "aten::_fused_adamw_"
    assert {entry["name"]: entry["values"] for entry in slower["settings"]} == {
        "optimizer": ["adamw-fused", "adamw-foreach"]
    }


def test_every_level_adds_up(slower: dict) -> None:
    difference = slower["differences"][0]
    for level in ("phases", *compare.LEVELS):
        assert sum(row["share"] for row in difference[level]) == pytest.approx(1.0)
        assert sum(row["delta_ms"] for row in difference[level]) == pytest.approx(difference["step"]["delta_ms"])


def test_small_differences_of_single_runs_are_no_verdict() -> None:
    """Three percent more, beyond doubt within these two runs: single runs may differ by that."""
    result = compare.compare([[measured(jitter=1e-4)], [scaled(measured(jitter=1e-4), 1.03)]])
    assert result["differences"][0]["step"]["verdict"] == "SAME"
    assert result["differences"][0]["samples"] == "steps"


def test_repeated_runs_resolve_less() -> None:
    sides = [[scaled(measured(), base * noise) for noise in (0.999, 1.0, 1.001)] for base in (1.0, 1.03)]
    difference = compare.compare(sides)["differences"][0]
    assert (difference["samples"], difference["step"]["verdict"]) == ("runs", "SLOWER")
    assert difference["step"]["interval"]["value"] == pytest.approx(0.03)


def scaled(run: Run, factor: float) -> Run:
    """The run with all bare times ``factor`` times as long."""
    metrics = run.summary["metrics"]
    metrics["step_time_ms"]["median"] *= factor
    metrics["step_time_ms"]["samples"] = [factor * ms for ms in metrics["step_time_ms"]["samples"]]
    metrics["phase_samples_ms"] = {
        name: [factor * ms for ms in samples] for name, samples in metrics["phase_samples_ms"].items()
    }
    run.phases["device_ms"] *= factor
    return run


def test_equal_runs_have_nothing_to_explain() -> None:
    result = compare.compare([[measured()], [measured()]])
    assert result["differences"][0]["step"]["verdict"] == "SAME"
    assert phase(result, "forward")["share"] is None
    assert "explains" not in " ".join(compare_document(result).headlines)


def test_projected_runs_are_never_mixed_silently() -> None:
    with pytest.raises(UsageError, match="--mixed"):
        compare.compare([[measured()], [projected_run()]])
    result = compare.compare([[measured()], [projected_run()]], mixed=True)
    assert result["numbers"] == "mixed"
    assert result["differences"][0]["step"]["verdict"] is None
    text = printed(compare_document(result))
    assert "measured and projected numbers stand side by side" in text
    assert compare.compare([[projected_run()], [projected_run()]])["numbers"] == "projected"


def test_the_command_never_mixes_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    here, orin = measured(), projected_run()
    orin.ops = here.ops
    save(here, tmp_path / "here")
    save(orin, tmp_path / "orin")
    assert cli.run_command(["compare", "here", "orin"]) == 2
    assert "--mixed" in capsys.readouterr().err
    save(here, tmp_path / "again")
    assert cli.run_command(["compare", "--a", "here", "orin", "--b", "again", "--mixed"]) == 2  # not on one side
    assert "kind" in capsys.readouterr().err
    assert cli.run_command(["compare", "here", "orin", "--mixed", "--out", "both"]) == 0
    assert "MIXED" in capsys.readouterr().out
    page = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert '"kind":"mixed"' in page
    assert "measured and projected numbers stand side by side" in page


def test_traces_are_compared_by_their_kernels() -> None:
    result = compare.compare([[imported_run()], [measured()]])
    assert not result["bare"]
    assert result["differences"][0]["step"]["verdict"] is None
    assert [side["kind"] for side in result["sides"]] == ["imported", "measured"]
    assert result["numbers"] == "imported"
    text = printed(compare_document(result))
    for told in ("IMPORTED", "sums of kernels", "[A imported, B measured]", "no intervals and no verdicts"):
        assert told in text
    assert "measured and imported numbers stand side by side: A is imported, B is measured" in " ".join(text.split())
    assert compare.compare([[imported_run()], [imported_run()]])["numbers"] == "imported"


def blocks(document: Document) -> list:
    return [block for section in document.sections for block in section.blocks if isinstance(block, Table | Figure)]


def test_every_table_and_figure_of_a_mixed_comparison_is_marked() -> None:
    sides = [[measured()], [projected_run()], [measured(optimizer=2.0)]]
    document = compare_document(compare.compare(sides, mixed=True))
    marks = {block.mark for block in blocks(document)}
    assert marks == {"A measured, B projected, C measured", "A measured, B projected", "measured"}
    assert "A step of B (projected)" in document.headlines[0]
    assert "(measured)" in document.headlines[0]
    assert not {block.mark for block in blocks(compare_document(compare.compare(sides[::2])))} - {""}


def test_projected_runs_are_not_called_bare_steps() -> None:
    text = " ".join(printed(compare_document(compare.compare([[projected_run()], [projected_run()]]))).split())
    assert "Times are projected;" in text
    assert "Kernels and phases are projected" in text
    assert "bare" not in text


def test_tokens_per_watt_of_a_projection_are_a_range() -> None:
    run = projected_run()
    run.summary["projection"]["power_modes"][0]["energy_j"] = {"low": 2.0, "high": 8.0}
    result = compare.compare([[measured()], [run]], mixed=True)
    metrics = run.summary["metrics"]
    tokens = metrics["tokens_per_s"]["non_padding"] * metrics["step_time_ms"]["median"] * 1e-3
    assert result["sides"][1]["projected_tokens_per_s_per_w"] == pytest.approx({"low": tokens / 8, "high": tokens / 2})
    assert result["sides"][0]["projected_tokens_per_s_per_w"] is None
    assert f"{number(tokens / 8)} to {number(tokens / 2)} (projected)" in printed(compare_document(result), width=200)


@pytest.mark.parametrize(
    "arguments",
    [
        "one one",
        "one two one two",
        "--a one two --b one",
        "--a one --b ./two/../one",
        "one linked",
        "--a one one --b two",
    ],
)
def test_a_run_is_not_compared_with_itself(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(measured(), tmp_path / "one")
    save(measured(name="adamw"), tmp_path / "two")
    (tmp_path / "linked").symlink_to("one")
    assert cli.run_command(["compare", *arguments.split()]) == 2
    assert "are the same run" in capsys.readouterr().err


def test_a_run_object_is_not_compared_with_itself() -> None:
    run = measured()
    with pytest.raises(UsageError, match="the same run twice"):
        compare.compare([[run], [run]])


def test_three_runs_stand_side_by_side(tmp_path: Path) -> None:
    result = compare.compare([[measured()], [measured(optimizer=2.0)], [measured(optimizer=0.5)]])
    assert [difference["side"] for difference in result["differences"]] == [1, 2]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    folder = compare.save(result, tmp_path / "out")
    assert compare.load(folder) == result
    assert sorted(path.name for path in folder.iterdir()) == ["compare.json", "report.html"]


def test_repeated_runs_of_one_configuration_become_one_side() -> None:
    runs = [measured(), measured(name="adamw"), measured(), measured(name="adamw")]
    assert [len(side) for side in group_repeated(runs)] == [2, 2]
    assert [len(side) for side in group_repeated(runs[::2])] == [1, 1]  # before and after
    with pytest.raises(UsageError, match="optimizer"):
        compare.compare([runs[:2], runs[2:]])


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_every_number(slower: dict, width: int) -> None:
    """Columns that do not fit are left out and named; those of numbers never are."""
    text = printed(compare_document(slower), width=width)
    assert max(map(len, text.splitlines())) <= width
    kernels = text.partition("Kernels by op")[2].splitlines()
    assert all(word in next(line for line in kernels if line.startswith("op ")) for word in ("A", "B", "share"))
    assert ("shapes, change, module: see report.html" in " ".join(text.split())) == (width == 80)
    assert ("encoder.block.*" in text.partition("Kernels by op")[2]) == (width == 200)


@pytest.mark.parametrize(
    ("names", "common"),
    [(["fused"], "fused"), (["fused-1", "fused-2"], "fused"), (["a1", "b2"], "a1"), (["run", "run"], "run")],
)
def test_repeated_runs_are_called_what_they_have_in_common(names: list, common: str) -> None:
    assert compare._common_name(names) == common


def test_what_may_be_chance_is_called_so() -> None:
    unsure = compare.compare([[measured(jitter=0.5)], [measured(jitter=0.5, optimizer=1.5)]])
    assert unsure["differences"][0]["step"]["verdict"] == "UNCLEAR"
    lines = compare_document(unsure).headlines
    assert "which may be chance" in lines[0]
    assert lines[1].startswith("Should that be more than chance")


def test_the_report_holds_all_figures(slower: dict) -> None:
    document = compare_document(slower)
    assert "optimizer phase explains 100 %" in document.headlines[1]
    page = document_html.render(document)
    for expected in ("Under the roof", "starts at", '"joined":true', "measured roof"):
        assert expected in page
    assert "waterfall" not in page


@pytest.mark.parametrize("kind", ["measured", "mixed", "three"])
def test_claims_lead_to_rows_that_are_there(slower: dict, kind: str) -> None:
    if kind == "mixed":
        slower = compare.compare([[measured()], [projected_run()]], mixed=True)
    elif kind == "three":
        slower = compare.compare(
            [[measured()], [measured(optimizer=3.0, name="b")], [measured(optimizer=0.5, name="c")]]
        )
    document = compare_document(slower)
    tables = [block for section in document.sections for block in section.blocks if isinstance(block, Table)]
    anchors = {anchor for table in tables for anchor in table.anchors}
    choices = {table.choice.name: table.choice for table in tables if table.choice}
    sides = [difference["side"] for difference in slower["differences"]]
    assert set(choices) == {f"{level}-{side}" for side in sides for level in ("ops", "kernels")}
    assert len(document.claims) == len(document.headlines)
    own = []
    for line, (claim,) in zip(document.headlines, document.claims):
        target, _, chosen = claim.href.removeprefix("#").partition("?")
        assert claim.text in line
        assert target in anchors | set(choices)
        own += [target.split("-")[1]] if line.startswith("A step of ") else []
        assert target.split("-")[1] == own[-1]  # what follows on the step of a side is about that side
        assert not chosen or set(parse_qs(chosen)) <= set(choices[target].facets)
    assert own == list(map(str, sides))
    ops = choices["ops-1"]
    assert len(ops.rows) == len(ops.values) == len(slower["differences"][0]["ops"])
    assert ops.facets == ("phase", "bound", "op", "change")


@pytest.mark.parametrize(("first", "other", "change"), [(5.7e-14, 2.8e-14, "same"), (1.0, 1.1, "slower")])
def test_rounding_is_no_change(first: float, other: float, change: str) -> None:
    sides = [pd.DataFrame({"op": ["mm"], "ms": [ms], "kernels": [1.0]}) for ms in (first, other)]
    assert match(*sides, ["op"])["change"].tolist() == [change]


def test_what_is_left_of_sums_is_not_shown(slower: dict) -> None:
    noisy = copy.deepcopy(slower)
    forward = phase(noisy, "forward")
    forward |= {"delta_ms": 1.8e-15, "share": -1.8e-17, "change": 1e-16}
    section = compare_document(noisy).sections[1]
    bars, table = section.blocks[:2]
    assert "forward" not in [bar.name for bar in bars.bars]
    (row,) = (row for row in table.rows if row[0] == "forward")
    assert row[1:4] == ("0 µs", "0.0 %", "0.0 %")


def test_parts_say_what_holds_them(slower: dict) -> None:
    kernels = measured().kernels.astype({"phase": str, "op": str, "bound": str})
    held = kernels.groupby(["phase", "op", "bound"])["dur_us"].sum()
    known = 0
    for row in slower["differences"][0]["ops"]:
        if (row["phase"], row["op"]) in held.index:
            known += 1
            assert row["a_bound"] == row["b_bound"] == held[row["phase"], row["op"]].idxmax()
        elif row["op"] == NO_KERNEL:
            assert row["a_bound"] is row["b_bound"] is None
    assert known > 3


def test_hostile_names_stay_text() -> None:
    result = compare.compare([[sample_run(1)], [sample_run(1, seed=1)]])
    assert "<img src=x" not in document_html.render(compare_document(result))
    assert "\x1b" not in printed(compare_document(result))


@pytest.mark.parametrize(
    ("verdict", "percent", "failed"),
    [("SLOWER", 5.0, True), ("SLOWER", 500.0, False), ("SAME", 0.0, False), ("UNCLEAR", 5.0, False), (None, 5.0, True)],
)
def test_the_gate_agrees_with_the_verdict(slower: dict, verdict: str | None, percent: float, failed: bool) -> None:
    judged = copy.deepcopy(slower)
    judged["differences"][0]["step"]["verdict"] = verdict
    gate = compare.gate(judged, percent)
    assert gate.failed is failed
    assert gate.line.startswith(f"gate: {'failed' if failed else 'passed'}, ")
    assert gate.line.endswith(f" % ({verdict or 'no verdict'})")


def test_headline_interval_and_gate_are_of_one_estimator() -> None:
    """One slow step in a run moves means, not the median that the report shows: nothing else may tell of it."""
    sides = [measured(jitter=1e-3), measured(jitter=1e-3)]
    metrics = sides[1].summary["metrics"]
    metrics["step_time_ms"]["samples"][-1] *= 3
    for samples in metrics["phase_samples_ms"].values():
        samples[-1] *= 3
    difference = compare.compare([[sides[0]], [sides[1]]])["differences"][0]
    for entry in (difference["step"], *difference["phases"]):
        if entry["interval"]:
            assert entry["interval"]["value"] == pytest.approx(entry["change"], abs=1e-12)
            assert entry["interval"]["low"] <= entry["change"] <= entry["interval"]["high"]
    assert difference["step"]["change"] == 0.0


def test_repeated_runs_beside_a_single_one_have_their_interval_around_the_change() -> None:
    sides = [[scaled(measured(), base) for base in (1.0, 1.3, 1.1)], [measured(optimizer=2.0)]]
    difference = compare.compare(sides)["differences"][0]
    assert difference["samples"] == "steps"
    assert difference["step"]["interval"]["value"] == pytest.approx(difference["step"]["change"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--a x y --b z w --json", "--a x --a y --b z --b w --json"),
        ("x y --fail-if-slower 5", "x y --fail-if-slower 5"),
        ("--a x --out o --b z", "--a x --out o --b z"),
    ],
)
def test_sides_take_several_runs(given: str, expected: str) -> None:
    assert repeat_options(given.split()) == expected.split()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    save(measured(), tmp_path / "one")
    save(measured(optimizer=3.0), tmp_path / "two")
    assert cli.run_command(["compare", "one", "two"]) == 0
    assert "SLOWER" in capsys.readouterr().out
    assert cli.run_command(["compare", "one", "two", "--fail-if-slower", "5", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["sides"][1]["label"] == "B: two"
    assert err.startswith("gate: failed, a step is slower by more than 5 %: B: two +")
    assert cli.run_command(["compare", "one", "two", "--fail-if-slower", "900"]) == 0
    assert capsys.readouterr().err.startswith("gate: passed, no step is surely slower by more than 900 %: B: two +")
    assert cli.run_command(["compare", "--a", "one", "--b", "two", "--out", "kept"]) == 0
    assert (tmp_path / "kept" / "report.html").is_file()
    assert cli.run_command(["compare", "one"]) == 2
    assert cli.run_command(["compare", "one", "two", "--fail-if-slower", "nan"]) == 2
    assert cli.run_command(["compare", "--a", "one", "./one", "--b", "two"]) == 2
    assert cli.run_command(["compare", "one", "--a", "two"]) == 2


def test_damaged_results_are_told(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text('{"kind": "fl"')
    with pytest.raises(RunError, match="damaged"):
        compare.load(tmp_path)
    with pytest.raises(RunError, match="cannot read"):
        compare.load(tmp_path / "nowhere")
