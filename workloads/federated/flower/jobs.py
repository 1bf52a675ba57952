"""The jobs that Flower does: the rounds of a federation, and the profiles of a fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....errors import FederatedError
from .. import checkpoint
from ..checkpoint import Checkpoint
from ..config import FederatedConfig
from ..rounds import Progress
from .deployment import FlowerOptions, run_job
from .fleet import classes, node_facts, slow_nodes

#: What :mod:`.fleet_server` leaves beside the runs.
FOUND_FILE = "nodes.json"


def node_count(config: FederatedConfig, options: FlowerOptions) -> int:
    """SuperNodes of a federation: by default as many as clients are asked in a round."""
    return options.nodes or min(config.clients, config.sampled)


def run_rounds(config: FederatedConfig, folder: Path, options: FlowerOptions, on_progress: Progress) -> Checkpoint:
    """Run a federation, or go on with the one in ``folder``.

    Args:
        config: what it does.
        folder: of its checkpoints, on the SuperLink's machine.
        options: how Flower is used.
        on_progress: told what is being done.

    Returns:
        The state after the last round.

    Raises:
        FederatedError: Flower is not installed, cannot be reached, or the rounds failed.
    """
    checkpoint.latest(folder, config)  # another federation's folder is refused before anything starts
    task = json.dumps(config.to_json())
    run_job("rounds", task, folder, node_count(config, options), options, on_progress)
    found = checkpoint.latest(folder, config)
    if found is None or found.round_number != config.rounds:  # a round from before is no result of this job
        raise _not_here(folder, options)
    return found


def run_profiles(
    task: Mapping[str, Any], nodes: int, folder: Path, options: FlowerOptions, on_progress: Progress
) -> list[dict[str, Any]]:
    """Have every SuperNode profile its client step.

    Args:
        task: for :func:`~.fleet_client.profile_step`.
        nodes: SuperNodes to start, or to wait for.
        folder: gets the runs, on the SuperLink's machine.
        options: how Flower is used.
        on_progress: told what is being done.

    Returns:
        One entry per node: its ``index``, and its ``run`` or its ``failure``.

    Raises:
        FederatedError: Flower is not installed, cannot be reached, or no node is there.
    """
    (folder / FOUND_FILE).unlink(missing_ok=True)
    run_job("profile", json.dumps(task), folder, nodes, options, on_progress)
    try:
        found: list[dict[str, Any]] = json.loads((folder / FOUND_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise _not_here(folder, options) from error
    return found


def compare_nodes(folder: Path, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part of a fleet's result that is computed from its runs: ``nodes``, ``classes``, ``slow`` and ``failed``.

    Args:
        folder: of the runs.
        found: from :func:`run_profiles`.
    """
    from ....profiler.run import load

    nodes = [node_facts(node["index"], load(folder / node["run"])) for node in found if "run" in node]
    return {
        "nodes": nodes,
        "classes": {name: [node["index"] for node in members] for name, members in classes(nodes).items()},
        "slow": slow_nodes(nodes),
        "failed": [dict(node) for node in found if "failure" in node],
    }


def _not_here(folder: Path, options: FlowerOptions) -> FederatedError:
    return FederatedError(
        f"the job is done, but its results are not here: they are in {folder} on the machine of {options.superlink}; "
        "look there, or name a folder that both machines see with --out"
    )
