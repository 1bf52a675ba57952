"""Evaluation: perfect and useless models get the scores they deserve, and nothing about the model changes."""

import pytest
import torch

from edgeroof.workloads.federated.evaluation import evaluate

from .tiny import federation


def test_evaluation_changes_nothing() -> None:
    trainer, _ = federation()
    before, generator = trainer.weights(), torch.get_rng_state()
    first, second = evaluate(trainer), evaluate(trainer)
    assert first == second
    assert trainer.model.training
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[name], weight) for name, weight in trainer.weights().items())
    assert first.loss == pytest.approx(7, abs=1.5)  # ln 1024, as good as guessing
    assert first.rouge_l < 0.2


def test_what_was_learned_by_heart_scores_high() -> None:
    trainer, _ = federation(eval_dialogues=2, client={"dropout": 0.0, "learning_rate": 1e-2})
    examples = trainer.data.held_out.examples
    step = trainer._step(0, 1)
    for _ in range(60):
        step.run((examples,))
    result = evaluate(trainer)
    assert result.loss < 0.3
    assert result.rouge_l > 0.9


def test_causal_models_are_evaluated_too(tmp_path) -> None:
    (tmp_path / "config.json").write_text(
        '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_layer": 1, "n_head": 2,'
        ' "vocab_size": 1024, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}'
    )
    trainer, _ = federation(client={"model": str(tmp_path / "config.json")})
    result = evaluate(trainer)
    assert 5 < result.loss < 9
    assert 0 <= result.rouge_l < 0.2
