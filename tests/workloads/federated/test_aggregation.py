"""Aggregation: means and server steps against hand-made numbers; broken updates are named and change nothing."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeroof.errors import UpdateError, UsageError
from edgeroof.workloads.federated.aggregation import (
    LARGEST_CHANGE,
    LEAST_SIZE,
    SERVER_OPTIMIZERS,
    ServerOptimizer,
    accept,
    mean_change,
)
from edgeroof.workloads.federated.codecs import parse_codec
from edgeroof.workloads.federated.results import MOST_REASON, ClientFailure, ClientResult
from edgeroof.workloads.federated.update import Message, to_bytes

NONE = parse_codec("none")
WEIGHTS = {"a": torch.zeros(2, 3), "b": torch.ones(4)}


def answer(client: int, value: float, examples: int = 1, like: dict | None = None) -> ClientResult:
    change = {name: torch.full_like(tensor, value) for name, tensor in (like or WEIGHTS).items()}
    return ClientResult(client, to_bytes(NONE.encode(change)), examples, 10, 1.0, 0.1, 0.0)


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.integers(1, 50)), min_size=1, max_size=6))
def test_the_mean_is_weighted_by_examples(clients: list) -> None:
    used, left_out = accept([answer(i, v, n) for i, (v, n) in enumerate(clients)], WEIGHTS, NONE)
    assert not left_out
    expected = sum(v * n for v, n in clients) / sum(n for _, n in clients)
    assert torch.allclose(mean_change(used)["a"], torch.tensor(expected).float(), atol=1e-6)


def test_the_order_of_arrival_does_not_matter() -> None:
    answers = [answer(i, 0.1 * i + 1e-7, 3 + i) for i in range(5)]
    forward, backward = (mean_change(accept(order, WEIGHTS, NONE)[0]) for order in (answers, answers[::-1]))
    assert all(torch.equal(forward[name], backward[name]) for name in WEIGHTS)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda sound: dataclasses.replace(sound, payload=b""), "damaged"),
        (lambda sound: dataclasses.replace(sound, payload=sound.payload[:-7]), "damaged"),
        (lambda sound: dataclasses.replace(sound, payload=bytes(3 << 20)), "at most"),
        (lambda sound: dataclasses.replace(sound, examples=0), "0 examples"),
        (lambda sound: dataclasses.replace(sound, examples=-4), "-4 examples"),
        (lambda sound: answer(1, 0.0, like={"a": torch.zeros(3, 3)}), "float32"),
        (lambda sound: dataclasses.replace(sound, payload=to_bytes(parse_codec("fp16").encode(WEIGHTS))), "fp16"),
        (lambda sound: dataclasses.replace(sound, loss=1e308), "its loss is 1e+308"),
        (lambda sound: answer(1, 3e38), "a changes by 3e+38 (root mean square) where at most 1 is believed"),
        (lambda sound: dataclasses.replace(sound, payload=to_bytes(Message({}, {"codec": "x" * 10**6}))), "made by x"),
    ],
)
def test_broken_updates_are_left_out_and_named(broken: object, reason: str) -> None:
    used, left_out = accept([answer(0, 0.1), broken(answer(1, 0.5)), answer(2, 0.3)], WEIGHTS, NONE)
    assert [entry.result.client for entry in used] == [0, 2]
    assert [failure.client for failure in left_out] == [1]
    assert reason in left_out[0].reason
    assert len(left_out[0].reason) <= MOST_REASON
    assert torch.allclose(mean_change(used)["b"], torch.tensor(0.2))


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_the_largest_changes_that_are_accepted_leave_finite_weights(name: str) -> None:
    """Round after round, in weights and in the server's state."""
    largest = LARGEST_CHANGE * LEAST_SIZE
    used, _ = accept([answer(0, largest), answer(1, largest, 7)], WEIGHTS, NONE)
    weights, state = WEIGHTS, {}
    for _ in range(20):
        weights, state = ServerOptimizer(name, 0.5).step(weights, mean_change(used), state)
    assert all(bool(tensor.isfinite().all()) for tensor in [*weights.values(), *state.values()])


