"""The parts of a plan, each with the calls that make its result."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .parts import Inner, Part
from .plan import Plan

#: How long a dry run of each model takes on two cores, in seconds, with the projections on both devices.
_DRY_S = {"tiny": 2.0, "small": 4.0, "base": 6.0, "large": 10.0, "xl": 11.0}
#: Likewise of coding and decoding an update of each model with four codecs, and of measuring a step here.
_CODING_S = {"tiny": 0.5, "small": 6.0, "base": 15.0, "large": 12.0, "xl": 12.0}
_STEP_HERE_S = {"tiny": 15.0, "small": 75.0}
#: One round of a federation of the studies.
_ROUND_S = 1.0
_COMMAND = "edgeroof paper"
#: Files of results that are no run folders, in the folder of the experiments.
HOST_TIMER_FILE = Path("breakdown") / "host_timer.json"
MEASURED, LINKS, AB = Path("breakdown") / "here", Path("links"), Path("optimizer") / "ab"
COMPRESSION, SELECTION = Path("compression"), Path("selection")


def build_parts(plan: Plan, folder: Path) -> list[Part]:
    """Every part of a plan, in the order in which they run."""
    return [
        *_scaling(plan, folder),
        _breakdown(plan, folder),
        _measured(plan, folder),
        *_adapters(plan, folder),
        _links(plan, folder),
        *_optimizers(plan, folder),
        _ab(plan, folder),
        _compression(plan, folder),
        _selection(plan, folder),
    ]


def scaling_place(folder: Path, device: str, model: str, precision: str, batch_size: int) -> Path:
    """Folder of the run of one point of the scaling experiment."""
    return folder / "scaling" / f"{device}_{model}_{precision}_{batch_size}"


def breakdown_place(folder: Path, device: str) -> Path:
    """Folder of the run whose breakdown is shown for a device."""
    return folder / "breakdown" / device


def adapter_place(folder: Path, device: str, model: str) -> Path:
    """Folder of the run of a step that trains adapters."""
    return folder / "links" / f"{device}_{model}_lora"


def optimizer_place(folder: Path, device: str, optimizer: str) -> Path:
    """Folder of the run of a step with one optimizer."""
    return folder / "optimizer" / f"{device}_{optimizer}"


def _is_run(place: Path) -> bool:
    return (place / "run.json").is_file()


def _are_runs(places: Sequence[Path]) -> bool:
    return all(map(_is_run, places))


def _project_on(
    plan: Plan, places: dict[str, Path], config: dict[str, Any], *, every_mode: bool = False
) -> Callable[[Inner], None]:
    """Make a run for each device from as few dry runs as there are op streams."""

    def run(inner: Inner) -> None:
        from .. import project
        from ..profiler.run import save

        lengths = {"source_length": plan.source_length, "target_length": plan.target_length}
        inner("dry run", 0, 2)
        found = project.dry_runs(list(places), **lengths, **config)
        for place, (device, dry) in zip(places.values(), found):
            inner(device.name, 1, 2)
            save(project.on_device(dry, device, every_mode=every_mode, command=_COMMAND), place)

    return run


def _scaling(plan: Plan, folder: Path) -> list[Part]:
    parts = []
    for model in plan.models:
        for precision in plan.precisions:
            for batch in plan.batch_sizes:
                places = {device: scaling_place(folder, device, model, precision, batch) for device in plan.devices}
                config = {"model": model, "precision": precision, "batch_size": batch}
                parts.append(
                    Part(
                        f"scaling-{model}-{precision}-{batch}", "scaling", f"{model}, {precision}, batch {batch}",
                        _DRY_S.get(model, 6.0), functools.partial(_are_runs, tuple(places.values())),
                        _project_on(plan, places, config),
                    )
                )  # fmt: skip
    return parts


def _breakdown(plan: Plan, folder: Path) -> Part:
    places = {device: breakdown_place(folder, device) for device in plan.devices}
    timers = folder / HOST_TIMER_FILE

    def run(inner: Inner) -> None:
        from .. import project
        from ..profiler.run import save
        from ..result_files import write_json

        lengths = {"source_length": plan.source_length, "target_length": plan.target_length}
        inner("dry run", 0, 2)
        said = {}
        for device, dry in project.dry_runs(plan.devices, **lengths, **plan.breakdown):
            inner(device.name, 1, 2)
            save(project.on_device(dry, device, every_mode=True, command=_COMMAND), places[device.name])
            said[device.name] = project.host_timer(dry, device)
        write_json(timers, said)

    def done() -> bool:
        return timers.is_file() and _are_runs(list(places.values()))

    return Part("breakdown", "breakdown", "breakdown of a step", 14.0, done, run)


def _measured(plan: Plan, folder: Path) -> Part:
    place = folder / MEASURED

    def run(inner: Inner) -> None:
        from ..sweep_worker import measure_apart

        inner("in a process of its own", 0, 1)
        measure_apart(
            {
                "device": "auto",
                "config": {"source_length": plan.source_length, "target_length": plan.target_length, **plan.measured},
                "capture": {"warmup_steps": 1, "steps": plan.measured_steps, "profiled_steps": 1},
                "out": str(place),
                "command": _COMMAND,
            }
        )

    return Part(
        "measured",
        "breakdown",
        "a step on this machine",
        _STEP_HERE_S.get(str(plan.measured.get("model")), 75.0),
        lambda: _is_run(place),
        run,
    )


def _adapters(plan: Plan, folder: Path) -> list[Part]:
    """Steps that train adapters, for granularity."""
    parts = []
    for model in plan.models:
        places = {device: adapter_place(folder, device, model) for device in plan.devices}
        config = {"model": model, "batch_size": plan.federated_batch, "lora_rank": plan.lora_rank}
        parts.append(
            Part(
                f"adapters-{model}", "links", f"{model} with adapters", _DRY_S.get(model, 6.0),
                functools.partial(_are_runs, tuple(places.values())), _project_on(plan, places, config),
            )
        )  # fmt: skip
    return parts


def _links(plan: Plan, folder: Path) -> Part:
    place = folder / LINKS

    def run(inner: Inner) -> None:
        from .. import fl
        from ..workloads.federated.granularity_cases import Wanted

        fl.compare_links(
            Wanted(models=plan.models, devices=plan.devices, lora_rank=plan.lora_rank, batch_size=plan.federated_batch),
            links=plan.links, codecs=plan.codecs, cases=_cases(plan, folder),
            out=place, on_progress=inner, command=_COMMAND,
        )  # fmt: skip

    seconds = sum(_CODING_S.get(model, 10.0) for model in plan.models) * len(plan.codecs) / 4
    return Part("links", "links", "granularity", seconds, lambda: (place / "granularity.json").is_file(), run)


def _cases(plan: Plan, folder: Path) -> list[Any]:
    """Clients of granularity, with the step times of runs that are there already."""
    from ..profiler.device import load_device
    from ..workloads.federated.compute_time import measured_step, step_count
    from ..workloads.federated.granularity_cases import DIALOGUES
    from ..workloads.federated.granularity_table import Case

    steps, cases = step_count(DIALOGUES, plan.federated_batch, 1), []
    for model in plan.models:
        for device in plan.devices:
            found = load_device(device)
            source = f"limit of {found.title}, an upper bound" if found.power_w else "unknown"
            places = {
                None: scaling_place(folder, device, model, plan.precisions[0], plan.federated_batch),
                plan.lora_rank: adapter_place(folder, device, model),
            }
            for rank, place in places.items():
                what = f"projected for {found.title}, 90 % interval"
                time = dataclasses.replace(measured_step(place).time, what=what)
                cases.append(Case(model, rank, device, time, steps, found.power_w, source))
    return cases


def _optimizers(plan: Plan, folder: Path) -> list[Part]:
    parts = []
    for name in plan.optimizers:
        places = {device: optimizer_place(folder, device, name) for device in plan.devices}
        parts.append(
            Part(
                f"optimizer-{name}", "optimizer", f"a step with {name}",
                _DRY_S.get(str(plan.breakdown.get("model")), 6.0),
                functools.partial(_are_runs, tuple(places.values())),
                _project_on(plan, places, {**plan.breakdown, "optimizer": name}),
            )
        )  # fmt: skip
    return parts


def _ab(plan: Plan, folder: Path) -> Part:
    place = folder / AB

    def run(inner: Inner) -> None:
        from .. import lab
        from ..kernels.ab import Settings

        settings = Settings(
            pairs=plan.ab_pairs, seconds=min(2.0, plan.ab_seconds), most_seconds=plan.ab_seconds, energy_seconds=0.0
        )
        providers = ("torch-loop", "torch-foreach", "torch-fused", "edgeroof")
        result = lab.compare(
            "adamw", problems=[plan.ab_problem], providers=providers, baseline="torch-foreach", settings=settings,
            energy=False, command=_COMMAND, on_progress=inner,
        )  # fmt: skip
        lab.save(result, place)

    return Part(
        "ab",
        "optimizer",
        "optimizers against each other",
        8.0 + 4 * plan.ab_seconds,
        lambda: (place / "ab.json").is_file(),
        run,
    )


def _compression(plan: Plan, folder: Path) -> Part:
    place, size = folder / COMPRESSION, plan.compression

    def run(inner: Inner) -> None:
        from .. import fl_studies
        from ..workloads.federated.study_compression import CompressionStudy

        config = fl_studies.base(rounds=size.rounds, clients=6, dialogues=size.dialogues)
        study = CompressionStudy(config, plan.compression_codecs, plan.links[-2:], size.seeds)
        fl_studies.study_compression(study, out=place, on_progress=inner, command=_COMMAND)

    seconds = _ROUND_S * size.rounds * size.seeds * len(plan.compression_codecs)
    return Part("compression", "compression", "compression", seconds, lambda: (place / "study.json").is_file(), run)


def _selection(plan: Plan, folder: Path) -> Part:
    place, size = folder / SELECTION, plan.selection

    def run(inner: Inner) -> None:
        from .. import fl_studies
        from ..workloads.federated.study_selection import SelectionStudy

        config = fl_studies.base(rounds=size.rounds, dialogues=size.dialogues)
        study = SelectionStudy(config, plan.strategies, size.seeds, fleet_model=plan.models[0])
        fl_studies.study_selection(study, out=place, on_progress=inner, command=_COMMAND)

    seconds = 2 * _DRY_S.get(plan.models[0], 6.0) + _ROUND_S * size.rounds * size.seeds * len(plan.strategies)
    return Part("selection", "selection", "selection", seconds, lambda: (place / "study.json").is_file(), run)
