"""The wheel holds every sub-package and data file, and puts one name on the import path."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("profiler", "kernels", "workloads", "reports", "paper")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run([*build, str(source)], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_nothing_but_edgeroof_is_put_on_the_import_path(names: set[str]) -> None:
    assert {name.split("/")[0].split("-")[0] for name in names} == {"edgeroof"}


def test_every_module_and_data_file_is_in_it(names: set[str]) -> None:
    suffixes = {".py", ".toml", ".json", ".html", ".css", ".js"}
    expected = {
        f"edgeroof/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in expected if name.removeprefix("edgeroof/") in tracked} <= names


def test_tests_and_benchmarks_stay_out(names: set[str]) -> None:
    assert not any(name.startswith(("edgeroof/tests/", "edgeroof/benchmarks/")) for name in names)


def test_torch_is_only_loaded_when_it_is_needed() -> None:
    code = "import sys, edgeroof, edgeroof.cli, edgeroof.profiler.imported; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd="/", check=False).returncode == 0
