"""The commands ``compare`` and ``sweep``: thin layers over :mod:`edgeroof.compare` and :mod:`edgeroof.sweep`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console
from typer.core import TyperCommand

from . import compare as comparing
from .cli_kernels import GATE_FAILED, result_folder
from .errors import UsageError

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
        float | None, typer.Option(min=0.0, metavar="PCT", help="exit with 3 if a step is slower by more than this")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the result; by default a new one under runs/")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
) -> None:
    """Compare runs: what differs, by how much and how surely, and which phases and kernels explain it."""
    result = comparing.compare_paths(_sides(runs or [], a or [], b or []), mixed=mixed, command=_command())
    with result_folder(out, "compare") as folder:
        saved = comparing.save(result, folder)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        from .reports.compare import compare_document

        _print(compare_document(result), saved)
    slower = comparing.slower_than(result, fail_if_slower) if fail_if_slower is not None else []
    if slower:
        Console(stderr=True, highlight=False, soft_wrap=True).print("gate: " + "; ".join(slower), markup=False)
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
