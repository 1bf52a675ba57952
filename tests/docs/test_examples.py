"""The examples of the documentation are run as they stand: their files, and what they say they print."""

from __future__ import annotations

import dataclasses
import os
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeroof import api, cli, lab
from edgeroof.kernels import operator
from edgeroof.profiler import costs
from edgeroof.profiler.device import Device, Roof
from edgeroof.profiler.ops import OpRecord, TensorMeta
from edgeroof.workloads.federated.codecs import QUANTISERS, parse_codec, register_quantiser

from .markdown import ROOT, blocks

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must be set before triton is imported

CPU = Device(name="cpu", title="a CPU", kind="cpu", measured=Roof("measured", 2e10, {"vector": {"fp32": 1e11}}, 1.0))

Example = Callable[[str], dict[str, Any]]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Example]:
    """Write a page's files, run the last one, and check what it prints; returns the names it defined."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(page: str) -> dict[str, Any]:
        found = blocks(ROOT / "docs" / page)
        files = [block for block in found if block.file_name]
        for block in files:
            (tmp_path / str(block.file_name)).write_text(block.text, encoding="utf-8")
        (printed,) = (block.text for block in found if block.language == "text")
        capsys.readouterr()
        names = runpy.run_path(str(files[-1].file_name))
        assert capsys.readouterr().out == printed
        return names

    yield run
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


def test_a_device(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    run = example("adding-a-device.md")["run"]
    assert run.summary["device"]["name"] == "orin-32gb"
    assert (run.kernels["dur_us"] >= 0).all()
    assert cli.run_command(["devices", "./orin-32gb.toml"]) == 0
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "edgeroof" / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "orin-32gb.toml"
    try:
        shutil.copy("orin-32gb.toml", kept)
        assert cli.run_command(["devices", "orin-32gb"]) == 0
        assert capsys.readouterr().out.count("JETSON AGX ORIN 32GB") == 2
        assert "orin-32gb" in api.devices()
    finally:
        kept.unlink()


def test_an_op_cost(example: Example) -> None:
    names = example("adding-an-op-cost.md")
    from_a_trace = OpRecord("mylib::squared_relu", (TensorMeta((8, 8), "bf16"),), (), provenance="inferred")
    cost = costs.price(from_a_trace)
    assert cost is not None
    assert (cost.flops, cost.bytes) == (128, 256)
    assert costs.price(names["record"]) == names["cost"]


def test_a_kernel(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "this_machine", lambda device: CPU)
    monkeypatch.setattr(lab, "compare", _briefly(lab.compare))
    names = example("adding-a-kernel.md")
    fused = names["result"]["problems"][0]["results"][-1]
    assert fused["error"] <= fused["tolerance"]
    assert fused["verdict"] in ("FASTER", "SLOWER", "SAME", "UNCLEAR")
    assert lab.load("runs/ab-squared-relu")["suite"] == "squared_relu"

    suite, ours = names["suite"], sys.modules["squared_relu"]
    for triton in {False, operator.use_triton(torch.zeros(1))}:
        monkeypatch.setattr(ours, "use_triton", lambda tensor, answer=triton: answer)
        check = suite.check(suite.providers[1], suite.problems["tiny"], "cpu", 0)
        assert check.passed, check
    wrong = dataclasses.replace(suite.providers[1], run=lambda tensors, dropout: (tensors["x"] ** 2,))
    assert not suite.check(wrong, suite.problems["tiny"], "cpu", 0).passed


def _briefly(compare: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The lab with as few pairs as it takes: what it says of speed is not looked at."""
    from edgeroof.kernels.ab import Settings

    settings = Settings(pairs=6, seconds=0.0, most_seconds=30.0, precision=10.0, warmup=1)
    return lambda suite, **options: compare(suite, settings=settings, energy=False, **options)


def test_a_codec(example: Example) -> None:
    before = dict(QUANTISERS)
    try:
        names = example("adding-a-codec.md")
        arrays = names["codec"].encode(names["update"]).arrays
        assert names["payload"] == sum(array.numel() * array.element_size() for array in arrays.values())
        assert names["codec"].name == "int16"
        zeros = {"z": torch.zeros(5)}
        assert not parse_codec("int16").decode(names["codec"].encode(zeros), zeros)["z"].any()
        with pytest.raises(Exception, match="already"):
            register_quantiser(QUANTISERS["int16"])
    finally:
        QUANTISERS.clear()
        QUANTISERS.update(before)
