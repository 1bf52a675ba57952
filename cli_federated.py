"""The commands ``edgeroof fl …``: thin layers over :mod:`edgeroof.fl`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import cli_studies, fl
from .cli_kernels import GATE_FAILED, result_folder
from .cli_studies import LINKS_HELP
from .errors import UsageError
from .progress import count_progress

SUPERLINK_HELP = "host:port of Flower's SuperLink; by default one is started on this machine"
SELECTION_HELP = "how clients are chosen: random, oort, eafl, fedjoule, tokens-per-joule[:ALPHA], mfu[:ALPHA]"
CERTIFICATES_HELP = "PEM file to check the SuperLink's certificate with"
TIMEOUT_HELP = "seconds for a Flower client to answer; then it is left out"

app = typer.Typer(
    no_args_is_help=True,
    help="Federated fine-tuning: rounds, links, compression, and how much of a round is computing.",
)
app.add_typer(cli_studies.app, name="study")


@app.command(epilog="Example: edgeroof fl run --model tiny --rounds 5 --codec int8 --out runs/fl-tiny")
def run(
    model: Annotated[str, typer.Option(help="tiny, small, base, large, xl; a folder, config file or hub id")] = "small",
    clients: Annotated[int, typer.Option(help="clients the data is split over")] = 10,
    sampled: Annotated[int, typer.Option(help="clients asked in a round")] = 3,
    rounds: Annotated[int, typer.Option(help="rounds in all; a longer run goes on from a shorter one")] = 20,
    local_epochs: Annotated[int, typer.Option(help="passes over a client's data in a round")] = 1,
    batch_size: Annotated[int | None, typer.Option(help="by default 32 on a GPU, fewer on a CPU")] = None,
    source_length: Annotated[int | None, typer.Option(help="tokens of a dialogue")] = None,
    target_length: Annotated[int | None, typer.Option(help="tokens of a summary")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="of the clients")] = None,
    optimizer: Annotated[str | None, typer.Option(help="of the clients, such as fused-adamw")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, tf32, bf16, fp16, bf16-pure")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="train and send LoRA adapters of this rank only")] = None,
    server_optimizer: Annotated[str, typer.Option(help="fedavg, fedavgm, fedadam, fedadamw")] = "fedavg",
    server_rate: Annotated[float | None, typer.Option(help="learning rate of the server")] = None,
    codec: Annotated[str, typer.Option(help="none, fp16, int8, int4, topk:0.01, lowrank:4, topk:0.01+int8 …")] = "none",
    selection: Annotated[str, typer.Option(help=SELECTION_HELP)] = "random",
    split: Annotated[str, typer.Option(help="how data is divided: even, size, topics")] = "topics",
    alpha: Annotated[float, typer.Option(help="how alike clients are: small ones differ much")] = 1.0,
    dialogues: Annotated[int | None, typer.Option(help="training dialogues of all clients together")] = None,
    eval_dialogues: Annotated[int, typer.Option(help="held-out dialogues")] = 64,
    data: Annotated[str | None, typer.Option(help="SAMSum JSON or CSV; by default generated dialogues")] = None,
    links: Annotated[str, typer.Option(help=LINKS_HELP)] = (",".join(fl.DEFAULT_LINKS)),
    engine: Annotated[str, typer.Option(help="local, in this process; flower, over Flower's network")] = "local",
    superlink: Annotated[str | None, typer.Option(help=SUPERLINK_HELP)] = None,
    root_certificates: Annotated[Path | None, typer.Option(help=CERTIFICATES_HELP)] = None,
    nodes: Annotated[int | None, typer.Option(help="SuperNodes to start or to wait for; by default --sampled")] = None,
    client_timeout: Annotated[float, typer.Option(help=TIMEOUT_HELP)] = 1800.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda: where clients train")] = "auto",
    seed: Annotated[int, typer.Option(help="of weights, data, split, choice and training")] = 0,
    out: Annotated[Path | None, typer.Option(help="folder; one with checkpoints is gone on with")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Run a federation: clients train, the server aggregates, round by round."""
    from .workloads.federated.aggregation import ServerOptimizer

    client = {
        "batch_size": batch_size,
        "source_length": source_length,
        "target_length": target_length,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "precision": precision,
        "lora_rank": lora_rank,
        "local_epochs": local_epochs,
        "data": data,
    }
    config = fl.preset(
        model,
        device=_device(device),
        client=client,
        clients=clients,
        sampled=min(sampled, clients),
        rounds=rounds,
        server=ServerOptimizer(server_optimizer, server_rate),
        codec=codec,
        selection=selection,
        split=split,
        alpha=alpha,
        dialogues=dialogues,
        eval_dialogues=eval_dialogues,
        seed=seed,
    )
    flower = None
    if engine == "flower":
        flower = _flower_options(superlink, root_certificates, nodes, client_timeout)
    elif superlink or root_certificates or nodes:
        raise UsageError("--superlink, --root-certificates and --nodes need --engine flower")
    names = [name.strip() for name in links.split(",") if name.strip()]
    with result_folder(out, f"fl-{Path(model).name}") as folder, count_progress("federation") as on_progress:
        result = fl.run(
            config,
            engine=engine,
            flower=flower,
            out=folder,
            links=names,
            on_progress=on_progress,
            command=_command(),
        )
    _show(result, folder, as_json)


