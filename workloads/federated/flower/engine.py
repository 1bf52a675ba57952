"""The engine of rounds whose clients are reached through Flower."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from flwr.app import Array
from flwr.serverapp import Grid

from ..aggregation import giant_bytes
from ..config import FederatedConfig
from ..engine import NEVER_USED, LastUsed, OnAnswer
from ..results import Answer, ClientFailure
from ..update import Message, Update, to_bytes
from . import wire
from .nodes import POLL_S, Node, Post, Roster


@dataclass(frozen=True)
class Asked:
    """A message under way."""

    client: int
    node: Node
    deadline: float


class FlowerEngine:
    """Trains clients on SuperNodes.

    A node gets one message at a time: its clients share its memory. What a node does not answer in time is given up,
    with the clients that wait behind it.

    Args:
        grid: Flower's way to the nodes.
        config: the federation.
        sizes: how many examples each client has.
        nodes: SuperNodes of the federation.
        timeout_s: for a client to answer.
        post: replaced in tests.

    Attributes:
        config: the federation.
        sizes: how many examples each client has.
        nodes: SuperNodes of the federation.
        timeout_s: for a client to answer.
        post: reaches the nodes.
        roster: the nodes that are there.
    """

    name = "flower"

    def __init__(
        self,
        grid: Grid,
        config: FederatedConfig,
        sizes: Sequence[int],
        nodes: int,
        timeout_s: float,
        post: Post | None = None,
    ) -> None:
        self.config, self.sizes, self.timeout_s = config, sizes, timeout_s
        self.nodes = nodes
        self.post = post or Post(grid)
        self.roster = Roster(self.post, nodes)

    def train(
        self,
        round_number: int,
        clients: Sequence[int],
        weights: Update,
        on_answer: OnAnswer = lambda client: None,
        used: LastUsed = NEVER_USED,
    ) -> list[Answer]:
        """Train clients on the nodes that serve them."""
        round_ = _Round(self, round_number, weights, on_answer, used)
        nodes = self.roster.update()
        for client in clients:
            round_.add(client, next((node for node in nodes if node.serves(client)), None))
        while round_.under_way:
            round_.send()
            round_.receive()
            if round_.under_way:
                self.post.pause(POLL_S)
        return round_.answers

    def memory(self) -> Message:
        """Nothing: clients keep what they remember on their nodes."""
        return Message({})

    def remember(self, memory: Message) -> None:
        """Nothing can be put back: nodes begin every run of Flower without memory."""

    def close(self) -> None:
        """Flower closes its own connections."""


class _Round:
    """One round's messages."""

    def __init__(self, engine: FlowerEngine, number: int, weights: Update, on_answer: OnAnswer, used: LastUsed) -> None:
        self._engine, self._number, self._on_answer, self._used = engine, number, on_answer, used
        self._weights: Array = wire.bytes_array(to_bytes(Message(weights)))
        self._most_bytes = giant_bytes(weights)
        self._queues: dict[Node, deque[int]] = {}
        self._asked: dict[str, Asked] = {}
        self.answers: list[Answer] = []

    @property
    def under_way(self) -> bool:
        """Whether answers are missing."""
        return bool(self._asked) or any(self._queues.values())

    def add(self, client: int, node: Node | None) -> None:
        """Ask a client in this round."""
        if node is None:
            self._done(ClientFailure(client, "has no SuperNode: none that is connected serves it"))
        else:
            self._queues.setdefault(node, deque()).append(client)

    def send(self) -> None:
        """Send the next message to every node that waits for one."""
        engine = self._engine
        busy = {asked.node for asked in self._asked.values()}
        for node, queue in self._queues.items():
            if not queue or node in busy:
                continue
            client = queue.popleft()
            content = wire.task(self._number, client, engine.config, self._weights, self._used.get(client, 0))
            number = engine.post.send(node.node_id, content, "train", engine.timeout_s, str(self._number))
            self._asked[number] = Asked(client, node, engine.post.clock() + engine.timeout_s)

    def receive(self) -> None:
        """Take the answers that have come, and give up what is too late."""
        for number, reply in self._engine.post.take(list(self._asked)).items():
            asked = self._asked.pop(number)
            self._done(ClientFailure(asked.client, reply) if isinstance(reply, str) else self._read(asked, reply))
        now = self._engine.post.clock()
        for number, asked in list(self._asked.items()):
            if now >= asked.deadline:
                del self._asked[number]
                self._give_up(asked)

    def _read(self, asked: Asked, reply: wire.RecordDict) -> Answer:
        client = self._engine.config.client
        examples = self._engine.sizes[asked.client] * client.local_epochs
        limits = wire.Limits(
            bytes=self._most_bytes,
            examples=examples,
            tokens=examples * (client.source_length + client.target_length),
            seconds=self._engine.timeout_s,
        )
        return wire.read_answer(reply, self._number, asked.client, limits)

    def _give_up(self, asked: Asked) -> None:
        waited = f"{self._engine.timeout_s:g} s"
        self._done(ClientFailure(asked.client, f"did not answer within {waited}"))
        queue = self._queues[asked.node]
        while queue:
            self._done(ClientFailure(queue.popleft(), f"was not asked: its node did not answer within {waited}"))

    def _done(self, answer: Answer) -> None:
        self.answers.append(answer)
        self._on_answer(answer.client)
