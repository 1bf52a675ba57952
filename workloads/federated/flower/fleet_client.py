"""A SuperNode's part of profiling a fleet: its own client step, on its own device."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....errors import UsageError
from .tables import read_files


def profile_step(task: Mapping[str, Any]) -> dict[str, bytes]:
    """Profile the client step on this machine.

    Args:
        task: ``client`` holds fields of :class:`~edgeroof.workloads.client_config.ClientConfig` but the device, which
            is this machine's; ``capture`` those of :class:`~edgeroof.profiler.capture.CaptureOptions`.

    Returns:
        The files of the run by name.

    Raises:
        EdgeroofError: the step cannot run here.
    """
    from ....api import profile
    from ....profiler.capture import CaptureOptions

    try:
        options, config = CaptureOptions(**task["capture"]), dict(task["client"])
        with tempfile.TemporaryDirectory(prefix="edgeroof-") as scratch:
            profile(options=options, out=Path(scratch) / "run", command="edgeroof fl profile", **config)
            return read_files(Path(scratch) / "run")
    except (KeyError, TypeError) as error:
        raise UsageError(f"the server asked for a profile this edgeroof cannot take: {error}") from error
