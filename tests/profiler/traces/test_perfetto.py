"""An annotated trace as Perfetto's own trace processor sees it.

The ``perfetto`` package brings the protocol but not the program, which it would download on first use. A test loads
nothing from elsewhere, so this one runs where the program is on the path. The rules of the format are checked without
it, in ``test_annotate.py``.
"""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from .test_annotate import annotate
from .trace_builder import training_step


@pytest.fixture
def annotated(tmp_path: Path) -> tuple[pd.DataFrame, Path]:
    kernels, _ = annotate(training_step().write(tmp_path), tmp_path / "out.json.gz")
    return kernels, tmp_path / "out.json.gz"


@pytest.fixture
def processor(annotated: tuple[pd.DataFrame, Path]) -> Iterator[Any]:
    program = shutil.which("trace_processor_shell") or shutil.which("trace_processor")
    if program is None:
        pytest.skip(
            "trace_processor_shell is not on the path, and the perfetto package would download it: "
            "get it from https://get.perfetto.dev/trace_processor to run this test"
        )
    trace_processor = pytest.importorskip("perfetto.trace_processor")
    config = trace_processor.TraceProcessorConfig(bin_path=program)
    with trace_processor.TraceProcessor(trace=str(annotated[1]), config=config) as found:
        yield found


def test_nothing_of_the_trace_was_refused(processor: Any) -> None:
    refused = list(processor.query("select name, value from stats where severity != 'info' and value > 0"))
    assert not [(row.name, row.value) for row in refused if "json" in row.name or "parser" in row.name]


def test_kernels_carry_their_findings(processor: Any, annotated: tuple[pd.DataFrame, Path]) -> None:
    kernels, _ = annotated
    rows = list(
        processor.query(
            "select name, extract_arg(arg_set_id, 'args.edgeroof.bound') as bound, "
            "extract_arg(arg_set_id, 'args.edgeroof.bytes') as bytes from slice "
            "where extract_arg(arg_set_id, 'args.edgeroof.bound') is not null order by ts"
        )
    )
    assert [row.name for row in rows] == kernels["name"].tolist()
    assert [row.bound for row in rows] == kernels["bound"].tolist()
    moved = (kernels["bytes_read"] + kernels["bytes_written"]).tolist()
    assert [row.bytes for row in rows] == [None if math.isnan(value) else value for value in moved]


def test_counter_tracks_have_the_achieved_rates(processor: Any, annotated: tuple[pd.DataFrame, Path]) -> None:
    kernels, _ = annotated
    rows = processor.query(
        "select t.name as name, max(c.value) as high, min(c.value) as low "
        "from counter c join counter_track t on c.track_id = t.id group by t.name"
    )
    found = {row.name: (row.low, row.high) for row in rows}
    assert set(found) == {"achieved bandwidth GB/s", "achieved compute GFLOP/s", "share of the roof %"}
    assert found["achieved bandwidth GB/s"] == pytest.approx((0, kernels["bandwidth_gbs"].max()), rel=1e-5)
