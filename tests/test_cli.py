"""The command line as a user meets it: real commands, exit codes, one clear line for every error."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeroof import cli
from edgeroof.errors import RunError
from edgeroof.profiler.schema import SCHEMA_VERSION

TINY = ["--model", "tiny", "--batch-size", "2", "--source-length", "32", "--target-length", "16", "--steps", "2"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny run for all tests that only read it."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert cli.run_command(["profile", *TINY, "--optimizer", "adamw-fused", "--out", str(folder)]) == 0
    return folder


def test_profile_writes_a_whole_run(profiled: Path) -> None:
    summary = json.loads((profiled / "run.json").read_text())
    assert summary["kind"] == "measured"
    assert summary["ledger"]["priced_share"]["exact"] >= 0.97
    assert summary["ledger"]["linked_share"] >= 0.99
    assert summary["alignment"]["ok"]
    bytes_per_parameter = {entry["op"]: entry["bytes_per_parameter"] for entry in summary["optimizer"]["ops"]}
    assert bytes_per_parameter["aten::_fused_adamw_"] == 28.0
    assert "<script" in (profiled / "report.html").read_text()
    assert json.loads(gzip.decompress((profiled / "trace.json.gz").read_bytes()))["traceEvents"]


def test_every_op_of_the_trace_carries_its_findings(profiled: Path) -> None:
    import edgeroof

    events = json.loads(gzip.decompress((profiled / "trace.json.gz").read_bytes()))["traceEvents"]
    found = [event["args"]["edgeroof"] for event in events if "edgeroof" in event.get("args", {})]
    kernels = edgeroof.load(profiled).kernels
    assert len(found) == len(kernels)
    assert {entry["bound"] for entry in found} == set(kernels["bound"])
    assert "encoder.block.1.layer.0.SelfAttention.q" in {entry.get("module") for entry in found}
    rates = [event["args"]["GB/s"] for event in events if event.get("name") == "achieved bandwidth"]
    assert max(rates) >= 0.99 * kernels["bandwidth_gbs"].max()
    assert min(rates) == 0


def test_modules_and_phases_reach_the_kernel_table(profiled: Path) -> None:
    import edgeroof

    run = edgeroof.load(profiled)
    backward = run.kernels[(run.kernels["phase"] == "backward") & (run.kernels["op"] == "aten::mm")]
    assert "encoder.block.1.layer.0.SelfAttention.q" in set(backward["module"])
    assert set(run.phases["phase"]) >= {"data", "forward", "loss", "backward", "optimizer", "zero_grad"}
    assert run.summary["profiled_steps"] == run.kernels["step"].nunique() == 2


def test_a_trace_of_our_own_can_be_analyzed_again(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["analyze", str(profiled / "trace.json.gz"), "--device", "cpu", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    measured = json.loads((profiled / "run.json").read_text())
    assert summary["kind"] == "imported"
    assert summary["optimizer"]["found"]
    assert summary["ledger"]["kernel_us"] == pytest.approx(measured["ledger"]["kernel_us"], rel=0.05)


def test_show_prints_the_answer_first(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["show", str(profiled)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "MEASURED" in lines[0]
    assert any("of kernel time" in line for line in lines[:8])


def test_json_is_nothing_but_json(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["show", str(profiled), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema_version"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["profile", "--device", "orni"], 1, "orin"),
        (["profile", "--device", "h1000", *TINY], 1, "h100"),
        (["profile", "--model", "smol", *TINY[2:]], 2, "small"),
        (["profile", *TINY, "--precision", "fp12"], 2, "fp32"),
        (["profile", *TINY, "--optimizer", "adam"], 2, "adamw"),
        (["profile", *TINY, "--attention", "magic"], 2, "sdpa"),
        (["profile", *TINY[:-1], "0"], 2, "at least 1"),
        (["profile", *TINY, "--profiled-steps", "0"], 2, "at least 1"),
        (["profile", *TINY, "--batch-size", "-1"], 2, "at least 1"),
        (["profile", *TINY, "--data", "nowhere.json"], 1, "nowhere.json"),
        (["profile", "--colour", "red"], 2, "--colour"),
        (["frobnicate"], 2, "frobnicate"),
        (["analyze", "nowhere.json"], 1, "nowhere.json"),
        (["analyze", "."], 1, "run.json"),
        (["show", "nowhere"], 1, "not a run folder"),
        (["devices", "h1000"], 1, "h100"),
        (["show", "\x1b[31mred\x07"], 1, "�[31mred�"),
        (["show", "--top", "0", "."], 2, "(see edgeroof show --help)"),
    ],
)
def test_errors_are_one_line_with_the_right_code(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command(arguments) == code
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert "Traceback" not in captured.err + captured.out
    assert "\x1b" not in captured.err
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["show", "nowhere"], debug=True) == RunError.exit_code
    assert "Traceback" in capsys.readouterr().err


def test_refuses_to_write_over_other_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("precious").mkdir()
    Path("precious/thesis.tex").write_text("years of work")
    assert cli.run_command(["profile", *TINY, "--out", "precious"]) == 1
    assert "not a run folder" in capsys.readouterr().err
    assert Path("precious/thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("command", ["profile", "analyze", "devices", "calibrate", "doctor", "show"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command([command, "--help"]) == 0
    assert f"Example: edgeroof {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("command", "words"),
    [("analyze", "a Kineto trace"), ("show", "a run folder"), ("devices", "the device to explain")],
)
def test_help_explains_arguments(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command([command, "--help"]) == 0
    assert words in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_before_it_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("trace.json")
    assert cli.run_command(["analyze", "trace.json"]) == 1
    assert "save the trace to a file first" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("edgeroof ")


def test_devices_and_doctor_speak(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["devices"], ["devices", "orin"], ["doctor"]):
        assert cli.run_command(arguments) == 0
    out = capsys.readouterr().out
    assert "15W" in out
    assert "orin" in out
    assert "torch" in out


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interruption_leaves_nothing_behind(interruption: signal.Signals, tmp_path: Path) -> None:
    command = "import sys; from edgeroof.cli import main; sys.argv = ['edgeroof', *sys.argv[1:]]; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "profile", *TINY[:-1], "10000", "--out", "runs/long"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONSAFEPATH": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # also where tests run under nohup
    )
    time.sleep(1)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not any(tmp_path.glob("edgeroof-*")):
        time.sleep(0.2)  # its scratch folder appears when the work starts
    time.sleep(1)
    process.send_signal(interruption)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "error: interrupted" in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.glob("edgeroof-*")) == []
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_reports_fit_into_any_encoding(profiled: Path, encoding: str, tmp_path: Path) -> None:
    command = "import sys; from edgeroof.cli import main; sys.argv = ['edgeroof', *sys.argv[1:]]; main()"
    process = subprocess.run(
        [sys.executable, "-c", command, "show", str(profiled)],
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONSAFEPATH": "1"},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "MEASURED" in process.stdout.decode(encoding)


def test_full_disk_is_one_line(
    profiled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    code = cli.run_command(["analyze", str(profiled / "trace.json.gz"), "--device", "cpu", "--out", "runs/full"])
    assert code == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(Path("runs").iterdir()) == []


def test_a_device_file_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    template = (Path(cli.__file__).parent / "profiler" / "devices" / "a100.toml").read_text()
    title = next(line for line in template.splitlines() if line.startswith("title"))
    Path("mine.toml").write_text(template.replace(title, 'title = "[bold]\\u001b[31mred"'))
    assert cli.run_command(["devices", "./mine.toml"]) == 0
    out = capsys.readouterr().out
    assert "[BOLD]�[31MRED" in out
    assert "\x1b" not in out


def test_a_power_mode_moves_the_roofs_of_an_imported_trace(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def bandwidth_and_peak(*options: str) -> tuple[float, float]:
        trace = str(profiled / "trace.json.gz")
        assert cli.run_command(["analyze", trace, "--device", "orin", "--json", *options]) == 0
        (roof,) = json.loads(capsys.readouterr().out)["device"]["roofs"]
        return roof["bandwidth_gbs"], roof["peaks_gflops"]["vector"]["fp32"]

    full, reduced = bandwidth_and_peak("--power-mode", "MAXN"), bandwidth_and_peak("--power-mode", "15W")
    assert reduced[0] == pytest.approx(full[0] * 2133 / 3200)
    assert reduced[1] == pytest.approx(full[1] * 408 / 1300 * 6 / 16)
    assert bandwidth_and_peak("--emc-mhz", "1600")[0] == pytest.approx(full[0] / 2)


def test_a_power_mode_needs_a_device(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["analyze", str(profiled / "trace.json.gz"), "--power-mode", "30W"]) == 2
    assert "add --device" in capsys.readouterr().err
