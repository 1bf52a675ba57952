"""The attention kernels compiled for an A100 and an H100; test_aot has all their forms for an Orin."""

import json
import subprocess
import sys

import pytest

from edgeroof.kernels import aot
from edgeroof.kernels.attention_forms import variants

from .aot_cases import check_attention
from .optim_cases import subprocess_environment

pytest.importorskip("triton", reason="kernels are compiled by Triton, which is not installed")


def run(code: str) -> str:
    """What a process that compiles instead of interpreting prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=subprocess_environment())
    assert result.returncode == 0, result.stderr
    return result.stdout


def compiled(arch: str, step: int) -> list[aot.KernelReport]:
    code = (
        "import json; from dataclasses import asdict; from edgeroof.kernels import aot;"
        "from edgeroof.kernels.attention_forms import variants;"
        f"print(json.dumps([asdict(one) for one in aot.compile_reports({arch!r}, list(variants())[::{step}])]))"
    )
    return [aot.KernelReport(**entry) for entry in json.loads(run(code))]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_heaviest_forms_fit_elsewhere(arch: str) -> None:
    """Every fifth is a kernel with bias, mask and dropout in bf16."""
    reports = compiled(arch, 5)
    assert [report.kernel for report in reports[:3]] == [
        "attention_kernel", "attention_query_kernel", "attention_key_kernel"
    ]  # fmt: skip
    for report in reports:
        check_attention(report)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_all_forms_fit_elsewhere(arch: str) -> None:
    reports = compiled(arch, 1)
    assert len(reports) == len(list(variants()))
    for report in reports:
        check_attention(report)


def test_queries_keys_and_values_are_loaded_16_bytes_at_once() -> None:
    """``cp.async.cg`` copies 16 bytes, or does not compile; results are stored as four words."""
    code = (
        "from edgeroof.kernels.aot import _compile; from edgeroof.kernels.attention_forms import variant;"
        "ptx = _compile(variant('attention_kernel', 'bf16', bias=False, mask=None, dropout=False), 'sm_87').asm['ptx'];"
        "print(ptx.count('cp.async.cg.shared.global'), ptx.count('cp.async.ca'), ptx.count('st.global.v4.b32'))"
    )
    wide, narrow, stores = (int(number) for number in run(code).split())
    assert wide > 0
    assert narrow == 0
    assert stores > 0
