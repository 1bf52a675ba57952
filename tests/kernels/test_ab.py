"""The runner, with providers that only move a clock."""

from __future__ import annotations

import json
import math
import random
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest

from edgeroof.errors import UsageError
from edgeroof.kernels.ab import ProviderError, Work, choose_problems, choose_providers, failures, run
from edgeroof.kernels.sampling import Stopwatch, measure_pairs

from .fake_lab import BASE_US, DEVICE, PROBLEM, SETTINGS, FakeLab, FakeMeter, interrupted_after


def entries(result: dict) -> dict[str, dict]:
    (problem,) = result["problems"]
    return {entry["provider"]: entry for entry in problem["results"]}


def run_fake(lab: FakeLab, *providers, **options):
    instruments = options.pop("instruments", None) or lab.instruments()
    return run(lab.suite(*providers), [PROBLEM], DEVICE, settings=SETTINGS, instruments=instruments, **options)


def test_verdicts_and_ratios():
    lab = FakeLab()
    found = entries(
        run_fake(
            lab, lab.provider("half", BASE_US / 2), lab.provider("equal", BASE_US), lab.provider("slow", 3 * BASE_US)
        )
    )
    assert {name: entry.get("verdict") for name, entry in found.items()} == {
        "base": None, "half": "FASTER", "equal": "SAME", "slow": "SLOWER",
    }  # fmt: skip
    assert found["half"]["comparisons"]["wall"]["ratio"] == pytest.approx(2, rel=0.01)
    assert found["slow"]["times_us"]["wall"]["median"] == pytest.approx(3 * BASE_US, rel=0.01)


def test_calls_alternate_abba_and_the_noise_comes_first():
    lab = FakeLab()
    wall = entries(run_fake(lab, lab.provider("other", BASE_US)))["other"]["samples"]["wall"]
    turns = len(wall["us"]) // wall["placements"] // 2
    calls = "".join("A" if name == "base" else "B" for name in lab.calls)
    warm_and_estimate = 2 * (SETTINGS.warmup + 2)
    assert "B" not in calls[: warm_and_estimate + 2 * SETTINGS.pairs]
    places = calls[calls.index("BB") :][2:]  # after the estimate: two calls of each
    # Both are built and called once in turn, then measured; who is first changes in measuring every second time.
    first, second = turns * "ABBA", turns * "BAAB"
    assert places.startswith("AB" + first + "BA" + first + "AB" + second + "BA" + second + "AB" + first)


def test_pairs_keep_their_order():
    lab = FakeLab(noise=0.0)
    one = lab.provider("one", 100.0).build(PROBLEM, None)
    two = lab.provider("two", 300.0).build(PROBLEM, None)
    pairs = measure_pairs(one, two, 5, lab.instruments().stopwatch)
    assert lab.calls == ["one", "two", "two", "one", "one", "two", "two", "one", "one", "two"]
    assert pairs["wall"].base == pytest.approx([100.0] * 5)
    assert pairs["wall"].other == pytest.approx([300.0] * 5)


def test_a_wrong_provider_is_shown_and_not_timed():
    lab = FakeLab(errors={"wrong": 0.5, "nan": float("nan")})
    result = run_fake(lab, lab.provider("wrong", 1.0), lab.provider("nan", 1.0))
    for name in ("wrong", "nan"):
        assert entries(result)[name]["status"] == "wrong"
        assert "times_us" not in entries(result)[name]
        assert name not in lab.calls
    assert "error 0.5, allowed 1e-06" in entries(result)["wrong"]["reason"]


def test_a_provider_that_is_wrong_at_full_size_is_not_timed():
    lab = FakeLab()
    from edgeroof.kernels.ab import Check

    good = lab.provider("large", 1.0)
    bad = replace(good, build=lambda p, i: replace(good.build(p, i), verify=lambda: Check(2.0, 1.0, "error")))
    result = run_fake(lab, bad)
    assert entries(result)["large"]["status"] == "wrong"
    assert "large" not in lab.calls


def test_missing_and_failing_providers_have_reasons_and_stop_nobody():
    lab = FakeLab()

    def explode(problem, inputs):
        raise RuntimeError("no such instruction\nlong traceback")

    broken = replace(lab.provider("broken", 1.0), build=explode)
    absent = lab.provider("absent", 1.0, unavailable=lambda problem, device: f"not installed for {device}")
    found = entries(run_fake(lab, absent, broken, lab.provider("fine", BASE_US)))
    assert (found["absent"]["status"], found["absent"]["reason"]) == ("unavailable", "not installed for cpu")
    assert (found["broken"]["status"], found["broken"]["reason"]) == ("failed", "RuntimeError: no such instruction")
    assert found["fine"]["status"] == "measured"


