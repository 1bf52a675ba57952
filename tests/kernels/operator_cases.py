"""What the tests of operators share: their two paths, and the rule for errors."""

from collections.abc import Callable, Sequence
from functools import partial, partialmethod
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeroof.kernels import operator, support
from edgeroof.kernels.support import interpreting, triton_unavailable

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
_REASON = triton_unavailable(DEVICE)


def round_truly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton's interpreter round and multiply as GPUs do."""
    if interpreting():
        from triton.runtime import interpreter

        monkeypatch.setattr(interpreter, "_convert_float", partial(_convert_float, interpreter._convert_float))
        builder = interpreter.InterpreterBuilder
        monkeypatch.setattr(builder, "create_dot", partialmethod(_dot, create_dot=builder.create_dot))
        monkeypatch.setattr(support, "multiplies_bf16", lambda: True)


@pytest.fixture(params=["torch", "triton"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(operator, "use_triton", lambda tensor: False)
    elif _REASON is not None:
        pytest.skip(f"no Triton here: {_REASON}")
    else:
        round_truly(monkeypatch)
    return request.param


def _convert_float(convert: Callable[..., Any], value: np.ndarray, source: Any, target: Any, mode: Any) -> np.ndarray:
    """Round fp32 to bf16 to the nearest, as GPUs do: Triton's interpreter cuts bits off, or loses the carry."""
    if (str(source), str(target)) != ("fp32", "bf16"):
        return convert(value, source, target, mode)
    return torch.from_numpy(np.array(value)).bfloat16().view(torch.int16).numpy().view(np.uint16)


def _dot(builder: Any, a: Any, b: Any, d: Any, *options: Any, create_dot: Callable[..., Any]) -> Any:
    """Multiply what bf16 numbers stand for: Triton's interpreter multiplies their bits."""
    wide = [_wide_bf16(one) if str(one.dtype.scalar) == "bf16" else one for one in (a, b)]
    return create_dot(builder, *wide, d, *options)


def _wide_bf16(handle: Any) -> Any:
    from triton import language as tl

    bits = torch.from_numpy(np.ascontiguousarray(handle.data).view(np.int16))
    return type(handle)(bits.view(torch.bfloat16).float().numpy(), tl.float32)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(shape, generator=generator)).to(DEVICE, dtype)


def classes(rows: int, columns: int, ignored: Sequence[int] = (), seed: int = 0) -> Tensor:
    """Random labels; the rows named are ignored."""
    labels = torch.randint(0, columns, (rows,), generator=torch.Generator().manual_seed(seed))
    for row in ignored:
        if row < rows:
            labels[row] = -100
    return labels.to(DEVICE)


def with_gradients(run: Callable[..., Tensor], *inputs: Tensor, upstream: float = 1.0) -> list[Tensor]:
    """Loss of ``run``, and the gradients of its inputs when the sum of the loss gets ``upstream``."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    loss = run(*leaves)
    (loss.sum() * upstream).backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def check_errors(
    ours: Sequence[Tensor], torchs: Sequence[Tensor], truth: Sequence[Tensor], floors: Sequence[float] | None = None
) -> None:
    """Each error against float64 is at most twice that of PyTorch's own path, plus 1e-5.

    PyTorch is taken to be off by half a unit of its type at the largest value: it may have rounded a few luckily. It is
    taken to be off by ``floors`` at least, one for each, where another of its paths is.
    """
    for mine, theirs, true, floor in zip(ours, torchs, truth, floors or [0.0] * len(ours), strict=True):
        assert mine.shape == true.shape
        if not true.numel():
            continue
        error = (theirs.double() - true).abs().max()
        error = torch.maximum(error, true.abs().max() * torch.finfo(theirs.dtype).eps / 2).clamp(min=floor)
        assert (mine.double() - true).abs().max() <= 2 * error + 1e-5
