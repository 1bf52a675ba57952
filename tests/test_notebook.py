"""The example notebook: as it is committed, and executed again in a small form."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "example.ipynb"
TOOL = ROOT / "tools" / "run_notebook.py"
#: What the small form has in place of the notebook's sizes.
SMALL = {
    '"batch_size": 4': '"batch_size": 1',
    '"source_length": 64': '"source_length": 8',
    '"target_length": 32': '"target_length": 8',
}


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def shown(cell: Any, kind: str) -> str:
    return "".join(
        text if isinstance(text, str) else "".join(text)
        for output in cell["outputs"]
        for text in [output.get("data", {}).get(kind, "")]
    )


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("run_notebook", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_notebook_was_executed_from_top_to_bottom() -> None:
    cells = code_cells(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert "error" not in kinds
    assert all(output.get("name") != "stderr" for cell in cells for output in cell["outputs"])
    assert any("<svg" in shown(cell, "image/svg+xml") for cell in cells)


def test_its_outputs_hold_no_path_of_a_machine() -> None:
    outputs = json.dumps([cell["outputs"] for cell in code_cells(json.loads(NOTEBOOK.read_text(encoding="utf-8")))])
    assert not re.search(r"(?<![\w<])/(home|root|tmp|usr|var|opt|work|Users)/", outputs)


def test_a_path_of_this_machine_is_found(tool: ModuleType) -> None:
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    cell = new_code_cell("1", outputs=[new_output("stream", text=f"wrote {ROOT}/runs/one")])
    assert str(ROOT) in tool.machine_paths(new_notebook(cells=[cell]))
    assert tool.machine_paths(new_notebook(cells=[new_code_cell(f"open('{ROOT}/x')")])) == []


def test_a_small_form_runs(tmp_path: Path, tool: ModuleType) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    for usual, small in SMALL.items():
        assert json.dumps(usual)[1:-1] in text
        text = text.replace(json.dumps(usual)[1:-1], json.dumps(small)[1:-1])
    (tmp_path / "small.ipynb").write_text(text, encoding="utf-8")
    command = [sys.executable, str(TOOL), "small.ipynb", "--out", "executed.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    cells = code_cells(json.loads((tmp_path / "executed.ipynb").read_text(encoding="utf-8")))
    assert all(cell["outputs"] for cell in cells)
    counts = next(text for text in (shown(cell, "text/plain") for cell in cells) if "bytes per parameter" in text)
    assert float(re.search(r"adamw-fused\s+\S+\s+(\S+)", counts)[1]) == 28
    assert sorted(path.name for path in tmp_path.iterdir()) == ["executed.ipynb", "small.ipynb"]
