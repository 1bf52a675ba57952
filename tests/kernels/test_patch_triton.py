"""The Triton kernels in a whole model, in the interpreter."""

import copy

import pytest

from edgeroof.kernels.patch import fuse

from .patch_cases import assert_as_exact_as_eager, small_t5


@pytest.mark.slow
def test_triton_kernels_in_a_model_are_as_exact_as_eager():
    plain = small_t5(num_layers=1)
    assert_as_exact_as_eager(plain, fuse(copy.deepcopy(plain)))