@app.command(epilog="Example: edgeroof fl show runs/fl-tiny")
def show(
    folder: Annotated[Path, typer.Argument(help="the folder of a federation")],
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Print the report of a federation that was run earlier."""
    _show(fl.load(folder), folder, as_json)


@app.command(epilog="Example: edgeroof fl difference runs/fl-tiny runs/fl-flower")
def difference(
    a: Annotated[Path, typer.Argument(help="the folder of a federation")],
    b: Annotated[Path, typer.Argument(help="that of another, such as the same one over Flower")],
    tolerance: Annotated[float, typer.Option(help="largest relative difference that passes")] = 1e-5,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Say how far the weights of two federations are apart; exit code 3 when it is more than rounding."""
    result = fl.difference(a, b)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        rounds = " and ".join(map(str, dict.fromkeys(result["rounds"])))
        what = (
            "every bit is equal"
            if result["equal"]
            else f"the largest difference is {result['largest']:.3g}, in {result['tensor']}, the relative one "
            f"{result['relative']:.3g}"
        )
        typer.echo("\n".join([f"{result['values']:,} weights after round {rounds}: {what}.", *result["notes"]]))
    if not result["relative"] <= tolerance or len(set(result["rounds"])) > 1:
        raise typer.Exit(GATE_FAILED)


@app.command(epilog="Example: edgeroof fl profile --model tiny --nodes 3 --out runs/fleet")
def profile(
    model: Annotated[str, typer.Option(help="as for edgeroof fl run")] = "small",
    nodes: Annotated[int, typer.Option(help="SuperNodes to start on this machine, or to wait for")] = 3,
    steps: Annotated[int, typer.Option(help="timed steps on each node")] = 3,
    batch_size: Annotated[int | None, typer.Option(help="by default 32 on a GPU, fewer on a CPU")] = None,
    source_length: Annotated[int, typer.Option(help="tokens of a dialogue")] = 512,
    target_length: Annotated[int, typer.Option(help="tokens of a summary")] = 96,
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16, fp16, bf16-pure")] = "fp32",
    optimizer: Annotated[str, typer.Option(help="of the clients, such as fused-adamw")] = "adamw",
    lora_rank: Annotated[int | None, typer.Option(help="train LoRA adapters of this rank only")] = None,
    superlink: Annotated[str | None, typer.Option(help=SUPERLINK_HELP)] = None,
    root_certificates: Annotated[Path | None, typer.Option(help=CERTIFICATES_HELP)] = None,
    client_timeout: Annotated[float, typer.Option(help=TIMEOUT_HELP)] = 1800.0,
    out: Annotated[Path | None, typer.Option(help="folder for the runs and the report")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Profile the client step on every SuperNode: who is slow, and why?"""
    with result_folder(out, f"fleet-{Path(model).name}") as folder, count_progress("fleet") as on_progress:
        result = fl.profile_fleet(
            nodes=nodes,
            steps=steps,
            flower=_flower_options(superlink, root_certificates, nodes, client_timeout),
            out=folder,
            on_progress=on_progress,
            command=_command(),
            model=model,
            batch_size=batch_size,
            source_length=source_length,
            target_length=target_length,
            precision=precision,
            optimizer=optimizer,
            lora_rank=lora_rank,
        )
    if as_json:
        typer.echo(json.dumps(result))
        return
    from .reports import document_terminal
    from .reports.fleet import fleet_document

    document_terminal.render(fleet_document(result), Console(), folder=folder)


def _flower_options(superlink: str | None, root_certificates: Path | None, nodes: int | None, timeout: float) -> Any:
    from .workloads.federated.flower.deployment import FlowerOptions

    return FlowerOptions(superlink, root_certificates, nodes, timeout)


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _show(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    from .reports import document_terminal
    from .reports.federated import federated_document

    document_terminal.render(federated_document(result), Console(), folder=folder)


@app.command(epilog="Example: edgeroof fl granularity --model small --device a100 --lora-rank 8")
def granularity(
    model: Annotated[str | None, typer.Option(help="one or more, such as small,base; by default the run's")] = None,
    device: Annotated[str | None, typer.Option(help="one or more, such as a100,orin:30W; steps are projected")] = None,
    links: Annotated[str, typer.Option(help=LINKS_HELP)] = (",".join(fl.DEFAULT_LINKS)),
    codecs: Annotated[str, typer.Option(help="codecs of updates")] = ",".join(fl.DEFAULT_CODECS),
    down_codec: Annotated[str | None, typer.Option(help="of the server's weights; by default fp32")] = None,
    lora_rank: Annotated[int | None, typer.Option(help="compare LoRA adapters of this rank as well")] = None,
    step_time_ms: Annotated[float | None, typer.Option(help="time of a step, when it is known")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of a run whose step time is taken")] = None,
    dialogues_per_client: Annotated[int, typer.Option(help="a tenth of SAMSum's 14,732")] = 1473,
    batch_size: Annotated[int | None, typer.Option(help="by default 32, or that of the run")] = None,
    local_epochs: Annotated[int, typer.Option(help="passes over a client's data in a round")] = 1,
    compute_watts: Annotated[float | None, typer.Option(help="while computing; by default the device's limit")] = None,
    radio_watts: Annotated[float | None, typer.Option(help="while the link is busy; by default a named figure")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="check the links' model over TCP; as root")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for result and report")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Say how much of a round is computing, per model, device, codec and link."""
    from .workloads.federated.granularity_cases import Wanted

    wanted = Wanted(
        models=_names(model),
        devices=_names(device),
        lora_rank=lora_rank,
        step_time_ms=step_time_ms,
        run=str(run) if run else None,
        dialogues=dialogues_per_client,
        batch_size=batch_size,
        local_epochs=local_epochs,
        compute_w=compute_watts,
    )
    with result_folder(out, "granularity") as folder, count_progress("granularity") as on_progress:
        result = fl.compare_links(
            wanted,
            links=_names(links),
            codecs=_names(codecs),
            down_codec=down_codec,
            radio_w=radio_watts,
            emulated=emulate,
            out=folder,
            on_progress=on_progress,
            command=_command(),
        )
    if as_json:
        typer.echo(json.dumps(result))
        return
    from .reports import document_terminal
    from .reports.granularity import granularity_document

    document_terminal.render(granularity_document(result), Console(), folder=folder)


def _names(text: str | None) -> tuple[str, ...]:
    """Names that the user separated by commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _command() -> str:
    return shlex.join(["edgeroof", *sys.argv[1:]])
