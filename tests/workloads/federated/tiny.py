"""The smallest federation there is: a tiny T5, four clients, a few dialogues."""

import dataclasses
from typing import Any

from edgeroof.workloads.client_config import ClientConfig
from edgeroof.workloads.federated.config import FederatedConfig
from edgeroof.workloads.federated.engine import LocalEngine
from edgeroof.workloads.federated.training import ClientTrainer

CLIENT = ClientConfig(
    model="tiny", batch_size=4, source_length=32, target_length=12, padding="dynamic", learning_rate=3e-3
)
TINY = FederatedConfig(client=CLIENT, clients=4, sampled=2, rounds=3, dialogues=48, eval_dialogues=4)


def federation(**changes: Any) -> tuple[ClientTrainer, LocalEngine]:
    """A trainer and an engine for :data:`TINY` with some fields changed; ``client`` may be a dict of changes."""
    client = changes.pop("client", {})
    trainer = ClientTrainer(dataclasses.replace(TINY, client=dataclasses.replace(CLIENT, **client), **changes))
    return trainer, LocalEngine(trainer)
