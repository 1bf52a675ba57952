"""The rounds: choose clients, let them train, aggregate what can be used, evaluate, keep a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FederatedError, UpdateError
from . import checkpoint
from .aggregation import accept, mean_change
from .checkpoint import Checkpoint
from .codecs import parse_codec
from .engine import Engine
from .evaluation import Evaluation, evaluate
from .selection import View, observe, selection
from .training import ClientTrainer
from .update import Message, Update, to_bytes

#: Rounds in a row with too few usable answers after which something is wrong with more than some clients.
MOST_FAILED_ROUNDS = 3

#: What the server knows of its clients, from the records of the rounds so far.
Observe = Callable[[list[dict[str, Any]]], View]

#: Called with what is being done, the steps done and the steps in all.
Progress = Callable[[str, int, int], None]


@dataclass
class Federation:
    """A federation under way.

    Attributes:
        trainer: evaluates the server's weights, and knows the federation's configuration.
        engine: reaches the clients.
        folder: where checkpoints go; ``None`` keeps none.
        state: after the last finished round.
        look: what the server knows before a round; by default what earlier rounds tell.
        patience: rounds in a row with too few usable answers that end the federation; ``None`` for any number.
    """

    trainer: ClientTrainer
    engine: Engine
    folder: Path | None
    state: Checkpoint
    look: Observe | None = None
    patience: int | None = MOST_FAILED_ROUNDS

    @classmethod
    def start(
        cls,
        trainer: ClientTrainer,
        engine: Engine,
        folder: Path | None = None,
        look: Observe | None = None,
        patience: int | None = MOST_FAILED_ROUNDS,
    ) -> Federation:
        """Start a federation, or go on with the one whose checkpoints are in ``folder``.

        Raises:
            FederatedError: the folder holds another federation.
        """
        weights = trainer.weights()
        found = checkpoint.latest(folder, trainer.config, weights) if folder else None
        if found:
            engine.remember(found.memory)
            return cls(trainer, engine, folder, found, look, patience)
        before = {"round": 0, **_quality(evaluate(trainer))}
        data = checkpoint.data_mark(trainer.config) if folder else None
        state = Checkpoint(0, weights, {}, Message({}), [before], data)
        federation = cls(trainer, engine, folder, state, look, patience)
        federation._keep()
        return federation

    def run(self, on_progress: Progress = lambda what, done, total: None) -> list[dict[str, Any]]:
        """Run the rounds that are left.

        Returns:
            One record per round, from round 0, which is before any training.

        Raises:
            FederatedError: several rounds in a row had too few usable answers, or nobody can be asked any more.
        """
        config = self.trainer.config
        steps = config.rounds * config.sampled
        failed = 0
        for number in range(self.state.round_number + 1, config.rounds + 1):
            done = (number - 1) * config.sampled
            answered: list[int] = []

            def on_answer(client: int, number: int = number, done: int = done, answered: list[int] = answered) -> None:
                answered.append(client)
                on_progress(f"round {number}: client {client}", done + len(answered), steps)

            on_progress(f"round {number}", done, steps)
            record = self._round(number, on_answer)
            failed = 0 if record["aggregated"] else failed + 1
            if self.patience is not None and failed >= self.patience:
                reasons = "; ".join(f"client {left['client']} {left['reason']}" for left in record["left_out"])
                reasons = "; ".join(filter(None, (reasons, record.get("refused"))))
                raise FederatedError(f"{failed} rounds in a row had too few usable updates: {reasons}")
        return self.state.history

    def _round(self, number: int, on_answer: Callable[[int], None]) -> dict[str, Any]:
        config, before = self.trainer.config, self.state
        began = time.perf_counter()
        clients = self._choose(number)
        answers = self.engine.train(number, clients, before.weights, on_answer, last_used(before.history))
        train_s = time.perf_counter() - began
        used, left_out = accept(answers, before.weights, parse_codec(config.codec))
        aggregated = len(used) >= math.ceil(config.min_answers * len(clients))
        weights, optimizer, notes = before.weights, before.optimizer, _notes(before)
        if aggregated:
            try:
                weights, optimizer = config.server.step(weights, mean_change(used), optimizer)
            except UpdateError as error:
                aggregated, notes["refused"] = False, f"the server's step was refused: {error}; lower its learning rate"
        self.trainer.load(weights)
        record: dict[str, Any] = {
            "round": number,
            "engine": self.engine.name,
            "nodes": self.engine.nodes,
            "clients": clients,
            "aggregated": aggregated,
            **notes,
            "left_out": [{"client": failure.client, "reason": failure.reason} for failure in left_out],
            "used": [_told(entry.result) for entry in used],
            "down_bytes": len(to_bytes(Message(before.weights))),
            **_quality(evaluate(self.trainer)),
            "train_s": train_s,
            "wall_s": time.perf_counter() - began,
        }
        history = [*before.history, record]
        self.state = Checkpoint(number, weights, optimizer, self.engine.memory(), history, before.data)
        self._keep()
        return record

    def _choose(self, number: int) -> list[int]:
        config, history = self.trainer.config, self.state.history
        view = self.look(history) if self.look else observe(history, config.clients, config.rounds, config.seed)
        clients = selection(config.selection).choose(view, config.sampled)
        if not clients:
            raise FederatedError(f"no client can be asked in round {number}: none is there with charge left")
        return clients

    def _keep(self) -> None:
        if self.folder is not None:
            checkpoint.write(self.folder, self.trainer.config, self.state)

    @property
    def weights(self) -> Update:
        """The server's weights."""
        return self.state.weights


def last_used(history: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """By client, the last round whose aggregate holds its update.

    Args:
        history: records of rounds, ascending.
    """
    aggregated = (record for record in history if record.get("aggregated"))
    return {entry["client"]: record["round"] for record in aggregated for entry in record["used"]}


def _notes(before: Checkpoint) -> dict[str, str]:
    """What the record of the round after a checkpoint has to say of it."""
    return {"resumed": before.fallback} if before.fallback else {}


def _quality(evaluation: Evaluation) -> dict[str, Any]:
    loss = evaluation.loss if math.isfinite(evaluation.loss) else None
    return {"eval_loss": loss, "rouge_l": evaluation.rouge_l}


def _told(result: Any) -> dict[str, Any]:
    return {
        "client": result.client,
        "examples": result.examples,
        "tokens": result.tokens,
        "loss": result.loss if math.isfinite(result.loss) else None,
        "compute_s": result.compute_s,
        "codec_s": result.codec_s,
        "up_bytes": len(result.payload),
    }
