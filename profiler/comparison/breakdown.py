"""Where the time of a step goes, in parts that add up to it: the same for one run and for the mean of several."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ..module_names import module_group
from ..run import Run

#: What one part is: the same op on the same shapes in the same place of the model, over all its layers.
KEYS = ("phase", "op", "module", "shapes")
#: Stands for the op of the time in which no kernel of the phase ran.
NO_KERNEL = "(no kernel)"
#: Stands for the phase of what lies outside of every phase.
OUTSIDE = "(outside)"

#: Shares of a step up to this are what the rounding of sums leaves of nothing.
ROUNDING = 1e-12

_NUMBERS = ("ms", "kernels", "flops", "bytes", "t_roof_ms")


def has_step_time(run: Run) -> bool:
    """Whether the run knows how long a bare step and its phases take; traces from elsewhere do not."""
    metrics = run.summary.get("metrics") or {}
    return bool(metrics.get("step_time_ms")) and bool(run.phases["device_ms"].notna().all())


def step_ms(run: Run, *, bare: bool) -> float:
    """Milliseconds of a step: the median bare step, or without ``bare`` the sum of its kernels."""
    if bare:
        return float(run.summary["metrics"]["step_time_ms"]["median"])
    return float(run.kernels["dur_us"].sum()) / 1e3 / _steps(run)


def phase_times(run: Run, *, bare: bool) -> dict[str, float]:
    """Milliseconds of every phase, and of what lies outside of them; together they are the step.

    Args:
        run: the run.
        bare: take the true times of bare steps; otherwise the sums of kernels.
    """
    if bare:
        found = {str(row.phase): float(row.device_ms) for row in run.phases.itertuples()}
    else:
        durations = run.kernels.groupby(run.kernels["phase"].astype(str))["dur_us"].sum() / 1e3 / _steps(run)
        found = {str(phase): float(ms) for phase, ms in durations.items() if phase}
    step = step_ms(run, bare=bare)
    return found | {OUTSIDE: rounded(step - sum(found.values()), step)}


def rounded(ms: float, step: float) -> float:
    """Milliseconds of a step that takes ``step``; zero where they are only what rounding leaves of it."""
    return ms if abs(ms) > ROUNDING * abs(step) else 0.0


def breakdown(runs: Sequence[Run], *, bare: bool) -> pd.DataFrame:
    """The step in parts, as the mean of the runs.

    Args:
        runs: one run, or several of the same configuration.
        bare: whether phases are as long as in bare steps, see :func:`phase_times`. Kernels always come from profiled
            steps: what is left of a phase is its :data:`NO_KERNEL` part, which is below zero where kernels took longer
            under the profiler or ran beside each other.

    Returns:
        One row per part with :data:`KEYS`, ``ms``, ``kernels``, ``flops``, ``bytes`` and ``t_roof_ms`` a step. ``ms``
        adds up to the mean step.
    """
    parts = pd.concat([_one_run(run, bare) for run in runs], ignore_index=True)
    summed = parts.groupby(list(KEYS), sort=False)[list(_NUMBERS)].sum()
    return (summed / len(runs)).reset_index()


def held_parts(runs: Sequence[Run]) -> pd.DataFrame:
    """Kernels of each part by what holds them, summed over the runs: :data:`KEYS`, ``bound`` and ``ms``."""
    parts = pd.concat([_one_run(run, bare=False) for run in runs], ignore_index=True)
    return parts.groupby([*KEYS, "bound"], sort=False)["ms"].sum().reset_index()


def bound_times(runs: Sequence[Run]) -> dict[str, float]:
    """Milliseconds of kernels a step by what holds them, as the mean of the runs."""
    found: dict[str, float] = {}
    for run in runs:
        held = run.kernels.groupby(run.kernels["bound"].astype(str))["dur_us"].sum() / 1e3 / _steps(run)
        for bound, ms in held.items():
            found[str(bound)] = found.get(str(bound), 0.0) + float(ms) / len(runs)
    return found


def _one_run(run: Run, bare: bool) -> pd.DataFrame:
    kernels = run.kernels
    frame = pd.DataFrame(
        {
            "phase": kernels["phase"].astype(str).replace("", OUTSIDE),
            "op": kernels["op"].astype(str).where(kernels["op"].astype(str) != "", kernels["name"].astype(str)),
            "module": _folded(kernels["module"]),
            "shapes": kernels["shapes"].astype(str),
            "bound": kernels["bound"].astype(str),
            "ms": kernels["dur_us"] / 1e3,
            "kernels": 1.0,
            "flops": kernels["flops"],
            "bytes": kernels["bytes_read"] + kernels["bytes_written"],
            "t_roof_ms": kernels["t_roof_us"] / 1e3,
        }
    )
    frame[list(_NUMBERS)] /= _steps(run)
    return pd.concat([frame, _rests(frame, phase_times(run, bare=bare))], ignore_index=True)


def _folded(modules: pd.Series) -> pd.Series:
    names = modules.astype(str)
    return names.map({name: module_group(name) for name in names.unique()})


def _rests(kernels: pd.DataFrame, phases: dict[str, float]) -> pd.DataFrame:
    """What is left of each phase beside its kernels."""
    busy = kernels.groupby("phase")["ms"].sum()
    step = sum(phases.values())
    left = {
        phase: phases.get(phase, 0.0) - float(busy.get(phase, 0.0)) for phase in dict.fromkeys([*phases, *busy.index])
    }
    rows = [
        {"phase": phase, "op": NO_KERNEL, "module": "", "shapes": "", "ms": rounded(ms, step)}
        for phase, ms in left.items()
    ]
    return pd.DataFrame(rows).assign(kernels=0.0, flops=0.0, bytes=0.0, t_roof_ms=0.0)


def _steps(run: Run) -> int:
    return max(1, int(run.summary.get("profiled_steps") or 1))
