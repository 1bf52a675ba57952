"""Raw pages as ``ncu --csv --page raw`` prints them, made of a few launches."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

FIXED = (
    "ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size", "Grid Size",
    "Device", "CC",
)  # fmt: skip
UNITS = {
    "gpu__time_duration.sum": "us",
    "dram__bytes_read.sum": "Mbyte",
    "dram__bytes_write.sum": "Kbyte",
    "lts__t_sectors.sum": "sector",
    "lts__t_sector_hit_rate.pct": "%",
}


def raw_page(
    launches: list[tuple[str, dict[str, Any]]], units: dict[str, str] = UNITS, preamble: str = "==PROF== Connected\n"
) -> str:
    """The text of a raw page: the metrics of the first launch are the columns."""
    metrics = list(launches[0][1]) if launches else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([*FIXED, *metrics])
    writer.writerow([*("" for _ in FIXED), *(units.get(name, "") for name in metrics)])
    for number, (name, values) in enumerate(launches):
        fixed = [number, 4711, "python", "127.0.0.1", name, 1, 7, "(256, 1, 1)", "(1,024, 1, 1)", 0, "8.7"]
        writer.writerow([*fixed, *(values.get(metric, "") for metric in metrics)])
    return preamble + buffer.getvalue()


def write(folder: Path, text: str) -> Path:
    """A file with ``text``."""
    path = folder / "ncu.csv"
    path.write_text(text, encoding="utf-8")
    return path


def moved(read_mb: str = "1.00", written_kb: str = "0", us: str = "10.00", **more: str) -> dict[str, str]:
    """Metrics of one launch in the units of :data:`UNITS`."""
    return {
        "gpu__time_duration.sum": us,
        "dram__bytes_read.sum": read_mb,
        "dram__bytes_write.sum": written_kb,
        **more,
    }
