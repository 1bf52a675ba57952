"""What Flower runs on the SuperLink: the rounds, with their checkpoints in a folder there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from ..config import FederatedConfig
from . import status

#: How long the server waits for all its nodes before it begins with those that are there.
NODES_WAIT_S = 120.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do what the run's configuration says and leave the outcome in its folder."""
    settings = context.run_config
    folder = Path(str(settings["folder"]))
    job = {"rounds": _rounds, "profile": _profile}[str(settings["job"])]
    done = [0, 1]

    def on_progress(what: str, now: int, total: int) -> None:
        done[:] = [now, total]
        status.write(folder, "running", what, now, total)

    on_progress("starting the server", 0, 1)
    try:
        job(grid, settings, folder, on_progress)
    except Exception as error:  # told to whoever waits, then Flower's to log
        status.write(folder, "failed", str(error) or type(error).__name__, *done)
        raise
    status.write(folder, "finished", "done", *done)


def _rounds(grid: Grid, settings: Any, folder: Path, on_progress: Any) -> None:
    from ..rounds import Federation
    from ..training import ClientTrainer
    from .engine import FlowerEngine

    config = FederatedConfig.from_json(json.loads(str(settings["task"])))
    trainer = ClientTrainer(config)
    nodes, timeout_s = int(settings["nodes"]), float(settings["timeout"])
    engine = FlowerEngine(grid, config, trainer.data.sizes(), nodes, timeout_s)
    on_progress("waiting for the SuperNodes", 0, 1)
    engine.roster.wait(NODES_WAIT_S)
    Federation.start(trainer, engine, folder).run(on_progress)


def _profile(grid: Grid, settings: Any, folder: Path, on_progress: Any) -> None:
    from .fleet_server import collect

    collect(grid, str(settings["task"]), int(settings["nodes"]), float(settings["timeout"]), folder, on_progress)
