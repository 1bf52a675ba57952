"""The suites of operators: shapes of the real model, the check, modes, bytes, and a comparison end to end."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch

from edgeroof.errors import UsageError
from edgeroof.kernels.ab import Settings, run
from edgeroof.kernels.suites import compiled
from edgeroof.kernels.suites.operator_check import Call, compare_with_truth
from edgeroof.kernels.suites.operator_problems import OperatorProvider, sizes
from edgeroof.kernels.suites.operators import dispatched_bytes, operator_suite
from edgeroof.kernels.suites.softmax import softmax_suite
from edgeroof.lab import OPERATOR_SUITES, load_suite
from edgeroof.profiler.device import Device, Roof

from .operator_cases import round_truly

DEVICE = Device("cpu", "a CPU", "cpu", measured=Roof("measured", 20e9, {"vector": {"fp32": 1e11}}, 1.0))
#: Small problems of every form.
FORMS = [
    ("softmax", "small-encoder"), ("softmax", "small-decoder"), ("softmax", "small-cross"),
    ("softmax", "small-encoder-attention"), ("rms_norm", "small-encoder"), ("rms_norm", "small-decoder-add"),
    ("gated_gelu", "small-decoder"), ("cross_entropy", "small-decoder"), ("cross_entropy", "small-linear"),
    ("attention", "small-encoder"), ("attention", "small-cross"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    round_truly(monkeypatch)


def small_suite(name: str, **settings):
    return load_suite(name, **{"batch_size": 2, "source_length": 16, "target_length": 8, **settings})


def provider_of(suite, name: str) -> OperatorProvider:
    return next(provider for provider in suite.providers if provider.name == name)


def operation_of(suite):
    """The operation that the suite was assembled from."""
    return suite.check.args[0]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "problem"), FORMS)
def test_every_provider_that_is_here_is_right(name, problem, dtype):
    suite = small_suite(name, dtype=dtype)
    chosen = suite.problems[problem]
    seen = []
    for provider in suite.providers:
        if provider.name == "torch-compile" or provider.unavailable(chosen, "cpu"):
            continue  # compiling takes too long here; it has a slow test
        check = suite.check(provider, chosen, "cpu", 0)
        assert check.passed, f"{provider.name}: {check}"
        little = dataclasses.replace(chosen, shape=operation_of(suite).awkward(chosen))
        work = provider.build(little, suite.inputs(little, "cpu"))
        assert work.verify().passed, provider.name
        seen.append(provider.name)
    assert "eager" in seen
    assert ("sdpa" in seen) == (problem.endswith("attention") or name == "attention")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["both", "backward"])
@pytest.mark.parametrize(("name", "problem"), [form for form in FORMS if "encoder" in form[1] or "linear" in form[1]])
def test_the_compiled_provider_is_right(name, problem, mode):
    if compiled.why_not("cpu"):
        pytest.skip(compiled.why_not("cpu"))
    suite = small_suite(name, mode=mode)
    chosen = suite.problems[problem]
    provider = provider_of(suite, "torch-compile")
    assert suite.check(provider, chosen, "cpu", 0).passed
    work = provider.build(chosen, suite.inputs(chosen, "cpu"))
    for _ in range(3):
        work.call()


def wrong(run, change):
    """A provider whose outputs are changed before they are returned."""
    return lambda tensors, dropout: change(run(tensors, dropout), tensors, dropout)


class Skewed(torch.autograd.Function):
    """The identity, with a gradient that is off by a thousandth."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 1.001


class OtherMask(torch.autograd.Function):
    """Dropout that drops other elements in the backward pass than in the forward pass."""

    @staticmethod
    def forward(ctx, x, dropout):
        ctx.dropout = dropout
        return torch.nn.functional.dropout(x, dropout)

    @staticmethod
    def backward(ctx, gradient):
        return torch.nn.functional.dropout(gradient, ctx.dropout), None


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda found, tensors, dropout: (found[0] * 1.001,), "in "),
        (lambda found, tensors, dropout: (Skewed.apply(found[0]),), "the gradient of"),
        (lambda found, tensors, dropout: (torch.where(found[0] > 0.9, torch.nan, found[0]),), "output 0"),
    ],
)
def test_wrong_arithmetic_is_noticed(change, place):
    suite = small_suite("softmax")
    of = operation_of(suite)
    problem = suite.problems["small-encoder"]
    check = compare_with_truth(wrong(of.eager, change), of, problem, of.make(problem, "cpu", 0))
    assert not check.passed
    assert place in check.detail