def test_a_base_that_cannot_be_used_is_an_error():
    lab = FakeLab(errors={"base": 1.0})
    with pytest.raises(ProviderError, match=r"the base base is wrong"):
        run_fake(lab)
    absent = lab.provider("absent", 1.0, unavailable=lambda problem, device: "not installed")
    with pytest.raises(ProviderError, match=r"absent cannot be used on cpu: not installed; choose another"):
        run_fake(lab, absent, baseline="absent")


def test_places_under_the_roof():
    lab = FakeLab(noise=0.0)
    entry = entries(run_fake(lab, lab.provider("double", 2 * BASE_US)))["double"]
    assert entry["bytes_per_parameter"] == pytest.approx(20)
    assert entry["gbs"] == pytest.approx(10)  # 20 MB in 2 ms
    assert entry["roof_fraction"] == pytest.approx(0.5)  # of 20 GB/s
    assert entry["floor_fraction"] == pytest.approx(0.25)  # 10 MB would do
    assert entry["gflops"] == pytest.approx(7)
    assert entry["intensity"] == pytest.approx(0.7)


def test_the_result_is_json_with_every_sample():
    lab = FakeLab()
    result = run_fake(lab, lab.provider("other", BASE_US))
    again = json.loads(json.dumps(result, allow_nan=False))
    assert again == result
    samples = entries(again)["other"]["samples"]["wall"]
    assert len(samples["us"]) == len(samples["base_us"]) >= SETTINGS.pairs
    wall = entries(again)["other"]["comparisons"]["wall"]
    assert (wall["pairs"], wall["placements"]) == (len(samples["us"]), samples["placements"])
    assert again["problems"][0]["aa"]["comparisons"]["wall"]["pairs"] >= SETTINGS.pairs
    assert again["device"]["roof_used"] == "measured"


def test_energy_memory_and_state_are_kept_where_there_is_a_meter():
    lab = FakeLab(noise=0.0)
    peaks = iter([100, 100, 160, 100, 130, 150])  # before, building, running: the base, then the other

    class Peak:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            self.bytes = next(peaks)

    instruments = lab.instruments(
        energy_meter=lambda: FakeMeter(lab.clock), machine_state=lambda: {"SM clock": "1300 MHz"}, peak_memory=Peak,
        load=lambda: SimpleNamespace(share=lambda: 0.25),
    )  # fmt: skip
    entry = entries(run_fake(lab, lab.provider("other", 2 * BASE_US), instruments=instruments))["other"]
    assert entry["energy"]["joules_per_call"] == pytest.approx(50 * 2 * BASE_US * 1e-6, rel=1e-6)
    assert entry["energy"]["domain"] == "fake board"
    state = {"SM clock": "1300 MHz"}
    assert entry["state"] == {"before": state, "after": state, "others": 0.25, "throttled": []}
    assert entry["peak_bytes"] == 50


def test_throttling_reaches_the_reports_warning():
    from edgeroof.profiler.machine_state import throttling
    from edgeroof.reports.ab_view import warnings

    lab = FakeLab()
    readings = iter(["not throttled", "not throttled", "not throttled", "reasons 0x20"])
    instruments = lab.instruments(machine_state=lambda: {"throttling": next(readings)}, throttling=throttling)
    result = run_fake(lab, lab.provider("other", BASE_US), instruments=instruments)
    assert entries(result)["base"]["state"]["throttled"] == []
    assert entries(result)["other"]["state"]["throttled"] == ["software thermal slowdown"]
    assert "one, other: the GPU was throttled (software thermal slowdown)." in warnings(result)


def test_the_labs_instruments_know_throttling():
    from edgeroof import lab

    found = lab.instruments(DEVICE, energy=False).throttling({"throttling": "reasons 0x8"})
    assert found == ["hardware slowdown"]


