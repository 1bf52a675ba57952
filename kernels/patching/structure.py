"""Finding the parts of T5 in a model, and refusing what is not as transformers has had it until now."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import EdgeroofError

if TYPE_CHECKING:
    from torch import nn

#: Releases of transformers whose T5 is known.
SUPPORTED = "4.57 to 5.24"

_LAYER = {"hidden_states", "attention_mask", "position_bias", "layer_head_mask", "past_key_values", "use_cache",
          "output_attentions", "cache_position", "cache", "kwargs"}  # fmt: skip

#: Arguments of the forward methods that are replaced, as the releases from 4.57 on have them. One that is not here
#: might change what a module computes.
KNOWN_ARGUMENTS = {
    "T5LayerNorm": {"hidden_states"},
    "T5DenseGatedActDense": {"hidden_states"},
    "T5LayerFF": {"hidden_states"},
    "T5LayerSelfAttention": _LAYER,
    "T5LayerCrossAttention": _LAYER | {"key_value_states", "query_length"},
    "T5Attention": _LAYER - {"attention_mask"} | {"mask", "key_value_states", "query_length"},
}


class PatchError(EdgeroofError):
    """A model cannot be fused; it is as it was before."""


class Replacement(NamedTuple):
    """An attribute of a module and what it becomes."""

    module: nn.Module
    name: str
    value: Any


def t5_code() -> Any:
    """The module of transformers that holds T5.

    Raises:
        PatchError: there is none.
    """
    try:
        from transformers.models.t5 import modeling_t5
    except ImportError as error:
        raise PatchError(f"transformers.models.t5 cannot be imported: {error}; install transformers") from error
    return modeling_t5


def t5_class(name: str) -> Any:
    """A class of T5 whose forward method takes the arguments we know.

    Raises:
        PatchError: this release has no such class, or its forward takes others.
    """
    found = getattr(t5_code(), name, None)
    if found is None:
        raise PatchError(f"{_release()} has no {name}, so it cannot be fused; supported are {SUPPORTED}")
    known = KNOWN_ARGUMENTS.get(name)
    unknown = set(list(inspect.signature(found.forward).parameters)[1:]) - known if known else set()
    if unknown:
        raise PatchError(
            f"{name}.forward of {_release()} takes {', '.join(sorted(unknown))}, which edgeroof does not know; "
            f"supported are {SUPPORTED}"
        )
    return found


def find(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Modules of the T5 class ``name`` with their names in the model, without subclasses that compute differently."""
    for path, module in model.named_modules():
        if computes_as(module, name):
            yield path or type(module).__name__, module


def computes_as(module: Any, name: str) -> bool:
    """Whether a module is of the T5 class ``name``, or of a subclass with the same forward."""
    wanted = t5_class(name)
    return isinstance(module, wanted) and type(module).forward is wanted.forward


def stacks(model: nn.Module) -> list[nn.Module]:
    """Encoders and decoders of the model.

    Raises:
        PatchError: there are none, so it is not a T5.
    """
    found = [module for _, module in find(model, "T5Stack")]
    if not found:
        raise PatchError(
            f"there is no T5Stack of transformers.models.t5 in {type(model).__name__}; only T5 and FLAN-T5 can be fused"
        )
    return found


def new_forward(path: str, module: nn.Module, forward: Any) -> Replacement:
    """The replacement of a module's forward.

    Raises:
        PatchError: somebody else has replaced it already.
    """
    if "forward" in vars(module):
        raise PatchError(
            f"the forward of {path} has been replaced already, by a patch or by hooks such as accelerate's; "
            "fuse the model before that"
        )
    return Replacement(module, "forward", forward)


def expect(path: str, module: Any, name: str) -> Any:
    """A module that has to be of the T5 class ``name``.

    Raises:
        PatchError: it is something else.
    """
    if not isinstance(module, t5_class(name)):
        raise PatchError(f"{path} is a {type(module).__name__}, not a {name}, so it cannot be fused")
    return module


def _release() -> str:
    import transformers

    return f"transformers {transformers.__version__}"
