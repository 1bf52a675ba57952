from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from edgeroof.errors import OutOfMemoryError
from edgeroof.workloads import ClientConfig, build_client_step, client, memory
from edgeroof.workloads import step as step_module
from edgeroof.workloads.memory import fitting_batch, fixed_bytes, is_out_of_memory, saved_bytes

TINY = {"model": "tiny", "source_length": 48, "target_length": 16, "dialogues": 64, "batch_size": 16}


def pretend(monkeypatch, free):
    monkeypatch.setattr(client, "available_bytes", lambda device: free)
    monkeypatch.setattr(step_module, "available_bytes", lambda device: free)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1"),
            True,
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("NvMapMemAllocInternalTagged: 1075072515 error 12"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_ways_to_say_that_memory_ran_out(error, expected):
    assert is_out_of_memory(error) is expected


def test_torchs_own_failure_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


def test_fixed_bytes_counts_weights_gradients_and_states():
    model = torch.nn.Linear(10, 10, bias=False)
    assert fixed_bytes(model, 4, states=2) == 100 * 16
    model.weight.requires_grad_(False)
    assert fixed_bytes(model, 4, states=2) == 100 * 4


def test_saved_bytes_leaves_weights_out_and_counts_storages_once():
    layer = torch.nn.Linear(8, 8, bias=False)
    x = torch.ones(4, 8, requires_grad=True)

    def forward():
        h = layer(x)  # keeps x
        return (h * h).sum() + h.exp().sum()  # keeps h once, and exp(h)

    assert saved_bytes(layer, forward) == 3 * 4 * 8 * 4


def test_fitting_batch():
    assert fitting_batch(available=1000, fixed=400, per_example=50, failed=64) == 10  # 600 / (1.2 * 50)
    assert fitting_batch(available=10**9, fixed=0, per_example=1, failed=64) == 32
    assert fitting_batch(available=100, fixed=400, per_example=50, failed=64) == 0
    assert fitting_batch(available=10**9, fixed=0, per_example=1, failed=1) == 0


def test_activations_grow_with_what_is_measured_on_one_example():
    short = build_client_step(ClientConfig(**TINY), check_memory=False).activation_bytes()
    long = build_client_step(ClientConfig(**{**TINY, "source_length": 96}), check_memory=False).activation_bytes()
    assert 1.3 * short < long < 3 * short


def test_a_step_that_runs_out_names_a_batch_that_fits(monkeypatch):
    step = build_client_step(ClientConfig(**TINY), check_memory=False)
    forward = step.model.forward

    def limited(input_ids, **rest):
        if len(input_ids) > 5:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(step.model, "forward", limited)
    free = step.pending_bytes() + int(5.5 * memory.MARGIN * step.activation_bytes())
    pretend(monkeypatch, free)
    with pytest.raises(OutOfMemoryError, match=r"a batch of 16 does not fit .* cpu; a batch size of 5 should"):
        step.run(step.batches[0])
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_other_errors_pass_through(monkeypatch):
    step = build_client_step(ClientConfig(**TINY), check_memory=False)

    def broken(**inputs):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(step.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        step.run(step.batches[0])


def test_a_model_that_cannot_fit_is_refused_before_it_is_built(monkeypatch):
    pretend(monkeypatch, 40 * 10**9)
    with pytest.raises(OutOfMemoryError, match=r"xl needs 45.6 GB .* 40.0 GB free, so no batch size fits"):
        build_client_step(ClientConfig(model="xl"))


def test_a_batch_that_cannot_fit_is_refused_on_a_cpu(monkeypatch):
    step = build_client_step(ClientConfig(**TINY), check_memory=False)
    pretend(monkeypatch, step.pending_bytes() + 8 * step.activation_bytes() + 16 * 279_424)
    with pytest.raises(OutOfMemoryError, match=r"a batch size of \d should"):
        build_client_step(ClientConfig(**TINY))


def test_what_fits_is_built():
    assert build_client_step(ClientConfig(**TINY)).batches


REAL_FAILURE = """
import resource, psutil
from edgeroof.errors import OutOfMemoryError
from edgeroof.workloads import ClientConfig, build_client_step

config = ClientConfig(model="tiny", batch_size=512, source_length=256, target_length=32)
step = build_client_step(config, check_memory=False)
room = psutil.Process().memory_info().vms + 600_000_000
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    step.run(step.batches[0])
except OutOfMemoryError as error:
    print(error)
"""


def test_a_real_failure():
    result = subprocess.run([sys.executable, "-c", REAL_FAILURE], capture_output=True, text=True, check=True)
    found = re.search(r"a batch of 512 does not fit in the memory of cpu; a batch size of (\d+) should", result.stdout)
    assert found, result.stdout
    assert 5 < int(found[1]) < 70  # one example takes 9 MB, and 600 MB are there


def test_fake_tensors_need_no_memory():
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = build_client_step(ClientConfig(model="large", optimizer="adamw-fused"), check_memory=False)
        assert step.run(step.batches[0]).loss.shape == ()
    assert all(isinstance(parameter, FakeTensor) for parameter in step.model.parameters())
