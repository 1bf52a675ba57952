"""Device files: what a TOML file says about a device, checked key by key.

A file states every figure, with its source, and how it was obtained when no source states it in so many words. A figure
may also be a bare number, which counts as one without a source. Nothing is filled in silently: an unknown key, a
missing figure, a wrong type are errors that name the file and the key. ``devices/template.toml`` explains the format.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeviceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "devices"
TEMPLATE = "template"
GIB = 1024**3
UNITS = ("vector", "tensor")
DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8")
MEMORY_KINDS = ("hbm", "gddr", "lpddr")
#: Figures that every file must state.
REQUIRED = ("sm_count", "l2_mib", "memory_gib", "bandwidth_gbs")
#: What is taken for the shortest kernel where a file is silent; on known GPUs it takes 1.3 to 2.
LAUNCH_FLOOR_US = 2.0
#: No figure of a device lies beyond these, in the units of device files.
_SMALLEST, _LARGEST = 1e-6, 1e9
#: How a figure was obtained; all but "stated" must say ``how``.
ORIGINS = ("stated", "derived", "measured", "assumed")
#: Said of a bare number.
NO_SOURCE = "stated by the file, without a source"


@dataclass(frozen=True)
class PowerMode:
    """One power mode of a board: the caps it puts on clocks, on powered GPU clusters and on power.

    Clocks are in MHz; a TPC is a pair of SMs on every device described so far (``sms`` says how many remain).
    ``power_w`` is the budget of the whole board in W, ``None`` when it is not stated.
    """

    name: str
    mode_id: int
    gpu_mhz: float
    tpcs: int
    sms: int
    emc_mhz: float
    power_w: float | None = None


@dataclass(frozen=True)
class PeakFigure:
    """A dense peak in FLOP/s at a GPU clock of ``at_mhz`` (``None``: not known, so it cannot be scaled)."""

    flops_per_s: float
    at_mhz: float | None


@dataclass(frozen=True)
class MatchRule:
    """How a CUDA device is recognised: shell patterns on its name (or the device tree's model) and memory bounds."""

    names: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    min_memory_bytes: float = 0.0
    max_memory_bytes: float = float("inf")

    def accepts(self, name: str, model: str, memory_bytes: float) -> bool:
        """Whether a device of this CUDA name, device-tree model (``""``: none) and memory is meant."""
        if not self.min_memory_bytes <= memory_bytes <= self.max_memory_bytes:
            return False
        if self.models and not _any_match(model, self.models):
            return False
        return _any_match(name, self.names)


@dataclass(frozen=True)
class DeviceFile:
    """A device file's content in SI units: bytes, bytes/s, FLOP/s; clocks in MHz, the launch floor in microseconds."""

    name: str
    path: Path
    title: str
    kind: str
    compute_capability: tuple[int, int]
    unified_memory: bool
    sm_count: int
    l2_bytes: int
    memory_bytes: int
    bandwidth: float
    launch_floor_us: float
    peaks: Mapping[str, Mapping[str, PeakFigure]]
    emc_mhz: float | None
    default_mode: str | None
    modes: Mapping[str, PowerMode]
    match: MatchRule
    sources: Mapping[str, str]
    lanes_per_sm: int | None = None
    power_w: float | None = None
    process_nm: int | None = None
    memory_kind: str | None = None


def user_folder() -> Path:
    """Folder for the user's own device files: ``$XDG_CONFIG_HOME/edgeroof/devices``."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "edgeroof" / "devices"


def device_paths() -> dict[str, Path]:
    """Every device file by name; the user's own file wins over a shipped one of the same name."""
    found: dict[str, Path] = {}
    for folder in (SHIPPED, user_folder()):
        if folder.is_dir():
            found.update({path.stem: path for path in sorted(folder.glob("*.toml"))})
    if found.get(TEMPLATE, SHIPPED).parent == SHIPPED:
        found.pop(TEMPLATE, None)
    return dict(sorted(found.items()))


def read_device_file(path: Path) -> DeviceFile:
    """Read and check one device file.

    Raises:
        DeviceError: the file cannot be read, is not TOML, or a key is unknown, missing, or of the wrong type or range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeviceError(f"cannot read device file {path}: {reason}") from error
    except RecursionError as error:
        raise DeviceError(f"device file {path} is nested too deeply") from error
    except ValueError as error:  # also of numbers with more digits than Python reads
        raise DeviceError(f"device file {path} is not valid TOML: {error}") from error
    root = _Table(document, path)
    file = _parse(root, path)
    root.refuse_unasked()
    return file


def all_device_files() -> Iterator[DeviceFile]:
    """Every known device file, read and checked."""
    for path in device_paths().values():
        yield read_device_file(path)


def _parse(root: _Table, path: Path) -> DeviceFile:
    references = _references(root)
    noted: dict[str, str] = {}

    def figure(table: _Table, key: str) -> float:
        if table.is_number(key):
            noted[table.full(key)] = NO_SOURCE
            return table.number(key)
        entry = table.child(key, "a number or a table")
        noted[entry.where] = _provenance(entry, references)
        return entry.number("value")

    figures = root.child("figures")
    figures.need(REQUIRED)
    sm_count = _whole(root, "figures.sm_count", figure(figures, "sm_count"))
    l2_bytes = int(figure(figures, "l2_mib") * 1024**2)
    memory_bytes = int(figure(figures, "memory_gib") * GIB)
    bandwidth = figure(figures, "bandwidth_gbs") * 1e9
    launch_floor_us = LAUNCH_FLOOR_US
    if "launch_floor_us" in figures:
        launch_floor_us = figure(figures, "launch_floor_us")
    else:
        noted["figures.launch_floor_us"] = f"assumed: {LAUNCH_FLOOR_US:g}, the file states none"
    gpu_mhz = figure(figures, "gpu_mhz") if "gpu_mhz" in figures else None
    emc_mhz = figure(figures, "emc_mhz") if "emc_mhz" in figures else None
    power_w = figure(figures, "power_w") if "power_w" in figures else None
    process_nm = _whole(root, "figures.process_nm", figure(figures, "process_nm")) if "process_nm" in figures else None
    lanes = _whole(root, "figures.lanes_per_sm", figure(figures, "lanes_per_sm")) if "lanes_per_sm" in figures else None

    peaks: dict[str, dict[str, PeakFigure]] = {}
    for unit in root.child("peaks").names(UNITS):
        table = root.child("peaks").child(unit)
        peaks[unit] = {}
        for dtype in table.names(DTYPES):
            flops_per_s = figure(table, dtype) * 1e12
            own_clock = not table.is_number(dtype) and "at_mhz" in table.child(dtype)
            at_mhz = table.child(dtype).number("at_mhz") if own_clock else gpu_mhz
            peaks[unit][dtype] = PeakFigure(flops_per_s, at_mhz)
    if "fp32" not in peaks.get("vector", {}):
        raise DeviceError(f"device file {path}: missing key peaks.vector.fp32, which every device must state")

    modes, default_mode = _modes(root, references, noted, sm_count)
    return DeviceFile(
        name=path.stem,
        path=path,
        title=root.text("title"),
        kind=root.choice("kind", ("cuda",)) if "kind" in root else "cuda",
        compute_capability=root.pair("compute_capability"),
        unified_memory=root.flag("unified_memory") if "unified_memory" in root else False,
        sm_count=sm_count,
        l2_bytes=l2_bytes,
        memory_bytes=memory_bytes,
        bandwidth=bandwidth,
        launch_floor_us=launch_floor_us,
        peaks=peaks,
        emc_mhz=emc_mhz,
        default_mode=default_mode,
        modes=modes,
        match=_match_rule(root),
        sources=noted,
        lanes_per_sm=lanes,
        power_w=power_w,
        process_nm=process_nm,
        memory_kind=root.choice("memory_kind", MEMORY_KINDS) if "memory_kind" in root else None,
    )


def _modes(
    root: _Table, references: Mapping[str, str], noted: dict[str, str], sm_count: int
) -> tuple[dict[str, PowerMode], str | None]:
    if "power_modes" not in root:
        return {}, None
    modes: dict[str, PowerMode] = {}
    table = root.child("power_modes")
    default = table.text("default")
    for name in table.names():
        if name == "default":
            continue
        entry = table.child(name)
        noted[entry.where] = _provenance(entry, references)
        tpcs = _whole(root, f"{entry.where}.tpcs", entry.number("tpcs"))
        sms = _whole(root, f"{entry.where}.sms", entry.number("sms"))
        if sms > sm_count:
            raise DeviceError(f"device file {entry.path}: {entry.where}.sms is {sms}, the device has {sm_count}")
        mode_id = _whole(root, f"{entry.where}.id", entry.number("id", minimum=0))
        power_w = entry.number("power_w") if "power_w" in entry else None
        modes[name] = PowerMode(name, mode_id, entry.number("gpu_mhz"), tpcs, sms, entry.number("emc_mhz"), power_w)
    if default not in modes:
        raise DeviceError(f"device file {root.path}: power_modes.default is {default!r}, none of {list(modes)}")
    return modes, default


def _match_rule(root: _Table) -> MatchRule:
    if "match" not in root:
        return MatchRule()
    table = root.child("match")
    return MatchRule(
        names=table.texts("names"),
        models=table.texts("device_tree_models") if "device_tree_models" in table else (),
        min_memory_bytes=table.number("min_memory_gib") * GIB if "min_memory_gib" in table else 0.0,
        max_memory_bytes=table.number("max_memory_gib") * GIB if "max_memory_gib" in table else float("inf"),
    )


def _references(root: _Table) -> dict[str, str]:
    if "sources" not in root:
        return {}
    return {key: root.child("sources").text(key) for key in root.child("sources").names()}


def _provenance(entry: _Table, references: Mapping[str, str]) -> str:
    key = entry.choice("source", tuple(references), what="a key of [sources]")
    origin = entry.choice("origin", ORIGINS) if "origin" in entry else "stated"
    if origin == "stated":
        return references[key]
    return f"{origin}: {entry.text('how')} ({references[key]})"


def _whole(root: _Table, where: str, value: float) -> int:
    if value != int(value):
        raise DeviceError(f"device file {root.path}: {where} is {value}, must be a whole number")
    return int(value)


def _any_match(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(text.lower(), pattern.lower()) for pattern in patterns)


class _Table:
    """A TOML table that remembers which keys were asked for, so that the rest can be refused."""

    def __init__(self, data: Mapping[str, Any], path: Path, where: str = "") -> None:
        self.path = path
        self.where = where
        self._data = data
        self._asked: set[str] = set()
        self._children: dict[str, _Table] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def refuse_unasked(self) -> None:
        """Raise for the first key, here or below, that nobody asked for."""
        unknown = sorted(set(self._data) - self._asked)
        if unknown:
            self._refuse_key(unknown[0], self._asked)
        for child in self._children.values():
            child.refuse_unasked()

    def names(self, allowed: tuple[str, ...] | None = None) -> list[str]:
        """The keys present; with ``allowed``, any other is an error."""
        for key in self._data:
            if allowed is not None and key not in allowed:
                self._refuse_key(key, allowed)
        return list(self._data)

    def child(self, key: str, what: str = "a table") -> _Table:
        if key not in self._children:
            self._children[key] = _Table(self._get(key, dict, what), self.path, self.full(key))
        return self._children[key]

    def need(self, keys: tuple[str, ...]) -> None:
        """Raise once for all of these that are missing."""
        missing = [self.full(key) for key in keys if key not in self._data]
        if missing:
            raise self._missing(missing)

    def is_number(self, key: str) -> bool:
        return isinstance(self._data.get(key), (int, float))

    def text(self, key: str) -> str:
        value = self._get(key, str, "a text")
        if not value.strip():
            self._refuse(key, "is empty")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._get(key, list, "a list of texts")
        if not values or not all(isinstance(value, str) for value in values):
            self._refuse(key, "must be a list of texts")
        return tuple(values)

    def flag(self, key: str) -> bool:
        return self._get(key, bool, "true or false")

    def choice(self, key: str, allowed: tuple[str, ...], what: str = "one of these") -> str:
        value = self._get(key, str, "a text")
        if value not in allowed:
            self._refuse(key, f"is {value!r}, must be {what}: {', '.join(allowed)}")
        return value

    def number(self, key: str, minimum: float | None = None) -> float:
        value = self._get(key, (int, float), "a number")
        if isinstance(value, bool):
            self._refuse(key, "must be a number")
        if not (value > 0 if minimum is None else value >= minimum):
            self._refuse(key, f"is {value}, must be {'above 0' if minimum is None else f'at least {minimum}'}")
        if value > _LARGEST or 0 < value < _SMALLEST:
            self._refuse(key, "cannot be true: look at its unit")
        return value

    def pair(self, key: str) -> tuple[int, int]:
        value = self._get(key, list, "a list such as [8, 7]")
        if len(value) != 2 or not all(isinstance(part, int) for part in value):
            self._refuse(key, "must be two whole numbers, such as [8, 7]")
        return (value[0], value[1])

    def _get(self, key: str, kind: Any, what: str) -> Any:
        self._asked.add(key)
        if key not in self._data:
            raise self._missing([self.full(key)])
        value = self._data[key]
        if not isinstance(value, kind):
            self._refuse(key, f"must be {what}")
        return value

    def _missing(self, keys: list[str]) -> DeviceError:
        format_explained = SHIPPED / f"{TEMPLATE}.toml"
        return DeviceError(f"device file {self.path}: missing key {', '.join(keys)}; see {format_explained}")

    def _refuse_key(self, key: str, known: Iterable[str]) -> None:
        listed = ", ".join(sorted(known))
        raise DeviceError(f"device file {self.path}: unknown key {self.full(key)}; known here: {listed}")

    def _refuse(self, key: str, why: str) -> None:
        raise DeviceError(f"device file {self.path}: {self.full(key)} {why}")

    def full(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key
