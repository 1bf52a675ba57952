"""What a sweep's points are known by: names for files, and the content behind names that can change.

A name may mean something else tomorrow: a configuration or a device file can be edited between two calls. Points carry
the content of a local model in their names; the figures of the device are kept in the plan and compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import WorkloadError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
#: Longest part of a name, in characters; file systems allow 255 in all.
_LONGEST = 60
_DIGEST = 10
#: Entries of a device file that no number depends on.
_NO_FIGURES = ("path", "title", "match", "sources")
#: What is known of a machine without a device file; its memory differs a little from boot to boot.
_MACHINE = ("title", "kind", "compute_capability", "sm_count", "cores", "l2_bytes", "llc_bytes")
#: Changed figures that a message spells out.
_MOST_TOLD = 3


def model_contents(models: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the configuration of each local model; names that are shipped or on the hub have none.

    Raises:
        UsageError: a model is unknown.
        WorkloadError: its configuration cannot be read.
    """
    from .workloads.huggingface import resolve_model

    found = {}
    for name in models:
        source = resolve_model(name)
        if source.kind in ("config", "folder"):
            place = Path(source.location)
            file = place / "config.json" if source.kind == "folder" else place
            try:
                found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
            except OSError as error:
                raise WorkloadError(f"cannot read the model configuration {file}: {error.strerror or error}") from error
    return found


def point_name(config: Mapping[str, Any], contents: Mapping[str, str]) -> str:
    """A name of a point for files, which no other point has.

    Args:
        config: the point's values by axis.
        contents: from :func:`model_contents`.
    """
    return "_".join(
        f"{axis}-{_written(str(value), contents.get(value) if axis == 'model' else None)}"
        for axis, value in config.items()
    )


def folder_name(models: Sequence[str], device: str) -> str:
    """The folder that a sweep is kept in unless another is named."""
    target = Path(device).name.removesuffix(".toml")
    return _slug("-".join(["sweep", *(_slug(_title(model)) for model in models), target]), 2 * _LONGEST)


def device_figures(name: str) -> dict[str, Any]:
    """Everything about a device that numbers of a sweep depend on, flat and JSON-ready.

    Of a device with a file all that the file says, whatever mode is on; of another machine what it is.

    Args:
        name: as given to a sweep: ``auto``, ``cpu``, a name, or the path of a device file.

    Raises:
        DeviceError: it is unknown, or its file is wrong.
    """
    from .profiler.device import device_file, known_devices, load_device

    if name in ("auto", "cpu"):
        machine = load_device(name)
        if machine.name not in known_devices():
            described = machine.describe()
            return {entry: described[entry] for entry in _MACHINE}
        name = machine.name
    figures = dataclasses.asdict(device_file(name))
    return dict(_flat({entry: value for entry, value in figures.items() if entry not in _NO_FIGURES}))


def changed_figures(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two results of :func:`device_figures`, in words; empty where nothing does."""
    names = [name for name in dict.fromkeys([*earlier, *now]) if earlier.get(name) != now.get(name)]
    told = [f"{name} was {earlier.get(name)}, is {now.get(name)}" for name in names[:_MOST_TOLD]]
    return "; ".join(told + ([f"{len(names) - _MOST_TOLD} more"] if len(names) > _MOST_TOLD else []))


def _title(model: str) -> str:
    """A model's name for people: of a local one without its folders."""
    from .workloads.huggingface import resolve_model

    source = resolve_model(model)
    return source.title if source.kind in ("config", "folder") else model


def _written(value: str, content: str | None) -> str:
    """A value as part of a file's name: as it is where it may stand there, else with a digest of all that it means."""
    if content is None and len(value) <= _LONGEST and _PLAIN.fullmatch(value):
        return value
    digest = hashlib.sha256(f"{value}\0{content or ''}".encode()).hexdigest()[:_DIGEST]
    return f"{_slug(_title(value) if content else value)}-{digest}"


def _slug(text: str, longest: int = _LONGEST) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")[:longest].rstrip("-.")


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value
