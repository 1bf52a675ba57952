"""What the kernels of the norm and of the gated GELU would use on an A100, an Orin and an H100, compiled here."""

import json
import subprocess
import sys

import pytest

from edgeroof.kernels import aot, gated_gelu, rms_norm, rms_norm_forms

from .optim_cases import subprocess_environment

pytest.importorskip("triton", reason="kernels are compiled by Triton, which is not installed")

#: The widest model of FLAN-T5 besides the forms that are listed.
WIDEST = rms_norm_forms.backward_variant("bf16", 2048, add=True, dropout=True)
VARIANTS = {
    (variant.kernel, variant.variant): variant for variant in [*rms_norm.variants(), *gated_gelu.variants(), WIDEST]
}

#: Threads that fill an SM as far as its memory needs it, and its registers.
THREADS, REGISTERS = 768, 65536


@pytest.fixture(scope="module")
def reports() -> list[aot.KernelReport]:
    """Of all forms for an Orin, and of every third for the others, whose compiler does the same."""
    code = (
        "import json; from dataclasses import asdict; from edgeroof.kernels import aot, gated_gelu, rms_norm;"
        "from edgeroof.kernels.rms_norm_forms import backward_variant;"
        "forms = [*rms_norm.variants(), *gated_gelu.variants()];"
        "forms.append(backward_variant('bf16', 2048, add=True, dropout=True));"
        "chosen = {'sm_80': forms[::3], 'sm_87': forms, 'sm_90': forms[1::3]};"
        "reports = [one for arch in aot.ARCHITECTURES for one in aot.compile_reports(arch, chosen[arch])];"
        "print(json.dumps([asdict(report) for report in reports]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    return [aot.KernelReport(**entry) for entry in json.loads(result.stdout)]


def test_nothing_spills_and_shared_memory_is_small(reports: list[aot.KernelReport]) -> None:
    assert [(one.kernel, one.variant) for one in reports if one.arch == "sm_87"] == list(VARIANTS)
    assert {report.arch for report in reports} == {*aot.ARCHITECTURES}
    for report in reports:
        assert report.spill_bytes == 0, report
        assert report.shared_bytes <= (8192 if report.variant == WIDEST.variant else 4096), report


def test_enough_threads_share_an_sm(reports: list[aot.KernelReport]) -> None:
    """As many as the share-out of rows reckons with."""
    for report in reports:
        threads = 32 * VARIANTS[report.kernel, report.variant].warps
        if report.kernel != "add_parts_kernel":
            assert REGISTERS // (threads * report.registers) * threads >= THREADS, report


def test_every_tensor_is_moved_once_in_128_bits(reports: list[aot.KernelReport]) -> None:
    for report in reports:
        variant = VARIANTS[report.kernel, report.variant]
        assert report.static_bytes == variant.bytes_per_element, report
        assert report.load_bits == 128, report
        assert report.store_bits in (128, None), report


def test_documented_bytes() -> None:
    """The tables in the modules' docstrings."""
    forward, backward = rms_norm_forms.forward_variant, rms_norm_forms.backward_variant
    for dtype, item in (("bf16", 2), ("fp32", 4)):
        assert forward(dtype).bytes_per_element == 2 * item
        assert backward(dtype).bytes_per_element == 3 * item
        assert forward(dtype, add=True).bytes_per_element == 4 * item
        assert backward(dtype, add=True).bytes_per_element == 4 * item
        assert backward(dtype, add=True, dropout=True).bytes_per_element == 5 * item
        assert gated_gelu.variant(dtype).bytes_per_element == 3 * item
        assert gated_gelu.variant(dtype, backward=True).bytes_per_element == 5 * item


def test_vectors_beside_a_tile_hide_no_scalar_tile() -> None:
    vector = "ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1];\n"
    beside = {"threads": 128, "alone": False}
    assert aot.narrowest_access(3 * vector, "ld", {1024: 4096, 512: 2048}, **beside) == 128
    assert aot.narrowest_access(1 * vector, "ld", {1024: 4096, 512: 2048}, **beside) == 0
    assert aot.narrowest_access(3 * vector, "ld", {1024: 4096, 512: 2048}, threads=128) == 0
