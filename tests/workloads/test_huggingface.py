from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file

from edgeroof.errors import UsageError, WorkloadError
from edgeroof.workloads.huggingface import load_model, resolve_model

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 512, "n_positions": 256}


@pytest.fixture
def write_config(tmp_path):
    def write(content, name="config.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("name", "kind", "title", "weights"),
    [
        ("small", "shipped", "flan-t5-small", False),
        ("flan-t5-xl", "shipped", "flan-t5-xl", False),
        ("google/flan-t5-small", "hub", "flan-t5-small", True),
    ],
)
def test_names(name, kind, title, weights):
    source = resolve_model(name)
    assert (source.kind, source.title, source.weights) == (kind, title, weights)


def test_config_file_and_folder_without_weights_are_random(write_config, tmp_path):
    assert resolve_model(write_config(GPT2)).kind == "config"
    folder = resolve_model(str(tmp_path))
    assert (folder.kind, folder.weights) == ("folder", False)
    loaded = load_model(str(tmp_path))
    assert loaded.causal
    assert loaded.description == "random weights, seed 0"


def test_a_typing_error_gets_a_suggestion():
    with pytest.raises(UsageError, match=r"did you mean 'flan-t5-base'\? Known: flan-t5-tiny, .*xl"):
        resolve_model("flan-t5-bse")


@pytest.mark.parametrize("name", ["./nowhere", "missing.json", "/no/such/config.json"])
def test_a_missing_path_is_called_that(name):
    with pytest.raises(UsageError, match="no such file or folder"):
        resolve_model(name)


def test_folder_that_is_no_model(tmp_path):
    with pytest.raises(WorkloadError, match=r"no config\.json"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot read the model configuration"),
        ("{", "cannot read the model configuration"),
        ("[1]", "holds a list"),
        ({"d_model": 3}, "no model_type"),
        ({"model_type": 3}, "no model_type"),
        ({"model_type": "nonsense"}, "transformers cannot use"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}, "never run"),
        ({**GPT2, "n_head": 7}, "cannot load"),
        ({**GPT2, "n_embd": "wide"}, "transformers cannot use|cannot load"),
    ],
)
def test_bad_configurations(write_config, content, message):
    with pytest.raises(WorkloadError, match=message) as caught:
        load_model(write_config(content))
    assert "\n" not in str(caught.value)


def test_configuration_that_is_not_utf8(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(WorkloadError, match="cannot read the model configuration"):
        load_model(str(path))


def test_no_network_says_what_to_do(monkeypatch):
    import transformers

    def offline(*arguments, **options):
        raise OSError("We couldn't connect to the hub.\nA second line.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", offline)
    with pytest.raises(WorkloadError, match=r"couldn't connect.*give its folder, or use 'small'") as caught:
        load_model("google/flan-t5-small")
    assert "second line" not in str(caught.value)


def test_an_attention_the_model_lacks(write_config):
    path = write_config({"model_type": "deberta-v2", "is_decoder": True, "hidden_size": 32, "num_attention_heads": 2})
    with pytest.raises(WorkloadError):
        load_model(path, attention="sdpa")


def test_weights_that_lack_a_tensor_are_refused(tmp_path):
    load_model("tiny").model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.block.0.layer.0.SelfAttention.q.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WorkloadError, match=r"lack 1 tensors.*SelfAttention\.q"):
        load_model(str(tmp_path))


def test_broken_weights_are_refused_in_one_line(tmp_path):
    load_model("tiny").model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(WorkloadError, match="cannot load") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_dropout_is_replaced_everywhere(write_config):
    model = load_model(write_config(GPT2), dropout=0.0).model
    rates = {module.p for module in model.modules() if type(module).__name__ == "Dropout"}
    assert rates == {0.0}
    assert load_model("tiny", dropout=0.25).model.config.dropout_rate == 0.25
