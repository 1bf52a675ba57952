"""The client's step with fused operators: the losses of the plain one, and a profile that is priced."""

from __future__ import annotations

import pytest
import torch

from edgeroof import api
from edgeroof.errors import EdgeroofError, UsageError
from edgeroof.kernels import operator
from edgeroof.profiler.capture import CaptureOptions
from edgeroof.workloads import ClientConfig, build_client_step


@pytest.fixture(autouse=True)
def _torch_path(monkeypatch):
    monkeypatch.setattr(operator, "use_triton", lambda tensor: False)


def build(**changes):
    values = {"model": "tiny", "source_length": 48, "target_length": 16, "dialogues": 64, "dropout": 0.0, **changes}
    return build_client_step(ClientConfig(**values), check_memory=False)


def losses(step, steps):
    return torch.stack([step.run(step.batches[index % len(step.batches)]).loss for index in range(steps)])


FORMS = {
    "fused": {"fused": True},
    "chunked": {"fused": True, "chunked_loss": True},
    "flash": {"attention": "flash"},
    "fused-flash": {"fused": True, "attention": "flash"},
}
FUSED = pytest.mark.parametrize("fused", FORMS.values(), ids=FORMS)


@FUSED
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-pure"])
@pytest.mark.parametrize("changes", [{}, {"checkpointing": True}, {"lora_rank": 2}, {"gradient_accumulation": 2}])
def test_losses_are_those_of_the_plain_step(fused, precision, changes):
    plain, ours = build(precision=precision, **changes), build(precision=precision, **fused, **changes)
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    torch.testing.assert_close(losses(ours, 2).float(), losses(plain, 2).float(), rtol=tolerance, atol=0)


@FUSED
def test_fifty_steps_have_the_loss_curve_of_the_plain_model(fused):
    settings = {"learning_rate": 3e-3, "batch_size": 4, "source_length": 32, "target_length": 12}
    expected, found = (losses(build(**settings, **extra), 50) for extra in ({"attention": "eager"}, fused))
    assert expected[-5:].mean() < expected[:5].mean() - 1
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)


def test_dropout_is_drawn_from_the_seed_of_the_configuration():
    first, again, other = (losses(build(fused=True, dropout=0.2, seed=seed), 2) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_configuration_and_description():
    description = build(fused=True, chunked_loss=True).describe()
    assert description["fused"] is True
    assert description["chunked_loss"] is True
    assert build().describe()["fused"] is False
    with pytest.raises(UsageError, match=r"chunked_loss .* needs fused"):
        ClientConfig(chunked_loss=True)


@pytest.mark.parametrize("fused", [{"fused": True}, {"attention": "flash"}])
def test_other_models_are_refused(tmp_path, fused):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 512}')
    with pytest.raises(EdgeroofError, match="only T5 and FLAN-T5 can be fused"):
        build(model=str(path), **fused)


@FUSED
def test_a_profile_of_the_fused_step_is_priced(fused):
    sizes = {"batch_size": 2, "source_length": 64, "target_length": 16}
    run = api.profile(
        device="cpu", options=CaptureOptions(1, 2, 1), model="tiny", optimizer="adamw-fused", **sizes, **fused
    )
    assert run.summary["ledger"]["priced_share"]["exact"] >= 0.97
    assert run.summary["ledger"]["linked_share"] >= 0.99
    ours = run.kernels[run.kernels["op"].str.startswith("edgeroof::")]
    attention = fused.get("attention", "softmax").replace("flash", "attention")
    wanted = {attention, f"{attention}_backward"}
    if fused.get("fused"):
        wanted |= {"rms_norm", "add_rms_norm", "gated_gelu"}
    assert wanted <= set(ours["op"].str.removeprefix("edgeroof::"))
    assert (ours["phase"] != "unknown").all()
