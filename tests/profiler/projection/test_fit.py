"""The fitting scripts: they say when there is nothing to fit to, and reproduce the shipped coefficients."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import edgeroof
from edgeroof.profiler.projection import load_coefficients

SCRIPTS = Path(edgeroof.__file__).parent / "benchmarks" / "projection"
MEASUREMENTS = Path(edgeroof.__file__).parent.parent / "shared" / "measurements"


def run(script, *arguments):
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", ["fit.py", "validate.py"])
def test_without_measurements_the_scripts_say_so(tmp_path, script):
    for result in (run(script), run(script, tmp_path)):
        assert result.returncode == 0
        assert result.stdout.startswith("skipped: ")


def test_public_figures_of_other_gpus_are_within_a_quarter():
    result = run("public_products.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("github.com") >= 7


@pytest.mark.slow
def test_the_shipped_coefficients_are_what_the_fit_gives(tmp_path):
    if not MEASUREMENTS.is_dir():
        pytest.skip("the public measurements are not beside the checkout")
    path = tmp_path / "coefficients.json"
    result = run("fit.py", MEASUREMENTS, "--output", path)
    assert result.returncode == 0, result.stderr
    fitted, shipped = load_coefficients(path), load_coefficients()
    assert fitted.catalogue == shipped.catalogue
    for name, value in dataclasses.asdict(shipped).items():
        if isinstance(value, float):
            assert getattr(fitted, name) == pytest.approx(value, rel=0.02), name
