"""The experiments put together: parts that are missing are run, then the documents are made from all that is there.

result = edgeroof.paper.run.run(edgeroof.paper.plan.QUICK, "runs/paper-quick")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..reports.document import Document
from ..result_files import write_json
from .collect import collect
from .experiments import build_parts
from .parts import Progress, run_parts
from .plan import TOPICS, Plan, keep_plan
from .write import write_documents

RESULT_FILE = "paper.json"


def run(
    plan: Plan,
    path: str | Path,
    *,
    only: Sequence[str] = (),
    documents: str | Path | None = None,
    on_progress: Progress = lambda what, done, total, left: None,
    command: str = "edgeroof paper",
) -> tuple[dict[str, Any], Document]:
    """Run what is missing of a plan, or of some of its topics, and write the documents.

    Args:
        plan: what to run.
        path: folder of the runs and results; it may hold an earlier part of the same plan.
        only: topics, of :data:`~.plan.TOPICS`; none means all.
        documents: folder for ``paper.md`` and its pages; by default the folder of the runs.
        on_progress: told what is being done.
        command: how to make it again, for the documents.

    Returns:
        The JSON-ready data behind the documents, and the document.

    Raises:
        UsageError: an unknown topic.
        EdgeroofError: a part failed; those before it are kept.
    """
    check_topics(only)
    folder = Path(path).absolute()
    keep_plan(plan, folder)
    needed = _with_needs(only)
    run_parts([part for part in build_parts(plan, folder) if part.topic in needed], folder, on_progress)
    data = collect(plan, folder, command)
    write_json(folder / RESULT_FILE, data)
    return data, write_documents(data, Path(documents) if documents else folder)


def check_topics(only: Sequence[str]) -> None:
    """Check names of topics before anything slow starts.

    Raises:
        UsageError: one is unknown.
    """
    unknown = [name for name in only if name not in TOPICS]
    if unknown:
        raise UsageError(f"unknown experiment {', '.join(unknown)}; there are {', '.join(TOPICS)}")


def _with_needs(only: Sequence[str]) -> set[str]:
    """The topics with those that they are made from: granularity takes its step times from the scaling experiment."""
    chosen = set(only) or set(TOPICS)
    return chosen | ({"scaling"} if "links" in chosen else set())
