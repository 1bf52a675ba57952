"""The Flower engine over a network in one process: equal weights, and clients that misbehave are named."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="the flower engine needs Flower: pip install 'edgeroof[federated]'")

from flwr.app import Array, ArrayRecord, Context, Error, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.errors import FederatedError, UpdateError
from edgeroof.workloads.federated.codecs import parse_codec
from edgeroof.workloads.federated.flower import wire
from edgeroof.workloads.federated.flower.engine import FlowerEngine
from edgeroof.workloads.federated.flower.nodes import Roster, read_node
from edgeroof.workloads.federated.results import ClientFailure, ClientResult
from edgeroof.workloads.federated.rounds import Federation
from edgeroof.workloads.federated.update import Message as Update
from edgeroof.workloads.federated.update import from_bytes, to_bytes

from .flower_grid import Behaviour, MemoryGrid, honest, post
from .tiny import federation


def engine(trainer: Any, grid: MemoryGrid, timeout_s: float = 60.0) -> FlowerEngine:
    return FlowerEngine(grid, trainer.config, trainer.data.sizes(), timeout_s, post(grid))


@pytest.mark.parametrize("nodes", [1, 3])
def test_both_engines_give_the_same_weights(nodes: int) -> None:
    """With error feedback, so that the memory on the nodes counts; bit for bit, since the same code trains."""
    trainer, local = federation(codec="topk:0.1+int8", sampled=3)
    here = Federation.start(trainer, local)
    here.run()
    trainer, _ = federation(codec="topk:0.1+int8", sampled=3)
    there = Federation.start(trainer, engine(trainer, MemoryGrid([honest] * nodes)))
    there.run()
    assert all(torch.equal(here.weights[name], there.weights[name]) for name in here.weights)
    assert [record["clients"] for record in here.state.history[1:]] == [
        [entry["client"] for entry in record["used"]] for record in there.state.history[1:]
    ]


def sends_nothing(message: Message, context: Context) -> None:
    return None


def is_lost(message: Message, context: Context) -> Message:
    return Message(Error(5, "node unavailable"), reply_to=message)


def tampered(change: Any) -> Behaviour:
    """A client that trains and then changes its answer's plain values and its update, as tensors."""

    def behave(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        values = wire.about(reply.content)
        update = from_bytes(wire.file_bytes(reply.content, "update", 1 << 30))
        tensors = dict(update.arrays)
        change(values, tensors)
        data = to_bytes(Update(tensors, update.about))
        return Message(wire.content(values, {"update": wire.bytes_array(data)}), reply_to=message)

    return behave


def sends(array: Array) -> Behaviour:
    """A client whose update is an array of its own making."""

    def behave(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        reply.content["update"] = ArrayRecord({"data": array})
        return reply

    return behave


def with_first(change: Any) -> Any:
    def apply(values: dict, tensors: dict) -> None:
        name = next(iter(tensors))
        tensors[name] = change(tensors[name])

    return apply


def claims(**wrong: Any) -> Any:
    return lambda values, tensors: values.update(wrong)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (sends_nothing, "did not answer within 60 s"),
        (is_lost, "was lost: node unavailable"),
        (tampered(with_first(lambda tensor: tensor * float("nan"))), "no finite numbers"),
        (tampered(with_first(lambda tensor: tensor[:1])), "should be float32 [279424]"),
        (tampered(with_first(lambda tensor: tensor.double())), "float64"),
        (tampered(lambda values, tensors: tensors.clear()), "payload"),
        (tampered(lambda values, tensors: tensors.update(giant=torch.zeros(4_000_000))), "bytes where at most"),
        (tampered(claims(examples=10**9)), "claims 1,000,000,000 examples"),
        (tampered(claims(examples=0)), "claims 0 examples"),
        (tampered(claims(examples="all")), "examples is 'all'"),
        (tampered(claims(compute_s=float("inf"))), "compute_s is inf"),
        (tampered(claims(round=7)), "round 7"),
        (tampered(claims(client=3)), "client 3"),
        (sends(Array(np.zeros(3))), "no array of bytes"),
        (sends(Array("uint8", (1_000,), wire.FORM, b"junk")), "no array of bytes"),
        (sends(Array("uint8", (4,), wire.FORM, b"junk")), "damaged"),
    ],
)
def test_a_client_that_misbehaves_is_left_out_and_named(behaviour: Behaviour, reason: str) -> None:
    trainer, _ = federation(clients=2, sampled=2, rounds=1)
    federated = Federation.start(trainer, engine(trainer, MemoryGrid([honest, behaviour])))
    record = federated.run()[1]
    assert record["aggregated"]
    assert [entry["client"] for entry in record["used"]] == [0]
    (left,) = record["left_out"]
    assert left["client"] == 1
    assert reason in left["reason"]
    assert all(torch.isfinite(tensor).all() for tensor in federated.weights.values())


