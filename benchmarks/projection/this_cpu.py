"""Project a FLAN-T5-small step on this CPU from its calibration, measure the same step, and print both side by side.

    python benchmarks/projection/this_cpu.py [--model small] [--batch-size 4]

The table is Markdown; docs/projection.md holds one that was made so.
"""

from __future__ import annotations

import argparse

import edgeroof
from edgeroof import api, project


def main() -> None:
    """Measure, project, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--run", help="a measured run of the same step, in place of a new one")
    arguments = parser.parse_args()
    step = {"model": arguments.model, "batch_size": arguments.batch_size}
    device = api.this_machine("cpu")
    measured = edgeroof.load(arguments.run) if arguments.run else edgeroof.profile(device=device, **step)
    projected = project.client_step(device, largest_batch=False, **step)
    truth = dict(zip(measured.phases["phase"], measured.phases["device_ms"]))
    entry = projected.summary["projection"]
    print(f"FLAN-T5-{arguments.model}, batch {arguments.batch_size}, on {device.title}\n")
    print("| phase | measured, ms | projected, ms (90 % interval) | projected / measured |")
    print("|---|---:|---:|---:|")
    whole = {"phase": "step", **entry["step_time_ms"]}
    truth["step"] = measured.summary["metrics"]["step_time_ms"]["median"]
    for phase in (*entry["phases"], whole):
        known = truth.get(phase["phase"])
        ratio = f"{phase['value'] / known:.2f}" if known else "-"
        shown = f"{known:,.1f}" if known is not None else "-"
        interval = f"{phase['value']:,.1f} ({phase['low']:,.1f} to {phase['high']:,.1f})"
        print(f"| {phase['phase'] or 'none'} | {shown} | {interval} | {ratio} |")


if __name__ == "__main__":
    main()
