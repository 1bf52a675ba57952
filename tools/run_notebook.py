"""Run a notebook from its first cell to its last and keep what it shows.

python tools/run_notebook.py docs/example.ipynb
python tools/run_notebook.py docs/example.ipynb --out executed.ipynb

It runs in an empty folder, which is removed with everything that the cells wrote. What is kept says nothing about the
machine but what the cells print: no times of execution, and an output that holds a path of this machine is an error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

#: Seconds that a cell may take.
TIMEOUT_S = 600
ROOT = Path(__file__).resolve().parent.parent


def execute(source: Path) -> Any:
    """The notebook with the outputs of a new run.

    Raises:
        CellExecutionError: a cell failed.
        RuntimeError: an output holds a path of this machine.
    """
    notebook = nbformat.read(source, as_version=4)
    os.environ["PYTHONWARNINGS"] = "ignore"
    with tempfile.TemporaryDirectory(prefix="edgeroof-notebook-") as folder:
        nbclient.NotebookClient(
            notebook,
            timeout=TIMEOUT_S,
            record_timing=False,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=40"],
        ).execute()
        found = machine_paths(notebook, [folder])
    if found:
        raise RuntimeError(f"outputs of {source} hold paths of this machine: {', '.join(found)}")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(notebook)
    return notebook


def machine_paths(notebook: Any, more: list[str] | None = None) -> list[str]:
    """Folders of this machine that outputs mention."""
    folders = {str(Path.home()), sys.prefix, tempfile.gettempdir(), str(ROOT), str(ROOT.parent), *(more or [])}
    shown = "\n".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    return sorted(folder for folder in folders - {"/"} if f"{folder}/" in shown)


def main() -> None:
    """Run the notebook that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, help="where to write it; by default in its own place")
    arguments = parser.parse_args()
    executed = execute(arguments.notebook)
    target = arguments.out or arguments.notebook
    staged = target.with_name(f".{target.name}")
    nbformat.write(executed, staged)
    staged.replace(target)
    cells = sum(cell.cell_type == "code" for cell in executed.cells)
    print(f"{target}: {cells} cells executed")


if __name__ == "__main__":
    main()