def test_wrong_dropout_is_noticed():
    of = operation_of(small_suite("gated_gelu"))
    problem = small_suite("gated_gelu").problems["small-encoder"]
    tensors = of.make(problem, "cpu", 0)

    def forgets(given, dropout):
        return of.eager(given, 0.0)

    def halves(given, dropout):
        return of.eager(given, 0.5)

    def replays_wrongly(given, dropout):
        return (OtherMask.apply(of.eager(given, 0.0)[0], dropout),)

    for run_wrongly, words in ((forgets, "0.000% were dropped"), (halves, "were dropped instead of 10.000%")):
        check = compare_with_truth(run_wrongly, of, problem, tensors)
        assert not check.passed
        assert words in check.detail
    check = compare_with_truth(replays_wrongly, of, problem, tensors)
    assert not check.passed
    assert "the gradient of" in check.detail


def test_a_wrong_base_is_not_its_own_excuse():
    of = operation_of(small_suite("rms_norm"))
    of = dataclasses.replace(of, eager=wrong(of.eager, lambda found, tensors, dropout: (found[0] * 1.01,)))
    problem = small_suite("rms_norm").problems["small-encoder"]
    check = compare_with_truth(of.eager, of, problem, of.make(problem, "cpu", 0))
    assert not check.passed
    assert "PyTorch's own path" in check.detail


def t5_calls(monkeypatch, kind):
    """Inputs and outputs of a class of transformers' T5 during one step of a tiny model."""
    from transformers.models.t5 import modeling_t5

    seen = []
    original = getattr(modeling_t5, kind).forward

    def forward(self, *inputs, **options):
        outputs = original(self, *inputs, **options)
        seen.append((self, inputs, outputs))
        return outputs

    monkeypatch.setattr(getattr(modeling_t5, kind), "forward", forward)
    from edgeroof.workloads.huggingface import load_model

    model = load_model("tiny").model.eval()
    tokens = torch.arange(12).reshape(2, 6) + 3
    targets = tokens[:, :4].contiguous()
    with torch.no_grad():
        model(input_ids=tokens, labels=targets)
    return seen


def test_eager_paths_are_those_of_transformers(monkeypatch):
    norm = operation_of(small_suite("rms_norm")).eager
    calls = t5_calls(monkeypatch, "T5LayerNorm")
    assert len(calls) > 4
    for module, (x,), expected in calls:
        assert torch.equal(norm({"x": x, "weight": module.weight}, 0.0)[0], expected)
    from transformers.activations import ACT2FN

    gate = operation_of(small_suite("gated_gelu")).eager
    a, b = torch.randn(2, 50), torch.randn(2, 50)
    assert torch.equal(gate({"a": a, "b": b}, 0.0)[0], ACT2FN["gelu_new"](a) * b)
    from edgeroof.workloads.losses import seq2seq_loss

    loss = operation_of(small_suite("cross_entropy")).eager
    logits, labels = torch.randn(2, 3, 11), torch.tensor([[1, 2, -100], [4, 5, 10]])
    flat = {"logits": logits.view(-1, 11), "labels": labels.view(-1)}
    assert torch.equal(loss(flat, 0.0)[0], seq2seq_loss(logits, labels))


def test_attention_is_that_of_transformers():
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    attend = getattr(modeling, "eager_attention_forward", None)
    if attend is None:
        pytest.skip("this transformers has T5's attention inside its module")
    suite = small_suite("softmax")
    of = operation_of(suite)
    problem = suite.problems["small-cross-attention"]
    t = of.make(problem, "cpu", 0)
    module = torch.nn.Module().eval()
    expected, _ = attend(module, t["query"], t["key"], t["value"], t["mask"], scaling=1.0, position_bias=t["bias"])
    assert torch.equal(of.eager(t, 0.0)[0], expected)


def test_problems_have_the_models_shapes():
    problems = load_suite("softmax", kind="cuda").problems
    assert problems["base-encoder"].shape == (32, 12, 512, 512)
    assert problems["base-cross"].shape == (32, 12, 96, 512)
    assert problems["xl-decoder-b8"].shape == (8, 32, 96, 96)
    elements, bias, mask = 32 * 12 * 512 * 512, 12 * 512 * 512, 32 * 512 * 512
    assert problems["base-encoder"].floor_bytes == 4 * (5 * elements + 2 * bias + mask)
    forward = load_suite("softmax", kind="cuda", dtype="bf16", mode="forward").problems["base-encoder"]
    assert forward.floor_bytes == 2 * (2 * elements + bias + mask)
    assert load_suite("gated_gelu", kind="cuda").problems["base-encoder"].shape == (32, 512, 2048)
    assert load_suite("rms_norm").problems["small-decoder"].shape == (2, 32, 512)
    assert load_suite("cross_entropy", kind="cuda").problems["base-decoder"].shape == (32 * 96, 32128)
    for name in OPERATOR_SUITES:
        for kind in ("cpu", "cuda"):
            suite = load_suite(name, kind=kind)
            assert {*suite.defaults[kind], *suite.quick[kind]} <= set(suite.problems)


