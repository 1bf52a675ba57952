"""The commands ``ab`` and ``kernels``: thin layers over :mod:`edgeroof.lab` and :mod:`edgeroof.kernels.aot`."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import api, lab
from .errors import RunError
from .progress import calibration_progress, count_progress

#: Exit code of a gate that did not pass.
GATE_FAILED = 3


def ab(
    suite: Annotated[str, typer.Argument(help=f"{', '.join(lab.SUITES)}; step is a whole client step")],
    device: Annotated[str, typer.Option(help="auto, cpu, or the name of this machine's device")] = "auto",
    problems: Annotated[str | None, typer.Option(help="sizes, such as small,lora-small,base; commas between")] = None,
    providers: Annotated[str | None, typer.Option(help="providers to compare, commas between; by default all")] = None,
    baseline: Annotated[str | None, typer.Option(help="the provider to compare with")] = None,
    dtype: Annotated[str, typer.Option(help="fp32 or bf16; for step, the client's precision")] = "fp32",
    mode: Annotated[str | None, typer.Option(help="of operators: forward, backward or both; by default both")] = None,
    dropout: Annotated[float | None, typer.Option(help="of operators; by default T5's own")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="clip the gradient to this norm within the step")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="of step and operators; by default 1 or 2 on a CPU, 32 on a GPU")
    ] = None,
    source_length: Annotated[int | None, typer.Option(help="likewise; by default 128 on a CPU, 512 on a GPU")] = None,
    target_length: Annotated[int | None, typer.Option(help="likewise; by default 32 on a CPU, 96 on a GPU")] = None,
    pairs: Annotated[int, typer.Option(min=5, help="least number of pairs")] = 30,
    seconds: Annotated[float, typer.Option(min=0.0, help="least time of pairs, for each provider")] = 2.0,
    most_seconds: Annotated[float, typer.Option(min=0.1, help="most time, for each provider")] = 20.0,
    energy_seconds: Annotated[float, typer.Option(min=0.0, help="window for the energy meter, 0 for none")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="of the random inputs")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="small sizes only, for a first look")] = False,
    fail_if_slower: Annotated[
        bool, typer.Option("--fail-if-slower", help="exit with 3 if edgeroof's (or those named) is slower or wrong")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="folder for the result; by default a new one under runs/")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON, nothing else")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print the result as Markdown, nothing else")] = False,
) -> None:
    """Compare implementations of one operation: checked, paired, with intervals, placed under the roof."""
    from .kernels.ab import Settings, failures

    settings = Settings(
        pairs=pairs, seconds=seconds, most_seconds=most_seconds, energy_seconds=energy_seconds, seed=seed
    )
    lengths = {"batch_size": batch_size, "source_length": source_length, "target_length": target_length}
    chosen = lab.load_suite(
        suite, dtype=dtype, clip_norm=clip_norm, kind=_kind(device), mode=mode, dropout=dropout, **lengths
    )
    with calibration_progress() as on_calibration:
        machine = api.this_machine(device, on_calibration=on_calibration)
    with result_folder(out, f"ab-{suite}-{machine.name}") as folder:
        with count_progress("comparing") as on_progress:
            result = lab.compare(
                chosen,
                device=machine,
                problems=_split(problems),
                providers=_split(providers),
                baseline=baseline,
                settings=settings,
                quick=quick,
                energy=energy_seconds > 0,
                command=shlex.join(["edgeroof", *sys.argv[1:]]),
                on_progress=on_progress,
            )
        saved = lab.save(result, folder)
    _show(result, saved, as_json, markdown)
    if fail_if_slower:
        _gate(failures(result, _split(providers)))


def kernels(
    arch: Annotated[
        str, typer.Option(help="such as sm_80, sm_87 (Jetson AGX Orin), sm_90; commas between; or all")
    ] = "sm_87",
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON, nothing else")] = False,
) -> None:
    """Compile edgeroof's kernels for a GPU that need not be here: registers, spills, access widths, bytes."""
    from .kernels.aot import ARCHITECTURES, kernel_reports
    from .reports.kernel_table import render_kernels, rows_of

    chosen = ARCHITECTURES if arch == "all" else tuple(name.strip() for name in arch.split(","))
    with count_progress("compiling") as on_progress:
        reports = kernel_reports(chosen, on_progress=lambda what, done: on_progress(what, round(100 * done), 100))
    if as_json:
        typer.echo(json.dumps(rows_of(reports), indent=1))
    else:
        render_kernels(reports, Console())


@contextlib.contextmanager
def result_folder(named: Path | None, name: str) -> Iterator[Path]:
    """Where a command's result goes: the folder the user named, or else a new one under runs/.

    A new one is made at once, so that another command that starts at the same moment takes another: name, then name-2,
    name-3 and so on. It is removed again if nothing was put there.
    """
    if named is not None:
        yield named
        return
    folder, number = Path("runs") / name, 2
    while not _made(folder):
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # it holds the result
            folder.rmdir()


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror or error}; name one with --out") from error
    return True


def _kind(device: str) -> str:
    """What kind of device this machine will be measured as."""
    from .profiler.device import detect

    return "cpu" if device == "cpu" else detect().kind


def _split(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",") if name.strip()] if names else None


def _show(result: dict[str, Any], folder: Path, as_json: bool, markdown: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
    elif markdown:
        from .reports.ab_markdown import to_markdown

        typer.echo(to_markdown(result))
    else:
        from .reports import ab_terminal

        ab_terminal.render(result, Console(), folder=folder)


def _gate(reasons: list[str]) -> None:
    for reason in reasons:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"gate: {reason}", markup=False)
    if reasons:
        raise typer.Exit(GATE_FAILED)
