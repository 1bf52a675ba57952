"""The table of compiled kernels."""

from __future__ import annotations

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console

from edgeroof.kernels.aot import KernelReport
from edgeroof.reports.kernel_table import render_kernels, rows_of

GOOD = KernelReport("adamw_step", "fp32, whole chunks", "sm_87", 40, 0, 0, 128, 128, 28.0, 28.0)
BAD = KernelReport("adamw_step", "bf16, 8-bit states", "sm_87", 255, 96, 1024, 0, 32, 10.1, 14.0)
SMALL = KernelReport("norm_finish", "", "sm_90", 16, 0, 32, None, None, 0.0, 0.0)


@pytest.mark.parametrize("width", [80, 120])
def test_every_kernel_has_a_row(width):
    console = Console(file=io.StringIO(), width=width)
    render_kernels([GOOD, BAD, SMALL], console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "KERNELS FOR SM_87" in text
    assert "KERNELS FOR SM_90" in text
    names = [line.strip() for line in text.splitlines() if line.startswith(("adamw", "norm"))]
    assert names == ["adamw_step", "norm_finish"]  # once, above the rows of their variants
    lines = [line.split() for line in text.splitlines() if line.startswith("  ")]
    assert len(lines) >= 3
    assert lines[0] == ["fp32,", "whole", "chunks", "40", "0", "0", "128", "128", "28.0"]
    assert lines[1] == ["bf16,", "8-bit", "states", "255", "96", "1,024", "scalar", "32", "10.1", "(14.0)"]
    assert lines[2][-3:] == ["–", "–", "–"]


def test_a_long_variant_is_whole_at_80_columns():
    console = Console(file=io.StringIO(), width=80)
    long = "bf16 parameters and gradients, 8-bit states, stochastic rounding"
    render_kernels([dataclasses.replace(BAD, variant=long)], console)
    rows = [line for line in console.file.getvalue().split("regs: ")[0].splitlines() if line.startswith("  ")]
    named = [re.split(r"\s{3,}", line.strip())[0] for line in rows]
    assert " ".join(named) == long


def test_rows_are_json():
    assert json.loads(json.dumps(rows_of([GOOD])))[0]["load_bits"] == 128
