"""What Flower runs on a SuperNode: one client's part of a round, or a profile of its step.

Every message is served by a fresh process. What clients remember between rounds is kept by Flower on the node, for as
long as the node and the run live.
"""

from __future__ import annotations

import json

from flwr.app import ArrayRecord, Context, Message
from flwr.clientapp import ClientApp

from ....errors import EdgeroofError, UsageError
from ..codecs import Compressor
from ..config import FederatedConfig
from ..engine import pack_memory, unpack_memory
from ..results import ClientFailure
from ..training import ClientTrainer, new_compressor
from ..update import from_bytes, to_bytes
from . import wire

#: Of what a server may send; Flower's own limit.
MOST_BYTES = 2**31 - 1

_MEMORY = "memory"

app = ClientApp()


@app.query()
def introduce(message: Message, context: Context) -> Message:
    """Say which of the nodes this is."""
    index, nodes = place(context)
    return Message(wire.content({"index": index, "nodes": nodes}, {}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client."""
    asked = wire.about(message.content)
    round_number, client = int(asked["round"]), int(asked["client"])
    try:
        config = FederatedConfig.from_json(json.loads(asked["config"]))
        index, nodes = place(context)
        if client % nodes != index:
            raise UsageError(f"is not served by node {index} of {nodes}")
        weights = from_bytes(wire.file_bytes(message.content, "weights", MOST_BYTES))
        memory = _remembered(context, config)
        compressor = memory.setdefault(client, new_compressor(config))
        compressor.settle(int(asked["used"]))
        answer = ClientTrainer(config).train(client, round_number, dict(weights.arrays), compressor)
        _remember(context, memory)
    except EdgeroofError as error:
        return Message(wire.answer_content(round_number, ClientFailure(client, str(error))), reply_to=message)
    return Message(wire.answer_content(round_number, answer), reply_to=message)


@app.query("profile")
def profile(message: Message, context: Context) -> Message:
    """Profile this machine's client step and send its tables."""
    from .fleet_client import profile_step

    index, _ = place(context)
    try:
        files = profile_step(json.loads(wire.about(message.content)["task"]))
    except EdgeroofError as error:
        return Message(wire.content({"index": index, "failure": str(error)}, {}), reply_to=message)
    arrays = {name: wire.bytes_array(data) for name, data in files.items()}
    return Message(wire.content({"index": index}, arrays), reply_to=message)


def place(context: Context) -> tuple[int, int]:
    """This node's index and the number of nodes, from ``--node-config 'index=0 nodes=4'``.

    Raises:
        UsageError: they are missing or make no sense.
    """
    index, nodes = context.node_config.get("index"), context.node_config.get("nodes")
    if not (isinstance(index, int) and isinstance(nodes, int) and 0 <= index < nodes):
        raise UsageError(f"a SuperNode needs --node-config 'index=0 nodes=4'; this one has index {index} of {nodes}")
    return index, nodes


def _remembered(context: Context, config: FederatedConfig) -> dict[int, Compressor]:
    if _MEMORY not in context.state.array_records:
        return {}
    packed = from_bytes(wire.file_bytes(context.state, _MEMORY, MOST_BYTES))
    return unpack_memory(packed, lambda: new_compressor(config))


def _remember(context: Context, memory: dict[int, Compressor]) -> None:
    packed = pack_memory(memory)
    if packed.arrays:
        context.state[_MEMORY] = ArrayRecord({"data": wire.bytes_array(to_bytes(packed))})
