"""Small results as the commands make them, for the tests of their pages: two sweeps, and a comparison of two runs."""

from __future__ import annotations

from pathlib import Path

from edgeroof import compare, sweep

TINY = {"model": "tiny", "source_length": 32, "target_length": 16}
OPTIMIZERS = ["adamw-foreach", "adamw-fused"]
BATCHES = [256, 1024]


def make_results(folder: Path) -> None:
    """Make ``sweep`` (over batch sizes), ``bars`` (over optimizers) and ``compare`` (of the runs of ``bars``)."""
    sweep.run(sweep.make_plan({"batch_size": BATCHES}, TINY, device="orin"), folder / "sweep")
    sweep.run(sweep.make_plan({"optimizer": OPTIMIZERS}, {**TINY, "batch_size": 4}, device="orin"), folder / "bars")
    runs = [[folder / "bars" / "points" / f"optimizer-{name}"] for name in OPTIMIZERS]
    compare.save(compare.compare_paths(runs), folder / "compare")
