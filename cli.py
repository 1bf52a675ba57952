"""Command line of edgeroof: each command is a few lines over :mod:`edgeroof.api`."""

from __future__ import annotations

import codecs
import errno
import io
import json
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console

from . import __version__, api, cli_compare, cli_federated, cli_kernels, cli_paper, cli_project, project
from .cli_kernels import result_folder
from .errors import EdgeroofError, UsageError
from .interruptions import end_as_by_ctrl_c
from .progress import calibration_progress, count_progress, step_progress
from .reports.text import clean

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="What holds a training step back, kernel by kernel: memory, compute, latency, or inefficiency.",
    epilog="Start with: [bold]edgeroof profile --model small[/bold]    Something amiss? [bold]edgeroof doctor[/bold]",
)

#: What stands for the characters of our reports where they cannot be written; each as wide as what it replaces.
_KIN = dict(zip("·•×–…→µ³━╸✓", "-*x-~>u3=-+"))

INTERRUPTED = "interrupted; nothing half-written was left behind"
INTERRUPTED_CODE = 130

Device = Annotated[str, typer.Option(help="auto, cpu, or a name from `edgeroof devices`")]
Out = Annotated[Path | None, typer.Option(help="folder for the run; by default a new one under runs/")]
Json = Annotated[bool, typer.Option("--json", help="print the summary as JSON, nothing else")]
Top = Annotated[int, typer.Option(min=1, help="rows in the kernel table")]


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"edgeroof {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    """Options that go before any command; ``--debug`` is understood anywhere."""


@app.command(epilog="Example: edgeroof profile --model base --batch-size 8 --precision bf16 --optimizer adamw-fused")
def profile(
    device: Device = "auto",
    model: Annotated[str, typer.Option(help="tiny, small, base, large, xl; a folder, config file or hub id")] = "small",
    batch_size: Annotated[int | None, typer.Option(help="by default 32 on a GPU, 4 on a CPU")] = None,
    source_length: Annotated[int, typer.Option(help="tokens of a dialogue")] = 512,
    target_length: Annotated[int, typer.Option(help="tokens of a summary")] = 96,
    padding: Annotated[str, typer.Option(help="fixed, or dynamic: to the longest of the batch")] = "fixed",
    precision: Annotated[str, typer.Option(help="fp32, tf32, bf16, fp16, bf16-pure")] = "fp32",
    optimizer: Annotated[
        str, typer.Option(help="adamw, adamw-foreach, adamw-fused (torch's), fused-adamw (edgeroof's), …")
    ] = ("adamw"),
    attention: Annotated[str, typer.Option(help="sdpa, eager, or edgeroof's flash (T5 only)")] = "sdpa",
    lora_rank: Annotated[int | None, typer.Option(help="train LoRA adapters of this rank on q and v only")] = None,
    gradient_accumulation: Annotated[int, typer.Option(help="micro-batches of one step")] = 1,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="recompute activations in backward")] = False,
    clip_norm: Annotated[float | None, typer.Option(help="clip the gradient to this norm")] = None,
    fused: Annotated[bool, typer.Option("--fused", help="compute with edgeroof's fused operators (T5 only)")] = False,
    chunked_loss: Annotated[
        bool, typer.Option("--chunked-loss", help="with --fused: output projection and loss in chunks, for less memory")
    ] = False,
    dropout: Annotated[float | None, typer.Option(help="in place of the model's rates")] = None,
    data: Annotated[str | None, typer.Option(help="SAMSum JSON or CSV; by default generated dialogues")] = None,
    steps: Annotated[int, typer.Option(help="unprofiled steps to time")] = 5,
    profiled_steps: Annotated[int, typer.Option(help="steps under the profiler")] = 2,
    warmup: Annotated[int, typer.Option(help="steps before any measurement")] = 1,
    seed: Annotated[int, typer.Option(help="of weights, data and dropout")] = 0,
    out: Out = None,
    top: Top = 15,
    as_json: Json = False,
) -> None:
    """Profile a federated client's training step on this machine and write a report.

    With --device naming a device that is not here, the step is projected for it instead, and says so everywhere.
    """
    from .profiler.capture import CaptureOptions

    capture = CaptureOptions(warmup, steps, profiled_steps)
    config: dict[str, Any] = {
        "model": model,
        "batch_size": batch_size,
        "source_length": source_length,
        "target_length": target_length,
        "padding": padding,
        "precision": precision,
        "optimizer": optimizer,
        "attention": attention,
        "lora_rank": lora_rank,
        "gradient_accumulation": gradient_accumulation,
        "checkpointing": checkpointing,
        "clip_norm": clip_norm,
        "fused": fused,
        "chunked_loss": chunked_loss,
        "dropout": dropout,
        "data": data,
        "seed": seed,
    }
    api.check_config(**config)
    if project.is_elsewhere(device):
        with count_progress("projection") as on_progress:
            run = project.client_step(device, on_progress=on_progress, command=_command(), **config)
        with result_folder(out, f"{Path(model).name}-on-{Path(device).stem}") as folder:
            _show(api.save(run, folder), top, as_json)
        return
    with calibration_progress() as on_calibration:
        machine = api.this_machine(device, on_calibration=on_calibration)
    with result_folder(out, f"{Path(model).name}-{machine.name}") as folder, step_progress() as on_progress:
        run = api.profile(
            device=machine, options=capture, out=folder, on_progress=on_progress, command=_command(), **config
        )
    _show(run, top, as_json)


@app.command(epilog="Example: edgeroof analyze trace.json.gz --device a100")
def analyze(
    trace: Annotated[Path, typer.Argument(help="a Kineto trace of torch.profiler, .json or .json.gz; or a RUN folder")],
    device: Annotated[str, typer.Option(help="where it was recorded; auto takes the name the trace gives")] = "auto",
    power_mode: Annotated[str | None, typer.Option(help="the device's power mode then, such as 30W")] = None,
    gpu_mhz: Annotated[float | None, typer.Option(help="its GPU clock, in place of the mode's")] = None,
    emc_mhz: Annotated[float | None, typer.Option(help="its memory clock, in place of the mode's")] = None,
    ncu: Annotated[Path | None, typer.Option(help="counters of the same step: ncu's raw page as CSV, .ncu-rep")] = None,
    out: Out = None,
    top: Top = 15,
    as_json: Json = False,
) -> None:
    """Classify the kernels of a trace from anywhere, or put hardware counters into a run (RUN --ncu FILE).

    Costs of a trace are inferred from the shapes it recorded.
    """
    if trace.is_dir():
        _add_counters(api.load(trace), ncu, out, top, as_json)
        return
    recorded_on = api.device_at(device, power_mode=power_mode, gpu_mhz=gpu_mhz, emc_mhz=emc_mhz)
    with result_folder(out, f"trace-{trace.name.split('.')[0]}") as folder:
        run = api.analyze(trace, device=recorded_on, out=folder, command=_command())
    if ncu is None:
        _show(run, top, as_json)
    else:
        _add_counters(run, ncu, run.path, top, as_json)


def _add_counters(run: Any, counters: Path | None, out: Path | None, top: int, as_json: bool) -> None:
    """Merge, show the run, and below it the counters beside our own counts."""
    from .reports.counter_table import render_counters

    if counters is None:
        raise UsageError("a run folder is analyzed with --ncu FILE; to print its report: edgeroof show RUN")
    with result_folder(out, f"{run.path.name}-ncu") as folder:
        merged = api.add_counters(run, counters, out=folder)
    _show(merged.run, top, as_json)
    if not as_json:
        render_counters(merged, Console(), top)


@app.command(epilog="Example: edgeroof show runs/small-cpu --top 40")
def show(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    top: Top = 15,
    as_json: Json = False,
) -> None:
    """Print the report of a run that was made earlier."""
    _show(api.load(run), top, as_json)


@app.command(epilog="Example: edgeroof devices orin")
def devices(name: Annotated[str | None, typer.Argument(help="the device to explain")] = None) -> None:
    """List the devices edgeroof knows, or explain one: its roofs, power modes and sources."""
    from .reports.devices import render_device, render_devices

    console = Console()
    if name is None:
        render_devices(console)
    else:
        render_device(name, console)


@app.command(epilog="Example: edgeroof calibrate --force")
def calibrate(
    force: Annotated[bool, typer.Option("--force", help="measure again even if the roofs are known")] = False,
) -> None:
    """Measure this machine's roofs: bandwidth, matrix products per type, launch floor. They are kept for later runs."""
    from .profiler.calibrate import calibrate as measure
    from .profiler.device import detect
    from .reports.devices import render_roofs

    with calibration_progress() as on_progress:
        device = measure(detect(), force=force, on_progress=on_progress)
    render_roofs(device, Console())


