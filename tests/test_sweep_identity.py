"""A sweep goes on only with what is still the same: models by their content, the device by its figures."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeroof import cli, sweep
from edgeroof.errors import OutOfMemoryError, RunError
from edgeroof.profiler.device import template_path
from edgeroof.sweep_identity import changed_figures, device_figures, folder_name, model_contents, point_name

_values = st.text(min_size=1, max_size=90)


def config(path: Path, layers: int) -> str:
    """A model of so many layers in a file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"model_type": "t5", "num_layers": layers}))
    return str(path)


def names(model: str) -> list[str]:
    plan = sweep.make_plan({"model": [model]}, device="orin")
    return [point["name"] for point in plan["points"]]


@given(_values, _values)
def test_other_values_have_other_names_that_files_may_have(first: str, other: str) -> None:
    made = [point_name({"model": value}, {}) for value in (first, other)]
    assert (made[0] == made[1]) == (first == other)
    for name in made:
        assert "/" not in name
        assert "\0" not in name
        assert len(name.encode()) <= 100


def test_models_of_the_same_stem_are_other_points(tmp_path: Path) -> None:
    models = [
        "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-1B", "other/Llama-3.1-8B",
        config(tmp_path / "a" / "m.json", 2), config(tmp_path / "b" / "m.json", 2),
        config(tmp_path / "m" / "config.json", 2), str(tmp_path / "m"),
    ]  # fmt: skip
    found = [names(model)[0] for model in models]
    assert len(set(found)) == len(models)
    assert found[0].startswith("model-meta-llama-Llama-3.1-8B-")
    assert names("small") == ["model-small"]


def test_an_edited_model_is_another_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished points of the model as it was are not taken for those of the model as it is."""
    tried = []

    def project(plan: dict, settings: dict, *_: object) -> None:
        tried.append(settings["model"])
        raise OutOfMemoryError("finished, in a way")

    monkeypatch.setattr(sweep, "_project", project)
    model = config(tmp_path / "m.json", 2)
    for layers in (2, 2, 3):
        config(tmp_path / "m.json", layers)
        sweep.run(sweep.make_plan({"model": [model]}, device="orin"), tmp_path / "s")
    assert tried == [model, model]
    for layers in (3, 4):
        config(tmp_path / "m.json", layers)
        plan = sweep.make_plan({"batch_size": [1]}, {"model": model}, device="orin")
        if layers == 3:
            sweep.run(plan, tmp_path / "base")
    with pytest.raises(RunError, match="before its configuration changed"):
        sweep.run(plan, tmp_path / "base")


def test_an_edited_device_is_another_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_project", lambda *_: None)
    text = (template_path().parent / "orin.toml").read_text()
    device = tmp_path / "mine.toml"
    device.write_text(text)
    axes = {"batch_size": [1]}
    sweep.run(sweep.make_plan(axes, {"model": "tiny"}, device=str(device)), tmp_path / "s")
    kept = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.json")}

    device.write_text(text.replace("204.8", "102.4"))
    with pytest.raises(RunError, match=r"other figures: bandwidth was 2048.*, is 1024.*--out; .*stay as they are"):
        sweep.run(sweep.make_plan(axes, {"model": "tiny"}, device=str(device)), tmp_path / "s")
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.json")} == kept
    device.write_text(text + "\n# a comment changes nothing\n")
    sweep.run(sweep.make_plan(axes, {"model": "tiny"}, device=str(device)), tmp_path / "s")

    plan = json.loads((tmp_path / "s" / "plan.json").read_text())
    del plan["figures"]
    (tmp_path / "s" / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RunError, match="does not say with which figures"):
        sweep.run(sweep.make_plan(axes, {"model": "tiny"}, device=str(device)), tmp_path / "s")


@pytest.mark.parametrize("name", ["orin", "a100", "cpu", "auto"])
def test_figures_stay_what_they_are(name: str) -> None:
    figures = device_figures(name)
    assert changed_figures(json.loads(json.dumps(figures)), device_figures(name)) == ""
    assert len(figures) >= 5


def test_few_changes_are_spelled_out() -> None:
    told = changed_figures({"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 2, "b": 3, "c": 4, "e": 5})
    assert told == "a was 1, is 2; b was 2, is 3; c was 3, is 4; 2 more"


def test_folders_are_named_after_all_of_a_model(tmp_path: Path) -> None:
    assert folder_name(["small", "base"], "orin") == "sweep-small-base-orin"
    assert folder_name(["meta-llama/Llama-3.1-8B"], "./mine.toml") == "sweep-meta-llama-Llama-3.1-8B-mine"
    assert folder_name([config(tmp_path / "Llama-3.1-8B.json", 2)], "auto") == "sweep-Llama-3.1-8B-auto"
    assert model_contents(["small", "google/flan-t5-small"]) == {}


def test_the_command_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_project", lambda *_: None)
    assert cli.run_command(["sweep", "--device", "orin", "--model", "google/flan-t5-small", "--json"]) == 0
    capsys.readouterr()
    assert (tmp_path / "runs" / "sweep-google-flan-t5-small-orin" / "plan.json").is_file()
