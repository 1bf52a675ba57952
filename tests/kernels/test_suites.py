"""The suites: shapes, byte counts, references, and that a wrong optimizer is noticed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math

import pytest
import torch

from edgeroof.errors import UsageError
from edgeroof.kernels.suites import compiled
from edgeroof.kernels.suites.adafactor import adafactor_suite
from edgeroof.kernels.suites.adamw import adamw_float64, adamw_suite
from edgeroof.kernels.suites.optimizers import (
    HYPER,
    LARGE_TENSOR,
    Hyper,
    Step,
    _ends,
    check_at_size,
    check_on_fresh_inputs,
    make_tensors,
    optimizer_provider,
    problem_tensors,
)
from edgeroof.kernels.suites.t5_shapes import FLAN_T5, elements, lora_shapes, parameter_shapes
from edgeroof.lab import load_suite
from edgeroof.profiler.costs import price
from edgeroof.profiler.recorder import OpRecorder

EXACT = {
    "small": (76_961_152, 190),
    "base": (247_577_856, 282),
    "large": (783_150_080, 558),
    "xl": (2_849_757_184, 558),
}


@pytest.mark.parametrize("name", FLAN_T5)
def test_flan_t5_has_its_exact_size(name):
    shapes = parameter_shapes(FLAN_T5[name])
    assert (elements(shapes), len(shapes)) == EXACT[name]


@pytest.mark.parametrize("name", FLAN_T5)
def test_shapes_are_those_of_the_models_configuration(name):
    from edgeroof.workloads.huggingface import load_model

    model = load_model(name, device="meta").model
    assert sorted(parameter_shapes(FLAN_T5[name])) == sorted(tuple(p.shape) for p in model.parameters())
    numbers = model.config
    size = FLAN_T5[name]
    assert (size.d_model, size.d_ff, size.layers, size.heads) == (
        numbers.d_model, numbers.d_ff, numbers.num_layers, numbers.num_heads,
    )  # fmt: skip


def test_lora_has_its_exact_size():
    shapes = lora_shapes(FLAN_T5["small"], rank=8)
    assert (elements(shapes), len(shapes)) == (344_064, 96)


def test_problems_are_tied_to_the_shapes():
    problems = adamw_suite("bf16", clip_norm=1.0).problems
    small = problems["small"]
    assert small.parameters == EXACT["small"][0]
    assert small.floor_bytes == (7 + 1) * 2 * small.parameters
    assert adamw_suite().problems["xl"].floor_bytes == 28 * EXACT["xl"][0]
    assert problems["lora-small"].parameters == 344_064
    assert set(problems) == {*FLAN_T5, *(f"lora-{name}" for name in FLAN_T5)}


def tiny(suite, dtype: str):
    """A problem of one large matrix and a vector, for counting."""
    problem = next(iter(suite.problems.values()))
    shapes = ((256, 512), (512,))
    return dataclasses.replace(problem, shapes=shapes, parameters=elements(shapes), tensors=2, dtype=dtype)


def counted_bytes(provider, problem) -> float:
    """Bytes of the second step's ops by the profiler's own cost model."""
    step = Step(provider, problem, make_tensors(problem.shapes, problem.dtype, "cpu", 0), HYPER)
    step()
    with OpRecorder(torch.nn.Module()) as recorder:
        step()
    costs = [price(record) for record in recorder.records]
    return sum(cost.bytes_read + cost.bytes_written for cost in costs if cost is not None)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("name", ["torch-loop", "torch-foreach", "torch-fused"])
def test_adamw_bytes_equal_the_profilers_count(name, dtype, clip_norm):
    suite = adamw_suite(dtype, clip_norm)
    provider = next(p for p in suite.providers if p.name == name)
    problem = tiny(suite, dtype)
    stated = provider.build(problem, problem_tensors(problem, "cpu")).bytes_moved
    assert counted_bytes(provider, problem) == pytest.approx(stated, rel=0.01)


@pytest.mark.parametrize(
    ("name", "fp32", "bf16"),
    [
        ("apex", 28, 22), ("bitsandbytes", 28, 22), ("bitsandbytes-8bit", 16.0625, 10.0625),
        ("torchao-8bit", 16.0625, 10.0625), ("optimi", 28, 18), ("edgeroof", 28, 22), ("edgeroof-bf16", 20, 14),
        ("edgeroof-8bit", 16.0625, 10.0625),
    ],
)  # fmt: skip
def test_adamw_bytes_of_those_that_need_a_gpu(name, fp32, bf16):
    """States keep their own type where a library says so; optimi adds a compensation to bf16 parameters."""
    for dtype, expected in (("fp32", fp32), ("bf16", bf16)):
        for clip_norm, more in ((None, 0), (1.0, 1 if name.startswith("edgeroof") else 3)):
            suite = adamw_suite(dtype, clip_norm)
            provider = next(p for p in suite.providers if p.name == name)
            problem = tiny(suite, dtype)
            moved = provider.bytes_moved(problem)
            assert moved == (expected + more * problem.item_bytes) * problem.parameters


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_adafactor_bytes_equal_the_profilers_count(dtype):
    suite = adafactor_suite(dtype)
    provider = next(p for p in suite.providers if p.name == "huggingface")
    problem = tiny(suite, dtype)
    stated = provider.build(problem, problem_tensors(problem, "cpu")).bytes_moved
    assert counted_bytes(provider, problem) == pytest.approx(stated, rel=0.02)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("suite_name", ["adamw", "adafactor"])
def test_every_provider_that_is_here_is_right(suite_name, dtype, clip_norm):
    suite = load_suite(suite_name, dtype=dtype, clip_norm=clip_norm)
    problem = dataclasses.replace(suite.problems["lora-small"], shapes=suite.problems["lora-small"].shapes[:4])
    seen = 0
    for provider in suite.providers:
        if provider.unavailable(problem, "cpu") or provider.name == "torch-compile":
            continue  # compiling takes too long here; it has a slow test
        check = suite.check(provider, problem, "cpu", 0)
        assert check.passed, f"{provider.name}: {check}"
        work = provider.build(problem, problem_tensors(problem, "cpu"))
        assert work.verify is not None
        assert work.verify().passed, provider.name
        seen += 1
    assert seen >= 1


@pytest.mark.slow
@pytest.mark.parametrize("suite_name", ["adamw", "adafactor"])
def test_the_compiled_provider_is_right(suite_name):
    suite = load_suite(suite_name)
    provider = next(p for p in suite.providers if p.name == "torch-compile")
    problem = suite.problems["lora-small"]
    if compiled.why_not("cpu"):
        pytest.skip(compiled.why_not("cpu"))
    assert suite.check(provider, problem, "cpu", 0).passed


class Slightly:
    """AdamW with one thing wrong."""

    def __init__(self, parameters, hyper: Hyper, **wrong) -> None:
        settings = {"lr": hyper.lr, "weight_decay": hyper.weight_decay, **wrong}
        self.step = torch.optim.AdamW(parameters, **settings).step


@pytest.mark.parametrize(
    "wrong",
    [{"weight_decay": 0.0}, {"betas": (0.9, 0.99)}, {"betas": (0.8, 0.999)}, {"eps": 1e-6}, {"lr": 0.99e-2}],
)
def test_wrong_arithmetic_is_noticed(wrong):
    def make(parameters, problem, hyper):
        return Slightly(parameters, hyper, **wrong)

    provider = optimizer_provider("wrong", "wrong", make, adamw_float64)
    check = check_on_fresh_inputs(provider, adamw_suite().problems["small"], "cpu", 0, adamw_float64)
    assert not check.passed
    assert "in a tensor of shape" in check.detail


@pytest.mark.parametrize("skipped", [0, -1])
def test_a_tensor_that_was_forgotten_is_noticed_at_size(skipped):
    def make(parameters, problem, hyper):
        left_out = parameters[skipped]
        kept = [parameter for parameter in parameters if parameter is not left_out]
        return Slightly(kept, hyper)

    provider = optimizer_provider("lazy", "lazy", make, adamw_float64)
    suite = adamw_suite()
    problem = dataclasses.replace(suite.problems["lora-small"], shapes=((8, 16), (16,), (8, 16), (16,)))
    step = Step(provider, problem, problem_tensors(problem, "cpu"), HYPER)
    check = check_at_size(step, provider, adamw_float64)
    assert check.error == pytest.approx(1, rel=0.01)
    assert not check.passed


def test_not_a_number_is_wrong():
    class Nan:
        def __init__(self, parameters):
            self.parameters = parameters

        def step(self):
            with torch.no_grad():
                self.parameters[3][0] = math.nan

    provider = optimizer_provider("nan", "nan", lambda p, q, h: Nan(p), adamw_float64)
    check = check_on_fresh_inputs(provider, adamw_suite().problems["small"], "cpu", 0, adamw_float64)
    assert not check.passed


def test_every_missing_provider_says_why():
    for suite in (adamw_suite(), adafactor_suite()):
        for provider in suite.providers:
            reason = provider.unavailable(suite.problems["small"], "cpu")
            assert reason is None or len(reason) > 10
    apex = next(p for p in adamw_suite().providers if p.name == "apex")
    if importlib.util.find_spec("apex") is None:
        assert apex.unavailable(adamw_suite().problems["small"], "cuda") == "apex is not installed"


@pytest.mark.parametrize(
    ("name", "dtype", "clip_norm", "message"),
    [
        ("adam", "fp32", None, "unknown suite 'adam'; suites are adamw, adafactor, step"),
        ("adamw", "fp16", None, "suite adamw has fp32 and bf16"),
        ("adamw", "fp32", -1.0, "must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, dtype, clip_norm, message):
    with pytest.raises(UsageError, match=message):
        load_suite(name, dtype=dtype, clip_norm=clip_norm)


def test_a_clients_settings_are_for_the_suite_step_only():
    with pytest.raises(UsageError, match="suite adamw has no setting batch_size"):
        load_suite("adamw", batch_size=4)


def test_a_real_comparison_end_to_end(tmp_path):
    from edgeroof import lab
    from edgeroof.errors import RunError
    from edgeroof.kernels.ab import Settings
    from edgeroof.profiler.device import Device, Roof

    device = Device("cpu", "a CPU", "cpu", measured=Roof("measured", 20e9, {"vector": {"fp32": 1e11}}, 1.0))
    suite = adamw_suite()
    small = dataclasses.replace(
        suite.problems["lora-small"], shapes=((64, 64), (64,)), parameters=4160, tensors=2, floor_bytes=28 * 4160
    )
    suite = dataclasses.replace(suite, problems={"lora-small": small})
    result = lab.compare(
        suite,
        device=device,
        quick=True,
        providers=["torch-loop", "apex"],
        settings=Settings(seconds=0.0, most_seconds=2.0),
    )
    (problem,) = result["problems"]
    loop = next(entry for entry in problem["results"] if entry["provider"] == "torch-loop")
    assert loop["comparisons"]["wall"]["verdict"] == "SLOWER"
    assert loop["bytes_per_parameter"] == 80
    assert result["machine"]["before"]
    folder = lab.save(result, tmp_path / "ab")
    assert {path.name for path in folder.iterdir()} == {"ab.json", "report.html"}
    assert lab.load(folder) == json.loads(json.dumps(result))
    lab.save(result, folder)  # an earlier result is replaced
    assert [path.name for path in tmp_path.iterdir()] == ["ab"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(RunError, match="not empty and not a folder of an A/B result"):
        lab.save(result, tmp_path / "other")
    with pytest.raises(RunError, match="cannot read"):
        lab.load(tmp_path / "nothing")
    (folder / "ab.json").write_text('{"kind": "ab", "schema_version": 99}')
    with pytest.raises(RunError, match="schema version 99"):
        lab.load(folder)


def test_both_ends_of_a_large_tensor_are_compared() -> None:
    large = torch.zeros(LARGE_TENSOR + 7)
    assert sum(part.numel() for part in _ends(large, elementwise=False)) == LARGE_TENSOR + 7
    first, last = _ends(large, elementwise=True)
    first[0], last[-1] = 1.0, 2.0
    assert (float(large[0]), float(large[-1])) == (1.0, 2.0)
    assert first.numel() + last.numel() < LARGE_TENSOR