@app.command(epilog="Example: edgeroof doctor")
def doctor() -> None:
    """Say what works on this machine and why the rest does not, with what to do about it."""
    from .profiler.doctor import examine
    from .reports.devices import render_checks

    render_checks(examine(), Console())


app.command(epilog="Example: edgeroof ab adamw --providers torch-foreach,torch-fused,edgeroof")(cli_kernels.ab)
app.command(epilog="Example: edgeroof compare runs/foreach runs/fused", cls=cli_compare.ManyRunsCommand)(
    cli_compare.compare
)
app.command(epilog="Example: edgeroof sweep --device orin --model base --batch-size 8,16,32,64,128")(cli_compare.sweep)
app.command(epilog="Example: edgeroof kernels --arch sm_87")(cli_kernels.kernels)
app.command("project", epilog="Example: edgeroof project --devices orin,a100 --model base --batch-size 8,16,32")(
    cli_project.project_command
)
app.command(epilog="Example: edgeroof paper --only scaling,links")(cli_paper.paper)
app.add_typer(cli_federated.app, name="fl")


def _show(run: Any, top: int, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(run.summary, indent=1))
        return
    from .reports import terminal

    terminal.render(run, Console(), top=top)


def _command() -> str:
    return shlex.join(["edgeroof", *sys.argv[1:]])


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    debug = "--debug" in sys.argv
    _make_every_character_printable()
    end_as_by_ctrl_c()
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.exit(run_command(arguments, debug))