class Tracked:
    """A provider that counts how many of its works there are at once."""

    def __init__(self, lab: FakeLab, name: str, us: float, built: list[str], build_us: float = 0.0) -> None:
        self.alive = self.most = 0
        self.lab, self.plain, self.built, self.build_us = lab, lab.provider(name, us), built, build_us

    def provider(self, **options):
        return replace(self.plain, build=self.build, **options)

    def build(self, problem, inputs):
        self.lab.clock.now += self.build_us * 1e-6
        self.alive += 1
        self.most = max(self.most, self.alive)
        self.built.append(self.plain.name)
        work = self.plain.build(problem, inputs)
        weakref.finalize(work.call, self.gone)
        return work

    def gone(self) -> None:
        self.alive -= 1


def test_works_are_rebuilt_in_turn_and_never_stand_twice():
    lab, built = FakeLab(), []
    base, other = Tracked(lab, "base", BASE_US, built), Tracked(lab, "other", BASE_US, built)
    suite = replace(lab.suite(), providers=(base.provider(), other.provider()))
    result = run(suite, [PROBLEM], DEVICE, settings=SETTINGS, instruments=lab.instruments())
    after_aa = built[built.index("other") :]
    assert after_aa[:9] == ["other", "base", "other", "other", "base", "base", "other", "other", "base"]
    assert base.most == 2  # in the A/A run
    assert other.most == 1
    assert entries(result)["other"]["comparisons"]["wall"]["placements"] >= 6


def test_what_compiles_at_every_build_is_built_once():
    lab, built = FakeLab(), []
    base, other = Tracked(lab, "base", BASE_US, built), Tracked(lab, "other", BASE_US, built)
    suite = replace(lab.suite(), providers=(base.provider(), other.provider(build_once=("cpu",))))
    result = run(suite, [PROBLEM], DEVICE, settings=SETTINGS, instruments=lab.instruments())
    assert built.count("other") == 1
    assert entries(result)["other"]["comparisons"]["wall"]["placements"] >= 6  # the base moves


def test_where_building_takes_too_long_there_is_one_place_and_the_report_says_so():
    from edgeroof.reports.ab_view import warnings

    lab, built = FakeLab(), []
    other = Tracked(lab, "other", BASE_US, built, build_us=5e6)
    result = run_fake(lab, other.provider())
    assert built == ["other"] * 2  # at first, and to see how long it takes
    assert entries(result)["other"]["comparisons"]["wall"]["placements"] == 1
    assert any("other: one place in memory only" in line for line in warnings(result))
    assert not any("base" in line for line in warnings(result))


def test_a_bias_of_one_place_is_no_verdict():
    """Works that owe 4 % to where they lie; a lab with one place would call one of them faster."""

    def build(problem, inputs):
        place = lab.rng.gauss(0.0, 0.04)

        def call() -> None:
            lab.clock.now += BASE_US * 1e-6 * math.exp(place + lab.rng.gauss(0, 0.002))

        return Work(call, bytes_moved=20e6)

    verdicts = []
    for seed in range(6):
        lab = FakeLab(rng=random.Random(seed))
        base, other = (replace(lab.provider(name, 0.0), build=build) for name in ("base", "other"))
        suite = replace(lab.suite(), providers=(base, other))
        result = run(suite, [PROBLEM], DEVICE, settings=SETTINGS, instruments=lab.instruments())
        verdicts += [result["problems"][0]["aa"]["verdict"], entries(result)["other"]["verdict"]]
    assert set(verdicts) <= {"SAME", "UNCLEAR"}
    assert "SAME" in verdicts


def test_measuring_ends_when_it_is_precise_or_out_of_time():
    noisy = FakeLab(noise=0.5)
    limited = replace(SETTINGS, most_seconds=0.5, most_pairs=2000)
    suite = noisy.suite(noisy.provider("other", BASE_US))
    began = noisy.clock.now
    run(suite, [PROBLEM], DEVICE, settings=limited, instruments=noisy.instruments())
    assert noisy.clock.now - began <= (2 + 1) * 0.7  # the base against itself may take twice as long
    many = FakeLab(noise=0.5)
    result = run_fake(many, many.provider("other", BASE_US))
    assert SETTINGS.most_pairs <= entries(result)["other"]["comparisons"]["wall"]["pairs"] <= SETTINGS.most_pairs + 2


def test_without_a_meter_the_reason_is_kept():
    lab = FakeLab()
    entry = entries(run_fake(lab, instruments=lab.instruments(energy_reason="no RAPL here")))["base"]
    assert entry["energy"] == {"available": False, "reason": "no RAPL here"}
    assert entry["peak_bytes"] is None


