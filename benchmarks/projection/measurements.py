"""The public measurements that the projection is fitted to and judged on.

NeuSight's authors measured single kernels and whole models on five GPUs (S. Lee, A. Phanishayee, D. Mahajan,
"NeuSight", ASPLOS 2025; MIT licence). A folder with ``kernels_5gpus_fp32.csv.gz`` and ``steps_5gpus_fp32.csv`` is
expected.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

KERNELS = "kernels_5gpus_fp32.csv.gz"
STEPS = "steps_5gpus_fp32.csv"
SOURCE = (
    "public measurements of the NeuSight authors (ASPLOS 2025, MIT licence): five GPUs, PyTorch 2.1, CUDA 12.1, fp32"
)

#: GPU names in the measurements, by the device file that describes them.
DEVICES = {
    "a100-pcie-40gb": "NVIDIA A100-PCIE-40GB",
    "v100-pcie-32gb": "Tesla V100-PCIE-32GB",
    "t4": "Tesla T4",
    "p100-pcie-16gb": "Tesla P100-PCIE-16GB",
    "p4": "Tesla P4",
}

#: Kernels between two tensors; the others read one.
_TWO_TENSORS = frozenset({"add", "mul", "div", "pow"})

#: While it measured linear layers the P4 fell from 0.57 of its peak in kernels below a millisecond to 0.17 in long
#: ones, thermal throttling that its bmm rows (0.79 to 0.58) do not show. No row is judged; the short ones serve fits.
THROTTLED = ("linear", "p4")
_UNTHROTTLED_MS = 1.0


@dataclass(frozen=True)
class KernelSet:
    """Measured kernels of one kind on one device; dimensions are arrays of one length."""

    kind: str
    device: str
    dims: dict[str, np.ndarray]
    seconds: np.ndarray
    tile: np.ndarray

    @property
    def judged(self) -> bool:
        """Whether errors on it count."""
        return (self.kind, self.device) != THROTTLED

    def __len__(self) -> int:
        return len(self.seconds)


def folder_or_exit(arguments: list[str]) -> Path:
    """The folder named on the command line; without one, or without the files, say so and leave."""
    if not arguments:
        print("skipped: give the folder with the measurements (see docs/projection.md)")
        sys.exit(0)
    folder = Path(arguments[0])
    missing = [name for name in (KERNELS, STEPS) if not (folder / name).is_file()]
    if missing:
        print(f"skipped: {folder} has no {' and no '.join(missing)}")
        sys.exit(0)
    return folder


def load_kernels(folder: Path, most: int | None = None, seed: int = 0) -> list[KernelSet]:
    """Measured kernels by kind and device, at most ``most`` of each, drawn with ``seed``."""
    table = pd.read_csv(folder / KERNELS)
    table["kind"] = table["op"].map({"bmm": "bmm", "linear": "linear", "ln": "norm", "softmax": "softmax"})
    table["kind"] = table["kind"].fillna("elementwise")
    sets = []
    for device, name in DEVICES.items():
        for kind, rows in table[table["device"] == name].groupby("kind"):
            if (kind, device) == THROTTLED:
                rows = rows[rows["latency_ms"] < _UNTHROTTLED_MS]
            if most is not None and len(rows) > most:
                rows = rows.sample(most, random_state=seed)
            sets.append(_kernel_set(str(kind), device, rows))
    return sets


def load_steps(folder: Path) -> pd.DataFrame:
    """Measured steps: ``device``, ``model``, ``mode`` (train, inference), ``sequence``, ``batch`` and times in ms."""
    table = pd.read_csv(folder / STEPS)
    parts = table["workload"].str.split("-", expand=True)
    by_name = {name.replace(" ", "_"): device for device, name in DEVICES.items()}
    return table.assign(
        device=table["device"].map(by_name),
        model=parts[0],
        mode=parts[1].map({"train": "train", "inf": "inference"}),
        sequence=parts[2].astype(int),
        batch=parts[3].astype(int),
    )


def _kernel_set(kind: str, device: str, rows: pd.DataFrame) -> KernelSet:
    if kind in ("bmm", "linear"):  # in the files N is the inner dimension, K the output columns
        along_inner = rows["B"] * 0 + (1 if kind == "bmm" else 2)
        dims = {"batch": rows["B"], "m": rows["M"], "k": rows["N"], "n": rows["K"], "along_inner": along_inner}
    else:
        tensors = rows["op"].isin(_TWO_TENSORS) + 2
        dims = {"rows": rows["B"], "length": rows["H"], "moved": 4 * rows["B"] * rows["H"] * tensors}
    names = rows["kernel"].str.extract(r"_(\d+x\d+(?:_sliced)?)", expand=False).fillna("")
    return KernelSet(
        kind,
        device,
        {key: column.to_numpy(float) for key, column in dims.items()},
        rows["latency_ms"].to_numpy(float) * 1e-3,
        names.str.replace("_sliced", "s").to_numpy(str),
    )
