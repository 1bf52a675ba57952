"""What the experiments run: models, batch sizes, devices, links, codecs, and how much of the studies fits the time."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError

PLAN_FILE = "plan.json"
SCHEMA_VERSION = 1
#: The experiments and open questions, by the names of ``--only``.
TOPICS = ("scaling", "links", "breakdown", "optimizer", "compression", "selection")


@dataclass(frozen=True)
class Study:
    """How large a study of federations is.

    Attributes:
        seeds: federations for each codec or strategy.
        rounds: of each.
        dialogues: for training, of all clients together.
    """

    seeds: int
    rounds: int
    dialogues: int


@dataclass(frozen=True)
class Plan:
    """What is run; the same plan goes on where it was stopped.

    Attributes:
        name: ``full`` or ``quick``.
        edge: the edge device that is projected.
        centre: the data-centre device that is projected.
        models: of the scaling experiment and of granularity.
        precisions: of the scaling experiment.
        batch_sizes: likewise.
        source_length: tokens of a dialogue.
        target_length: tokens of a summary.
        breakdown: fields of the client's step whose breakdown is projected.
        measured: fields of the client's step that is measured on this machine.
        measured_steps: bare steps to time there.
        links: from fast to slow; the last is what the claim is about.
        codecs: of granularity; the first sends updates as they are.
        lora_rank: of the adapters that granularity compares with all weights.
        federated_batch: dialogues of a client's step in granularity.
        optimizers: whose step is projected, the first as the baseline.
        ab_problem: size at which optimizers are measured against each other here.
        ab_pairs: least pairs of measurements.
        ab_seconds: most seconds for each of them.
        compression: size of the study.
        compression_codecs: of the study, the first as the baseline.
        selection: size of the study.
        strategies: of the study, the first as the baseline.
    """

    name: str
    edge: str = "orin"
    centre: str = "a100"
    models: tuple[str, ...] = ("small", "base", "large", "xl")
    precisions: tuple[str, ...] = ("fp32", "bf16")
    batch_sizes: tuple[int, ...] = (1, 8, 32, 128)
    source_length: int = 512
    target_length: int = 96
    breakdown: dict[str, Any] = dataclasses.field(default_factory=lambda: {"model": "base", "batch_size": 8})
    measured: dict[str, Any] = dataclasses.field(default_factory=lambda: {"model": "small", "batch_size": 2})
    measured_steps: int = 5
    links: tuple[str, ...] = ("10g", "1g", "wifi", "5g", "4g", "lte")
    codecs: tuple[str, ...] = ("none", "fp16", "int8", "topk:0.01+int8")
    lora_rank: int = 8
    federated_batch: int = 32
    optimizers: tuple[str, ...] = ("adamw-foreach", "adamw-fused", "fused-adamw", "fused-adamw-bf16")
    ab_problem: str = "small"
    ab_pairs: int = 30
    ab_seconds: float = 12.0
    compression: Study = Study(3, 6, 160)
    compression_codecs: tuple[str, ...] = ("none", "fp16", "int8", "int4", "topk:0.01+int8", "lora:4")
    selection: Study = Study(5, 6, 160)
    strategies: tuple[str, ...] = ("random", "oort", "eafl", "fedjoule", "tokens-per-joule", "mfu")

    @property
    def devices(self) -> tuple[str, str]:
        """Both devices, the edge first."""
        return self.edge, self.centre


FULL = Plan("full")
#: Everything once, with a tiny model: to see that it works, not to learn from.
QUICK = Plan(
    "quick",
    models=("tiny",),
    batch_sizes=(1, 8),
    source_length=64,
    target_length=16,
    breakdown={"model": "tiny", "batch_size": 8},
    measured={"model": "tiny", "batch_size": 2},
    measured_steps=2,
    links=("1g", "lte"),
    codecs=("none", "int8"),
    federated_batch=8,
    optimizers=("adamw-foreach", "adamw-fused"),
    ab_problem="lora-small",
    ab_pairs=5,
    ab_seconds=1.0,
    compression=Study(1, 2, 40),
    compression_codecs=("none", "int8"),
    selection=Study(1, 2, 40),
    strategies=("random", "tokens-per-joule"),
)
PLANS = {plan.name: plan for plan in (FULL, QUICK)}


def keep_plan(plan: Plan, folder: Path) -> None:
    """Write the plan into its folder, or check that the folder is one to go on with.

    Raises:
        RunError: the folder holds something else, or the experiments of another plan.
    """
    file, mine = (
        folder / PLAN_FILE,
        {"schema_version": SCHEMA_VERSION, "kind": "paper-plan", **dataclasses.asdict(plan)},
    )
    try:
        if file.is_file():
            if json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(mine)):
                raise RunError(f"{folder} holds experiments of another plan or version; name another folder with --out")
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder} is not empty and holds no experiments; name another folder with --out")
        folder.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f".{file.name}")
        staged.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")
        staged.replace(file)
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}; name another folder with --out") from error
    except OSError as error:
        raise RunError(f"the experiments cannot be kept in {folder}: {error.strerror or error}") from error
