"""Studies of federations put together: presets, the comparison, and the folder that it goes to.

study = CompressionStudy(edgeroof.fl_studies.base(), codecs=("none", "int8"), links=("lte",))
result = edgeroof.fl_studies.study_compression(study, out="runs/codecs")
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import fl
from .result_files import read_result, write_result_beside

if TYPE_CHECKING:
    from .workloads.federated.config import FederatedConfig
    from .workloads.federated.study import Progress
    from .workloads.federated.study_compression import CompressionStudy
    from .workloads.federated.study_selection import SelectionStudy

STUDY_FILE = "study.json"
SCHEMA_VERSION = 1
CODECS = ("none", "fp16", "int8", "int4", "topk:0.1+int8", "topk:0.01+int8", "lowrank:4+int8", "lora:8+int8")
LINKS = ("1g", "wifi", "5g", "lte")

#: Fields of a client's step, and of a federation, with which the tiny model learns within seconds on a CPU core.
_CLIENT = {"batch_size": 8, "source_length": 48, "target_length": 12, "learning_rate": 3e-3}
_QUICK = {"dialogues": 400, "eval_dialogues": 32, "rounds": 12, "sampled": 3}
_FULL = {"dialogues": 800, "eval_dialogues": 48, "rounds": 24, "sampled": 3}


def base(model: str = "tiny", *, quick: bool = True, device: str = "cpu", **changes: Any) -> FederatedConfig:
    """The federation that a study varies.

    Args:
        model: as for :func:`edgeroof.fl.preset`.
        quick: few dialogues and rounds, for a first answer within minutes on two cores.
        device: where clients train.
        **changes: fields of the federation; what is ``None`` keeps its default.
    """
    own = _CLIENT if model == "tiny" else {}
    given = {name: value for name, value in changes.items() if value is not None}
    return fl.preset(model, device=device, client=own, **{**(_QUICK if quick else _FULL), "alpha": 0.5, **given})


def study_compression(
    study: CompressionStudy,
    *,
    out: str | Path | None = None,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
) -> dict[str, Any]:
    """Run a compression study, or go on with the one in ``out``.

    Args:
        study: what to compare.
        out: folder for finished federations, result and report; without it nothing is kept.
        on_progress: told what is being done.
        command: how to make the result again.

    Returns:
        The JSON-ready result.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .workloads.federated.study_compression import run_compression

    return _finish("compression", lambda folder: run_compression(study, folder, on_progress), out, command)


def study_selection(
    study: SelectionStudy,
    *,
    out: str | Path | None = None,
    on_progress: Progress = lambda what, done, total: None,
    command: str = "",
) -> dict[str, Any]:
    """Run a selection study under a simulated fleet, or go on with the one in ``out``.

    Args:
        study: what to compare.
        out: folder for finished federations, result and report; without it nothing is kept.
        on_progress: told what is being done.
        command: how to make the result again.

    Returns:
        The JSON-ready result.

    Raises:
        EdgeroofError: what went wrong and what to do.
    """
    from .workloads.federated.study_selection import run_selection

    return _finish("selection", lambda folder: run_selection(study, folder, on_progress), out, command)


def _finish(
    name: str, compare: Callable[[Path | None], dict[str, Any]], out: str | Path | None, command: str
) -> dict[str, Any]:
    from .profiler.environment import describe_environment, describe_torch

    folder = Path(out) if out is not None else None
    result = {
        "schema_version": SCHEMA_VERSION,
        "kind": "federated-study",
        "study": name,
        **compare(folder),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "environment": describe_environment() | describe_torch(),
    }
    if folder:
        _save(result, folder)
    return result


def _save(result: Mapping[str, Any], folder: Path) -> None:
    from .reports import document_html
    from .reports.studies import study_document

    report = document_html.render(study_document(result))
    write_result_beside(result, folder, STUDY_FILE, report)


def load(path: str | Path) -> dict[str, Any]:
    """Read a study from its folder or its ``study.json``.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    return read_result(
        path,
        STUDY_FILE,
        kind="federated-study",
        version=SCHEMA_VERSION,
        what="the study",
        none="no study of federations",
    )


__all__ = ["CODECS", "LINKS", "base", "load", "study_compression", "study_selection"]
