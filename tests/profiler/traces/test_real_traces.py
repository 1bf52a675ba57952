"""Traces recorded by others on real GPUs: linking, phases and coverage on data this project did not make."""

from pathlib import Path

import pandas as pd
import pytest

from edgeroof.profiler.device import load_device
from edgeroof.profiler.roofline import classify
from edgeroof.profiler.traces.attribution import Attribution, attribute
from edgeroof.profiler.traces.trace import Trace, read_trace


def analyze(folder: Path, name: str) -> tuple[Trace, Attribution]:
    trace = read_trace(folder / f"{name}.json.gz")
    return trace, attribute(trace)


def share(kernels: pd.DataFrame, rows: pd.Series) -> float:
    return float(kernels.loc[rows, "dur_us"].sum() / kernels["dur_us"].sum())


def priced_share(kernels: pd.DataFrame) -> float:
    return share(kernels, kernels["provenance"] != "unknown")


def test_training_with_fused_adam(shared_traces: Path) -> None:
    trace, found = analyze(shared_traces, "a100_training_fusedadam")
    kernels = found.kernels
    assert len(kernels) == 8568 + 654 + 228
    assert (kernels["kind"] == "kernel").sum() == 8568
    assert trace.warnings == ()
    assert kernels["linked"].all()
    assert found.steps == 6
    assert kernels["step"].nunique() == 6
    phases = kernels.groupby("phase", observed=True)["dur_us"].sum()
    assert {"forward", "loss", "backward", "optimizer", "communication"} == set(phases.index)
    assert phases.min() > 0
    nccl = kernels["name"].str.contains("nccl")
    assert set(kernels.loc[nccl, "phase"]) == {"communication"}
    assert 0.3 < share(kernels, nccl) < 0.4
    aten = kernels[kernels["op"].str.startswith("aten::")]
    assert priced_share(aten[aten["shapes"] != ""]) >= 0.85
    assert priced_share(aten) >= 0.85
    unknown = kernels.loc[kernels["provenance"] == "unknown", "op"]
    assert {
        "torch::autograd::CppNode<SplitLookupFunction_rowwise_adagrad_Op>",
        "fbgemm::split_embedding_codegen_lookup_rowwise_adagrad_function",
        "Optimizer.step#FusedAdam.step",
    } <= set(unknown)
    optimizer = kernels[kernels["phase"] == "optimizer"]
    assert optimizer["name"].str.contains("AdamFunctor").any()


def test_classified_on_its_device(shared_traces: Path) -> None:
    _, found = analyze(shared_traces, "a100_training_fusedadam")
    table = classify(found.kernels, load_device("a100").roof)
    bounds = table.groupby("bound", observed=True)["dur_us"].sum()
    assert set(bounds.index) == {"memory", "compute", "latency", "inefficient", "communication", "unknown"}
    products = table[(table["op"] == "aten::mm") & table["name"].str.contains("s1688gemm")]
    assert set(products["dtype"]) == {"tf32"}
    large = products[products["dur_us"] > 50]  # durations are whole microseconds
    assert large["roof_fraction"].between(0.01, 1.05).all()


def test_truncated_start(shared_traces: Path) -> None:
    _, found = analyze(shared_traces, "h100_qwen1.5_0.5b_inference")
    kernels = found.kernels
    assert 0.28 < share(kernels, ~kernels["linked"]) < 0.32
    assert any("without a launch event: 509" in warning for warning in found.warnings)
    assert set(kernels.loc[~kernels["linked"], "op"]) == {""}
    assert priced_share(kernels[kernels["linked"]]) >= 0.85
    modules = kernels["module"].astype(str)
    assert modules.str.contains("Qwen2DecoderLayer_23").any()


def test_inference_with_frames(shared_traces: Path) -> None:
    _, found = analyze(shared_traces, "h100_bert_small_inference")
    assert found.kernels["linked"].all()
    assert priced_share(found.kernels) > 0.99
    assert set(found.kernels["phase"]) == {"forward"}


def test_triton_kernel_launched_through_the_driver(shared_traces: Path) -> None:
    _, found = analyze(shared_traces, "a100_triton_kernel")
    kernels = found.kernels
    assert len(kernels) == 1
    row = kernels.iloc[0]
    assert row["linked"]
    assert row["op"] == row["name"] == "triton_poi_fused_add_cos_sin_0"
    assert row["provenance"] == "unknown"


def test_training_without_shapes_says_what_it_cannot_know(shared_traces: Path) -> None:
    trace, found = analyze(shared_traces, "a100_training_sgd_noshapes")
    assert not trace.has_shapes
    assert any("no input shapes were recorded" in warning for warning in found.warnings)
    kernels = found.kernels
    assert kernels["linked"].all()
    assert {"forward", "loss", "backward", "optimizer", "communication"} <= set(kernels["phase"])
    assert set(kernels.loc[kernels["provenance"] != "unknown", "kind"]) == {"memcpy", "memset"}


@pytest.mark.parametrize(
    "name",
    [
        "a100_training_fusedadam", "a100_training_sgd_noshapes", "a100_triton_kernel", "h100_bert_small_inference",
        "h100_qwen1.5_0.5b_inference",
    ],
)  # fmt: skip
def test_nothing_is_lost(shared_traces: Path, name: str) -> None:
    trace, found = analyze(shared_traces, name)
    assert len(found.kernels) == len(trace.device)
    assert found.kernels["dur_us"].sum() == pytest.approx(trace.device.dur_ns.sum() / 1000)
    assert found.kernels["start_us"].is_monotonic_increasing
    assert found.ops["op_index"].tolist() == list(range(len(found.ops)))
    referenced = found.kernels.loc[found.kernels["op_index"] >= 0]
    assert (
        referenced["op"].astype(str).to_numpy() == found.ops["op"].astype(str).to_numpy()[referenced["op_index"]]
    ).all()
