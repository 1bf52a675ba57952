"""The command ``project``: a thin layer over :mod:`edgeroof.project`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import api, project
from .cli_kernels import result_folder
from .errors import UsageError
from .progress import count_progress

Device = Annotated[str | None, typer.Option(help="a name from `edgeroof devices`, or the path of a device file")]


def project_command(
    run: Annotated[Path | None, typer.Argument(help="a measured run to carry over; without one, a dry run")] = None,
    device: Device = None,
    devices: Annotated[str | None, typer.Option(help="several, compared in one table: orin,a100,h100")] = None,
    model: Annotated[str, typer.Option(help="tiny to xl; a folder, a bare config.json, or a hub id")] = "small",
    mode: Annotated[
        str | None, typer.Option(help="train or inference: a plain pass over full sequences, not a client's step")
    ] = None,
    batch_size: Annotated[str | None, typer.Option(help="examples; several with --devices: 8,16,32")] = None,
    sequence: Annotated[int | None, typer.Option(help="tokens of a sequence, with --mode")] = None,
    target_sequence: Annotated[
        int | None, typer.Option(help="tokens of the decoder beside an encoder, with --mode; by default as many")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="class of transformers, with --mode, such as BertForMaskedLM")
    ] = None,
    source_length: Annotated[int, typer.Option(help="tokens of a dialogue")] = 512,
    target_length: Annotated[int, typer.Option(help="tokens of a summary")] = 96,
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16, fp16, bf16-pure")] = "fp32",
    optimizer: Annotated[str | None, typer.Option(help="by default adamw; with --mode none")] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="sdpa, eager or flash (T5 only), by default sdpa; with --mode eager or sdpa, by default eager, or "
            "eager-2023, as it was written then"
        ),
    ] = None,
    lora_rank: Annotated[int | None, typer.Option(help="train LoRA adapters of this rank only")] = None,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="recompute activations in backward")] = False,
    power_mode: Annotated[str | None, typer.Option(help="of the device, such as 30W")] = None,
    gpu_mhz: Annotated[float | None, typer.Option(help="GPU clock, in place of the mode's")] = None,
    emc_mhz: Annotated[float | None, typer.Option(help="memory clock, in place of the mode's")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the result; by default a new one under runs/")] = None,
    top: Annotated[int, typer.Option(min=1, help="rows in the kernel table")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON, nothing else")] = False,
) -> None:
    """Project a step on a device that is not here: does it fit, how long does it take, what holds it back?"""
    clocks: dict[str, Any] = {"power_mode": power_mode, "gpu_mhz": gpu_mhz, "emc_mhz": emc_mhz}
    step: dict[str, Any] = {
        "model": model,
        "source_length": source_length,
        "target_length": target_length,
        "precision": precision,
        "optimizer": optimizer or "adamw",
        "attention": attention or "sdpa",
        "lora_rank": lora_rank,
        "checkpointing": checkpointing,
    }
    batches = _batches(batch_size)
    if mode is None:
        _refuse(sequence=sequence, target_sequence=target_sequence, head=head)
    if devices is not None:
        _refuse(run=run, device=device, mode=mode, **clocks)
        _compare(_names(devices), batches, step, out, as_json)
        return
    if device is None:
        raise UsageError("name the device: --device orin, or several with --devices orin,a100")
    if len(batches) > 1:
        raise UsageError("several batch sizes need --devices, which compares")
    name = Path(device).stem
    if run is not None:
        _refuse(mode=mode, batch_size=batch_size)
        projected = project.carry(api.load(run), device, **clocks, command=_command())
        title = f"{run.name}-on-{name}"
    elif mode is not None:
        _refuse(lora_rank=lora_rank, checkpointing=checkpointing or None)
        step = {
            "mode": mode,
            "sequence": sequence,
            "target_sequence": target_sequence,
            "precision": precision,
            "optimizer": optimizer,
            "attention": attention or "eager",
            "head": head or "auto",
        }
        projected = _pass(device, model, batches[0], step, clocks)
        title = f"{Path(model).stem}-{mode}-on-{name}"
    else:
        with count_progress("projection") as on_progress:
            projected = project.client_step(
                device, **clocks, **step, batch_size=batches[0], on_progress=on_progress, command=_command()
            )
        title = f"{Path(model).name}-on-{name}"
    with result_folder(out, title) as folder:
        projected = api.save(projected, folder)
    _show(projected, top, as_json)


def _pass(device: str, model: str, batch: int | None, step: dict[str, Any], clocks: dict[str, Any]) -> Any:
    if step["sequence"] is None or batch is None:
        raise UsageError("--mode needs --batch-size and --sequence: a plain pass has no data of its own")
    return project.model_pass(device, model, **clocks, batch=batch, **step, command=_command())


def _compare(
    devices: list[str], batches: Sequence[int | None], step: dict[str, Any], out: Path | None, as_json: bool
) -> None:
    from .reports import document_terminal
    from .reports.projection_table import comparison_document

    with count_progress("projections") as on_progress:
        result = project.compare(devices, batches, step, on_progress=on_progress, command=_command())
    with result_folder(out, f"{Path(step['model']).name}-on-{'-'.join(Path(name).stem for name in devices)}") as folder:
        project.save_comparison(result, folder)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        document_terminal.render(comparison_document(result), Console(), folder=folder)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--devices names none; use names such as orin,a100")
    return list(dict.fromkeys(names))


def _batches(text: str | None) -> list[int | None]:
    if text is None:
        return [None]
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise UsageError(f"batch sizes are whole numbers of at least 1, such as 8 or 8,16,32, not {text!r}")
    return list(dict.fromkeys(sizes))


def _refuse(**given: Any) -> None:
    """Options that make no sense together are refused by name."""
    for name, value in given.items():
        if value is not None:
            shown = "a run" if name == "run" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{shown} does not go with this kind of projection")


def _show(run: Any, top: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(run.summary, indent=1))
        return
    from .reports import terminal

    terminal.render(run, Console(), top=top)


def _command() -> str:
    return shlex.join(["edgeroof", *sys.argv[1:]])