@pytest.mark.parametrize("value", [0.4, 1e30, math.nan, math.inf])
def test_steps_of_the_server_that_lead_nowhere_are_refused(value: float) -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.full((4,), 2.0)}
    change = {"a": torch.zeros(2, 3), "b": torch.full((4,), value)}
    with pytest.raises(UpdateError, match="b changes by"):
        ServerOptimizer("fedavg", learning_rate=60.0).step(weights, change, {})
    assert torch.equal(weights["b"], torch.full((4,), 2.0))


def test_a_state_that_is_no_number_is_refused() -> None:
    state = {"w.average": torch.zeros(1), "w.square": torch.tensor([math.inf])}
    with pytest.raises(UpdateError, match=r"w\.square of the server's optimizer"):
        ServerOptimizer("fedadam").step({"w": torch.ones(1)}, {"w": torch.ones(1)}, state)


def test_values_that_are_no_numbers_are_left_out() -> None:
    message = NONE.encode(WEIGHTS)
    message.arrays["values"][3] = float("nan")
    forged = dataclasses.replace(answer(4, 1.0), payload=to_bytes(message))
    used, left_out = accept([forged, ClientFailure(7, "timed out")], WEIGHTS, NONE)
    assert not used
    assert [failure.client for failure in left_out] == [4, 7]
    assert "no finite numbers" in left_out[0].reason
    with pytest.raises(ValueError, match="no update"):
        mean_change(used)


def two_steps(optimizer: ServerOptimizer) -> torch.Tensor:
    weights, state = {"w": torch.tensor([1.0], dtype=torch.float64)}, {}
    for change in (0.5, -0.25):
        weights, state = optimizer.step(weights, {"w": torch.tensor([change], dtype=torch.float64)}, state)
    return weights["w"]


def test_server_steps_by_hand() -> None:
    assert two_steps(ServerOptimizer("fedavg")) == pytest.approx(1.25)
    assert two_steps(ServerOptimizer("fedavg", learning_rate=0.5)) == pytest.approx(1.125)
    assert two_steps(ServerOptimizer("fedavgm")) == pytest.approx(1 + 0.5 + (0.9 * 0.5 - 0.25))
    first = 0.05 / (0.01 * 0.25) ** 0.5
    m, v = 0.9 * 0.05 + 0.1 * -0.25, 0.99 * 0.0025 + 0.01 * 0.0625
    adam = ServerOptimizer("fedadam", learning_rate=0.1, adaptivity=1e-15)
    assert two_steps(adam) == pytest.approx(1 + 0.1 * first + 0.1 * m / v**0.5)
    decayed = ServerOptimizer("fedadamw", learning_rate=0.1, adaptivity=1e-15, weight_decay=0.5)
    assert two_steps(decayed) == pytest.approx(0.95 * (0.95 + 0.1 * first) + 0.1 * m / v**0.5)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_a_step_changes_nothing_it_was_given(name: str) -> None:
    weights, change = {"w": torch.ones(3)}, {"w": torch.ones(3)}
    after, state = ServerOptimizer(name).step(weights, change, {})
    again, _ = ServerOptimizer(name).step(after, change, state)
    assert torch.equal(weights["w"], torch.ones(3))
    assert torch.equal(change["w"], torch.ones(3))
    assert (again["w"] > after["w"]).all()


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="fedavg"):
        ServerOptimizer("sgd")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"learning_rate": 0.0}, "above 0"),
        ({"learning_rate": math.inf}, "above 0"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": math.nan}, "momentum"),
        ({"beta2": -0.1}, "beta2"),
        ({"adaptivity": 0.0}, "adaptivity"),
        ({"adaptivity": math.inf}, "adaptivity"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": math.nan}, "weight_decay"),
        ({"learning_rate": 1.0, "weight_decay": 2.0}, "at most 1"),
    ],
)
def test_numbers_are_checked(wrong: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ServerOptimizer("fedadamw", **wrong)
