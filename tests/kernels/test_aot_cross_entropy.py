"""What cross-entropy's kernels would use on an A100, an Orin and an H100, compiled here."""

import json
import subprocess
import sys

import pytest

from edgeroof.kernels import aot
from edgeroof.kernels.cross_entropy import rows_variant, variants

from .optim_cases import subprocess_environment

pytest.importorskip("triton", reason="kernels are compiled by Triton, which is not installed")

VARIANTS = {(variant.kernel, variant.variant): variant for variant in variants()}

#: Threads of an SM and its registers; an Orin's has fewer threads.
THREADS = {"sm_80": 2048, "sm_87": 1536, "sm_90": 2048}
REGISTERS = 65536


@pytest.fixture(scope="module")
def reports() -> list[aot.KernelReport]:
    code = (
        "import json; from dataclasses import asdict; from edgeroof.kernels import aot, cross_entropy;"
        "reports = [one for arch in aot.ARCHITECTURES for one in aot.compile_reports(arch, cross_entropy.variants())];"
        "print(json.dumps([asdict(report) for report in reports]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    return [aot.KernelReport(**entry) for entry in json.loads(result.stdout)]


def test_nothing_spills_and_shared_memory_is_small(reports: list[aot.KernelReport]) -> None:
    assert len(reports) == 3 * len(VARIANTS)
    for report in reports:
        assert report.spill_bytes == 0, report
        assert report.shared_bytes <= 1024, report


def test_blocks_fill_an_sm_as_far_as_its_threads_allow(reports: list[aot.KernelReport]) -> None:
    """Half of an SM's threads at least, so that one block's loads hide another's reduction."""
    for report in reports:
        threads = 32 * VARIANTS[report.kernel, report.variant].warps
        blocks = min(THREADS[report.arch] // threads, REGISTERS // (threads * report.registers))
        assert 2 * blocks * threads >= THREADS[report.arch], report


def test_rows_are_loaded_twice_and_written_once_in_128_bits(reports: list[aot.KernelReport]) -> None:
    for report in reports:
        variant = VARIANTS[report.kernel, report.variant]
        if variant.tile:
            assert report.static_bytes == variant.bytes_per_element, report
            assert report.load_bits == 128, report
            assert report.store_bits in (128, None), report
    assert rows_variant("bf16").bytes_per_element == 3 * 2
    assert rows_variant("fp32", gradient=False).bytes_per_element == 4


def test_evict_hints_count_as_vectors() -> None:
    hinted = "@%p1 ld.global.L1::evict_last.L2::cache_hint.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1], %rd2;\n"
    assert aot.narrowest_access(hinted, "ld", {1024: 2048}, masked=True) == 128
