"""The commands ``edgeroof fl study …``: thin layers over :mod:`edgeroof.fl_studies`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import fl_studies
from .cli_kernels import result_folder
from .progress import count_progress

FULL_HELP = "twice the dialogues and rounds: about twenty minutes of one CPU core, where the default takes seven"
TARGET_HELP = "held-out loss to reach; by default 90 % of what the first one gained, who so gets there in any case"
OUT_HELP = "folder; finished federations are kept there, and the same command goes on from them"
JSON_HELP = "print the result as JSON, nothing else"
FLEET_HELP = (
    "DEVICE[:MODE][=STEP_MS][*COUNT]@LINK or RUN_FOLDER[*COUNT]@LINK with commas between; steps are projected where "
    "none is given; a link of one's own ends in its radio's power, as in orin@50/10/30@2W"
)
LINKS_HELP = "10g, 1g, wifi, 5g, 4g, lte, or DOWN/UP/RTT as in 50/10/30; @2W behind one is its radio's power"

app = typer.Typer(no_args_is_help=True, help="Compare codecs, or ways of choosing clients, over whole federations.")


@app.command(epilog="Example: edgeroof fl study compression --codecs none,int8,topk:0.01+int8 --links wifi,lte")
def compression(
    model: Annotated[str, typer.Option(help="as for edgeroof fl run")] = "tiny",
    codecs: Annotated[
        str, typer.Option(help="the first is what others are compared with; also lora:4, lora:4+int8")
    ] = (",".join(fl_studies.CODECS)),
    links: Annotated[str, typer.Option(help=LINKS_HELP)] = (",".join(fl_studies.LINKS)),
    seeds: Annotated[int, typer.Option(help="federations per codec; 5 make intervals mean something")] = 5,
    rounds: Annotated[int | None, typer.Option(help="of each federation")] = None,
    clients: Annotated[int, typer.Option(help="clients the data is split over")] = 6,
    dialogues: Annotated[int | None, typer.Option(help="training dialogues of all clients together")] = None,
    target_loss: Annotated[float | None, typer.Option(help=TARGET_HELP)] = None,
    compute_watts: Annotated[float, typer.Option(help="while computing, where nothing is metered")] = 15.0,
    full: Annotated[bool, typer.Option("--full", help=FULL_HELP)] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda: where clients train")] = "cpu",
    seed: Annotated[int, typer.Option(help="the first seed")] = 0,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Say what codecs do to granularity, and to learning."""
    from .workloads.federated.study_compression import CompressionStudy

    config = fl_studies.base(
        model, quick=not full, device=device, rounds=rounds, clients=clients, dialogues=dialogues, seed=seed
    )
    study = CompressionStudy(config, _names(codecs), _names(links), seeds, target_loss, compute_watts)
    with result_folder(out, "study-compression") as folder, count_progress("study") as on_progress:
        result = fl_studies.study_compression(study, out=folder, on_progress=on_progress, command=_command())
    _show(result, folder, as_json)


@app.command(epilog="Example: edgeroof fl study selection --seeds 5 --strategies random,oort,tokens-per-joule")
def selection(
    strategies: Annotated[str, typer.Option(help="the first is what others are compared with")] = (
        "random,oort,eafl,fedjoule,tokens-per-joule,mfu"
    ),
    fleet: Annotated[str | None, typer.Option(help=FLEET_HELP)] = None,
    fleet_model: Annotated[str, typer.Option(help="whose steps take the fleet's time; a tiny model learns")] = "small",
    fleet_codec: Annotated[str, typer.Option(help="of the fleet's updates: their size on the links")] = "int8",
    battery_wh: Annotated[float, typer.Option(help="energy of a board's full battery for training")] = 20.0,
    budget_wh: Annotated[float | None, typer.Option(help="for fedjoule; by default 70 % of what random spends")] = None,
    absent: Annotated[float, typer.Option(help="share of rounds in which a client cannot be asked")] = 0.1,
    vanish: Annotated[float, typer.Option(help="share of the clients asked that vanish")] = 0.1,
    seeds: Annotated[int, typer.Option(help="federations per strategy; 5 make intervals mean something")] = 5,
    rounds: Annotated[int | None, typer.Option(help="of each federation")] = None,
    sampled: Annotated[int | None, typer.Option(help="clients asked in a round")] = None,
    dialogues: Annotated[int | None, typer.Option(help="training dialogues of all clients together")] = None,
    target_loss: Annotated[float | None, typer.Option(help=TARGET_HELP)] = None,
    full: Annotated[bool, typer.Option("--full", help=FULL_HELP)] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda: where the tiny model learns")] = "cpu",
    seed: Annotated[int, typer.Option(help="the first seed")] = 0,
    out: Annotated[Path | None, typer.Option(help=OUT_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Say which way of choosing clients needs the least time, energy or rounds, in a simulated fleet."""
    from .workloads.federated.fleet_text import DEFAULT_FLEET
    from .workloads.federated.simulation import Mishaps
    from .workloads.federated.study_selection import SelectionStudy

    config = fl_studies.base(
        "tiny", quick=not full, device=device, rounds=rounds, sampled=sampled, dialogues=dialogues, seed=seed
    )
    study = SelectionStudy(
        config,
        _names(strategies),
        seeds,
        fleet=fleet or DEFAULT_FLEET,
        fleet_model=fleet_model,
        fleet_codec=fleet_codec,
        battery_wh=battery_wh,
        mishaps=Mishaps(absent, vanish),
        target=target_loss,
        budget_wh=budget_wh,
    )
    with result_folder(out, "study-selection") as folder, count_progress("study") as on_progress:
        result = fl_studies.study_selection(study, out=folder, on_progress=on_progress, command=_command())
    _show(result, folder, as_json)


@app.command(epilog="Example: edgeroof fl study show runs/study-selection")
def show(
    folder: Annotated[Path, typer.Argument(help="the folder of a study")],
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Print the report of a study that was made earlier."""
    _show(fl_studies.load(folder), folder, as_json)


def _show(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    from .reports import document_terminal
    from .reports.studies import study_document

    document_terminal.render(study_document(result), Console(), folder=folder)


def _names(text: str) -> tuple[str, ...]:
    """Names that the user separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _command() -> str:
    return shlex.join(["edgeroof", *sys.argv[1:]])
