"""Settings for every test: no cache of the user is touched, data from elsewhere is found or its tests skip."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers share the cores; must be set before torch is loaded

# A shell has its background jobs ignore Ctrl-C, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("edgeroof", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgeroof")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("XDG_CACHE_HOME", str(base / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(base / "config"))


@pytest.fixture
def shared_traces() -> Path:
    folder = SHARED / "traces"
    if not folder.is_dir():
        pytest.skip(f"real traces are not here: no folder {folder.parent.name}/{folder.name} beside the checkout")
    return folder
