"""Everything a GPU can prove about edgeroof, in about twenty-five minutes: ``make gpu-evidence``.

The parts run one after another, each in a child process: environment, calibration, GPU tests, profiles of client steps,
the A/B suites of optimizers and of T5's operators in fp32 and bf16, whole steps, compiled kernels, and hardware
counters. Each part leaves its result under ``results/<device>/``; a part that is there is not run again, so an
interrupted run goes on where it stopped. A part that cannot run is skipped with the reason. At the end come
``summary.md`` and ``ab.csv``.

    python benchmarks/gpu_evidence.py                 # on a GPU
    python benchmarks/gpu_evidence.py --rehearse      # the same parts in miniature on a CPU, into a temporary folder
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evidence_summary

ROOT = Path(__file__).resolve().parents[1]
EDGEROOF = [sys.executable, "-m", "edgeroof"]
#: Files larger than this stay where they were made.
MOST_BYTES = 8 << 20
#: Suites of T5's operators.
OPERATORS = ("softmax", "rms_norm", "gated_gelu", "cross_entropy", "attention")
#: Problems of a pass alone: those at batch 32. Batches of eight are measured in both passes together, to save time.
OF_ONE_PASS = {
    "softmax": "base-encoder,base-decoder,base-cross,base-encoder-attention",
    "rms_norm": "base-encoder,base-encoder-add,base-decoder-add",
    "gated_gelu": "base-encoder,base-decoder",
    "cross_entropy": "base-decoder,base-linear",
    "attention": "base-encoder,base-decoder,base-cross",
}


@dataclass(frozen=True)
class Part:
    """One piece of evidence.

    Attributes:
        name: of its folder.
        command: what to run; ``{out}`` is replaced by a scratch folder.
        minutes: most time it may take.
        keep: files of the scratch folder to keep.
        unavailable: why it cannot run here; ``None`` if it can.
    """

    name: str
    command: list[str]
    minutes: float
    keep: tuple[str, ...] = ()
    unavailable: Callable[[], str | None] = lambda: None


def parts(rehearse: bool) -> list[Part]:
    """All parts in order of what matters most should time run out."""
    me = [sys.executable, str(Path(__file__).resolve())]
    sizes = "lora-small" if rehearse else "lora-small,small,base,large,xl"
    quick = ["--pairs", "5", "--seconds", "0.1", "--energy-seconds", "0"] if rehearse else []
    lab = [*EDGEROOF, "ab"]
    timing = quick or ["--seconds", "0.5", "--most-seconds", "6", "--energy-seconds", "0.5"]
    step = quick or ["--problems", "small,base", "--seconds", "0.5", "--most-seconds", "10", "--energy-seconds", "1"]
    pytest = [sys.executable, "-m", "pytest", "-q"]
    small = ["--batch-size", "1", "--source-length", "32", "--target-length", "16"]
    some = ["--providers", "torch-foreach,torch-loop,edgeroof"] if rehearse else []

    def adamw(name: str, *options: str) -> Part:
        command = [*lab, "adamw", "--problems", sizes, "--out", "{out}/ab", *timing, *some, *options]
        return Part(name, command, 2.5, ("ab/ab.json", "ab/report.html"))

    def operator(suite: str, dtype: str, mode: str) -> Part:
        ask = ["--dtype", dtype, "--mode", mode, "--out", "{out}/ab"]
        if mode != "both" and not rehearse:
            ask += ["--problems", OF_ONE_PASS[suite]]
        # Inductor takes half a minute a shape on a CPU: it is rehearsed once for each suite.
        few = "edgeroof,torch-compile" if (dtype, mode) == ("fp32", "forward") else "edgeroof"
        short = ["--quick", *small, "--providers", few] if rehearse else ["--seconds", "0.2", "--most-seconds", "1.5"]
        command = [*lab, suite, *ask, *(quick or ["--energy-seconds", "0"]), *short]
        minutes = 3.5 if mode == "both" else 2.5
        return Part(f"ab-{suite}-{dtype}-{mode}", command, minutes, ("ab/ab.json", "ab/report.html"))

    def whole_step(name: str, *options: str) -> Part:
        short = ["--quick", *quick] if rehearse else step
        return Part(name, [*lab, "step", "--out", "{out}/ab", *short, *options], 4.0, ("ab/ab.json", "ab/report.html"))

    def profile(model: str, *options: str) -> Part:
        tiny = (
            ["--batch-size", "1", "--source-length", "16", "--target-length", "8", "--steps", "1"] if rehearse else []
        )
        size = "tiny" if rehearse else model
        command = [*EDGEROOF, "profile", "--model", size, "--out", "{out}/run", "--profiled-steps", "1", *tiny]
        name = f"profile-{model}{''.join(options).replace('--', '-')}"
        return Part(name, [*command, *options], 2.0, ("run/run.json", "run/report.html", "run/trace.json.gz"))

    def counted(name: str, suite: str) -> Part:
        command = [*_ncu(), *me, "--one-step", "{out}", "--suite", suite]
        return Part(name, command, 2.0, ("counters.csv", "step.json"), _without_ncu)

    form = "adamw+fused-model"
    eight = () if rehearse else ("--problems", "base", "--batch-size", "8")

    return [
        Part("environment", [*me, "--describe", "{out}"], 1.0, ("environment.json",)),
        adamw("ab-adamw-fp32"),
        adamw("ab-adamw-fp32-clip", "--clip-norm", "1.0"),
        adamw("ab-adamw-bf16", "--dtype", "bf16"),
        adamw("ab-adamw-bf16-clip", "--dtype", "bf16", "--clip-norm", "1.0"),
        *(operator(suite, dtype, "both") for suite in OPERATORS for dtype in ("bf16", "fp32")),
        whole_step("ab-step-bf16", "--dtype", "bf16"),
        whole_step("ab-step"),
        *(
            whole_step(f"ab-step-bf16-{rival}", "--dtype", "bf16", "--baseline", f"adamw+{rival}", "--providers", form)
            for rival in ("eager-attention", *(() if rehearse else ("compiled-model",)))
        ),
        whole_step("ab-step-bf16-b8", "--dtype", "bf16", "--providers", form, *eight),
        *(operator(suite, dtype, "forward") for suite in OPERATORS for dtype in ("bf16", "fp32")),
        profile("base"),
        profile("base", "--fused"),
        profile("small"),
        counted("ncu", "adamw"),
        *(counted(f"ncu-{suite}", suite) for suite in OPERATORS),
        Part(
            "ab-adafactor",
            [*lab, "adafactor", "--problems", "lora-small" if rehearse else "lora-small,small,base",
             "--out", "{out}/ab", *timing, *(["--providers", "edgeroof"] if rehearse else [])],
            2.0,
            ("ab/ab.json", "ab/report.html"),
        ),
        Part("gpu-tests", [*pytest, "-m", "gpu", str(ROOT / "tests")], 3.0, (), _without_gpu_tests),
        Part("kernels", [*EDGEROOF, "kernels", "--arch", "all", "--json"], 3.0),
        *(operator(suite, dtype, "backward") for suite in OPERATORS for dtype in ("bf16", "fp32")),
    ]  # fmt: skip


def _ncu() -> list[str]:
    metrics = "dram__bytes_read.sum,dram__bytes_write.sum,gpu__time_duration.sum"
    options = ["--profile-from-start", "off", "--csv", "--log-file", "{out}/counters.csv", "--metrics", metrics]
    return ["ncu", *options]


def _without_ncu() -> str | None:
    return None if shutil.which("ncu") else "ncu (Nsight Compute) is not on the path"


def _without_gpu_tests() -> str | None:
    if not any((ROOT / "tests" / "gpu").glob("test_*.py")):
        return "there are no tests under tests/gpu"
    try:
        import pytest  # noqa: F401
    except ImportError:
        return "pytest is not installed"
    return None


def run_part(part: Part, folder: Path, deadline: float) -> dict[str, Any]:
    """Run one part and keep its files; returns what happened, which is also written to ``part.json``."""
    began = time.monotonic()
    reason = part.unavailable() or ("no time left; run again to go on" if began > deadline else None)
    if reason:
        return {"name": part.name, "status": "skipped", "reason": reason}
    with tempfile.TemporaryDirectory(prefix="edgeroof-evidence-") as scratch:
        command = [word.replace("{out}", scratch) for word in part.command]
        code, output = _run_child(command, scratch, min(part.minutes * 60, max(deadline - began, 30.0)))
        shown = " ".join("edgeroof" if word == EDGEROOF[2] else word for word in part.command if word != "-c")
        entry: dict[str, Any] = {
            "name": part.name,
            "status": "done" if code == 0 else "failed",
            "reason": "" if code == 0 else _last_line(output) or f"exit code {code}",
            "seconds": round(time.monotonic() - began, 1),
            "command": shown.replace(sys.executable, "python"),
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        }
        target = folder / part.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in part.keep:
            source = Path(scratch) / name
            if source.is_file() and source.stat().st_size <= MOST_BYTES:
                shutil.copyfile(source, target / source.name)
        (target / "output.txt").write_text(output, encoding="utf-8")
        (target / "part.json").write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    return entry


def _run_child(command: list[str], scratch: str, seconds: float) -> tuple[int, str]:
    """Run a child to its end or to its limit; Ctrl-C reaches it too, and it is waited for.

    It runs in the scratch folder: in the repository, Python would take our folders for top-level packages.
    """
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1", "KINETO_LOG_LEVEL": "6"}
    pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=scratch, env=environment, **pipe) as child:
        try:
            output, _ = child.communicate(timeout=seconds)
            return child.returncode, output
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
            try:
                output, _ = child.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                output, _ = child.communicate()
            return 124, f"{output}\nstopped after {seconds:.0f} s"


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def describe(folder: Path) -> None:
    """Child: environment, machine state and freshly measured roofs."""
    from edgeroof import api
    from edgeroof.profiler.calibrate import calibrate
    from edgeroof.profiler.environment import describe_environment, describe_torch
    from edgeroof.profiler.machine_state import machine_state

    device = calibrate(api.this_machine())
    found = {
        "device": device.describe(),
        "environment": describe_environment() | describe_torch(),
        "state": machine_state(device.kind),
        "commit": _commit(),
    }
    (folder / "environment.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def one_step(folder: Path, suite_name: str) -> None:
    """Child of ncu: one call of edgeroof's AdamW or operator with the counters on, and the bytes it says it moves."""
    import torch

    from edgeroof import lab

    suite = lab.load_suite(suite_name, kind="cuda")
    problem = suite.problems["base" if "base" in suite.problems else suite.quick["cuda"][0]]
    provider = next(provider for provider in suite.providers if provider.name == "edgeroof")
    work = provider.build(problem, suite.inputs(problem, "cuda"))
    for _ in range(3):
        work.call()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    work.call()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    stated = {"problem": problem.name, "title": problem.title, "bytes_moved": work.bytes_moved}
    (folder / "step.json").write_text(json.dumps(stated) + "\n", encoding="utf-8")


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _device_name() -> str | None:
    """Name of this machine's GPU as edgeroof knows it, ``None`` without one. In a child: CUDA stays untouched here."""
    code = "from edgeroof.profiler.device import detect; d = detect(); print(d.kind, d.name)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False
    )
    kind, _, name = found.stdout.strip().rpartition("\n")[2].partition(" ")
    return name if kind == "cuda" else None


