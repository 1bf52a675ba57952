"""What both optimizers do about loading states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


@torch.no_grad()
def keep_state_types(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """Give an optimizer that just loaded ``state_dict`` copies of the states in their own types.

    The base class casts states to the type of their parameter, which loses bits when that is bf16 and the states are
    fp32, and shares the step counters with the optimizer that they came from.
    """
    saved = [number for group in state_dict["param_groups"] for number in group["params"]]
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for number, param in zip(saved, params):
        if number in state_dict["state"]:
            optimizer.state[param] = {
                key: value.detach().clone().to(param.device) if isinstance(value, Tensor) else value
                for key, value in state_dict["state"][number].items()
            }
