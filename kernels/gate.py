"""Whether an A/B result passes as a gate in a script or in CI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def failures(result: Mapping[str, Any], named: Sequence[str] | None = None) -> list[str]:
    """What ``--fail-if-slower`` is about, in words; empty when the gate is passed.

    Args:
        result: of :func:`~edgeroof.kernels.ab.run`.
        named: providers that the user named; without any, edgeroof's own are judged.
    """
    judged, problems = 0, []
    for problem in result["problems"]:
        for entry in problem["results"]:
            if not (entry["provider"] in named if named else entry["judged"]) or entry["status"] == "baseline":
                continue
            judged += entry["status"] == "measured"
            if entry["status"] in ("wrong", "failed"):
                problems.append(f"{entry['provider']} is {entry['status']} on {problem['name']}: {entry['reason']}")
            elif entry.get("verdict") == "SLOWER":
                problems.append(f"{entry['provider']} is slower than {result['baseline']} on {problem['name']}")
    if not judged and not problems:
        problems.append("no provider that --fail-if-slower is about could be measured")
    return problems
