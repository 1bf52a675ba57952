"""Projections through the public functions and the command line: labelled everywhere, fits or not, carried over."""

import json
from pathlib import Path

import pandas as pd
import pytest

import edgeroof.cli
from edgeroof import api, project
from edgeroof.errors import DeviceError, UsageError
from edgeroof.profiler.run import load, save
from edgeroof.profiler.schema import KERNEL_COLUMNS, OP_COLUMNS
from edgeroof.reports import document_html, html, terminal
from edgeroof.reports.projection_table import comparison_document

from .reports.sample_run import sample_run
from .workloads.dry_cases import write_config

STEP = {"model": "tiny", "batch_size": 2, "source_length": 32, "target_length": 16}


@pytest.fixture(scope="module")
def run():
    return project.client_step("orin", **STEP)


def test_a_projection_has_the_tables_of_a_run(run, tmp_path: Path) -> None:
    for table, columns in ((run.kernels, KERNEL_COLUMNS), (run.ops, OP_COLUMNS)):
        assert {name: str(table[name].dtype) for name in columns} == columns
    loaded = load(save(run, tmp_path / "run").path)
    assert loaded.summary == json.loads(json.dumps(run.summary))
    pd.testing.assert_frame_equal(loaded.kernels, run.kernels)


def test_times_add_up(run) -> None:
    entry, kernels = run.summary["projection"], run.kernels
    step_us = entry["step_time_ms"]["value"] * 1e3
    assert run.summary["metrics"]["step_time_ms"]["median"] == pytest.approx(step_us * 1e-3)
    assert sum(phase["value"] for phase in entry["phases"]) == pytest.approx(step_us * 1e-3)
    assert kernels["dur_us"].sum() <= step_us * (1 + 1e-9)
    assert (kernels["start_us"].diff().dropna() >= 0).all()
    ends = kernels["start_us"] + kernels["dur_us"]
    assert ends.max() == pytest.approx(step_us)
    assert run.phases["device_ms"].sum() == pytest.approx(step_us * 1e-3, rel=0.01)  # but for the first launch
    for estimate in (entry["step_time_ms"], *entry["phases"]):
        assert estimate["low"] < estimate["value"] < estimate["high"]


def test_no_kernel_is_faster_than_its_roof_allows(run) -> None:
    large = run.kernels[run.kernels["bytes_read"] + run.kernels["bytes_written"] > 8 << 20]
    assert (large["roof_fraction"] <= 1.001).all()


def test_it_is_said_that_nothing_was_measured(run) -> None:
    from rich.console import Console

    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    terminal.render(run, console)
    text = console.export_text()
    assert "Nothing here was measured" in text
    assert "(projected)" in run.summary["title"]
    assert '"kind":"projected"' in html.render(run)


def test_power_modes_are_compared(run) -> None:
    modes = {mode["mode"]: mode for mode in run.summary["projection"]["power_modes"]}
    assert set(modes) == {"MAXN", "15W", "30W", "50W"}
    assert [mode for mode in modes.values() if mode["chosen"]] == [modes["MAXN"]]
    assert modes["15W"]["step_time_ms"]["value"] > modes["MAXN"]["step_time_ms"]["value"]
    assert modes["MAXN"]["step_time_ms"] == run.summary["projection"]["step_time_ms"]
    for mode in modes.values():
        assert 0 < sum(mode["bounds"].values()) <= 1 + 1e-9  # the rest of so small a step waits for the host
        assert 0 < mode["energy_j"]["low"] < mode["energy_j"]["high"]


def test_a_chosen_mode_is_the_reports_own() -> None:
    run = project.client_step("orin", power_mode="15W", largest_batch=False, **STEP)
    entry = run.summary["projection"]
    (chosen,) = [mode for mode in entry["power_modes"] if mode["chosen"]]
    assert chosen["mode"] == "15W"
    assert chosen["step_time_ms"] == entry["step_time_ms"]
    assert (
        project.client_step("orin", gpu_mhz=700, largest_batch=False, **STEP).summary["projection"]["power_modes"] == []
    )


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    text = (Path(edgeroof.__file__).parent / "profiler/devices/orin.toml").read_text()
    (tmp_path / "small.toml").write_text(text.replace("memory_gib = { value = 64", "memory_gib = { value = 4.17"))
    run = project.client_step(str(tmp_path / "small.toml"), **STEP)
    memory = run.summary["projection"]["memory"]
    assert not memory["fits"]
    assert memory["largest_batch"] < 2
    assert any("device with more memory" in warning for warning in run.summary["warnings"])


