"""Fit the coefficients of the projection and write ``profiler/projection/coefficients.json``.

    python benchmarks/projection/fit.py FOLDER [--output FILE]

FOLDER holds the measurements (docs/projection.md says which). All five GPUs serve the fit; the error bands come from
five more fits that each leave one GPU out. The result is the same every time.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from judging import fit_without_each, judge_kernels, judge_steps, kernel_bands, step_bands
from measurements import folder_or_exit, load_kernels, load_steps
from model_fit import MEMORY_WIDTHS, PRODUCT_WIDTHS, fit

from edgeroof.profiler.projection.coefficients import SHIPPED, Coefficients

#: Kernels of each kind and device that a fit uses: more change the coefficients by less than a percent.
ROWS = 300


def main(arguments: list[str]) -> None:
    """Fit, judge and write."""
    folder = folder_or_exit(arguments)
    output = Path(arguments[arguments.index("--output") + 1]) if "--output" in arguments else SHIPPED
    start = time.perf_counter()
    few = load_kernels(folder, ROWS)
    coefficients = fit(few)
    held_out = fit_without_each(few)
    judgements = list(judge_kernels(load_kernels(folder), held_out))
    steps = judge_steps(load_steps(folder), held_out)
    coefficients = dataclasses.replace(
        _rounded(coefficients), kernel_errors=kernel_bands(judgements), step_errors=step_bands(steps)
    )
    output.write_text(coefficients.to_json(), encoding="utf-8")
    print(f"{len(MEMORY_WIDTHS) + len(PRODUCT_WIDTHS)} coefficients in {time.perf_counter() - start:.0f} s: {output}")


def _rounded(c: Coefficients) -> Coefficients:
    """Four figures are more than the data determine, and hide differences between machines."""
    plain = {name: _four(value) for name, value in vars(c).items() if isinstance(value, float)}
    return dataclasses.replace(c, **plain, host_us={kind: _four(value) for kind, value in c.host_us.items()})


def _four(value: float) -> float:
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main(sys.argv[1:])
