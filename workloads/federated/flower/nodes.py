"""Which SuperNodes are there, and which clients each of them serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from ....errors import FederatedError
from ..results import one_line
from . import wire

#: How long SuperNodes have to introduce themselves: a fresh process that loads nothing heavy.
INTRODUCTION_S = 90.0
#: Pause between looks for replies.
POLL_S = 0.5
#: Flower drops a message this much later than the server gives it up, so that the reason given is the server's.
EXPIRY_SLACK_S = 60.0


@dataclass(frozen=True)
class Node:
    """A SuperNode.

    Attributes:
        node_id: Flower's number for it.
        index: its own, from 0.
        nodes: how many there are of its kind.
    """

    node_id: int
    index: int
    nodes: int

    def serves(self, client: int) -> bool:
        """Whether a client's data is trained on there."""
        return client % self.nodes == self.index


#: What came for a message: the content, or why there is none.
Reply = RecordDict | str


class Post:
    """Sends messages to nodes and takes what comes back, one by one, so that a damaged reply harms no other.

    Args:
        grid: Flower's.
        clock: seconds; replaced in tests.
        pause: waits some seconds; replaced in tests.
    """

    def __init__(
        self, grid: Grid, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._grid, self.clock, self.pause = grid, clock, pause

    def online(self) -> set[int]:
        """Nodes that Flower has heard of lately."""
        return set(self._reach(self._grid.get_node_ids))

    def send(self, node_id: int, content: RecordDict, kind: str, timeout_s: float, group: str = "") -> str:
        """Send a message that is of use for ``timeout_s``. Returns its number."""
        message = Message(content, node_id, kind, ttl=timeout_s + EXPIRY_SLACK_S, group_id=group)
        (number,) = self._reach(lambda: self._grid.push_messages([message]))
        if not number:
            raise FederatedError("Flower refused a message; its log says why")
        return str(number)

    def take(self, numbers: Iterable[str]) -> dict[str, Reply]:
        """What has come for the messages with these numbers."""
        return {number: reply for number in numbers if (reply := self._take(number)) is not None}

    def _take(self, number: str) -> Reply | None:
        try:
            replies = list(self._grid.pull_messages([number]))
            if not replies:
                return None
            return f"was lost: {_reason(replies[0].error)}" if replies[0].has_error() else replies[0].content
        except httpx.HTTPError as error:
            raise FederatedError(f"the SuperLink cannot be reached: {error}") from error
        except Exception as error:  # whatever Flower makes of what a client sent
            return one_line(f"sent a message that cannot be read: {error}")

    def _reach(self, call: Callable[[], Any]) -> Any:
        try:
            return list(call())
        except httpx.HTTPError as error:
            raise FederatedError(f"the SuperLink cannot be reached: {error}") from error

    def ask_all(self, nodes: Iterable[int], content: RecordDict, kind: str, timeout_s: float) -> dict[int, Reply]:
        """Ask several nodes the same; those that did not answer in time are missing from the result."""
        waiting = {self.send(node, content, kind, timeout_s): node for node in nodes}
        deadline, replies = self.clock() + timeout_s, {}
        while waiting and self.clock() < deadline:
            for number, reply in self.take(list(waiting)).items():
                replies[waiting.pop(number)] = reply
            if waiting:
                self.pause(POLL_S)
        return replies


def _reason(error: Any) -> str:
    return one_line(str(error.reason or f"error {error.code}"))


@dataclass(frozen=True)
class Question:
    """Who a node is, asked and not answered yet."""

    node_id: int
    deadline: float


class Roster:
    """The SuperNodes that have introduced themselves, one for each index.

    Args:
        post: reaches them.
        nodes: how many there are; who says otherwise would serve the clients of others, and is not used.
    """

    def __init__(self, post: Post, nodes: int) -> None:
        self._post, self._nodes = post, nodes
        self._known: dict[int, Node] = {}
        self._asked: dict[str, Question] = {}
        self._met: set[int] = set()

    def update(self) -> list[Node]:
        """The nodes that are there now, by index; others are asked who they are.

        Those that are seen for the first time are waited for, later only taken notice of: who connects and never says
        a word holds up one round, not all. Of several with one index the one that came last counts: it was started
        again, and Flower has not missed the other yet.
        """
        online = self._post.online()
        new = online - self._met
        self._met |= new
        self._ask(online - self._known.keys())
        self._listen()
        deadline = self._post.clock() + INTRODUCTION_S
        while new & self._pending() and self._post.clock() < deadline:
            self._post.pause(POLL_S)
            self._listen()
        by_index = {node.index: node for node in self._known.values() if node.node_id in online}
        return [by_index[index] for index in sorted(by_index)]

    def _pending(self) -> set[int]:
        return {question.node_id for question in self._asked.values()}

    def _ask(self, nodes: set[int]) -> None:
        """Ask nodes who they are, but for those that still have time to say it."""
        now = self._post.clock()
        self._asked = {number: asked for number, asked in self._asked.items() if now < asked.deadline}
        for node_id in sorted(nodes - self._pending()):
            number = self._post.send(node_id, wire.content({"question": "who"}, {}), "query", INTRODUCTION_S)
            self._asked[number] = Question(node_id, now + INTRODUCTION_S)

    def _listen(self) -> None:
        for number, reply in self._post.take(list(self._asked)).items():
            node = read_node(self._asked.pop(number).node_id, reply)
            if node is not None and node.nodes == self._nodes:
                self._known[node.node_id] = node

    def wait(self, timeout_s: float) -> list[Node]:
        """Wait until all nodes are there; go on with fewer after ``timeout_s``.

        Raises:
            FederatedError: none came.
        """
        deadline = self._post.clock() + timeout_s
        while len(nodes := self.update()) < self._nodes and self._post.clock() < deadline:
            self._post.pause(POLL_S)
        if not nodes:
            raise FederatedError(
                f"no SuperNode introduced itself within {timeout_s:.0f} s; start them with "
                f"--node-config 'index=0 nodes={self._nodes}' and so on (docs/federated.md)"
            )
        return nodes


def read_node(node_id: int, reply: Reply) -> Node | None:
    """A node from what it says of itself; ``None`` when that makes no sense."""
    values = {} if isinstance(reply, str) else wire.about(reply)
    index, nodes = values.get("index"), values.get("nodes")
    if not (isinstance(index, int) and isinstance(nodes, int) and 0 <= index < nodes):
        return None
    return Node(node_id, index, nodes)