def main() -> int:
    """Run what is missing and write the summary; 0 when nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the results; by default results/<device>")
    parser.add_argument("--minutes", type=float, default=25.0, help="start no part after this long")
    parser.add_argument("--only", help="names of parts, commas between")
    parser.add_argument("--force", action="store_true", help="run parts again that are done")
    parser.add_argument("--rehearse", action="store_true", help="run everything in miniature, also without a GPU")
    parser.add_argument("--describe", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one-step", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--suite", default="adamw", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.describe or options.one_step:
        describe(options.describe) if options.describe else one_step(options.one_step, options.suite)
        return 0
    device = _device_name()
    if device is None and not options.rehearse:
        print("no CUDA device here, so there is no evidence to take; --rehearse runs every part in miniature")
        return 1
    rehearsal = Path(tempfile.gettempdir()) / "edgeroof-rehearsal"
    folder = options.out or (rehearsal if options.rehearse else ROOT / "results" / str(device))
    folder.mkdir(parents=True, exist_ok=True)
    wanted = options.only.split(",") if options.only else None
    entries = _run_all(parts(options.rehearse), folder, wanted, options)
    evidence_summary.write(folder, entries)
    print(f"summary: {folder / 'summary.md'}")
    return 1 if any(entry["status"] == "failed" for entry in entries) else 0


def _run_all(
    chosen: list[Part], folder: Path, wanted: list[str] | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    deadline = time.monotonic() + options.minutes * 60
    entries = []
    for part in chosen:
        earlier = _earlier(folder / part.name / "part.json")
        if wanted is not None and part.name not in wanted:
            entry = earlier or {"name": part.name, "status": "skipped", "reason": "not asked for"}
        elif earlier and earlier["status"] == "done" and not options.force:
            entry = earlier
            print(f"{part.name:<20} done earlier", flush=True)
        else:
            entry = run_part(part, folder, deadline)
            print(f"{part.name:<20} {entry['status']:<8} {entry.get('seconds', '')} {entry['reason']}", flush=True)
        entries.append(entry)
    return entries


def _earlier(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main())
