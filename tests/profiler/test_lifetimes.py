from __future__ import annotations

import json

import torch
from torch.profiler import ProfilerActivity, profile

from edgeroof.profiler.lifetimes import MemoryTimeline, MemoryTracker, Storage
from edgeroof.profiler.phases import phase

from .tiny_t5 import tiny_t5, training_step


def test_peak_is_that_of_one_moment():
    storages = tuple(Storage(size, "", kind) for size, kind in [(10, "weights"), (100, "a"), (60, "b"), (70, "c")])
    timeline = MemoryTimeline(storages, events=(0, 1, -2, 2, 3))  # a is freed before b and c come
    assert timeline.peak() == {"weights": 10, "a": 0, "b": 60, "c": 70}
    assert timeline.highest() == {"weights": 10, "a": 100, "b": 60, "c": 70}
    assert timeline.peak(rounding=64) == {"weights": 64, "a": 0, "b": 64, "c": 128}
    assert MemoryTimeline((), ()).peak() == {}


def test_storages_are_followed_until_nothing_holds_them():
    with MemoryTracker([("weights", weight := torch.ones(8))]) as tracker:
        with phase("forward"):
            a = weight * 2
            view = a[:4]  # keeps the storage of a
            del a
            weight.mul_(2)  # allocates nothing
        with phase("backward"):
            torch.ones(100) + 1
        del view
    timeline = tracker.finish(torch.nn.Identity())
    kinds = [(storage.nbytes, storage.kind) for storage in timeline.storages]
    assert kinds == [(32, "weights"), (32, "activations"), (400, "temporaries"), (400, "temporaries")]
    assert timeline.peak() == {"weights": 32, "activations": 32, "temporaries": 800}
    assert timeline.events[-1] == -2  # the view was the last to go


def test_what_autograd_saves_stays_until_backward():
    x = torch.ones(1000, requires_grad=True)
    with MemoryTracker() as tracker:
        with phase("forward"):
            y = x.exp().exp().sum()
        alive_after_forward = sum(tracker.finish(torch.nn.Identity()).peak().values())
        with phase("backward"):
            y.backward()
    assert alive_after_forward >= 8000
    assert tracker.finish(torch.nn.Identity()).highest()["activations"] >= 8000


def allocated_at_peak(step, path) -> int:
    """Peak of what the CPU allocator handed out during a step, as torch's own profiler saw it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    profiler.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        total += event["args"]["Bytes"]
        peak = max(peak, total)
    return peak


def test_the_peak_agrees_with_the_allocator(tmp_path):
    model = tiny_t5("eager")
    step = training_step(model, torch.optim.AdamW(model.parameters(), fused=True))
    step()
    model.zero_grad()
    allocated = allocated_at_peak(step, tmp_path / "trace.json")
    model.zero_grad()
    with MemoryTracker() as tracker:
        step()
    seen = sum(tracker.finish(model).peak().values())
    # Parameters and states were there before and are not in either; kernels' own scratch is in the allocator's only.
    seen -= sum(parameter.numel() * 4 for parameter in model.parameters()) if seen > allocated else 0
    assert 0.9 * allocated < seen <= 1.01 * allocated


def test_gradients_left_behind_are_told_apart():
    layer = torch.nn.Linear(16, 16, bias=False)
    with MemoryTracker([("weights", layer.weight)]) as tracker:
        with phase("forward"):
            y = layer(torch.ones(2, 16)).sum()
        with phase("backward"):
            y.backward()
    assert tracker.finish(layer).highest()["gradients"] == 16 * 16 * 4
