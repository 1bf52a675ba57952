from __future__ import annotations

import dataclasses

import pytest

from edgeroof.errors import UsageError
from edgeroof.workloads import ClientConfig


def test_defaults_are_those_of_the_paper():
    config = ClientConfig()
    assert (config.source_length, config.target_length, config.learning_rate) == (512, 96, 1e-4)
    assert config.local_epochs == 1
    assert ClientConfig(device="cpu").micro_batch == 4
    assert ClientConfig(device="cuda:1").micro_batch == 32
    assert ClientConfig(device="cuda:1", batch_size=7).micro_batch == 7


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "steps is 0; it must be a whole number of at least 1"),
        ("steps", -2, "steps is -2"),
        ("batch_size", 0, "batch_size is 0"),
        ("batch_size", 1.5, "batch_size is 1.5"),
        ("batch_size", True, "batch_size is True"),
        ("source_length", -1, "source_length is -1"),
        ("target_length", 0, "target_length is 0"),
        ("gradient_accumulation", 0, "gradient_accumulation is 0"),
        ("local_epochs", 0, "local_epochs is 0"),
        ("lora_rank", 0, "lora_rank is 0"),
        ("dialogues", 0, "dialogues is 0"),
        ("precision", "fp8", "one of fp32, tf32, bf16, fp16, bf16-pure"),
        ("attention", "magic", "one of eager, sdpa, flash"),
        ("padding", "left", "one of fixed, dynamic"),
        ("optimizer", "adam", "optimizers are adamw"),
        ("learning_rate", 0.0, "learning_rate is 0.0; it must be above 0"),
        ("learning_rate", float("inf"), "learning_rate is inf"),
        ("weight_decay", float("nan"), "weight_decay is nan"),
        ("clip_norm", -1.0, "clip_norm is -1.0; it must be above 0"),
        ("dropout", 1.0, "dropout is 1.0; it must be at least 0 and below 1"),
        ("seed", -1, "seed is -1"),
        ("client", 1, "client is 1; it must be from 0 to 0"),
        ("clients", 0, "clients is 0"),
        ("device", "gpu", "device is 'gpu'; it must be cpu, cuda or cuda:N"),
        ("device", "cuda:", "it must be cpu"),
        ("precision", "tf32", "a CPU has no TF32"),
    ],
)
def test_values_that_make_no_sense(field, value, message):
    with pytest.raises(UsageError) as caught:
        ClientConfig(**{field: value})
    assert message in str(caught.value)


def test_configurations_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClientConfig().steps = 3
