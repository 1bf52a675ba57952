"""A client trains on its own data, from the server's weights, reproducibly; the update is what changed."""

import json
from pathlib import Path

import pytest
import torch

from edgeroof.errors import UpdateError, UsageError, WorkloadError
from edgeroof.workloads.client_config import ClientConfig
from edgeroof.workloads.federated.codecs import parse_codec
from edgeroof.workloads.federated.config import FederatedConfig
from edgeroof.workloads.federated.training import fitting_threads, new_compressor, seed_of
from edgeroof.workloads.federated.update import from_bytes

from .tiny import TINY, federation


def test_an_update_is_what_changed() -> None:
    trainer, _ = federation()
    start = trainer.weights()
    result = trainer.train(1, 1, start, new_compressor(trainer.config))
    change = parse_codec("none").decode(from_bytes(result.payload), start)
    trained = trainer.weights()
    for name, weight in start.items():
        torch.testing.assert_close(weight + change[name], trained[name])
    assert any(tensor.any() for tensor in change.values())
    assert result.client == 1
    assert 0 < result.examples <= trainer.data.sizes()[1]
    assert result.tokens > result.examples
    assert result.compute_s > 0


def test_equal_clients_rounds_and_weights_give_equal_updates() -> None:
    trainer, _ = federation()
    start = trainer.weights()
    first, second, other = (
        trainer.train(0, number, start, new_compressor(trainer.config)).payload for number in (1, 1, 2)
    )
    assert first == second
    assert first != other
    fresh, _ = federation()
    assert fresh.train(0, 1, fresh.weights(), new_compressor(fresh.config)).payload == first


def test_weights_that_are_kept_in_bf16_change_by_what_was_trained() -> None:
    """Not by what rounding the server's weights to bf16 changed."""
    trainer, _ = federation(client={"precision": "bf16-pure", "learning_rate": 1e-30, "weight_decay": 0.0})
    server = {name: weight * 1.001 for name, weight in trainer.weights().items()}
    result = trainer.train(0, 1, server, new_compressor(trainer.config))
    change = parse_codec("none").decode(from_bytes(result.payload), server)
    assert not any(tensor.any() for tensor in change.values())


def test_adapters_alone_travel() -> None:
    pytest.importorskip("peft", reason="LoRA needs peft")
    trainer, _ = federation(client={"lora_rank": 2})
    start = trainer.weights()
    assert start
    assert all("lora" in name for name in start)
    result = trainer.train(0, 1, start, new_compressor(trainer.config))
    assert len(result.payload) < 0.2 * 4 * sum(p.numel() for p in trainer.model.parameters())


def test_weights_of_another_model_are_refused() -> None:
    trainer, _ = federation()
    with pytest.raises(UpdateError, match="missing"):
        trainer.load({})


def test_training_that_diverges_is_told() -> None:
    trainer, _ = federation(client={"learning_rate": 1e30})
    with pytest.raises(WorkloadError, match="diverged"):
        trainer.train(0, 1, trainer.weights(), new_compressor(trainer.config))


def test_seeds_differ_in_every_part() -> None:
    assert len({seed_of(0, 1, 2), seed_of(0, 2, 1), seed_of(1, 0, 2), seed_of(0, 1, 3)}) == 4


def test_configurations_survive_json() -> None:
    assert FederatedConfig.from_json(TINY.to_json()) == TINY
    with pytest.raises(UsageError, match="configuration"):
        FederatedConfig.from_json({"rounds": 3})


@pytest.mark.parametrize(
    "changes",
    [
        {"clients": 0},
        {"sampled": 5},
        {"split": "odd"},
        {"alpha": 0},
        {"codec": "zip"},
        {"min_answers": 0},
        {"dialogues": 3},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 0.5},
    ],
)
def test_federations_that_make_no_sense(changes: dict) -> None:
    with pytest.raises(UsageError):
        FederatedConfig(client=TINY.client, **{"clients": 4, **changes})


def test_too_little_data_is_told(tmp_path: Path) -> None:
    dialogues = [{"id": str(i), "dialogue": "A: hi\nB: no", "summary": "They meet."} for i in range(3)]
    (tmp_path / "train.json").write_text(json.dumps(dialogues))
    with pytest.raises(WorkloadError, match="too few"):
        federation(client={"data": str(tmp_path / "train.json")})


@pytest.mark.parametrize(("model", "threads"), [("tiny", 1), ("small", 2)])
def test_the_tiny_model_has_one_thread(model: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with fitting_threads(ClientConfig(model=model)):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
