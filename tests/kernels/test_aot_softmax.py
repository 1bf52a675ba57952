"""The softmax kernels compiled for an A100, an Orin and an H100: no spills, 128-bit accesses, the promised bytes."""

import json
import subprocess
import sys
from itertools import chain

import pytest

from edgeroof.kernels import aot

from .optim_cases import subprocess_environment

pytest.importorskip("triton", reason="kernels are compiled by Triton, which is not installed")


@pytest.fixture(scope="module")
def reports() -> dict[str, list[aot.KernelReport]]:
    """All forms for sm_87; for the others, and with a bias for each batch, those that need the most registers."""
    code = """
import json
from dataclasses import asdict, replace
from edgeroof.kernels import aot
from edgeroof.kernels.softmax import backward_variant, forward_variant, variants
forms = [forward_variant("bf16", mask="bf16"), backward_variant("bf16", mask="bf16")]
own = [replace(form, constants=form.constants | {"BIAS_PER_BATCH": True}) for form in forms]
odd = [replace(form, constants=form.constants | {"ALIGN": 4}) for form in (backward_variant("fp32", columns=100),)]
wide = [forward_variant("fp32", mask="fp32"), backward_variant("fp32", mask="fp32")]
chosen = {"sm_87": variants(), "sm_80": [*own, wide[1]], "sm_90": [*forms, *wide], "odd": odd}
found = {arch: aot.compile_reports("sm_87" if arch == "odd" else arch, some) for arch, some in chosen.items()}
print(json.dumps({arch: [asdict(report) for report in some] for arch, some in found.items()}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    return {arch: [aot.KernelReport(**one) for one in some] for arch, some in json.loads(result.stdout).items()}


def test_nothing_spills_and_a_warp_needs_no_shared_memory(reports: dict[str, list[aot.KernelReport]]) -> None:
    assert {arch: len(some) for arch, some in reports.items()} == {"sm_87": 7, "sm_80": 3, "sm_90": 4, "odd": 1}
    for report in chain.from_iterable(reports.values()):
        assert report.spill_bytes == 0, report
        assert report.registers <= 128, report  # sixteen warps of an SM, as many as an Orin takes
        assert report.shared_bytes <= (0 if "4096" not in report.variant else 64), report


def test_accesses_are_128_bits_wide_and_bytes_as_documented(reports: dict[str, list[aot.KernelReport]]) -> None:
    for report in chain.from_iterable(reports.values()):
        assert report.load_bits == (64 if "boolean mask" in report.variant else 128), report
        assert report.store_bits == 128, report
        assert report.static_bytes == report.bytes_per_element, report


def test_bytes_without_bias_and_mask_are_one_read_and_one_write(reports: dict[str, list[aot.KernelReport]]) -> None:
    longest = next(report for report in reports["sm_87"] if "4096" in report.variant)
    assert longest.static_bytes == 6 + 2  # probabilities, their gradient, that of the scores; once, the bias's