def test_forward_and_backward_of_any_model_stand_apart(tmp_path: Path) -> None:
    config = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
              "intermediate_size": 128, "vocab_size": 512}  # fmt: skip
    (tmp_path / "bert.json").write_text(json.dumps(config))
    training = project.model_pass("a100", str(tmp_path / "bert.json"), mode="train", batch=2, sequence=32)
    entry = training.summary["projection"]
    phases = {phase["phase"]: phase["value"] for phase in entry["phases"]}
    assert entry["forward_ms"]["value"] == phases["forward"]
    assert entry["backward_ms"]["value"] == phases["backward"]
    both = entry["forward_backward_ms"]
    assert both["value"] == pytest.approx(phases["forward"] + phases["backward"])
    assert both["low"] < both["value"] < both["high"]
    assert both["value"] + phases["loss"] == pytest.approx(entry["step_time_ms"]["value"])
    inference = project.model_pass("a100", str(tmp_path / "bert.json"), mode="inference", batch=2, sequence=32)
    assert "backward" not in {phase["phase"] for phase in inference.summary["projection"]["phases"]}
    assert inference.summary["projection"]["forward_backward_ms"] is None


def test_what_was_assumed_of_memory_and_experts_is_told(run, tmp_path: Path) -> None:
    assert any("the system's: 4% and 4 GiB" in note for note in run.summary["projection"]["assumed"])
    config = write_config(tmp_path, "switch_transformers")
    experts = project.model_pass("a100", config, mode="train", batch=1, sequence=16).summary["projection"]
    assert "experts: equally many tokens to each of 4, at most 64 of a sequence" in experts["assumed"]
    assert any("CUDA context" in note for note in experts["assumed"])


def test_this_cpu_is_projected_from_its_calibration() -> None:
    run = project.client_step(api.this_machine("cpu"), largest_batch=False, **STEP)
    assert "nothing was fitted to CPUs" in run.summary["projection"]["method"]
    assert run.summary["projection"]["memory"] is not None or run.summary["device"]["memory_bytes"] is None


def test_a_measured_run_is_carried_over() -> None:
    measured = sample_run(2, hostile=False)
    carried = project.carry(measured, "a100")
    assert carried.summary["kind"] == "projected"
    assert set(carried.kernels["step"]) == {0}
    assert carried.kernels["dur_us"].sum() < measured.kernels["dur_us"].sum() / 2
    assert "carried over" in carried.summary["title"]
    with pytest.raises(UsageError, match="projected already"):
        project.carry(carried, "orin")


def test_devices_are_compared(tmp_path: Path) -> None:
    result = project.compare(
        ["orin", "a100"], [1, 2], {key: value for key, value in STEP.items() if key != "batch_size"}
    )
    assert [(row["device"], row["batch_size"]) for row in result["rows"]] == [
        ("orin", 1), ("orin", 2), ("a100", 1), ("a100", 2),
    ]  # fmt: skip
    document = comparison_document(result)
    assert document.kind == "projected"
    assert "times as many tokens a second" in document.headlines[0]
    assert "Projected" in document_html.render(document)
    project.save_comparison(result, tmp_path)
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(result))


def test_devices_that_dispatch_alike_share_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeroof.workloads import dry

    runs, real = [], dry.dry_step
    monkeypatch.setattr(dry, "dry_step", lambda *args, **kwargs: runs.append(kwargs) or real(*args, **kwargs))
    config = {key: value for key, value in STEP.items() if key != "batch_size"} | {"precision": "bf16"}
    rows = project.compare(["t4", "orin", "h100", "v100-pcie-32gb"], [2], config)["rows"]
    assert [run["compute_capability"] for run in runs] == [(7, 5), (8, 7)]  # flash attention came with 8.0
    assert [row["device"] for row in rows] == ["t4", "orin", "h100", "v100-pcie-32gb"]
    h100 = project.client_step("h100", largest_batch=False, batch_size=2, **config).summary["projection"]
    assert rows[2]["step_time_ms"]["value"] == pytest.approx(h100["step_time_ms"]["value"], rel=1e-3)
    assert rows[2]["memory"]["parts"] == h100["memory"]["parts"]  # with the larger workspace of a Hopper
    assert rows[1]["energy_j"] is not None


COMMAND = ["--model", "tiny", "--source-length", "32", "--target-length", "16"]


def test_profile_projects_for_a_device_that_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = ["--device", "orin", "--batch-size", "2", "--out", str(tmp_path / "run")]
    assert edgeroof.cli.run_command(["profile", *COMMAND, *out]) == 0
    assert "PROJECTED" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists()
    assert load(tmp_path / "run").summary["kind"] == "projected"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the device"),
        (["--device", "orin", "--batch-size", "0"], "batch sizes"),
        (["--device", "orin", "--batch-size", "1,2"], "--devices"),
        (["--devices", ","], "names none"),
        (["--devices", "orin", "--device", "a100"], "device does not go"),
        (["--device", "orin", "--mode", "train"], "--sequence"),
        (["--device", "orin", "--sequence", "64"], "--sequence does not go"),
        (["--device", "orin", "--mode", "train", "--lora-rank", "8"], "--lora-rank does not go"),
        (["--device", "orin", "--power-mode", "99W"], "99W"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture, arguments: list, reason: str) -> None:
    assert edgeroof.cli.run_command(["project", *COMMAND, *arguments]) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert reason in error


def test_where_a_device_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.is_elsewhere("orin")
    assert not project.is_elsewhere("auto")
    with pytest.raises(DeviceError, match="unknown device"):
        project.is_elsewhere("orin9")