def test_parts_are_compared_by_themselves():
    lab = FakeLab(noise=0.0)

    def with_part(name: str, us: float, part_us: float):
        whole = lab.provider(name, us)
        return replace(whole, build=lambda p, i: Work(whole.build(p, i).call, parts=lambda: {"optimizer": part_us}))

    suite = lab.suite()
    suite = replace(suite, providers=(with_part("base", 100.0, 50.0), with_part("other", 75.0, 25.0)))
    result = run(suite, [PROBLEM], DEVICE, settings=SETTINGS, instruments=lab.instruments())
    found = entries(result)["other"]["comparisons"]
    assert found["optimizer"]["ratio"] == pytest.approx(2)
    assert found["wall"]["ratio"] == pytest.approx(100 / 75)


def test_caches_are_flushed_only_where_the_working_set_is_small():
    flushes = []
    watch = Stopwatch(cache_bytes=1000, flush=lambda: flushes.append(1))
    work = Work(lambda: None)
    for working_set, cache, times in [(4000.0, "exceeded", 0), (3999.0, "flushed", 1), (None, "unknown", 0)]:
        flushes.clear()
        watch.choose_flush(working_set)
        watch.time(work)
        assert (watch.cache, len(flushes)) == (cache, times)
    warm = Stopwatch(cache_bytes=1000)
    warm.choose_flush(10.0)
    assert warm.cache == "warm"


def test_device_and_wall_clocks_are_apart():
    class DeviceClock:
        def __init__(self):
            self.now = 0.0
            self.finished = 0

        def mark(self):
            return self.now

        def elapsed_ms(self, start, end):
            return (end - start) * 1e3

        def finish(self):
            self.finished += 1

    lab, device = FakeLab(noise=0.0), DeviceClock()
    from edgeroof.profiler.timing import HostClock

    def call():
        lab.clock.now += 500e-6
        device.now += 200e-6

    times = Stopwatch(HostClock(lab.clock), device).time(Work(call))
    assert times == pytest.approx({"wall": 500.0, "device": 200.0})
    assert device.finished == 2


def test_choices():
    lab = FakeLab()
    suite = lab.suite(lab.provider("x", 1.0), lab.provider("y", 1.0), default_providers=("y",))
    base, others = choose_providers(suite, None, None)
    assert (base.name, [other.name for other in others]) == ("base", ["y"])
    base, others = choose_providers(suite, ["x", "base", "x"], "y")
    assert (base.name, [other.name for other in others]) == ("y", ["x", "base"])
    with pytest.raises(UsageError, match="no provider 'z'; it has base, x, y"):
        choose_providers(suite, ["z"], None)
    with pytest.raises(UsageError, match="no problem 'huge'; it has one"):
        choose_problems(suite, ["huge"], "cpu")


def test_the_gate():
    lab = FakeLab(errors={"ours-wrong": 1.0})
    slow, wrong = lab.provider("ours", 2 * BASE_US, judged=True), lab.provider("ours-wrong", 1.0, judged=True)
    result = run_fake(lab, slow, wrong, lab.provider("rival", 9 * BASE_US), lab.provider("fast", BASE_US / 2))
    assert failures(result) == [
        "ours is slower than base on one",
        "ours-wrong is wrong on one: error 1, allowed 1e-06 (error relative to the update)",
    ]
    assert failures(result, ["fast"]) == []
    assert failures(result, ["rival"]) == ["rival is slower than base on one"]
    nobody = run_fake(FakeLab())
    assert failures(nobody) == ["no provider that --fail-if-slower is about could be measured"]


def test_interrupting_is_not_taken_for_a_failure():
    lab = FakeLab()
    suite_call = lab.provider("other", BASE_US)
    with interrupted_after(lab, 80), pytest.raises(KeyboardInterrupt):
        run_fake(lab, suite_call)


def test_progress_names_what_runs():
    lab = FakeLab()
    seen: list[tuple[str, int, int]] = []
    run_fake(lab, lab.provider("other", BASE_US), on_progress=lambda *step: seen.append(step))
    assert seen == [("one: base against itself", 0, 2), ("one: other", 1, 2), ("done", 2, 2)]


def test_what_is_too_slow_is_said_and_not_waited_for():
    lab = FakeLab()
    found = entries(run_fake(lab, lab.provider("glacial", 60e6)))["glacial"]
    assert found["status"] == "failed"
    assert "too slow to compare: a pair takes 60 s" in found["reason"]
    assert lab.calls.count("glacial") == SETTINGS.warmup + 2