def test_bytes_are_the_profilers_count():
    suite = small_suite("softmax", dropout=0.0)
    problem = suite.problems["small-decoder"]
    elements, bias, mask = problem.parameters, 6 * 8 * 8, 2 * 8 * 8
    of = operation_of(suite)
    for mode, items in (
        ("forward", 6 * elements + bias + mask),  # two additions and a softmax
        ("backward", 3 * elements + elements + bias),  # softmax, then the sum over the batch for the bias
    ):
        asked = dataclasses.replace(problem, mode=mode)
        assert dispatched_bytes(Call(of.eager, asked, of.make(asked, "cpu", 0))) == pytest.approx(4 * items, rel=0.02)


@pytest.mark.parametrize("mode", ["forward", "backward", "both"])
def test_a_call_does_what_its_mode_says(mode):
    passes = []

    class Pass(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            passes.append("forward")
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            passes.append("backward")
            return gradient

    suite = small_suite("rms_norm", mode=mode)
    problem = suite.problems["small-encoder"]
    call = Call(lambda t, dropout: (Pass.apply(t["x"]) * t["weight"],), problem, suite.inputs(problem, "cpu"))
    call()
    passes.clear()
    call()
    call()
    assert passes == {"forward": ["forward"], "backward": ["backward"], "both": ["forward", "backward"]}[mode] * 2


@pytest.mark.parametrize("name", OPERATOR_SUITES)
def test_what_is_missing_says_why(name):
    suite = small_suite(name)
    problem = next(iter(suite.problems.values()))
    reasons = {provider.name: provider.unavailable(problem, "cpu") for provider in suite.providers}
    assert reasons["edgeroof-triton"] == "Triton needs a CUDA device"
    assert reasons["eager"] is None
    assert ("liger" in reasons) == (name != "attention")  # it has none with a bias
    if "liger" in reasons and importlib.util.find_spec("liger_kernel") is None:
        assert reasons["liger"] == "liger-kernel is not installed"


def test_providers_work_on_tensors_of_their_own_dtype_and_refresh_keeps_their_spread():
    suite = small_suite("softmax", dtype="bf16")
    problem = suite.problems["small-encoder"]
    tensors = suite.inputs(problem, "cpu")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    suite.refresh(tensors, 3)
    assert not torch.equal(before["scores"], tensors["scores"])
    assert torch.equal(before["mask"], tensors["mask"])
    assert float(tensors["scores"].detach().float().std()) == pytest.approx(
        float(before["scores"].float().std()), rel=0.1
    )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("softmax", {"mode": "sideways"}, "mode is 'sideways'"),
        ("softmax", {"batch_size": 0}, "batch_size is 0"),
        ("softmax", {"dropout": 1.0}, "dropout is 1.0"),
        ("softmax", {"clip_norm": 1.0}, "suite softmax has no gradient to clip"),
        ("softmax", {"dtype": "fp16"}, "suite softmax has fp32 and bf16"),
        ("step", {"mode": "forward"}, "suite step has no setting mode"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, message):
    with pytest.raises(UsageError, match=message):
        load_suite(name, **settings)


def test_a_comparison_end_to_end():
    suite = softmax_suite(sizes("cpu", "fp32", "both", batch_size=1, source_length=16, target_length=8))
    problem = suite.problems["small-encoder-attention"]

    def twice(tensors, dropout):
        operation_of(suite).eager(tensors, dropout)
        return operation_of(suite).eager(tensors, dropout)

    slow = dataclasses.replace(provider_of(suite, "sdpa"), name="twice", run=twice)
    suite = operator_suite(
        "softmax", "probabilities", [provider_of(suite, "eager"), slow], of=operation_of(suite),
        problems={problem.name: problem}, defaults=suite.defaults, quick=suite.quick,
    )  # fmt: skip
    settings = Settings(seconds=0.0, most_seconds=2.0, energy_seconds=0.0)
    result = run(suite, [problem], DEVICE, settings=settings)
    base, other = result["problems"][0]["results"]
    assert other["verdict"] == "SLOWER"
    assert base["bytes_moved"] < other["bytes_moved"]
    assert result["problems"][0]["items"] == "elements"
    assert other["error"] <= other["tolerance"]
