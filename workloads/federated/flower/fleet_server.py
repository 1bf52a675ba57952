"""The server's part of profiling a fleet: ask every SuperNode, and keep the runs that can be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from ....errors import RunError, UpdateError
from ..results import one_line
from ..rounds import Progress
from . import wire
from .jobs import FOUND_FILE
from .nodes import Node, Post, Reply, Roster
from .server_app import NODES_WAIT_S
from .tables import FILES, write_checked


def collect(grid: Grid, task: str, nodes: int, timeout_s: float, folder: Path, on_progress: Progress) -> None:
    """Have every SuperNode profile its client step.

    Args:
        grid: Flower's way to the nodes.
        task: for :func:`~.fleet_client.profile_step`, as JSON; with ``one_by_one`` nodes do not run at the same time.
        nodes: how many to wait for.
        timeout_s: for one node to answer.
        folder: gets a run folder ``node-0`` and so on, and :data:`FOUND_FILE`.
        on_progress: told what is being done.

    Raises:
        FederatedError: there is no node, or Flower cannot be reached.
    """
    post = Post(grid)
    on_progress("waiting for the SuperNodes", 0, nodes)
    roster = Roster(post, nodes).wait(NODES_WAIT_S)
    batches = [[node] for node in roster] if json.loads(task).get("one_by_one") else [roster]
    found: list[dict[str, Any]] = []
    for batch in batches:
        on_progress(f"profiling on node {', '.join(str(node.index) for node in batch)}", len(found), len(roster))
        ids = [node.node_id for node in batch]
        replies = post.ask_all(ids, wire.content({"task": task}, {}), "query.profile", timeout_s)
        found += [_keep(node, replies.get(node.node_id), timeout_s, folder) for node in batch]
    on_progress("done", len(found), len(roster))
    (folder / FOUND_FILE).write_text(json.dumps(found), encoding="utf-8")


def _keep(node: Node, reply: Reply | None, timeout_s: float, folder: Path) -> dict[str, Any]:
    if reply is None:
        return {"index": node.index, "failure": f"did not answer within {timeout_s:g} s"}
    if isinstance(reply, str):
        return {"index": node.index, "failure": reply}
    told = wire.about(reply)
    if "failure" in told:
        return {"index": node.index, "failure": one_line(str(told["failure"]))}
    try:
        files = {name: wire.file_bytes(reply, name, most_bytes) for name, most_bytes in FILES.items()}
        write_checked(files, folder / f"node-{node.index}")
    except (UpdateError, RunError) as error:
        return {"index": node.index, "failure": f"sent an unusable run: {error}"}
    return {"index": node.index, "run": f"node-{node.index}"}
