"""Triton kernels run in its CPU interpreter where there is no GPU; it must be switched on before triton is imported."""

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """NaN and infinity are among the inputs; the interpreter's numpy would warn of each."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning"))