def _make_every_character_printable() -> None:
    """On a terminal or a pipe that is not UTF-8, write characters it lacks as their nearest kin instead of failing."""
    codecs.register_error("nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="nearest")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_KIN.get(character, "?") for character in lacking), error.end


def run_command(arguments: list[str], debug: bool = False) -> int:
    """Run one command line and return its exit code: 0, 1 for errors, 2 for usage, 130 when interrupted."""
    try:
        # Typer turns an interrupt, and any other early exit, into the exit code that it returns.
        code = app(arguments, standalone_mode=False) or 0
        return _fail(INTERRUPTED, code, debug) if code == INTERRUPTED_CODE else int(code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail(INTERRUPTED, INTERRUPTED_CODE, debug)
    except click.UsageError as error:
        return _fail(f"{error.format_message().rstrip('.')} (see {_help_of(error)})", UsageError.exit_code, debug)
    except EdgeroofError as error:
        return _fail(str(error), error.exit_code, debug)
    except OSError as error:
        if error.errno == errno.EPIPE:
            return 0
        place = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}", 1, debug)
    except Exception as error:
        hint = "this is a bug in edgeroof; run again with --debug for the traceback"
        return _fail(f"{type(error).__name__}: {error} - {hint}", 1, debug)


def _help_of(error: click.UsageError) -> str:
    command = error.ctx.info_name if error.ctx is not None and error.ctx.parent is not None else None
    return f"edgeroof {command} --help" if command else "edgeroof --help"


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    line = clean(" ".join(message.split()))  # names from files and arguments may hold terminal escapes
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {line}", markup=False)
    return code
