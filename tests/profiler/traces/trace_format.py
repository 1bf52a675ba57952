"""The rules of the Trace Event format that a viewer relies on, checked on a whole file."""

import gzip
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

#: Phases of events that need a time; metadata (M) does not.
TIMED = frozenset("BEXiICsftbneNODPv(")


def strict_json(path: Path) -> Any:
    """The document; NaN and Infinity, which Python would accept, are refused."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(gzip.decompress(path.read_bytes()).decode("utf-8"), parse_constant=refuse)


def check_trace_events(document: Any) -> list[dict[str, Any]]:
    """Check every event, and return them.

    The rules are those of the format's description: an object with ``traceEvents`` or a bare array; every event has a
    phase; timed ones a time in microseconds; complete ones (X) a duration; counters (C) a process, a name, and
    arguments that are all numbers, each of which is a series.
    """
    events = document["traceEvents"] if isinstance(document, dict) else document
    assert isinstance(events, list)
    for event in events:
        assert isinstance(event, dict), event
        assert isinstance(event["ph"], str), event
        assert len(event["ph"]) == 1, event
        if event["ph"] in TIMED:
            assert is_number(event["ts"]), event
        if event["ph"] == "X":
            assert is_number(event["dur"]), event
            assert event["dur"] >= 0, event
            assert isinstance(event["name"], str), event
        if "args" in event:
            assert isinstance(event["args"], dict), event
        if event["ph"] == "C":
            check_counter(event)
    check_series(events)
    return events


def check_counter(event: dict[str, Any]) -> None:
    assert isinstance(event["name"], str), event
    assert isinstance(event["pid"], (int, str)), event
    assert event["args"], event
    assert all(is_number(value) for value in event["args"].values()), event


def check_series(events: list[dict[str, Any]]) -> None:
    """A series has one value at a time; ours come in order."""
    times = defaultdict(list)
    for event in events:
        if event["ph"] == "C" and event.get("cat") == "edgeroof":
            times[event["pid"], event["name"], tuple(event["args"])].append(event["ts"])
    for series, found in times.items():
        assert found == sorted(set(found)), series


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
