"""The A/B lab put together: suites by name, this machine's instruments, and the folder that results go to.

result = edgeroof.lab.compare("adamw", problems=["small"])
edgeroof.lab.save(result, "runs/ab-adamw")
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError
from .result_files import read_result, write_result

if TYPE_CHECKING:
    from .kernels.ab import Instruments, Progress, Settings, Suite
    from .profiler.device import Device

RESULT_FILE = "ab.json"
#: A process's resident set hides smaller changes: freed memory is used again.
RESIDENT_SET_RESOLUTION = 64 << 20
OPERATOR_SUITES = ("softmax", "rms_norm", "gated_gelu", "cross_entropy")
SUITES = ("adamw", "adafactor", "step", *OPERATOR_SUITES)
#: Settings that only some suites have.
_STEP_SETTINGS = ("batch_size", "source_length", "target_length")
_SETTINGS_OF = {"step": _STEP_SETTINGS, **dict.fromkeys(OPERATOR_SUITES, (*_STEP_SETTINGS, "mode", "dropout"))}


def load_suite(
    name: str, *, dtype: str = "fp32", clip_norm: float | None = None, kind: str = "cpu", **settings: Any
) -> Suite:
    """A suite by name.

    Args:
        name: one of :data:`SUITES`.
        dtype: of the tensors, ``fp32`` or ``bf16``; for ``step``, the client's precision.
        clip_norm: clip the gradient to this norm within the call, for suites of optimizers; ``None`` does not clip.
        kind: ``cpu`` or ``cuda``, which decides how large a client's step is by default.
        **settings: ``batch_size``, ``source_length`` and ``target_length`` for ``step`` and the suites of operators,
            ``mode`` and ``dropout`` for the latter; ``None`` keeps the default.

    Raises:
        UsageError: unknown suite, or a setting that makes no sense for it.
    """
    if name not in SUITES:
        raise UsageError(f"unknown suite {name!r}; suites are {', '.join(SUITES)}")
    if clip_norm is not None and not 0 < clip_norm < float("inf"):
        raise UsageError(f"clip_norm is {clip_norm}; it must be above 0")
    given = {key: value for key, value in settings.items() if value is not None}
    foreign = [key for key in given if key not in _SETTINGS_OF.get(name, ())]
    if foreign:
        raise UsageError(f"suite {name} has no setting {', '.join(foreign)}")
    if name == "step":
        from .workloads.step_suite import step_suite

        return step_suite(precision=dtype, clip_norm=clip_norm, kind=kind, **given)
    if dtype not in ("fp32", "bf16"):
        raise UsageError(f"dtype is {dtype!r}; suite {name} has fp32 and bf16")
    if name in OPERATOR_SUITES:
        if clip_norm is not None:
            raise UsageError(f"clip_norm is a setting of optimizers; suite {name} has no gradient to clip")
        return _operator_suite(name, dtype, kind, **given)
    if name == "adamw":
        from .kernels.suites.adamw import adamw_suite

        return adamw_suite(dtype, clip_norm)
    from .kernels.suites.adafactor import adafactor_suite

    return adafactor_suite(dtype, clip_norm)


def _operator_suite(name: str, dtype: str, kind: str, mode: str | None = None, **settings: Any) -> Suite:
    from .kernels.suites.operator_problems import sizes

    module = importlib.import_module(f".kernels.suites.{name}", __package__)
    suite: Suite = getattr(module, f"{name}_suite")(sizes(kind, dtype, mode, **settings))
    return suite


def compare(
    suite: str | Suite,
    *,
    device: str | Device = "auto",
    problems: Sequence[str] | None = None,
    providers: Sequence[str] | None = None,
    baseline: str | None = None,
    settings: Settings | None = None,
    quick: bool = False,
    energy: bool = True,
    command: str = "",
    on_progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Run a suite on this machine.

    Args:
        suite: a name, or a suite from :func:`load_suite`.
        device: this machine's device or its name.
        problems: sizes; without any, the suite's defaults for this kind of device.
        providers: names; without any, all.
        baseline: what to compare with; by default the suite's.
        settings: how long to measure.
        quick: the suite's problems for a quick look.
        energy: measure energy where there is a meter.
        command: how to make the result again.
        on_progress: told what is being done.

    Returns:
        The result of :func:`edgeroof.kernels.ab.run`, with ``created``, ``command``, ``environment`` and ``machine``.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from . import api
    from .kernels.ab import Settings, choose_problems, choose_providers, run
    from .profiler.environment import describe_environment, describe_torch
    from .profiler.machine_state import OtherLoad, machine_state

    machine = api.this_machine(device) if isinstance(device, str) else device
    chosen = load_suite(suite, kind=machine.kind) if isinstance(suite, str) else suite
    choose_providers(chosen, providers, baseline)
    sizes = choose_problems(chosen, problems, machine.kind, quick)
    before, load = machine_state(machine.kind), OtherLoad()
    result = run(
        chosen,
        sizes,
        machine,
        baseline=baseline,
        providers=providers,
        settings=settings or Settings(),
        instruments=instruments(machine, energy=energy),
        on_progress=on_progress,
    )
    state = {"before": before, "after": machine_state(machine.kind), "others": load.share()}
    return result | {
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": describe_environment() | describe_torch(),
        "machine": state,
    }


def instruments(device: Device, *, energy: bool = True) -> Instruments:
    """Clocks and meters of this machine."""
    from .kernels.ab import Instruments
    from .kernels.sampling import Stopwatch, cuda_stopwatch
    from .profiler.machine_state import OtherLoad, machine_state, throttling
    from .profiler.memory import PeakMemory
    from .profiler.power import find_meter

    meter = find_meter(device.kind) if energy else None
    available = meter is not None and meter.available
    on_gpu = device.kind == "cuda"
    return Instruments(
        stopwatch=cuda_stopwatch(device.l2_bytes) if on_gpu else Stopwatch(cache_bytes=device.llc_bytes),
        energy_meter=(lambda: find_meter(device.kind)) if available else None,
        energy_reason="switched off" if meter is None else meter.reason,
        machine_state=lambda: machine_state(device.kind),
        throttling=throttling,
        load=None if on_gpu else OtherLoad,
        peak_memory=lambda: PeakMemory(device.kind),
        memory_resolution=0 if on_gpu else RESIDENT_SET_RESOLUTION,
    )


def save(result: dict[str, Any], path: str | Path) -> Path:
    """Write a result's folder: ``ab.json`` with the raw samples, and ``report.html``.

    It is written beside its place and renamed when whole; an earlier result there is replaced.

    Raises:
        RunError: the place is taken by something else, or cannot be written.
    """
    from .reports import ab_html

    return write_result(result, path, RESULT_FILE, ab_html.render(result), what="a folder of an A/B result")


def load(path: str | Path) -> dict[str, Any]:
    """Read a result from its folder or its ``ab.json``.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    from .kernels.ab import SCHEMA_VERSION

    return read_result(
        path, RESULT_FILE, kind="ab", version=SCHEMA_VERSION, what="the A/B result", none="no A/B result"
    )


__all__ = ["SUITES", "compare", "instruments", "load", "load_suite", "save"]
