"""What the kernels would use on an A100, an Orin and an H100, compiled here: no spills, 128-bit, the promised bytes."""

import json
import subprocess
import sys

import pytest

from edgeroof.errors import UsageError
from edgeroof.kernels import aot
from edgeroof.kernels.optim.variants import adamw_update
from edgeroof.kernels.variants import kernel_variants

from .optim_cases import subprocess_environment

pytest.importorskip("triton", reason="kernels are compiled by Triton, which is not installed")

VARIANTS = {(variant.kernel, variant.variant): variant for variant in kernel_variants()}


@pytest.fixture(scope="module")
def orin() -> list[aot.KernelReport]:
    """Every kernel for sm_87."""
    code = "from edgeroof.kernels import aot; aot.main('sm_87')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    return [aot.KernelReport(**entry) for entry in json.loads(result.stdout)]


def test_every_variant_is_compiled(orin: list[aot.KernelReport]) -> None:
    assert [(report.kernel, report.variant) for report in orin] == list(VARIANTS)


def test_nothing_spills_and_budgets_hold(orin: list[aot.KernelReport]) -> None:
    for report in orin:
        assert report.spill_bytes == 0, report
        assert report.registers <= 128, report  # four blocks of 128 threads fit on an SM
        assert report.shared_bytes <= 4096, report


def test_bytes_in_the_hot_loop_are_those_documented(orin: list[aot.KernelReport]) -> None:
    for report in orin:
        assert report.static_bytes == report.bytes_per_element, report
    assert {report.static_bytes for report in orin} >= {28.0, 20.0, 16.0625, 14.0, 10.0625, 22.0}


def test_hot_accesses_are_128_bits_wide(orin: list[aot.KernelReport]) -> None:
    for report in orin:
        if VARIANTS[report.kernel, report.variant].tile:
            expected = 64 if "int8" in report.variant else 128  # a thread's eight codes are eight bytes
            assert report.load_bits == expected, report
            assert report.store_bits in (expected, None), report


def test_other_architectures() -> None:
    code = (
        "import json; from dataclasses import asdict; from edgeroof.kernels import aot;"
        "from edgeroof.kernels.optim.variants import *;"
        "chosen = [adamw_update('fp32', 'fp32'), adamw_update('bf16', 'int8', stochastic=True)];"
        "reports = [one for arch in ('sm_80', 'sm_90') for one in aot.compile_reports(arch, chosen)];"
        "print(json.dumps([asdict(report) for report in reports]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    reports = [aot.KernelReport(**entry) for entry in json.loads(result.stdout)]
    assert {report.arch for report in reports} == {"sm_80", "sm_90"}
    for report in reports:
        assert report.spill_bytes == 0
        assert report.static_bytes == report.bytes_per_element
        assert report.load_bits == (64 if "int8" in report.variant else 128)


def test_reports_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    report = aot.KernelReport("adamw_kernel", "fp32, fp32 states", "sm_87", 72, 0, 0, 128, 128, 28.0, 28.0)
    calls = []
    monkeypatch.setattr(aot, "interpreting", lambda: True)
    monkeypatch.setattr(aot, "_compile_elsewhere", lambda arch: calls.append(arch) or [report])
    progress = []
    for _ in range(2):
        assert aot.kernel_reports(["sm_87"], on_progress=lambda text, share: progress.append(share)) == [report]
    assert calls == ["sm_87"]
    assert progress[-1] == 1.0
    assert aot.kernel_reports(["sm_87"], kernels=["gradient_norm_kernel"]) == []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="sm_80"):
        aot.kernel_reports(["orin"])
    with pytest.raises(UsageError, match="adamw_kernel"):
        aot.kernel_reports(["sm_87"], kernels=["adam"])


def test_masked_accesses_do_not_count() -> None:
    ttir = """
      %a = tt.load %p : tensor<1024x!tt.ptr<f32>>
      %b = tt.load %p, %mask, %other : tensor<1024x!tt.ptr<f32>>
      %c = tt.load %q : !tt.ptr<i64>
      tt.store %p, %v : tensor<8x128x!tt.ptr<bf16>>
      tt.store %p, %v, %mask : tensor<1024x!tt.ptr<f32>>
    """
    assert aot.hot_loop_bytes(ttir) == ({1024: 4096}, {1024: 2048})


def test_a_scalar_hot_loop_is_noticed() -> None:
    vector = "ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1];\n" * 2
    assert aot.narrowest_access(vector, "ld", {1024: 4096}) == 128
    assert aot.narrowest_access(vector.replace("v4.b32", "b32"), "ld", {1024: 4096}) == 0
    assert aot.narrowest_access("@%p1 " + vector, "ld", {1024: 4096}) == 0
    assert adamw_update("fp32", "fp32").bytes_per_element == 28
