"""Real SuperLinks and SuperNodes on loopback: equal weights, killed processes, hostile clients, TLS and keys."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

pytest.importorskip("flwr", reason="the flower engine needs Flower: pip install 'edgeroof[federated]'")

from edgeroof import fl
from edgeroof.errors import FederatedError
from edgeroof.workloads.federated import checkpoint
from edgeroof.workloads.federated.flower import status
from edgeroof.workloads.federated.flower.app_folder import App
from edgeroof.workloads.federated.flower.deployment import FlowerOptions, flower_environment
from edgeroof.workloads.federated.flower.jobs import run_rounds
from edgeroof.workloads.federated.flower.processes import Processes, free_ports
from edgeroof.workloads.federated.rounds import Federation

from .command_lines import words
from .flower_keys import make_certificates, make_node_key
from .tiny import TINY, federation


def quiet(what: str, done: int, total: int) -> None:
    pass


def local_weights(**changes: object) -> dict:
    federated = Federation.start(*federation(**changes))
    federated.run()
    return federated.weights


def family() -> list[psutil.Process]:
    """Everything this process has started and that runs."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def patience_s() -> float:
    """Seconds that an honest client needs at most, from what a fresh process takes to load its libraries now."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch, transformers.models.t5.modeling_t5"], check=True, timeout=300)
    return min(300.0, 30.0 + 10 * (time.monotonic() - began))


@pytest.mark.slow
def test_flower_gives_the_weights_of_the_local_engine(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, rounds=1, clients=2, sampled=1)
    result = fl.run(config, engine="flower", out=tmp_path / "run", links=["lte"])
    (seconds,) = result["engine_s"]
    record = result["history"][1]
    computing = sum(entry["compute_s"] + entry["codec_s"] for entry in record["used"])
    assert seconds == pytest.approx(record["train_s"] - computing)
    assert result["granularity"][0]["compute_s"] < record["train_s"]
    found = checkpoint.latest(tmp_path / "run" / fl.CHECKPOINTS, config)
    assert found is not None
    expected = local_weights(rounds=1, clients=2, sampled=1)
    assert all(torch.allclose(expected[name], found.weights[name], atol=1e-6) for name in expected)
    assert sorted(path.name for path in (tmp_path / "run" / fl.CHECKPOINTS).iterdir()) == ["round-0000", "round-0001"]
    assert not [process for process in family() if "flower" in " ".join(words(process))]


@pytest.mark.slow
def test_half_of_the_nodes_killed_mid_round(tmp_path: Path, patience_s: float) -> None:
    config = dataclasses.replace(TINY, rounds=1, sampled=4)
    killed = []

    def kill(what: str, done: int, total: int) -> None:
        if what == "round 1" and not killed:
            for process in family():
                if any(f"index={index} nodes=4" in words(process) for index in (1, 2)):
                    killed.append(process)
                    process.kill()

    found = run_rounds(config, tmp_path, FlowerOptions(nodes=4, client_timeout_s=patience_s), kill)
    assert len(killed) == 2
    record = found.history[1]
    assert record["aggregated"]
    assert [left["client"] for left in record["left_out"]] == [1, 2]
    assert [entry["client"] for entry in record["used"]] == [0, 3]
    assert fl.engine_seconds(record) is None


HOSTILE = """
import time
import torch
from flwr.app import Array, ArrayRecord, Message
from flwr.clientapp import ClientApp
from edgeroof.workloads.federated.flower import client_app, wire
from edgeroof.workloads.federated.update import Message as Update, from_bytes, to_bytes

app = ClientApp()
app.query()(client_app.introduce)

CHANGES = {
    1: lambda tensor: tensor * float("nan"),
    2: lambda tensor: tensor[:1],
    3: lambda tensor: tensor.double(),
    4: lambda tensor: torch.zeros(8_000_000),
}

@app.train()
def train(message, context):
    client = wire.about(message.content)["client"]
    if client == 5:
        time.sleep(600)
    reply = client_app.train(message, context)
    if client in CHANGES:
        update = from_bytes(wire.file_bytes(reply.content, "update", 1 << 30))
        tensors = dict(update.arrays)
        name = next(iter(tensors))
        tensors[name] = CHANGES[client](tensors[name])
        reply.content["update"] = ArrayRecord({"data": wire.bytes_array(to_bytes(Update(tensors, update.about)))})
    return reply
