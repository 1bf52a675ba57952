"""The GPU evidence: claims from results, counted bytes, parts that are skipped, failed and resumed."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

from edgeroof.lab import load_suite

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def evidence():
    modules = []
    for name in ("evidence_summary", "gpu_evidence"):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        modules.append(module)
    return modules


def timed(provider: str, us: float, **extra):
    entry = {"provider": provider, "status": "measured", "times_us": {"wall": {"median": us}, "device": {"median": us}}}
    return entry | {"verdict": "SAME"} | extra


def ratio(value: float):
    return {"ratio": value, "low": value * 0.99, "high": value * 1.01, "verdict": "FASTER", "pairs": 30}


def results(graph: float = 2.5):
    base = timed("torch-fused", 2000.0)
    ours = timed("edgeroof", 2000.0, roof_fraction=0.93)
    lora = timed("edgeroof-graph", 10.0, comparisons={"wall": ratio(graph)})
    problems = [{"name": "base", "results": [base, ours]}, {"name": "lora-small", "results": [lora]}]
    clipped = timed("edgeroof", 1.0, comparisons={"wall": ratio(1.0), "device": ratio(1.3)})
    return {
        "ab-adamw-fp32": {"problems": problems},
        "ab-adamw-fp32-clip": {"problems": [{"name": "base", "results": [clipped]}]},
        "ab-adamw-bf16": {"problems": [{"name": "base", "results": [timed("edgeroof-8bit", 800.0)]}]},
    }


def test_claims_are_met_by_numbers_alone(evidence):
    summary, _ = evidence
    of_optimizers = [met for _, _, met in summary.claims(results())][:5]
    assert of_optimizers == ["yes"] * 5
    # 2.01 is above two, but its interval reaches below
    assert [met for _, _, met in summary.claims(results(graph=2.01))][4] == "no"
    assert {met for _, _, met in summary.claims({})} == {"not measured"}


def operators(ours: float = 100.0, compiled: float = 130.0, step: float = 1.2):
    softmax = timed("edgeroof", ours, roof_fraction=0.9, comparisons={"wall": ratio(2.0), "device": ratio(3.2)})
    problems = [{"name": "base-encoder", "results": [softmax, timed("torch-compile", compiled)]}]
    fused = timed("adamw+fused-model", 1.0, comparisons={"wall": ratio(step)})
    parts = {f"ab-softmax-bf16-{mode}": {"problems": problems} for mode in ("forward", "both")}
    rivals = ("", "-eager-attention", "-compiled-model", "-b8")
    return parts | {f"ab-step-bf16{rival}": {"problems": [{"name": "base", "results": [fused]}]} for rival in rivals}


def test_claims_of_operators_and_the_fused_step(evidence):
    summary, _ = evidence

    def met(*arguments):
        found = [(claim, met) for claim, _, met in summary.claims(operators(*arguments))]
        return {claim: met for claim, met in found if met != "not measured"}

    assert set(met().values()) == {"yes"}
    assert len(met()) == 3 + 4
    assert met(140.0)["softmax bf16: nowhere slower than torch.compile"] == "no"
    assert met(100.0, 130.0, 1.005)["fused step in bf16, base: faster than torch.compile"] == "no"


def test_every_suite_of_operators_is_measured_in_every_mode_and_the_patched_step_against_its_rivals(evidence):
    _, gpu_evidence = evidence
    names = [part.name for part in gpu_evidence.parts(rehearse=False)]
    assert len(names) == len(set(names))
    for suite in gpu_evidence.OPERATORS:
        assert {
            f"ab-{suite}-{dtype}-{mode}" for dtype in ("fp32", "bf16") for mode in ("forward", "backward", "both")
        } <= {*names}
        assert f"ncu-{suite}" in names
    assert {
        "ab-step-bf16", "ab-step-bf16-compiled-model", "ab-step-bf16-eager-attention", "ab-step-bf16-b8",
        "profile-base-fused",
    } <= {*names}  # fmt: skip


def test_a_pass_alone_is_measured_at_batch_32_and_both_at_batch_8_as_well(evidence):
    _, gpu_evidence = evidence
    for suite in gpu_evidence.OPERATORS:
        defaults = load_suite(suite, kind="cuda").defaults["cuda"]
        alone = gpu_evidence.OF_ONE_PASS[suite].split(",")
        assert alone == [name for name in defaults if not name.endswith("-b8")]
        small = {name for name in defaults if name.endswith("-b8")}
        assert small >= {f"{name}-b8" for name in alone if not name.endswith("-attention")}


def test_counted_bytes_are_compared_with_the_stated(evidence, tmp_path):
    summary, _ = evidence
    assert summary.counters(tmp_path) == ""
    (tmp_path / "step.json").write_text('{"problem": "base", "title": "AdamW, base", "bytes_moved": 2e9}')
    (tmp_path / "counters.csv").write_text(
        "==PROF== noise\n"
        '"Kernel Name","Metric Name","Metric Unit","Metric Value"\n'
        '"adamw","dram__bytes_read.sum","Gbyte","1.20"\n'
        '"adamw","dram__bytes_write.sum","Mbyte","900"\n'
        '"adamw","gpu__time_duration.sum","usecond","1,000"\n'
    )
    assert "counts 2.100 GB of DRAM traffic, edgeroof states 2.000 GB (105 %)" in summary.counters(tmp_path)


def part(evidence, name: str, code: str, **extra):
    _, gpu_evidence = evidence
    return gpu_evidence.Part(name, [sys.executable, "-c", code], 1.0, ("file.txt",), **extra)


def test_parts_run_once_fail_aloud_and_are_skipped_with_a_reason(evidence, tmp_path, capsys):
    _, gpu_evidence = evidence
    options = argparse.Namespace(minutes=1.0, force=False)
    good = part(evidence, "good", "open(r'{out}/file.txt', 'w').write('x')")
    bad = part(evidence, "bad", "print('it broke'); raise SystemExit(3)")
    absent = part(evidence, "absent", "", unavailable=lambda: "no such tool")
    entries = gpu_evidence._run_all([good, bad, absent], tmp_path, None, options)
    assert [(entry["status"], entry["reason"]) for entry in entries] == [
        ("done", ""), ("failed", "it broke"), ("skipped", "no such tool"),
    ]  # fmt: skip
    assert (tmp_path / "good" / "file.txt").read_text() == "x"
    first = json.loads((tmp_path / "good" / "part.json").read_text())
    again = gpu_evidence._run_all([good, bad, absent], tmp_path, None, options)
    assert again[0] == first
    assert again[1]["created"] >= entries[1]["created"]
    assert "done earlier" in capsys.readouterr().out


def test_a_part_that_hangs_is_stopped_and_late_ones_wait_for_the_next_run(evidence, tmp_path):
    _, gpu_evidence = evidence
    hanging = gpu_evidence.Part("hanging", [sys.executable, "-c", "import time; time.sleep(60)"], 0.02)
    entry = gpu_evidence.run_part(hanging, tmp_path, time.monotonic() + 60)
    assert entry["status"] == "failed"
    assert "stopped after 1 s" in entry["reason"]
    late = gpu_evidence.run_part(hanging, tmp_path, time.monotonic() - 1)
    assert (late["status"], late["reason"]) == ("skipped", "no time left; run again to go on")


def test_the_summary_is_written_from_whatever_is_there(evidence, tmp_path):
    from edgeroof.kernels.ab import run

    from .fake_lab import BASE_US, DEVICE, PROBLEM, SETTINGS, FakeLab

    summary, _ = evidence
    lab = FakeLab()
    suite = lab.suite(lab.provider("other", BASE_US / 2), lab.provider("absent", 1.0, unavailable=lambda p, d: "gone"))
    result = run(suite, [PROBLEM], DEVICE, settings=SETTINGS, instruments=lab.instruments())
    (tmp_path / "ab-fake").mkdir()
    (tmp_path / "ab-fake" / "ab.json").write_text(json.dumps(result))
    summary.write(tmp_path, [{"name": "ab-fake", "status": "done", "reason": "", "seconds": 1.0}])
    rows = list(csv.DictReader((tmp_path / "ab.csv").open()))
    assert [(row["provider"], row["verdict"]) for row in rows] == [
        ("base", "BASE"), ("other", "FASTER"), ("absent", "MISSING"),
    ]  # fmt: skip
    text = (tmp_path / "summary.md").read_text()
    assert "| ab-fake | done | 1.0 |" in text
    assert "absent (missing: gone)" in text
