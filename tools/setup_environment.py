"""Make the virtual environment that ``make`` uses; only needs Python and pip.

A PyTorch that is already installed (a Jetson wheel, a CUDA container) is used and pinned, so that no dependency can
replace it. Without one, PyTorch comes from the package index pip is set up with.

    python3 tools/setup_environment.py .venv          # to run edgeroof
    python3 tools/setup_environment.py .venv --dev    # to work on it as well
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

#: The version the tests run with; a machine that has PyTorch keeps its own.
DEFAULT_TORCH = "torch==2.13.0"
ROOT = Path(__file__).resolve().parent.parent


def installed_torch(python: str) -> str | None:
    """Version of the PyTorch that ``python`` imports, ``None`` without one; ``python`` may be any interpreter."""
    code = "from importlib.metadata import version; import torch; print(version('torch'))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=Path(python).parent, check=False)
    return answer.stdout.strip().splitlines()[-1] if answer.returncode == 0 else None


def is_jetson() -> bool:
    """Whether this is an NVIDIA Jetson, where PyTorch has to come from NVIDIA."""
    return platform.machine() == "aarch64" and Path("/etc/nv_tegra_release").exists()


def create_environment(folder: Path, torch_version: str | None) -> None:
    """Create the environment; it sees the system's packages when PyTorch is among them."""
    command = [sys.executable, "-m", "venv", str(folder)]
    if torch_version:
        command.append("--system-site-packages")
    if importlib.util.find_spec("ensurepip") is None:
        command.append("--without-pip")
    subprocess.run(command, check=True)


def pip(folder: Path) -> list[str]:
    """Command that runs pip for the environment, with the system's pip where it has none of its own."""
    python = folder / "bin" / "python"
    has_own = subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    runner = [str(python), "-m", "pip"] if has_own else [sys.executable, "-m", "pip", "--python", str(python)]
    return [*runner, "install", "--quiet", "--disable-pip-version-check"]


def install(folder: Path, torch_version: str | None, dev: bool, torch_requirement: str) -> None:
    """Install PyTorch if there is none, then edgeroof and what it needs."""
    command = pip(folder)
    if torch_version is None:
        print(f"installing {torch_requirement}", flush=True)
        subprocess.run([*command, torch_requirement], check=True)
        torch_version = installed_torch(str(folder / "bin" / "python"))
    extra = "dev" if dev else "lora"
    target = f"{ROOT}[{extra}]"
    print(f"installing edgeroof[{extra}] beside PyTorch {torch_version}", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(f"torch=={torch_version}\n")
        constraints.flush()
        subprocess.run([*command, "--constraint", constraints.name, "--editable", target], check=True)


def main() -> int:
    """Parse the command line and set up; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev", action="store_true", help="also install what tests and linters need")
    parser.add_argument("--torch", default=DEFAULT_TORCH, help="requirement to install where PyTorch is missing")
    options = parser.parse_args()
    if sys.version_info < (3, 10):  # noqa: UP036 - runs before anything has checked
        print(f"edgeroof needs Python 3.10 or newer; {sys.executable} is {platform.python_version()}", file=sys.stderr)
        return 1
    folder = options.folder.absolute()
    python = folder / "bin" / "python"
    torch_version = installed_torch(str(python) if python.exists() else sys.executable)
    if torch_version is None and is_jetson():
        print(
            "this Jetson has no PyTorch: install NVIDIA's wheel for your JetPack first (docs/jetson.md)",
            file=sys.stderr,
        )
        return 1
    try:
        if not python.exists():
            create_environment(folder, torch_version)
        install(folder, torch_version, options.dev, options.torch)
    except subprocess.CalledProcessError as error:
        print(f"set-up failed: {' '.join(map(str, error.cmd))} ended with {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