"""


@pytest.mark.slow
def test_hostile_clients_are_left_out_and_named(tmp_path: Path, patience_s: float) -> None:
    config = dataclasses.replace(TINY, rounds=1, clients=6, sampled=6, min_answers=0.15)
    app = App(client="hostile:app", files=(("hostile.py", HOSTILE),))
    found = run_rounds(config, tmp_path, FlowerOptions(nodes=3, client_timeout_s=patience_s, app=app), quiet)
    record = found.history[1]
    reasons = {left["client"]: left["reason"] for left in record["left_out"]}
    expected = {
        1: "no finite",
        2: "should be float32",
        3: "float64",
        4: "bytes where at most",
        5: "did not answer within",
    }
    assert [entry["client"] for entry in record["used"]] == [0]
    assert reasons.keys() == expected.keys()
    assert [reasons[client] for client, part in expected.items() if part not in reasons[client]] == []
    assert all(torch.isfinite(tensor).all() for tensor in found.weights.values())


@pytest.mark.slow
def test_a_killed_server_goes_on_in_its_round(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, rounds=4, clients=2, sampled=1)

    def kill(what: str, done: int, total: int) -> None:
        told = status.read(tmp_path)
        if what.startswith("round 3") and told is not None and psutil.pid_exists(told.pid):
            os.kill(told.pid, signal.SIGKILL)

    with pytest.raises(FederatedError, match="killed in round 3"):
        run_rounds(config, tmp_path, FlowerOptions(), kill)
    before = checkpoint.latest(tmp_path, config)
    assert before is not None
    assert before.round_number == 2
    seen: list[str] = []
    found = run_rounds(config, tmp_path, FlowerOptions(), lambda what, done, total: seen.append(what))
    assert not any(what.startswith(("round 1", "round 2")) for what in seen)
    assert found.history[:3] == before.history
    expected = local_weights(rounds=4, clients=2, sampled=1)
    assert all(torch.allclose(expected[name], found.weights[name], atol=1e-6) for name in expected)


COMMAND = """
import sys
from edgeroof.cli import run_command
sys.exit(run_command(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_command_that_is_interrupted(tmp_path: Path, how: signal.Signals) -> None:
    arguments = ["fl", "run", "--model", "tiny", "--engine", "flower", "--nodes", "2", "--out", str(tmp_path / "run")]
    command = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.DEVNULL)
    root = psutil.Process(command.pid)

    def tools() -> list[str]:
        return [" ".join(words(process)) for process in root.children(recursive=True)]

    wait_for(lambda: sum("nodes=2" in line for line in tools()) == 2 and any("superexec" in line for line in tools()))
    started = root.children(recursive=True)
    command.send_signal(how)
    command.wait(timeout=60)
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_tls_and_keys_of_supernodes(tmp_path: Path) -> None:
    """A SuperLink with a certificate takes jobs and SuperNodes, but no SuperNode whose key it does not know."""
    tls = make_certificates(tmp_path / "tls")
    known, stranger = (make_node_key(tmp_path / name) for name in ("known", "stranger"))
    port, *node_ports = free_ports(3)
    address, tools = f"127.0.0.1:{port}", Path(sys.executable).parent
    env = flower_environment(tmp_path / "home")
    config = dataclasses.replace(TINY, rounds=1, clients=2, sampled=2)
    options = FlowerOptions(address, tls.authority, nodes=1, client_timeout_s=300)
    with Processes(tmp_path / "logs") as processes:
        link = [
            str(tools / "flower-superlink"), "--host", "127.0.0.1", "--port", str(port), "--enable-supernode-auth",
            "--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key), "--ssl-ca-certfile",
            str(tls.authority), "--disable-runtime-dependency-installation",
        ]  # fmt: skip
        processes.start("superlink", link, env)
        wait_for(lambda: "running on" in processes.log_tail("superlink").lower())
        register(known, address, tls.authority, tmp_path / "home", env)
        for name, key, node_port in (("known", known, node_ports[0]), ("stranger", stranger, node_ports[1])):
            node = [
                str(tools / "flower-supernode"), "--root-certificates", str(tls.authority), "--superlink", address,
                "--host", "127.0.0.1", "--port", str(node_port), "--auth-supernode-private-key", str(key),
                "--node-config", "index=0 nodes=1", "--max-retries", "1",
            ]  # fmt: skip
            processes.start(name, node, env)
        found = run_rounds(config, tmp_path / "run", options, quiet)
        assert [entry["client"] for entry in found.history[1]["used"]] == [0, 1]
        with pytest.raises(FederatedError, match="stranger ended"):
            wait_for_end(processes, "stranger")
        other = make_certificates(tmp_path / "other")
        with pytest.raises(FederatedError, match="flwr run failed"):
            run_rounds(
                config, tmp_path / "again", dataclasses.replace(options, root_certificates=other.authority), quiet
            )


def wait_for_end(processes: Processes, name: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        processes.check(name)
        time.sleep(0.2)


def register(key: Path, address: str, authority: Path, home: Path, env: dict[str, str]) -> None:
    """Make a SuperNode's public key known to a SuperLink, as an administrator does."""
    from edgeroof.workloads.federated.flower.app_folder import CONNECTION, write_connection

    write_connection(home, address, authority, insecure=False)
    command = [str(Path(sys.executable).parent / "flwr"), "supernode", "register", f"{key}.pub", CONNECTION]
    done = subprocess.run([*command, "--format", "json"], env=env, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout[done.stdout.index("{") :])["success"], done.stdout + done.stderr
