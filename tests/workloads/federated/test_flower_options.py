"""What can be said of Flower without it: options, the app's folder, its absence, and what an engine took of a round."""

import importlib.metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgeroof.cli
from edgeroof import fl
from edgeroof.errors import FederatedError, UsageError
from edgeroof.workloads.federated.flower import status
from edgeroof.workloads.federated.flower.app_folder import App, write_app, write_connection
from edgeroof.workloads.federated.flower.deployment import FlowerOptions, check_flower, flower_environment

from .tiny import TINY

tomllib = pytest.importorskip("tomllib", reason="Flower needs Python 3.11, which brings tomllib")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"nodes": 0}, "--nodes"),
        ({"client_timeout_s": 0.0}, "--client-timeout"),
        ({"client_timeout_s": float("nan")}, "--client-timeout"),
        ({"superlink": "x:1", "root_certificates": Path("/nowhere.pem")}, "no such certificate"),
        ({"root_certificates": Path(__file__)}, "goes with --superlink"),
    ],
)
def test_options_that_make_no_sense(wrong: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        FlowerOptions(**wrong)


@pytest.mark.parametrize("option", [["--superlink", "127.0.0.1:1"], ["--nodes", "2"]])
def test_options_of_the_other_engine_are_one_line(capsys: pytest.CaptureFixture, tmp_path: Path, option: list) -> None:
    command = ["fl", "run", "--model", "tiny", "--device", "cpu", "--out", str(tmp_path), *option]
    assert edgeroof.cli.run_command(command) == UsageError.exit_code
    assert "need --engine flower" in capsys.readouterr().err


@pytest.mark.parametrize("found", [None, "1.40.2"])
def test_without_flower_one_is_told_how_to_get_it(found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(FederatedError, match=r"pip install 'edgeroof\[federated\]'"):
        check_flower()
    with pytest.raises(FederatedError, match="Flower"):
        fl.profile_fleet(out="nowhere", model="tiny")


@given(text=st.text(st.characters(codec="utf-8"), max_size=60), number=st.integers(0, 1 << 40))
def test_settings_arrive_as_they_were(tmp_path_factory: pytest.TempPathFactory, text: str, number: int) -> None:
    folder = tmp_path_factory.mktemp("app")
    write_app(folder, App(files=(("own.py", "x = 1\n"),)), {"task": text, "nodes": number, "timeout": 0.5})
    written = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    assert written["config"] == {"task": text, "nodes": number, "timeout": 0.5}
    assert written["components"]["serverapp"].startswith("edgeroof.workloads.federated.flower.server_app:")
    assert (folder / "own.py").read_text() == "x = 1\n"


@pytest.mark.parametrize(("certificate", "insecure"), [(True, False), (False, True), (False, False)])
def test_tls_is_off_only_where_it_was_said(tmp_path: Path, certificate: bool, insecure: bool) -> None:
    write_connection(tmp_path, "127.0.0.1:1", tmp_path / "ca.crt" if certificate else None, insecure)
    connection = tomllib.loads((tmp_path / "config.toml").read_text())["superlink"]["edgeroof"]
    assert ("root-certificates" in connection) is certificate
    assert connection.get("insecure", False) is insecure


def test_flower_is_kept_silent(tmp_path: Path) -> None:
    env = flower_environment(tmp_path)
    assert (env["FLWR_TELEMETRY_ENABLED"], env["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
    assert env["FLWR_HOME"] == str(tmp_path)


def test_the_state_of_a_server_is_whole_or_nothing(tmp_path: Path) -> None:
    assert status.read(tmp_path) is None
    status.write(tmp_path, "running", "round 1", 1, 4)
    told = status.read(tmp_path)
    assert told is not None
    assert (told.state, told.what, told.done, told.total) == ("running", "round 1", 1, 4)
    (tmp_path / status.FILE).write_text('{"pid": 1}')
    assert status.read(tmp_path) is None
    status.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def record(*clients: int, nodes: int, left_out: tuple = ()) -> dict:
    used = [{"client": client, "compute_s": 2.0, "codec_s": 0.5} for client in clients]
    return {"train_s": 9.0, "nodes": nodes, "used": used, "left_out": list(left_out)}


def test_what_an_engine_takes_is_beside_the_computing() -> None:
    assert fl.engine_seconds(record(0, 1, nodes=1)) == pytest.approx(4.0)
    assert fl.engine_seconds(record(0, 1, nodes=2)) == pytest.approx(6.5)
    assert fl.engine_seconds(record(0, 2, nodes=2)) == pytest.approx(4.0)
    assert fl.engine_seconds(record(0, nodes=2, left_out=({"client": 1},))) is None
    assert fl.engine_seconds({"round": 0}) is None


def test_rounds_whose_nodes_nobody_wrote_down_are_unknown() -> None:
    """The federation may have run on other nodes then, or with the other engine."""
    old = record(0, 1, nodes=1)
    del old["nodes"]
    assert fl.engine_seconds(old) is None


def test_rounds_of_the_other_engine_do_not_count() -> None:
    history = [record(0, 1, nodes=2) | {"engine": "flower"}, record(0, 1, nodes=1) | {"engine": "local"}]
    assert fl._engine_seconds(history, "flower") == [pytest.approx(6.5)]


def test_the_local_engine_says_what_it_took() -> None:
    result = fl.run(TINY)
    assert len(result["engine_s"]) == TINY.rounds
    assert all(0 <= seconds < 5 for seconds in result["engine_s"])
