"""The commands ``compare`` and ``sweep``: thin layers over :mod:`edgeroof.compare` and :mod:`edgeroof.sweep`."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console
from typer.core import TyperCommand

from . import api
from . import compare as comparing
from . import sweep as sweeping
from .cli_kernels import GATE_FAILED, result_folder
from .errors import UsageError, WorkloadError
from .progress import calibration_progress, count_progress
from .reports.text import clean
from .sweep_identity import folder_name

_SIDES = ("--a", "--b")


class ManyRunsCommand(TyperCommand):
    """Lets ``--a`` and ``--b`` take several runs each: ``--a R1 R2 --b R3 R4``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its runs, as click wants it."""
        return super().parse_args(ctx, repeat_options(args))


def repeat_options(arguments: list[str]) -> list[str]:
    """``--a R1 R2`` as ``--a R1 --a R2``; whatever else there is stays as it is."""
    spread: list[str] = []
    side = ""
    for argument in arguments:
        if argument.startswith("-"):
            side = argument if argument in _SIDES else ""
            spread += [] if side else [argument]
        else:
            spread += [side, argument] if side else [argument]
    return spread


def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="run folders; the first is what others are compared to")
    ] = None,
    a: Annotated[
        list[Path] | None, typer.Option("--a", help="repeated runs of the one side: --a R1 R2 --b R3 R4")
    ] = None,
    b: Annotated[list[Path] | None, typer.Option("--b", help="repeated runs of the other side")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="allow measured beside projected runs")] = False,
    fail_if_slower: Annotated[
        float | None, typer.Option(min=0.0, metavar="PCT", help="exit with 3 if a step is SLOWER by more than this")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the result; by default a new one under runs/")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Compare runs: what differs, by how much and how surely, and which phases and kernels explain it."""
    if fail_if_slower is not None and not math.isfinite(fail_if_slower):
        raise UsageError(f"--fail-if-slower takes a percentage, such as 5, not {fail_if_slower}")
    result = comparing.compare_paths(_sides(runs or [], a or [], b or []), mixed=mixed, command=_command())
    with result_folder(out, "compare") as folder:
        saved = comparing.save(result, folder)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        from .reports.compare import compare_document

        _print(compare_document(result), saved)
    if fail_if_slower is not None:
        gate = comparing.gate(result, fail_if_slower)
        Console(stderr=True, highlight=False, soft_wrap=True).print(clean(gate.line), markup=False)
        if gate.failed:
            raise typer.Exit(GATE_FAILED)


def _sides(runs: list[Path], a: list[Path], b: list[Path]) -> list[list[Path]]:
    if bool(a) != bool(b) or (runs and a):
        raise UsageError("name runs as edgeroof compare RUN RUN, or as edgeroof compare --a RUN RUN --b RUN RUN")
    return [a, b] if a else [[run] for run in runs]


def _print(document: Any, folder: Path) -> None:
    from .reports import document_terminal

    document_terminal.render(document, Console(), folder=folder)


def _command() -> str:
    return shlex.join(["edgeroof", *sys.argv[1:]])


def sweep(
    device: Annotated[str, typer.Option(help="auto or cpu measure here; another name projects")] = "auto",
    model: Annotated[str, typer.Option(help="one or several, commas between: small,base")] = "small",
    batch_size: Annotated[str | None, typer.Option(help="likewise: 8,16,32")] = None,
    source_length: Annotated[str | None, typer.Option(help="tokens of a dialogue, likewise")] = None,
    precision: Annotated[str | None, typer.Option(help="likewise: fp32,bf16")] = None,
    optimizer: Annotated[str | None, typer.Option(help="likewise: adamw-foreach,adamw-fused")] = None,
    attention: Annotated[str | None, typer.Option(help="likewise: sdpa,eager")] = None,
    power_mode: Annotated[
        str | None, typer.Option(help="likewise: 15W,30W,MAXN; of a Jetson as root, or of a projected device")
    ] = None,
    target_length: Annotated[int, typer.Option(help="tokens of a summary")] = 96,
    lora_rank: Annotated[int | None, typer.Option(help="train LoRA adapters of this rank on q and v only")] = None,
    steps: Annotated[int, typer.Option(help="unprofiled steps to time, where points are measured")] = 5,
    profiled_steps: Annotated[int, typer.Option(help="steps under the profiler")] = 2,
    warmup: Annotated[int, typer.Option(help="steps before any measurement")] = 1,
    out: Annotated[Path | None, typer.Option(help="folder of the sweep; by default runs/sweep-MODEL-DEVICE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Run a step over ranges of its settings; the same command again goes on where it was stopped."""
    texts = {
        "model": model,
        "precision": precision,
        "optimizer": optimizer,
        "attention": attention,
        "power_mode": power_mode,
    }
    numbers = {"batch_size": batch_size, "source_length": source_length}
    axes = {name: _names(text) for name, text in texts.items() if text is not None}
    axes |= {name: _numbers(name, text) for name, text in numbers.items() if text is not None}
    plan = sweeping.make_plan(
        axes,
        {"target_length": target_length, **({} if lora_rank is None else {"lora_rank": lora_rank})},
        device=device,
        capture={"warmup_steps": warmup, "steps": steps, "profiled_steps": profiled_steps},
    )
    folder = out or Path("runs") / folder_name(axes["model"], device)
    if not plan["projected"]:
        with calibration_progress() as on_calibration:
            api.this_machine(device, on_calibration=on_calibration)
    with _kept(folder), count_progress("sweep") as on_progress:
        result = sweeping.run(
            plan,
            folder,
            on_progress=lambda what, done, total, left: on_progress(what + time_left(left), done, total),
            command=_command(),
        )
    if as_json:
        typer.echo(json.dumps(result))
    else:
        from .reports.sweep import sweep_document

        _print(sweep_document(result), folder)
    failed = sweeping.failed_points(result)
    if failed:
        raise WorkloadError(failed)


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[None]:
    """Tell who interrupts a sweep that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        told = f"the points so far are kept in {folder}: the same command goes on from there"
        Console(stderr=True, highlight=False, soft_wrap=True).print(told, markup=False)
        raise


def time_left(seconds: tuple[float, float] | None) -> str:
    """The time left in words: a range, as long as the cost of the points left is a guess."""
    if seconds is None:
        return ""
    low, high = (f"{value:.0f} s" if value < 90 else f"{value / 60:.0f} min" for value in seconds)
    return f" · about {low} left" if low == high else f" · {low} to {high} left"


def _names(text: str) -> list[Any]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(name: str, text: str) -> list[Any]:
    try:
        return [int(part) for part in _names(text)]
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')} takes whole numbers, such as 8,16,32, not {text!r}") from None
