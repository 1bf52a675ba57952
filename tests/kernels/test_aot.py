"""What the kernels would use on an A100, an Orin and an H100, compiled here: no spills, 128-bit, the promised bytes."""

import json
import subprocess
import sys

import pytest

from edgeroof.errors import UsageError
from edgeroof.kernels import aot
from edgeroof.kernels.optim.variants import adamw_update
from edgeroof.kernels.variants import kernel_variants

from .aot_cases import check_attention
from .optim_cases import subprocess_environment

pytest.importorskip("triton", reason="kernels are compiled by Triton, which is not installed")

VARIANTS = {(variant.kernel, variant.variant): variant for variant in kernel_variants()}


def compiled(arch: str, chosen: str = "None") -> list[aot.KernelReport]:
    """Reports for an architecture, from a process that compiles instead of interpreting."""
    code = (
        "import json; from dataclasses import asdict; from edgeroof.kernels import aot;"
        "from edgeroof.kernels.optim.variants import *;"
        f"print(json.dumps([asdict(report) for report in aot.compile_reports({arch!r}, {chosen})]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    return [aot.KernelReport(**entry) for entry in json.loads(result.stdout)]


@pytest.fixture(scope="module")
def orin() -> list[aot.KernelReport]:
    """Every kernel for sm_87."""
    return compiled("sm_87")


def test_every_variant_is_compiled(orin: list[aot.KernelReport]) -> None:
    assert [(report.kernel, report.variant) for report in orin] == list(VARIANTS)


def check_budgets(report: aot.KernelReport) -> None:
    assert report.spill_bytes == 0, report
    if report.kernel.startswith("attention"):  # has budgets of its own
        check_attention(report)
        return
    assert report.registers <= 128, report  # four blocks of 128 threads fit on an SM
    assert report.shared_bytes <= 4096, report
    assert report.static_bytes == report.bytes_per_element, report
    if VARIANTS[report.kernel, report.variant].tile:
        narrowest = 64 if "boolean mask" in report.variant else 128  # a thread's eight booleans are eight bytes
        assert report.load_bits == narrowest, report
        assert report.store_bits in (128, None), report


def test_no_spills_128_bit_accesses_and_the_documented_bytes_on_an_orin(orin: list[aot.KernelReport]) -> None:
    for report in orin:
        check_budgets(report)
    assert {report.static_bytes for report in orin} >= {28.0, 20.0, 16.0625, 14.0, 10.0625, 22.0}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_optimizers_keep_their_budgets_elsewhere(arch: str) -> None:
    reports = compiled(arch, "list(variants())")
    assert {report.arch for report in reports} == {arch}
    for report in reports:
        check_budgets(report)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_every_form_keeps_its_budgets_elsewhere(arch: str) -> None:
    reports = compiled(arch)
    assert len(reports) == len(VARIANTS)
    for report in reports:
        check_budgets(report)


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
