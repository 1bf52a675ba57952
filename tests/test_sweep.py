"""Sweeps: every point once, killed ones go on, what does not fit is recorded, and what the report makes of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof import cli, sweep, sweep_worker
from edgeroof.errors import DeviceError, OutOfMemoryError, RunError, UsageError, WorkloadError
from edgeroof.profiler import nvpmodel
from edgeroof.reports import document_html
from edgeroof.reports.document import Bars, Lines
from edgeroof.reports.sweep import sweep_document
from edgeroof.sweep_points import knees, remaining_seconds

from .profiler.fake_board import calls, make_board
from .reports.test_document import printed

SHORT = {"model": "tiny", "source_length": 32, "target_length": 16}
ONE_STEP = {"steps": 1, "profiled_steps": 1}


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("sweep") / "orin"
    plan = sweep.make_plan({"batch_size": [1, 4], "precision": ["bf16"]}, SHORT, device="orin")
    return sweep.run(plan, folder, command="edgeroof sweep"), folder


def test_every_point_is_a_run(projected: tuple) -> None:
    import edgeroof

    result, folder = projected
    assert len(result["points"]) == 2
    assert {point["status"] for point in result["points"]} == {"finished"}
    run = edgeroof.load(folder / "points" / "batch_size-4_precision-bf16")
    assert run.summary["workload"]["batch_size"] == 4
    assert run.summary["kind"] == result["numbers"] == "projected"
    assert sweep.load(folder) == result


def test_the_same_plan_again_runs_nothing(projected: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    result, folder = projected
    monkeypatch.setattr(sweep, "_attempt", lambda *_: pytest.fail("a point was run twice"))
    again = sweep.run(sweep.make_plan(result["axes"], SHORT, device="orin"), folder)
    assert again["points"] == result["points"]


def test_the_report_names_the_knee(projected: tuple) -> None:
    document = sweep_document(projected[0])
    text = printed(document)
    assert "tokens/s still rise at batch size 4" in text or "The knee is at batch size" in text
    assert "PROJECTED" in text
    assert "would not fit" not in text
    page = document_html.render(document)
    for caption in ("Step time", "Energy efficiency", "Peak memory", "by what holds it", "Model FLOP utilisation"):
        assert caption in page


def test_points_lead_to_the_reports_that_are_there(projected: tuple, tmp_path: Path) -> None:
    result, folder = projected
    names = [point["name"] for point in result["points"]]

    def links(place: Path | None) -> tuple:
        return sweep_document(result, place).sections[-1].blocks[0].links

    assert links(folder) == tuple(f"points/{name}/report.html" for name in names)
    assert links(None) == links(tmp_path) == ("", "")
    odd = {**result, "knees": [], "points": [{**point, "name": f"a b&<#{point['name']}"} for point in result["points"]]}
    for point in odd["points"]:
        (tmp_path / "points" / point["name"]).mkdir(parents=True)
        (tmp_path / "points" / point["name"] / "report.html").touch()
    (first, _) = sweep_document(odd, tmp_path).sections[-1].blocks[0].links
    assert first == f"points/a%20b%26%3C%23{names[0]}/report.html"


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("power_mode", ["15W", "MAXN"]),
        ("precision", ["fp32", "bf16"]),
        ("optimizer", ["adamw-foreach", "adamw-fused"]),
        ("attention", ["sdpa", "eager"]),
        ("model", ["tiny", "small"]),
    ],
)
def test_an_axis_of_names_gets_bars(projected: tuple, axis: str, values: list[str]) -> None:
    """Whatever is swept over: a bar for each point that ran, and one of what does not fit says so."""
    points = [{**point, "name": value, "config": {axis: value}} for point, value in zip(projected[0]["points"], values)]
    points[1]["fits"] = False
    missing = {"name": "none", "config": {axis: "none"}, "status": "failed", "reason": "broken", "seconds": 1.0}
    result = {**projected[0], "axes": {axis: [*values, "none"]}, "points": [*points, missing], "knees": []}
    figures = [block for block in sweep_document(result).sections[0].blocks if isinstance(block, Bars)]
    captions = [figure.caption for figure in figures]
    assert {"Step time", "Tokens with padding", "Energy efficiency", "Peak memory"} < set(captions)
    assert all(len(figure.bars) == 2 for figure in figures)
    assert [bar.note for bar in figures[0].bars] == ["", "would not fit"]
    energy = figures[captions.index("Energy efficiency")].bars[0]
    assert [part.label for part in energy.parts] == ["at least", "at most"]
    assert sum(part.value for part in energy.parts) == pytest.approx(points[0]["tokens_per_s_per_w"]["high"])
    bounds = figures[captions.index("Kernel time by what holds it")]
    assert sum(part.value for part in bounds.bars[0].parts) == pytest.approx(100)
    assert {style for style, _ in bounds.legend} >= {part.style for part in bounds.bars[0].parts}


def test_the_knee_is_drawn_where_it_is(projected: tuple) -> None:
    result = {**projected[0], "axes": {"batch_size": [1, 4]}}
    knee = {"series": "all", "axis": "batch_size", "at": 1, "padded_tokens_per_s": 95.0, "rising": False}
    for rising, expected in ((False, [(1.0, "knee at 1")]), (True, [])):
        found = [{**knee, "best_padded_tokens_per_s": 100.0, "rising": rising}]
        blocks = sweep_document({**result, "knees": found}).sections[0].blocks
        curves = [block for block in blocks if isinstance(block, Lines)]
        flags = {curve.caption: [(flag.x, flag.text) for flag in curve.flags] for curve in curves}
        assert flags.pop("Tokens with padding") == expected
        assert not any(flags.values())


@pytest.mark.slow
@pytest.mark.parametrize("device", ["orin", "cpu"])
def test_a_killed_sweep_goes_on(tmp_path: Path, device: str) -> None:
    """Killed without warning within its second point: no point is run twice, none is lost, nothing is left lying."""
    folder = tmp_path / "killed"
    arguments = ["sweep", "--device", device, "--model", "tiny", "--source-length", "32", "--target-length", "16"]
    arguments += ["--batch-size", "1,2,3", "--steps", "1", "--profiled-steps", "1", "--out", str(folder)]
    command = [sys.executable, "-m", "edgeroof", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while not recorded(folder) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {file: file.stat().st_mtime_ns for file in (folder / "points").glob("*/run.json")}
    assert 1 <= len(kept) < 3
    assert cli.run_command([*arguments, "--json"]) == 0
    result = sweep.load(folder)
    assert [point["status"] for point in result["points"]] == ["finished"] * 3
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(recorded(folder)) == 3
    assert not list((folder / "points").glob(".*"))


def recorded(folder: Path) -> list[Path]:
    return list((folder / "points").glob("*-32.json"))


def test_what_does_not_fit_is_recorded_and_the_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def measure(plan: dict, config: dict, folder: Path, command: str) -> None:
        tried.append(config["batch_size"])
        if config["batch_size"] == 2:
            raise OutOfMemoryError("too large")
        raise WorkloadError("broken")

    monkeypatch.setattr(sweep, "_measure", measure)
    plan = sweep.make_plan({"batch_size": [2, 4]}, SHORT, device="cpu")
    result = sweep.run(plan, tmp_path / "s")
    assert [point["status"] for point in result["points"]] == ["out of memory", "failed"]
    assert "too large" in printed(sweep_document(result))
    sweep.run(plan, tmp_path / "s")
    assert tried == [2, 4, 4]


@pytest.mark.slow
def test_points_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    plan = sweep.make_plan({"precision": ["fp32", "tf32"]}, {**SHORT, "batch_size": 1}, device="cpu", capture=ONE_STEP)
    seen = []
    result = sweep.run(plan, tmp_path / "s", on_progress=lambda what, done, total, left: seen.append((done, left)))
    assert [point["status"] for point in result["points"]] == ["finished", "failed"]
    assert "tf32" in result["points"][1]["reason"]
    assert result["points"][0]["step_ms"]["value"] > 0
    assert [done for done, _ in seen] == [0, 1, 2]
    assert seen[0][1] is None
    assert seen[1][1] is not None


def test_a_boards_power_mode_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modes are chosen once each, one that needs a reboot is recorded, and Ctrl-C leaves the board as it was."""
    board = make_board(tmp_path / "board", mode=2)
    monkeypatch.setattr(nvpmodel, "this_board", lambda: board)
    seen: list[tuple[int, int]] = []

    def measure(plan: dict, settings: dict, folder: Path, command: str) -> None:
        assert "power_mode" not in settings
        seen.append((settings["batch_size"], board.current()))
        if seen.count((4, 0)) == 1 and seen[-1] == (4, 0):
            signal.raise_signal(signal.SIGINT)
        raise OutOfMemoryError("recorded")

    monkeypatch.setattr(sweep, "_measure", measure)
    plan = sweep.make_plan({"batch_size": [1, 4], "power_mode": ["30W", "15W", "MAXN"]}, SHORT, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        sweep.run(plan, tmp_path / "s")
    assert seen == [(1, 2), (4, 2), (1, 0), (4, 0)]
    assert calls(board) == [1, 1, 0, 2]
    assert board.current() == 2

    result = sweep.run(plan, tmp_path / "s")
    assert seen[4:] == [(4, 0)]
    by_mode = {point["name"]: point for point in result["points"]}
    assert "reboot" in by_mode["batch_size-1_power_mode-15W"]["reason"]
    assert board.current() == 2
    assert not (tmp_path / "s" / sweep.MODE_FILE).exists()


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused while the first is at work, and not afterwards."""
    plan = sweep.make_plan({"batch_size": [1]}, SHORT, device="cpu")

    def measure(plan: dict, settings: dict, folder: Path, command: str) -> None:
        with pytest.raises(RunError, match="another sweep is at work"):
            sweep.run(plan, tmp_path / "s")
        raise WorkloadError("once")

    monkeypatch.setattr(sweep, "_measure", measure)
    sweep.run(plan, tmp_path / "s")
    monkeypatch.setattr(sweep, "_measure", lambda *_: None)
    sweep.run(plan, tmp_path / "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        sweep.run(plan, tmp_path / "file")


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "_project", lambda *_: signal.raise_signal(signal.SIGINT))
    command = ["sweep", "--device", "orin", "--model", "tiny", "--batch-size", "1", "--out", str(tmp_path / "s")]
    assert cli.run_command(command) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_every_number_of_a_point_is_shown_in_eighty_columns(projected: tuple) -> None:
    text = printed(sweep_document(projected[0]), width=80).partition("Every point")[2]
    for point in projected[0]["points"]:
        row = next(line for line in text.splitlines() if line.strip().startswith(f"{point['config']['batch_size']} "))
        assert "…" not in row
        assert "finished" in row


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"status": 3}', '{"status": "failed", "seconds": NaN}', '{"status": "failed", "seconds": "x"}',
     '{"status": "failed", "seconds": ' + "9" * 400 + "}", "[" * 100_000],
)  # fmt: skip
def test_damaged_records_are_told_by_name(text: str, tmp_path: Path) -> None:
    plan = sweep.make_plan({"batch_size": [1]}, SHORT, device="cpu")
    (tmp_path / "points").mkdir()
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "points" / "batch_size-1.json").write_text(text)
    with pytest.raises(RunError, match=r"batch_size-1\.json is damaged; remove it"):
        sweep.run(plan, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "sweep", "schema_version": 9}', "[" * 100_000])
def test_damaged_plans_are_told_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RunError, match=r"plan\.json"):
        sweep.run(sweep.make_plan({"batch_size": [1]}, SHORT, device="cpu"), tmp_path)


def test_a_damaged_run_of_a_point_is_told_by_name(projected: tuple, tmp_path: Path) -> None:
    _, folder = projected
    copied = tmp_path / "s"
    shutil.copytree(folder, copied)
    file = next(copied.glob("points/*/run.json"))
    plan = sweep.make_plan(projected[0]["axes"], SHORT, device="orin")
    for broken in ("{}", json.dumps(json.loads(file.read_text()) | {"metrics": None})):
        file.write_text(broken)
        with pytest.raises(RunError, match=f"remove {file.parent} to run this point again"):
            sweep.run(plan, copied)


def test_power_modes_need_a_board_and_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvpmodel, "this_board", lambda: make_board(tmp_path, is_root=False))
    with pytest.raises(UsageError, match="needs root"):
        sweep.make_plan({"power_mode": ["30W"]}, SHORT, device="cpu")
    monkeypatch.setattr(nvpmodel, "this_board", lambda: make_board(tmp_path))
    with pytest.raises(UsageError, match="no power mode '60W'"):
        sweep.make_plan({"power_mode": ["60W"]}, SHORT, device="cpu")


def test_errors_come_back_from_the_other_process(tmp_path: Path) -> None:
    task = {"device": "nowhere", "config": {}, "capture": {}, "out": str(tmp_path / "run"), "command": ""}
    with pytest.raises(DeviceError, match="nowhere"):
        sweep_worker.measure_apart(task)
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_ran_out_of_memory() -> None:
    assert isinstance(sweep_worker._death(-signal.SIGKILL), OutOfMemoryError)
    assert not isinstance(sweep_worker._death(-signal.SIGSEGV), OutOfMemoryError)


def test_other_sweeps_and_other_folders_are_refused(projected: tuple, tmp_path: Path) -> None:
    _, folder = projected
    with pytest.raises(RunError, match="another base"):
        sweep.run(sweep.make_plan({"batch_size": [1]}, {**SHORT, "model": "small"}, device="orin"), folder)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(RunError, match="holds no sweep"):
        sweep.run(sweep.make_plan({"batch_size": [1]}, SHORT, device="orin"), tmp_path)


@pytest.mark.parametrize(
    ("axes", "base", "device", "message"),
    [
        ({}, {}, "orin", "needs values"),
        ({"seed": [1]}, {}, "orin", "seed"),
        ({"batch_size": [0]}, {}, "orin", "batch_size"),
        ({"power_mode": ["30W"]}, {}, "cpu", "projection only"),
        ({"power_mode": ["30W", "60W"]}, {}, "orin", "no power mode '60W'; it has MAXN"),
        ({"power_mode": ["30W"]}, {}, "a100", "no power modes"),
        ({"power_mode": ["30W"]}, {"batch_size": 0}, "orin", "batch_size"),
    ],
)
def test_senseless_plans_are_refused(axes: dict, base: dict, device: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sweep.make_plan(axes, base, device=device)


@pytest.mark.parametrize("device", ["cpu", "orin"])
def test_senseless_numbers_of_steps_are_refused_before_any_work(tmp_path: Path, device: str) -> None:
    command = ["sweep", "--device", device, "--model", "tiny", "--steps", "0", "--out", str(tmp_path / "s")]
    assert cli.run_command(command) == 2
    assert not (tmp_path / "s").exists()


def test_failed_points_end_the_command_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Points that do not fit are a result; points that failed are not, and the command says so in a sentence."""
    monkeypatch.setattr(sweep, "_project", lambda plan, settings, *_: fail_with(settings["batch_size"]))
    command = ["sweep", "--device", "orin", "--model", "tiny", "--out", str(tmp_path / "s"), "--json"]
    assert cli.run_command([*command, "--batch-size", "1"]) == 0
    assert cli.run_command([*command, "--batch-size", "1,2,3"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["kind"] == "sweep"
    assert "error: 2 of 3 points failed" in err
    assert "batch size 2: broken" in err


def fail_with(batch_size: int) -> None:
    raise OutOfMemoryError("too large") if batch_size == 1 else WorkloadError("broken")


def line(*speeds: float) -> list[dict]:
    return [
        {"config": {"batch_size": 2**place}, "status": "finished", "fits": True, "padded_tokens_per_s": speed}
        for place, speed in enumerate(speeds)
    ]


@pytest.mark.parametrize(
    ("speeds", "at", "rising"), [((1, 2, 3.8, 4), 4, False), ((1, 2, 4, 8), 8, True), ((5, 5, 4), 1, False)]
)
def test_the_knee_is_where_throughput_stops_growing(speeds: tuple, at: int, rising: bool) -> None:
    (knee,) = knees({"batch_size": [2**place for place in range(len(speeds))]}, line(*speeds))
    assert (knee["at"], knee["rising"]) == (at, rising)


def test_points_that_do_not_fit_are_no_knee() -> None:
    points = line(1, 2, 4)
    points[2]["fits"] = False
    (knee,) = knees({"batch_size": [1, 2, 4]}, points)
    assert knee["best_padded_tokens_per_s"] == 2


@given(st.lists(st.integers(1, 64), min_size=1, max_size=6), st.lists(st.integers(1, 64), max_size=6))
def test_the_time_left_holds_both_extremes(done: list[int], left: list[int]) -> None:
    open_points = [{"batch_size": batch} for batch in left]
    for seconds in (lambda batch: 3.0, lambda batch: 0.5 * batch):
        low, high = remaining_seconds([({"batch_size": batch}, seconds(batch)) for batch in done], open_points)
        assert low <= sum(seconds(batch) for batch in left) * (1 + 1e-9) + 1e-9
        assert high >= sum(seconds(batch) for batch in left) * (1 - 1e-9) - 1e-9


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "s"), "--target-length", "16", "--source-length", "32"]
    assert (
        cli.run_command(["sweep", "--device", "orin", "--model", "tiny", "--power-mode", "30W,MAXN", *out, "--json"])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert [point["config"]["power_mode"] for point in result["points"]] == ["30W", "MAXN"]
    assert result["points"][0]["tokens_per_s_per_w"]["low"] > 0
    assert cli.run_command(["sweep", "--batch-size", "a"]) == 2
