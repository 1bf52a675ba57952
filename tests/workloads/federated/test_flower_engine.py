"""The Flower engine over a network in one process: equal weights, and clients that misbehave are named."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="the flower engine needs Flower: pip install 'edgeroof[federated]'")

from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeroof.errors import FederatedError, UpdateError
from edgeroof.workloads.federated.codecs import parse_codec
from edgeroof.workloads.federated.flower import wire
from edgeroof.workloads.federated.flower.engine import FlowerEngine
from edgeroof.workloads.federated.flower.nodes import INTRODUCTION_S, Roster, read_node
from edgeroof.workloads.federated.results import MOST_REASON, ClientFailure, ClientResult
from edgeroof.workloads.federated.rounds import Federation
from edgeroof.workloads.federated.update import Message as Update
from edgeroof.workloads.federated.update import from_bytes, to_bytes

from .flower_grid import Behaviour, MemoryGrid, honest, post
from .tiny import federation


def engine(trainer: Any, grid: MemoryGrid, timeout_s: float = 60.0) -> FlowerEngine:
    return FlowerEngine(grid, trainer.config, trainer.data.sizes(), grid.count, timeout_s, post(grid))


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


def test_both_engines_forget_a_round_that_was_not_used() -> None:
    """The server drops every answer of round 2, after the clients have sent them."""

    def run(engine: Any) -> Federation:
        train = engine.train

        def drop(number: int, *rest: Any) -> list:
            answers = train(number, *rest)
            return answers if number != 2 else [ClientFailure(answer.client, "late") for answer in answers]

        engine.train = drop
        federated = Federation.start(trainer, engine)
        federated.run()
        return federated

    settings_ = {"codec": "topk:0.1+int8", "clients": 2, "sampled": 2, "rounds": 4}
    trainer, local = federation(**settings_)
    here = run(local)
    trainer, _ = federation(**settings_)
    there = run(engine(trainer, MemoryGrid([honest] * 2)))
    assert all(torch.equal(here.weights[name], there.weights[name]) for name in here.weights)
    assert (there.state.history[1]["engine"], there.state.history[1]["nodes"]) == ("flower", 2)


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
        (tampered(claims(compute_s=float("inf"))), "compute_s is inf of at most 60"),
        (tampered(claims(codec_s=1e308)), "codec_s is 1e+308 of at most 60"),
        (tampered(claims(compute_s=float("nan"))), "compute_s is nan"),
        (tampered(claims(tokens=2**62)), "claims 4,611,686,018,427,387,904 tokens"),
        (tampered(claims(loss=-1e300)), "loss is -1e+300"),
        (tampered(claims(loss=1e308)), "loss is 1e+308, where 0 to 10,000 can be"),
        (tampered(claims(loss=[1.0])), "loss is '[1.0]'"),
        (tampered(with_first(lambda tensor: tensor * 0 + 1e30)), "where at most"),
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
        Roster(post(MemoryGrid([])), 1).wait(9.0)


def test_a_node_that_claims_other_clients_is_not_used() -> None:
    """Index 0 of 1 would serve every client of a federation of two nodes."""
    grid = MemoryGrid([honest, honest])
    grid.contexts[101].node_config.update(index=0, nodes=1)
    assert [(node.node_id, node.index) for node in Roster(post(grid), 2).update()] == [(100, 0)]


def test_a_node_that_never_says_a_word_holds_up_one_round() -> None:
    grid = MemoryGrid([honest, honest])
    grid.silent.add(101)
    clock = post(grid)
    roster, passed = Roster(clock, 2), []
    for _ in range(5):
        before = clock.clock()
        assert [node.node_id for node in roster.update()] == [100]
        passed.append(clock.clock() - before)
        clock.pause(60)
    assert passed == [INTRODUCTION_S, 0, 0, 0, 0]
    grid.silent.clear()
    clock.pause(INTRODUCTION_S)
    assert [node.node_id for node in roster.update()] == [100, 101]


def test_a_node_that_was_started_again_takes_its_place() -> None:
    """Flower still lists the one that is gone, whose number sorts before or behind at random."""
    grid = MemoryGrid([honest, honest])
    again = {50: honest, 150: honest}
    roster = Roster(post(grid), 2)
    roster.update()
    for node_id, behaviour in again.items():
        grid.behaviours[node_id] = behaviour
        grid.contexts[node_id] = Context(1, node_id, {"index": 1, "nodes": 2}, RecordDict(), {})
        assert [node.node_id for node in roster.update()] == [100, node_id]


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
    assert wire.read_answer(content, round_number, 3, wire.Limits(200, 50, 7, 1.5)) == sent


@given(reason=st.text(min_size=1, max_size=50), times=st.integers(1, 100_000))
@settings(max_examples=30)
def test_reasons_are_one_short_line(reason: str, times: int) -> None:
    content = wire.answer_content(1, ClientFailure(0, "training diverged"))
    content.config_records["about"]["failure"] = (reason * times)[:100_000]
    read = wire.read_answer(content, 1, 0, wire.Limits(1, 1, 1, 1.0))
    assert isinstance(read, ClientFailure)
    assert len(read.reason) <= MOST_REASON
    assert read.reason.isprintable()


HOSTILE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=30),
    st.binary(max_size=30),
    st.lists(st.floats(), max_size=3),
)


@given(
    values=st.dictionaries(
        st.sampled_from(["round", "client", "examples", "tokens", "loss", "compute_s", "codec_s", "failure", "x"]),
        HOSTILE_VALUES.filter(lambda value: value is not None),
    ),
    sound=st.booleans(),
)
def test_whatever_a_client_claims_is_checked_or_refused(values: dict, sound: bool) -> None:
    honest_values = {
        "round": 1, "client": 0, "examples": 5, "tokens": 70, "loss": 2.0, "compute_s": 0.5, "codec_s": 0.1,
    }  # fmt: skip
    content = wire.content({**(honest_values if sound else {}), **values}, {"update": wire.bytes_array(b"update")})
    read = wire.read_answer(content, 1, 0, wire.Limits(100, 10, 100, 60.0))
    if isinstance(read, ClientResult):
        assert (read.client, 0 < read.examples <= 10, 0 <= read.tokens <= 100) == (0, True, True)
        assert 0 <= read.compute_s + read.codec_s <= 120
        assert not read.loss < 0


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
