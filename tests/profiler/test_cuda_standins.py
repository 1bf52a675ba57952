from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from edgeroof.profiler.cuda_autocast import _IN_FP32, _WITH_FP32_RESULT, cuda_autocast
from edgeroof.profiler.cuda_standins import as_on_cuda, attention_kernel
from edgeroof.profiler.dryrun import fake_tensors
from edgeroof.profiler.recorder import OpRecorder


def ops_of(run) -> list[str]:
    with fake_tensors(), as_on_cuda(), OpRecorder(torch.nn.Identity()) as recorder:
        run()
    return [record.name.removeprefix("aten::") for record in recorder.records]


def tensor(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("dtype", "head", "mask", "flash", "kernel"),
    [
        (torch.float32, 64, False, True, "efficient"),
        (torch.bfloat16, 64, False, True, "flash"),
        (torch.bfloat16, 64, True, True, "efficient"),
        (torch.float16, 64, False, False, "efficient"),
        (torch.bfloat16, 512, False, True, "efficient"),
        (torch.float32, 6, False, True, "math"),
        (torch.bfloat16, 12, True, True, "math"),
        (torch.float64, 64, False, True, "math"),
    ],
)
def test_attention_kernel(dtype, head, mask, flash, kernel):
    query = torch.empty(2, 4, 8, head, dtype=dtype, device="meta")
    bias = torch.empty(8, 8, device="meta") if mask else None
    assert attention_kernel(query, query, bias, flash=flash) == kernel


def test_dropout():
    assert ops_of(lambda: functional.dropout(tensor(4), 0.1)) == ["native_dropout"]
    assert ops_of(lambda: functional.dropout(tensor(4), 0.1, training=False)) == []
    assert ops_of(lambda: functional.dropout(tensor(4), 0.0)) == []
    assert ops_of(lambda: torch.nn.Dropout(0.5)(tensor(4))) == ["native_dropout"]


def test_a_boolean_mask_becomes_additive_and_aligned():
    def run():
        query = tensor(2, 4, 8, 64)
        key = tensor(2, 4, 9, 64)
        functional.scaled_dot_product_attention(query, key, key, attn_mask=torch.ones(2, 1, 8, 9) > 0)

    assert ops_of(run)[-4:] == ["scalar_tensor", "where", "constant_pad_nd", "_scaled_dot_product_efficient_attention"]


def test_flash_attention_pads_heads():
    def run():
        query = tensor(2, 4, 8, 12, dtype=torch.bfloat16)
        functional.scaled_dot_product_attention(query, query, query)

    assert ops_of(run) == [*["constant_pad_nd"] * 3, "_scaled_dot_product_flash_attention"]


def test_what_a_checkpoint_recomputes_is_replaced_too():
    def run():
        x = tensor(4)
        checkpoint(lambda x: functional.dropout(x, 0.1) * x, x, use_reentrant=False).sum().backward()

    assert ops_of(run).count("native_dropout") == 2


def test_the_lists_are_those_of_torchs_own_cuda_autocast():
    for name in (*_IN_FP32, *_WITH_FP32_RESULT):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "AutocastCUDA"), name


def test_autocast_results_as_on_cuda():
    x = torch.randn(4, 4, dtype=torch.bfloat16)
    with cuda_autocast(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        assert x.pow(2).dtype == x.exp().dtype == functional.layer_norm(x, (4,)).dtype == torch.float32
        assert torch.softmax(x, -1).dtype == x.sum().dtype == torch.float32
        assert torch.softmax(x, -1, dtype=torch.bfloat16).dtype == torch.bfloat16
        assert (x + x).dtype == torch.bfloat16
        assert math.isclose(float(torch.softmax(x, -1).sum()), 4, rel_tol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert x.pow(2).dtype == torch.bfloat16
