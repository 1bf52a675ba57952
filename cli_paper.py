"""The command ``paper``: a thin layer over :mod:`edgeroof.paper`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .cli_compare import time_left
from .progress import calibration_progress, count_progress

#: How titles of the sections begin that the terminal shows; the rest is for reading.
CLAIMS = "Claim: "
#: Topics that measure on this machine, whose roofs they are held against.
MEASURING = {"breakdown", "optimizer"}


def paper(
    quick: Annotated[bool, typer.Option("--quick", help="everything once with a tiny model, in two minutes")] = False,
    only: Annotated[
        str | None,
        typer.Option(help="scaling, links, breakdown, optimizer, compression, selection; commas between; default all"),
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(help="folder for paper.md and its pages; by default that of --out")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the runs; by default runs/paper or runs/paper-quick")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the data behind the documents, nothing else")] = False,
) -> None:
    """Run the paper's experiments, write paper.md with its figures; the same command goes on where it was stopped."""
    from . import api
    from .paper import plan as plans
    from .paper.run import check_topics, run

    plan = plans.QUICK if quick else plans.FULL
    topics = [name.strip() for name in (only or "").split(",") if name.strip()]
    folder = out or Path("runs") / ("paper-quick" if quick else "paper")
    check_topics(topics)
    if not topics or MEASURING & set(topics):
        with calibration_progress() as on_calibration:
            api.this_machine("auto", on_calibration=on_calibration)
    with count_progress("paper") as on_progress:
        data, document = run(
            plan,
            folder,
            only=topics,
            documents=documents,
            on_progress=lambda what, done, total, left: on_progress(what + time_left(left), done, total),
            command="edgeroof paper --quick" if quick else "edgeroof paper",  # folders are one machine's own
        )
    if as_json:
        typer.echo(json.dumps(data))
        return
    from .reports import document_terminal

    claims = tuple(section for section in document.sections if section.title.startswith(CLAIMS))
    document_terminal.render(dataclasses.replace(document, sections=claims), Console())
    typer.echo(f"written: {(documents or folder) / 'paper.md'}")
