"""Speed and memory of trace import, against HolisticTraceAnalysis (HTA) loading the same file.

    python benchmarks/trace_import.py TRACE.json.gz --hta-python /path/to/venv/bin/python

Every run is a fresh process, ours and HTA's in turn. Timed is what a user waits for after the imports: from the file to
the kernel table, every kernel linked, priced and classified; for HTA its ``TraceAnalysis`` constructor, which parses
and links but prices nothing. Peak memory is that of the whole process, imports included. HTA 0.5.0 wants a virtual
environment of its own: ``python -m venv hta && hta/bin/pip install HolisticTraceAnalysis==0.5.0``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

#: What this benchmark is to show.
SPEED_GOAL = 8.0
MEMORY_GOAL = 4.0

_REPORT = """
seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "baseline": baseline, "peak": peak(), "rows": rows}))
"""
_PREAMBLE = """
import json, resource, sys, time
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
"""
_OURS = (
    _PREAMBLE
    + """
import pandas
from edgeroof.profiler.traces.attribution import attribute
from edgeroof.profiler.device import load_device
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.traces.trace import read_trace
baseline, start, cpu_start = peak(), time.perf_counter(), time.process_time()
table = classify(attribute(read_trace(sys.argv[1])).kernels, load_device("a100").roof)
rows = len(table)
"""
    + _REPORT
)
_HTA = (
    _PREAMBLE
    + """
import logging, os
logging.disable(logging.CRITICAL)
from hta.trace_analysis import TraceAnalysis
baseline, start, cpu_start = peak(), time.perf_counter(), time.process_time()
analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir=os.path.dirname(sys.argv[1]))
rows = len(analysis.t.get_trace(0))
"""
    + _REPORT
)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description="Trace import against HolisticTraceAnalysis")
    parser.add_argument("trace", type=Path, help="a Kineto trace with GPU activities (.json or .json.gz)")
    parser.add_argument("--hta-python", metavar="PATH", help="Python that has HolisticTraceAnalysis 0.5.0")
    parser.add_argument("--runs", type=int, default=5, help="processes of each kind (default: 5)")
    parser.add_argument("--check", action="store_true", help="exit with 3 when a goal is missed")
    options = parser.parse_args()
    trace = options.trace.resolve()
    if not trace.is_file():
        parser.error(f"{trace} is not a file")
    size = _uncompressed_size(trace)
    print(f"{trace.name}: {size / 1e6:.1f} MB unpacked; {options.runs} runs of each, interleaved")
    pythons = {"edgeroof": (sys.executable, _OURS)}
    if options.hta_python:
        pythons["HTA"] = (options.hta_python, _HTA)
    else:
        print("HTA is left out: give --hta-python a Python that has HolisticTraceAnalysis 0.5.0")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for run in range(options.runs):
        for name, (python, program) in pythons.items():
            result = _run(python, program, trace)
            results[name].append(result)
            above = (result["peak"] - result["baseline"]) / 1e6
            print(
                f"  run {run + 1} {name:8}  {result['seconds']:6.3f} s (CPU {result['cpu_seconds']:.3f} s)  "
                f"{size / 1e6 / result['seconds']:6.1f} MB/s  process {result['process']:5.2f} s  "
                f"peak {result['peak'] / 1e6:5.0f} MB ({above:.0f} MB above imports)"
            )
    failures = _summarise(results, size)
    sys.exit(3 if failures and options.check else 0)


def _uncompressed_size(path: Path) -> int:
    import gzip

    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        return path.stat().st_size
    with gzip.open(path) as file:
        return sum(len(block) for block in iter(lambda: file.read(1 << 20), b""))


def _run(python: str, program: str, trace: Path) -> dict[str, Any]:
    start = time.perf_counter()
    done = subprocess.run([python, "-c", program, str(trace)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"process": time.perf_counter() - start}


def _summarise(results: dict[str, list[dict[str, Any]]], size: int) -> list[str]:
    """Print medians and ratios; the goals that were missed."""
    failures = []
    ours = results["edgeroof"]
    memory = max(result["peak"] for result in ours) / size
    print(f"peak memory: {memory:.2f} x the unpacked trace (goal: at most {MEMORY_GOAL:g})")
    if memory > MEMORY_GOAL:
        failures.append("memory")
    seconds = median(result["seconds"] for result in ours)
    print(f"edgeroof: median {size / 1e6 / seconds:.1f} MB/s ({seconds:.3f} s)")
    if "HTA" in results:
        theirs = results["HTA"]
        seconds_hta = median(result["seconds"] for result in theirs)
        ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs))
        whole = median(b["process"] / a["process"] for a, b in zip(ours, theirs))
        print(f"HTA:      median {size / 1e6 / seconds_hta:.1f} MB/s ({seconds_hta:.3f} s)")
        print(
            f"speed: {median(ratios):.1f} x HTA, paired runs {ratios[0]:.1f} to {ratios[-1]:.1f} "
            f"(goal: at least {SPEED_GOAL:g}); whole processes, imports included: {whole:.1f} x"
        )
        in_cpu = sorted(b["cpu_seconds"] / a["cpu_seconds"] for a, b in zip(ours, theirs))
        print(
            f"in CPU time, which other work on the machine disturbs less: {median(in_cpu):.1f} x, "
            f"{in_cpu[0]:.1f} to {in_cpu[-1]:.1f}"
        )
        if median(ratios) < SPEED_GOAL:
            failures.append("speed")
    print("goals missed: " + ", ".join(failures) if failures else "goals met" + ("" if "HTA" in results else " so far"))
    return failures


if __name__ == "__main__":
    main()
