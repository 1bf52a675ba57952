"""The app that is handed to Flower: a ``pyproject.toml`` that names edgeroof's server and client, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Name of the connection in Flower's own configuration.
CONNECTION = "edgeroof"
_PACKAGE = "edgeroof.workloads.federated.flower"


@dataclass(frozen=True)
class App:
    """An app.

    Attributes:
        server: ``module:attribute`` of its ServerApp.
        client: ``module:attribute`` of its ClientApp.
        files: further files by name, for apps that bring code of their own.
    """

    server: str = f"{_PACKAGE}.server_app:app"
    client: str = f"{_PACKAGE}.client_app:app"
    files: tuple[tuple[str, str], ...] = ()


def write_app(folder: Path, app: App, settings: Mapping[str, str | int | float]) -> None:
    """Write an app's folder.

    Args:
        folder: made if it is not there.
        app: what it consists of.
        settings: of the run; its server and clients read them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "[project]",
        'name = "edgeroof-federation"',
        'version = "1.0.0"',
        'description = "Federated fine-tuning with edgeroof"',
        'license = "MIT"',
        "dependencies = []",
        "[tool.flwr.app]",
        'publisher = "edgeroof"',
        "[tool.flwr.app.components]",
        f"serverapp = {_text(app.server)}",
        f"clientapp = {_text(app.client)}",
        "[tool.flwr.app.config]",
        *(f"{name} = {_text(value) if isinstance(value, str) else value}" for name, value in settings.items()),
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, source in app.files:
        (folder / name).write_text(source, encoding="utf-8")


def write_connection(home: Path, address: str, root_certificates: Path | None, insecure: bool) -> None:
    """Write Flower's configuration of one connection.

    Args:
        home: to be its ``FLWR_HOME``.
        address: of the SuperLink.
        root_certificates: that its certificate is checked with; ``None`` for those of the system.
        insecure: without TLS.
    """
    home.mkdir(parents=True, exist_ok=True)
    lines = [
        "[superlink]",
        f"default = {_text(CONNECTION)}",
        f"[superlink.{CONNECTION}]",
        f"address = {_text(address)}",
    ]
    if root_certificates is not None:
        lines.append(f"root-certificates = {_text(str(root_certificates.resolve()))}")
    elif insecure:
        lines.append("insecure = true")
    (home / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are TOML's, but for characters beyond the basic plane, which stay as they are."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
