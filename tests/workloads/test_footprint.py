from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import DeviceError
from edgeroof.profiler.device import load_device
from edgeroof.workloads import ClientConfig
from edgeroof.workloads.dry import dry_step
from edgeroof.workloads.footprint import (
    CONTEXT,
    CUBLAS_WORKSPACE,
    CUBLAS_WORKSPACE_HOPPER,
    FRAGMENTATION,
    Footprint,
    fit,
    largest_batch,
    largest_client_batch,
    reserved_bytes,
)

TINY = ClientConfig(
    model="tiny", batch_size=4, source_length=48, target_length=16, dialogues=8, optimizer="adamw-fused"
)
ORIN = load_device("orin")
A100 = load_device("a100")


@pytest.fixture(scope="module")
def dry():
    return dry_step(TINY)


def test_the_parts_are_those_of_the_model(dry):
    footprint = dry.footprint
    parameters = dry.workload["parameters"]
    assert footprint.weights == pytest.approx(4 * parameters, rel=0.02)
    assert footprint.states == pytest.approx(8 * parameters, rel=0.05)
    assert 0 <= footprint.gradients <= 4.1 * parameters
    assert footprint.activations > 1e6
    moving = footprint.gradients + footprint.activations + footprint.temporaries
    assert footprint.workspace == 2 * CUBLAS_WORKSPACE + int(FRAGMENTATION * moving)
    assert footprint.total == sum(value for key, value in footprint.describe().items() if key != "total")


def test_hopper_has_larger_workspaces(dry):
    hopper = dataclasses.replace(dry, compute_capability=(9, 0))
    assert hopper.footprint.total - dry.footprint.total == 2 * (CUBLAS_WORKSPACE_HOPPER - CUBLAS_WORKSPACE)


def test_lora_needs_no_gradients_for_the_rest(dry):
    adapted = dry_step(dataclasses.replace(TINY, lora_rank=4)).footprint
    assert adapted.states < 0.1 * dry.footprint.states
    assert adapted.weights > dry.footprint.weights


def test_checkpointing_keeps_less(dry):
    frugal = dry_step(dataclasses.replace(TINY, checkpointing=True))
    assert frugal.memory.highest()["activations"] < 0.5 * dry.memory.highest()["activations"]
    assert frugal.footprint.total < dry.footprint.total


def test_what_a_device_keeps():
    assert reserved_bytes(A100) == CONTEXT
    assert 4e9 < reserved_bytes(ORIN) < 9e9
    assert reserved_bytes(load_device("cpu")) == 0


def test_fits_or_not():
    needed = Footprint(60 * 10**9, 0, 0, 0, 0, 0)
    assert fit(needed, A100).fits
    assert fit(needed, ORIN).fits
    more = Footprint(60 * 10**9, 0, 0, 3 * 10**9, 0, 0)
    assert fit(more, A100).fits
    assert not fit(more, ORIN).fits
    assert str(fit(more, ORIN)).startswith("does not fit: 63.0 GB needed, 61.")
    with pytest.raises(DeviceError, match="states no memory"):
        fit(needed, dataclasses.replace(A100, memory_bytes=None))


def counted(total_at):
    calls = []

    def count(batch):
        calls.append(batch)
        return total_at(batch)

    return count, calls


def test_an_affine_step_needs_three_dry_runs():
    total_at, calls = counted(lambda batch: 1000 + 37 * batch)
    found = largest_batch(total_at, room=5000)
    assert found.batch == (5000 - 1000) // 37
    assert len(calls) == 3
    assert found.tried[found.batch] <= 5000


@given(
    fixed=st.integers(0, 10**6), first=st.integers(1, 10**4), second=st.integers(1, 10**4), bend=st.integers(1, 300),
    room=st.integers(0, 10**7),
)  # fmt: skip
def test_a_step_whose_peak_moves_is_still_bracketed(fixed, first, second, bend, room):
    """The peak is the larger of several moments, each affine in the batch, so the whole is convex."""

    def total_at(batch):
        return fixed + max(first * batch, second * batch + (first - second) * bend)

    found = largest_batch(total_at, room, limit=4096)
    assert found.batch == 0 or total_at(found.batch) <= room
    assert found.capped == (found.batch == 4096)
    wanted = max((batch for batch in range(1, 4097) if total_at(batch) <= room), default=0)
    assert wanted * 0.99 - 1 <= found.batch <= wanted


def test_nothing_fits():
    assert largest_batch(lambda batch: 100 * batch, room=99).batch == 0


def test_the_largest_batch_of_a_client(dry):
    device = dataclasses.replace(A100, memory_bytes=CONTEXT + 200_000_000)
    found = largest_client_batch(TINY, device, known=dry)
    assert found.tried[4] == dry.footprint.total

    def total_at(batch):
        config = dataclasses.replace(TINY, batch_size=batch, dialogues=batch)
        return dry_step(config, compute_capability=(8, 0)).footprint.total

    at, beyond = total_at(found.batch), total_at(found.batch + 2)
    assert at <= 200_000_000 < beyond
