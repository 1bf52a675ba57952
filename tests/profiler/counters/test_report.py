"""``.ncu-rep`` files, through a stand-in with the interface that NVIDIA documents for ncu-report."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from edgeroof.errors import CounterError
from edgeroof.profiler.counters import read_counters


class Metric:
    def __init__(self, value):
        self._value = value

    def has_value(self):
        return self._value is not None

    def as_double(self):
        return self._value


class Action:
    def __init__(self, name, metrics):
        self._name, self._metrics = name, metrics

    def name(self):
        return self._name

    def metric_names(self):
        return tuple(self._metrics)

    def metric_by_name(self, name):
        return Metric(self._metrics[name])


def report(*ranges):
    actions = [
        SimpleNamespace(num_actions=lambda r=r: len(r), action_by_idx=lambda i, r=r: r[i]) for r in ranges
    ]  # fmt: skip
    return SimpleNamespace(num_ranges=lambda: len(actions), range_by_idx=lambda i: actions[i])


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "step.ncu-rep"
    file.write_bytes(b"NVR\x00")
    return file


def install(monkeypatch, load):
    monkeypatch.setitem(sys.modules, "ncu_report", SimpleNamespace(load_report=load))


def test_launches_of_all_ranges_in_order(monkeypatch, path):
    first = Action("gemm", {"gpu__time_duration.sum": 2500.0, "dram__bytes_read.sum": 64.0, "sm__cycles.sum": 9.0})
    second = Action("copy", {"gpu__time_duration.sum": float("nan"), "dram__bytes_read.sum": None})
    install(monkeypatch, lambda name: report([first], [second]))
    gemm, copy = read_counters(path)
    assert (gemm.name, gemm.duration_us, gemm.bytes_read, gemm.bytes_written) == ("gemm", 2.5, 64.0, None)
    assert (copy.name, copy.duration_us, copy.bytes_read) == ("copy", None, None)


def test_a_damaged_or_empty_report(monkeypatch, path):
    def broken(name):
        raise RuntimeError("bad magic")

    install(monkeypatch, broken)
    with pytest.raises(CounterError, match=r"cannot read .*bad magic"):
        read_counters(path)
    install(monkeypatch, lambda name: report())
    with pytest.raises(CounterError, match="no launches"):
        read_counters(path)


def test_without_the_package_it_says_what_to_do(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "ncu_report", None)
    with pytest.raises(CounterError, match=r"pip install 'edgeroof\[ncu\]'.*--page raw"):
        read_counters(path)
