"""Judge the projection on GPUs it has not seen, beside a plain roofline.

    python benchmarks/projection/validate.py FOLDER

Each of the five GPUs is judged by coefficients fitted to the other four: every measured kernel, and every measured
step, whose ops come from dry runs. The last line is the verdict, and the exit code follows it: 0 when all goals are
met, 3 otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from fit import ROWS
from judging import KINDS, KernelJudgement, fit_without_each, judge_kernels, judge_steps
from measurements import DEVICES, folder_or_exit, load_kernels, load_steps

#: Median error of kernels, and mean error of steps.
KERNEL_GOALS = {"bmm": 0.18, "linear": 0.18, "elementwise": 0.08, "norm": 0.15, "softmax": 0.15}
STEP_GOAL = 0.12

_MISSED = 3
_WORST = 5


def main(arguments: list[str]) -> int:
    """Print the tables and the verdict; return the exit code."""
    folder = folder_or_exit(arguments)
    held_out = fit_without_each(load_kernels(folder, ROWS))
    judgements = list(judge_kernels(load_kernels(folder), held_out))
    steps = judge_steps(load_steps(folder), held_out)
    missed = report_kernels(judgements) + report_steps(steps)
    print(f"\nverdict: {'all goals met' if not missed else 'missed: ' + ', '.join(missed)}")
    return _MISSED if missed else 0


def report_kernels(judgements: Sequence[KernelJudgement]) -> list[str]:
    """Median errors by kind and device, worst cases, and the goals that were missed."""
    print("median error of kernels on the GPU left out, in % (plain roofline in brackets)")
    print(f"{'':<12}" + "".join(f"{device:>18}" for device in DEVICES) + f"{'all':>18}{'goal':>6}")
    missed = []
    for kind in KINDS:
        mine = {j.kernels.device: j for j in judgements if j.kernels.kind == kind}
        cells = [_cell([mine[device]]) if device in mine else "not judged" for device in DEVICES]
        overall = _median_error([j.model for j in mine.values()])
        if overall > KERNEL_GOALS[kind]:
            missed.append(f"{kind} {overall:.1%}")
        line = "".join(f"{cell:>18}" for cell in (*cells, _cell(list(mine.values()))))
        print(f"{kind:<12}{line}{KERNEL_GOALS[kind]:>6.0%}")
    print("linear layers on the P4 are not judged: it was throttling while they were measured (see measurements.py)")
    print("\nworst kernels, measured over 1 ms:")
    for line in _worst_kernels(judgements):
        print(f"  {line}")
    return missed


def report_steps(steps: pd.DataFrame) -> list[str]:
    """Errors of steps, and the goal if it was missed."""
    steps = steps.assign(
        error=steps["projected_ms"] / steps["e2e_ms"] - 1,
        roofline=steps["roofline_ms"] / steps["e2e_ms"] - 1,
        forward=steps["forward_ms"] / steps["fw_ms"] - 1,
        backward=steps["backward_ms"] / steps["bw_ms"] - 1,
    )
    print("\nwhole steps on the GPU left out: measured and projected ms, error, error of the plain roofline")
    for step in steps.itertuples():
        apart = f"  forward {step.forward:+.1%}, backward {step.backward:+.1%}" if step.mode == "train" else ""
        print(
            f"  {step.device:<16}{step.workload:<26}{step.e2e_ms:>9.1f}{step.projected_ms:>9.1f}{step.error:>+8.1%}"
            f"{step.roofline:>+8.1%}{apart}"
        )
    for name in ("device", "model", "mode"):
        groups = steps.groupby(name)[["error", "roofline"]].agg(lambda column: np.mean(np.abs(column)))
        print(
            f"  by {name}: "
            + ", ".join(f"{key} {row.error:.1%} ({row.roofline:.0%})" for key, row in groups.iterrows())
        )
    mean, roofline = steps["error"].abs().mean(), steps["roofline"].abs().mean()
    worst = steps.loc[steps["error"].abs().idxmax()]
    print(f"  mean error {mean:.1%}, plain roofline {roofline:.1%}, goal {STEP_GOAL:.0%}")
    print(f"  worst: {worst['workload']} on {worst['device']}, {worst['error']:+.1%}")
    return [f"steps {mean:.1%}"] if mean > STEP_GOAL else []


def _cell(judgements: Sequence[KernelJudgement]) -> str:
    model, roofline = (_median_error([getattr(j, name) for j in judgements]) for name in ("model", "roofline"))
    return f"{model * 100:.1f} ({roofline * 100:.0f})"


def _median_error(ratios: Sequence[np.ndarray]) -> float:
    return float(np.median(np.abs(np.concatenate(list(ratios)) - 1.0)))


def _worst_kernels(judgements: Sequence[KernelJudgement]) -> list[str]:
    cases = []
    for judgement in judgements:
        kernels = judgement.kernels
        error = np.where(kernels.seconds > 1e-3, np.abs(np.log(judgement.model)), 0.0)
        row = int(error.argmax())
        dims = ", ".join(f"{key} {values[row]:g}" for key, values in kernels.dims.items() if key != "along_inner")
        cases.append((error[row], f"{kernels.device} {kernels.kind} ({dims}): x{judgement.model[row]:.2f}"))
    return [text for _, text in sorted(cases, reverse=True)[:_WORST]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
