"""What Perfetto's importer of JSON traces would drop, merge or miscount: rules beyond those of the format itself.

They follow the importer: slices of a thread nest, an arrow has an id and begins before it ends, metadata has its one
argument, a series of counters belongs to one source, an argument's name is no path, a time fits into nanoseconds.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .trace_format import is_number

Events = list[dict[str, Any]]

#: The one argument of each metadata event that the importer reads.
METADATA = {
    "process_name": ("name", str),
    "thread_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_sort_index": ("sort_index", int),
}
#: Times are 64-bit nanoseconds there; by as much as those, a sum of large times may be off in float64.
_LARGEST_US = 2**63 / 1000
_ROUNDING_US = 2e-3


def dropped(events: Events) -> list[str]:
    """A line for each thing that would not be shown as it is meant."""
    return [
        *(f"{event['name']}: {flaw}" for event in events for flaw in _flaws(event)),
        *_crossing_slices(events),
        *_broken_arrows(events),
        *_shared_counters(events),
    ]


def _flaws(event: dict[str, Any]) -> Iterator[str]:
    phase = event["ph"]
    if phase in "XCstf" and not isinstance(event.get("pid"), (int, str)):
        yield "no process"
    if phase in "Xstf" and not isinstance(event.get("tid"), (int, str)):
        yield "no thread"
    if "ts" in event and not abs(float(event["ts"])) < _LARGEST_US:
        yield "no time in nanoseconds"
    if phase in "stf" and not isinstance(event.get("id"), (int, str)):
        yield "an arrow without an id"
    if phase == "M" and event["name"] in METADATA:
        argument, kind = METADATA[event["name"]]
        if not isinstance(event.get("args", {}).get(argument), kind):
            yield f"metadata without {argument}"
    for name in event.get("args", {}).get("edgeroof", {}):
        if set(name) & set(".[]"):
            yield f"the argument {name} would be taken for a path"


def _crossing_slices(events: Events) -> Iterator[str]:
    """Slices of one thread that overlap without one holding the other."""
    threads = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            threads[event.get("pid"), event.get("tid")].append(event)
    for slices in threads.values():
        open_ends: list[float] = []
        for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
            start, end = event["ts"], event["ts"] + event["dur"]
            while open_ends and open_ends[-1] <= start + _ROUNDING_US:
                open_ends.pop()
            if open_ends and end > open_ends[-1] + _ROUNDING_US:
                yield f"{event['name']}: crosses the end of another slice"
            open_ends.append(end)


def _broken_arrows(events: Events) -> Iterator[str]:
    """Steps and ends of arrows without an earlier beginning of the same category, name and id."""
    arrows = [event for event in events if event["ph"] in ("s", "t", "f")]
    begun: set[tuple[Any, ...]] = set()
    for event in sorted(arrows, key=lambda event: (event["ts"], "stf".index(event["ph"]))):
        key = event.get("cat"), event["name"], event.get("id")
        if event["ph"] == "s":
            begun.add(key)
        elif key not in begun:
            yield f"{event['name']}: an arrow without a beginning"


def _shared_counters(events: Events) -> Iterator[str]:
    """Series that two sources write into: a viewer would show them as one."""
    sources = defaultdict(set)
    for event in events:
        if event["ph"] == "C":
            for series, value in event["args"].items():
                sources[event["pid"], event["name"], event.get("id"), series].add(event.get("cat"))
                if not is_number(value):
                    yield f"{event['name']}: {series} is no number"
    yield from (f"{key[1]}: a counter of two sources" for key, found in sources.items() if len(found) > 1)
