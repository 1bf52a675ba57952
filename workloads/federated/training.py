"""One client's part of a round: load the server's weights, train on its own data, send home what changed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UpdateError, WorkloadError
from ..client import load_for_training
from ..client_config import ClientConfig
from ..step import ClientStep
from .codecs import Compressor, parse_codec
from .config import FederatedConfig
from .data import FederatedData
from .results import ClientResult
from .update import Update, check_like, to_bytes

if TYPE_CHECKING:
    from torch import Tensor


class ClientTrainer:
    """Trains any client of a federation on this machine, one after the other.

    Equal configurations, weights, rounds and clients give equal updates, on any engine.

    Args:
        config: the federation.

    Attributes:
        data: of the federation.
        model: the model, on its device.
    """

    def __init__(self, config: FederatedConfig) -> None:
        self.config = config
        self._loaded = load_for_training(config.client, config.client.device)
        self.model = self._loaded.model
        self.data = FederatedData(config, self.model.config, self._loaded.tokenizer_location)

    @property
    def causal(self) -> bool:
        """Whether the model reads and writes one sequence."""
        return self._loaded.causal

    def weights(self) -> Update:
        """The trainable weights as they are now, in fp32 on the CPU."""
        return {name: tensor.detach().float().cpu().clone() for name, tensor in self._trainable().items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights into the model.

        Raises:
            UpdateError: they are not this model's.
        """
        import torch

        own = self._trainable()
        check_like(weights, {name: tensor.detach().float() for name, tensor in own.items()})
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights[name])

    def train(self, client: int, round_number: int, weights: Update, compressor: Compressor) -> ClientResult:
        """Train one client for its local epochs.

        Args:
            client: from 0.
            round_number: from 1.
            weights: of the server.
            compressor: the client's own, which remembers what earlier rounds left out; settled before.

        Raises:
            WorkloadError: the training diverged, or cannot run.
        """
        with fitting_threads(self.config.client):
            return self._train(client, round_number, weights, compressor)

    def _train(self, client: int, round_number: int, weights: Update, compressor: Compressor) -> ClientResult:
        self.load(weights)
        before = self.weights()  # as loaded: weights in bf16 are not quite those of the server
        step = self._step(client, round_number)
        began = time.perf_counter()
        losses, tokens, examples = _run(step)
        compute_s = time.perf_counter() - began
        after = self.weights()
        change = {name: after[name] - before[name] for name in weights}
        began = time.perf_counter()
        try:
            payload = to_bytes(compressor.compress(change, round_number))
        except UpdateError as error:
            raise WorkloadError(f"its training diverged: {error}; a lower learning rate may help") from error
        codec_s = time.perf_counter() - began
        return ClientResult(client, payload, examples, tokens, float(np.mean(losses)), compute_s, codec_s)

    def _trainable(self) -> dict[str, Any]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def _step(self, client: int, round_number: int) -> ClientStep:
        import torch

        data, base = self.data.of_client(client), self.config.client
        seed = seed_of(self.config.seed, round_number, client)
        config = dataclasses.replace(base, batch_size=min(base.micro_batch, len(data)), seed=seed)
        self.model.train()
        torch.manual_seed(seed)
        return ClientStep(config, self._loaded, data)


@contextlib.contextmanager
def fitting_threads(client: ClientConfig) -> Iterator[None]:
    """One thread for the tiny model on a CPU: its operators are too small to share.

    OpenMP's threads spin while they wait for each other. Where another process wants one of the cores, a round of the
    tiny model then takes minutes in place of seconds.
    """
    import torch

    before = torch.get_num_threads()
    if client.model == "tiny" and client.device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seed_of(*parts: int) -> int:
    """A seed that differs wherever one of the parts does."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def new_compressor(config: FederatedConfig) -> Compressor:
    """A client's compressor before its first round."""
    return Compressor(parse_codec(config.codec))


def _run(step: ClientStep) -> tuple[list[float], int, int]:
    """Losses of all steps, tokens and examples; the device is waited for once, at the end."""
    results = [step.run(batch) for batch in step.batches]
    losses = [float(result.loss) for result in results]
    return losses, sum(result.tokens for result in results), sum(result.examples for result in results)
