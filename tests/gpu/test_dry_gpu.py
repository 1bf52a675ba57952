"""What a dry run says a GPU would dispatch, beside what one dispatches."""

from __future__ import annotations

import difflib

import pytest

pytestmark = pytest.mark.gpu

SETTINGS = {"model": "tiny", "batch_size": 4, "source_length": 128, "target_length": 32, "dialogues": 16}

#: Ops of a real step that a dry run leaves out: the batch is copied to the device.
ONLY_REAL = ("aten::_pin_memory", "aten::_to_copy", "aten::copy_")


@pytest.fixture(autouse=True, scope="module")
def needs_cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")


def signature(record):
    return record.name, record.phase, record.module, tuple((t.shape, t.dtype) for t in record.outputs)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "eager"},
        {"attention": "sdpa"},
        {"attention": "eager", "precision": "bf16"},
        {"attention": "sdpa", "precision": "bf16", "checkpointing": True},
        {"optimizer": "adamw", "clip_norm": 1.0},
        {"optimizer": "adamw-fused", "lora_rank": 4},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_the_dry_step_is_the_real_step(changes):
    import torch

    from edgeroof.profiler.capture import representative_batch
    from edgeroof.profiler.recorder import OpRecorder
    from edgeroof.workloads import ClientConfig, build_client_step
    from edgeroof.workloads.dry import dry_step

    config = ClientConfig(device="cuda", **(SETTINGS | changes))
    dry = dry_step(config, compute_capability=torch.cuda.get_device_capability())
    step = build_client_step(config)
    batch = representative_batch(step)
    step.run(batch)
    with OpRecorder(step.model) as recorder:
        step.run(batch)
    real = [signature(r) for r in recorder.records if not (r.phase == "data" and r.name in ONLY_REAL)]
    expected = [signature(r) for r in dry.records]
    differences = list(difflib.unified_diff(list(map(str, expected)), list(map(str, real)), n=0))[2:]
    assert len(differences) <= 0.02 * len(real), "\n".join(differences[:40])


def test_the_footprint_is_the_peak_of_the_allocator():
    import torch

    from edgeroof.profiler.capture import representative_batch
    from edgeroof.workloads import ClientConfig, build_client_step
    from edgeroof.workloads.dry import dry_step

    config = ClientConfig(device="cuda", **(SETTINGS | {"model": "small", "optimizer": "adamw-fused"}))
    capability = torch.cuda.get_device_capability()
    footprint = dry_step(config, compute_capability=capability).footprint
    step = build_client_step(config)
    batch = representative_batch(step)
    step.run(batch)
    torch.cuda.reset_peak_memory_stats()
    step.run(batch)
    assert footprint.total == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.1)