def test_a_client_that_cannot_train_says_why() -> None:
    trainer, _ = federation(clients=2, sampled=2, rounds=1, client={"learning_rate": 1e30})
    grid = MemoryGrid([honest])
    answers = engine(trainer, grid).train(1, [0, 1], trainer.weights())
    assert [answer.client for answer in answers] == [0, 1]
    used = [answer for answer in answers if isinstance(answer, ClientResult)]
    assert not used
    assert all("diverged" in answer.reason for answer in answers if isinstance(answer, ClientFailure))


def test_a_node_that_is_silent_holds_up_no_other() -> None:
    trainer, _ = federation(sampled=4)
    asked: list[int] = []
    answers = engine(trainer, MemoryGrid([honest, sends_nothing])).train(
        1, [0, 1, 2, 3], trainer.weights(), asked.append
    )
    told = {answer.client: getattr(answer, "reason", "") for answer in answers}
    assert told == {
        0: "",
        2: "",
        1: "did not answer within 60 s",
        3: "was not asked: its node did not answer within 60 s",
    }
    assert sorted(asked) == [0, 1, 2, 3]


def test_clients_without_a_node_are_named() -> None:
    trainer, _ = federation(sampled=4)
    answers = engine(trainer, MemoryGrid([honest], nodes=2)).train(1, [0, 1], trainer.weights())
    assert isinstance(answers[0] if answers[0].client == 1 else answers[1], ClientFailure)
    assert {answer.client: type(answer) for answer in answers} == {0: ClientResult, 1: ClientFailure}


def test_a_node_that_comes_later_is_found() -> None:
    trainer, _ = federation(sampled=4)
    grid = MemoryGrid([honest, honest])
    late = grid.behaviours.pop(101)
    reached = engine(trainer, grid)
    assert isinstance(reached.train(1, [1], trainer.weights())[0], ClientFailure)
    grid.behaviours[101] = late
    assert isinstance(reached.train(2, [1], trainer.weights())[0], ClientResult)


def test_no_nodes_end_in_an_error() -> None:
    with pytest.raises(FederatedError, match="no SuperNode introduced itself within 9 s"):
        Roster(post(MemoryGrid([]))).wait(1, 9.0)


@pytest.mark.parametrize(
    "values", [{}, {"index": 2, "nodes": 2}, {"index": -1, "nodes": 2}, {"index": "0", "nodes": 1}]
)
def test_nodes_that_make_no_sense_are_not_used(values: dict) -> None:
    assert read_node(1, wire.content(values, {})) is None


@given(data=st.binary(max_size=200), round_number=st.integers(1, 9), examples=st.integers(1, 50))
@settings(max_examples=30)
def test_answers_travel_unchanged(data: bytes, round_number: int, examples: int) -> None:
    sent = ClientResult(3, data, examples, 7, 0.5, 1.5, 0.25)
    content = wire.answer_content(round_number, sent)
    assert wire.read_answer(content, round_number, 3, most_bytes=200, most_examples=50) == sent


def test_long_reasons_are_cut() -> None:
    content = wire.answer_content(1, ClientFailure(0, "x" * 10_000))
    read = wire.read_answer(content, 1, 0, most_bytes=1, most_examples=1)
    assert isinstance(read, ClientFailure)
    assert len(read.reason) == wire.MOST_REASON


def test_a_message_without_its_file_is_told() -> None:
    with pytest.raises(UpdateError, match="holds no weights"):
        wire.file_bytes(wire.content({}, {}), "weights", 1)


def test_the_codec_of_the_federation_is_the_clients() -> None:
    trainer, _ = federation(codec="fp16")
    (answer,) = engine(trainer, MemoryGrid([honest])).train(1, [0], trainer.weights())
    assert isinstance(answer, ClientResult)
    decoded = parse_codec("fp16").decode(from_bytes(answer.payload), trainer.weights())
    assert dataclasses.replace(answer, payload=b"").client == 0
    assert decoded.keys() == trainer.weights().keys()
