"""Flower's network in one process: a grid whose nodes run a real ClientApp at once, or, when asked to train,
what a test tells them."""

from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from edgeroof.workloads.federated.flower.client_app import app
from edgeroof.workloads.federated.flower.nodes import Post

#: (message, context) → reply, or None for none.
Behaviour = Callable[[Message, Context], Message | None]


def honest(message: Message, context: Context) -> Message:
    return app(message, context)


class MemoryGrid(Grid):
    """A grid; ``behaviours`` are those of nodes 0, 1 …"""

    def __init__(self, behaviours: list[Behaviour], nodes: int | None = None) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1  # Flower's processes set them
        self.behaviours = dict(enumerate(behaviours, start=100))
        self.count = count = nodes or len(behaviours)
        self.contexts = {
            node: Context(1, node, {"index": index, "nodes": count}, RecordDict(), {})
            for index, node in enumerate(self.behaviours)
        }
        self.sent: list[Message] = []
        self.silent: set[int] = set()
        self._replies: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return list(self.behaviours)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        numbers = []
        for message in messages:
            number = f"message-{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = number
            self.sent.append(message)
            node = message.metadata.dst_node_id
            behave = self.behaviours[node] if message.metadata.message_type == "train" else honest
            reply = behave(message, self.contexts[node])
            if reply is not None and node not in self.silent:
                self._replies[number] = reply
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(self, *arguments: Any, **named: Any) -> Iterable[Message]:
        raise NotImplementedError


def post(grid: MemoryGrid) -> Post:
    """A post whose clock moves only while it waits."""
    now = [0.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    return Post(grid, lambda: now[0], pause)
