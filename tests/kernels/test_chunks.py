"""Host-side facts that the interpreter cannot check: alignment, density, chunks, tiles."""

import numpy as np
import pytest
import torch

from edgeroof.kernels.optim import adafactor_geometry as geo
from edgeroof.kernels.optim.columns import BLOCK, CHUNK, TABLE_WIDTH
from edgeroof.kernels.optim.layout import (
    aligned,
    chunk_map,
    flat_view,
    is_dense,
    padded,
    same_order,
    state_offsets,
)
from edgeroof.kernels.optim.pointers import Member, PointerTable

from .optim_cases import DEVICE


def test_aligned_means_every_pointer_is_a_multiple_of_16() -> None:
    params, grads = np.array([0, 16, 8, 32, 16]), np.array([16, 4096, 16, 36, 24])
    assert aligned(params, grads).tolist() == [True, True, False, False, False]


def test_density() -> None:
    base = torch.zeros(4, 6, 8)
    assert is_dense(base)
    assert is_dense(base.permute(2, 0, 1))
    assert is_dense(torch.zeros(0, 3))
    assert is_dense(torch.zeros(()))
    assert is_dense(torch.zeros(2, 3, 4, 5).contiguous(memory_format=torch.channels_last))
    assert not is_dense(base[:, ::2])
    assert not is_dense(base[:, :5])
    assert not is_dense(torch.zeros(1, 3).expand(4, 3))
    assert is_dense(base[1:3])  # a stretch of memory, though it starts inside another tensor


def test_order_ignores_dimensions_of_one_element() -> None:
    assert same_order(torch.zeros(4, 1, 3), torch.zeros(4, 3)[:, None, :])
    assert not same_order(torch.zeros(3, 3), torch.zeros(3, 3).t())


def test_flat_view_is_the_memory_of_the_tensor() -> None:
    base = torch.arange(24.0)
    view = base[4:16].view(3, 4).t()
    assert torch.equal(flat_view(view), base[4:16])


def test_states_start_at_whole_blocks_and_do_not_overlap() -> None:
    numels = [0, 1, BLOCK, BLOCK + 1, 7]
    offsets, total = state_offsets(numels)
    assert all(offset % BLOCK == 0 for offset in offsets)
    assert offsets == [0, 0, BLOCK, 2 * BLOCK, 4 * BLOCK]
    assert total == 5 * BLOCK == sum(padded(numel) for numel in numels)


@pytest.mark.parametrize("numel", [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3])
def test_chunks_cover_every_element_once(numel: int) -> None:
    numels = [3, numel, 0, CHUNK]
    work = chunk_map(numels)
    covered = [np.zeros(size, dtype=int) for size in numels]
    for tensor, chunk in work:
        covered[tensor][chunk * CHUNK : (chunk + 1) * CHUNK] += 1
    assert all((part == 1).all() for part in covered)


def test_chunks_of_xl_are_numbered_beyond_two_to_the_31() -> None:
    numels = [32128 * 2048] * 40
    offsets, total = state_offsets(numels)
    assert total > 2**31
    assert offsets[-1] == 39 * 32128 * 2048
    assert len(chunk_map(numels)) == sum(-(-numel // CHUNK) for numel in numels)


def table_of(params: list[torch.Tensor]) -> PointerTable:
    offsets, _ = state_offsets([param.numel() for param in params])
    return PointerTable([Member(param, 0, index) for index, param in enumerate(params)], offsets=offsets)


def test_flags_follow_this_steps_pointers() -> None:
    from edgeroof.kernels.optim import columns

    base = torch.zeros(64, device=DEVICE)
    params = [base[:8], base[9:17], base[24:32]]
    for param in params:
        param.requires_grad_()
    leaves = [torch.nn.Parameter(param.detach()) for param in params]
    table = table_of(leaves)
    leaves[0].grad, leaves[1].grad = torch.zeros(8, device=DEVICE), torch.zeros(8, device=DEVICE)
    assert table.refresh()
    rows = table.tensor.cpu()
    assert rows[:, columns.ALIGNED].tolist()[:2] == [1, 0]
    assert rows[:, columns.GRAD].tolist() == [leaves[0].grad.data_ptr(), leaves[1].grad.data_ptr(), 0]
    leaves[0].grad = torch.zeros(9, device=DEVICE)[1:]
    assert table.refresh()
    assert table.tensor[0, columns.ALIGNED] == 0


def test_the_table_is_uploaded_only_when_something_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeroof.kernels.optim.pointers import Upload

    uploads = []
    original = Upload.write
    monkeypatch.setattr(Upload, "write", lambda self, host: (uploads.append(1), original(self, host))[1])
    leaf = torch.nn.Parameter(torch.zeros(8, device=DEVICE))
    leaf.grad = torch.zeros_like(leaf)
    table = table_of([leaf])
    for _ in range(3):
        table.refresh()
    assert len(uploads) == 1
    kept = leaf.grad
    leaf.grad = torch.zeros_like(leaf)
    table.refresh()
    assert len(uploads) == 2
    assert kept is not leaf.grad


def test_only_what_moved_is_looked_at_and_everything_stays_right() -> None:
    from edgeroof.kernels.optim import columns

    leaves = [torch.nn.Parameter(torch.zeros(4, 4, device=DEVICE)) for _ in range(4)]
    for leaf in leaves:
        leaf.grad = torch.zeros_like(leaf)
    table = table_of(leaves)
    assert table.refresh()
    leaves[0].grad = None
    leaves[1].grad = torch.zeros(4, 4, device=DEVICE)
    leaves[2].data = torch.zeros(4, 4, device=DEVICE)
    assert table.refresh()
    rows = table.tensor.cpu()
    expected = [0, *(leaf.grad.data_ptr() for leaf in leaves[1:])]
    assert rows[:, columns.GRAD].tolist() == expected
    assert rows[:, columns.PARAM].tolist() == [leaf.data_ptr() for leaf in leaves]
    leaves[3].grad = leaves[3].grad.t()  # the same memory in another order
    assert table.refresh()
    assert table.tensor[3, columns.GRAD] != leaves[3].grad.data_ptr()
    leaves[3].grad.copy_(torch.arange(16.0).view(4, 4))
    table.gather()
    leaves[3].grad = leaves[3].grad.t()
    assert table.refresh()
    assert table.tensor[3, columns.GRAD] == leaves[3].grad.data_ptr()
    leaves[0].data = torch.zeros(4, 5, device=DEVICE)
    assert not table.refresh()


@pytest.mark.parametrize(
    "shape", [(1, 1), (64, 128), (65, 129), (3, 70, 10), (2, 2, 5, 300), (0, 4), (17,), (), (300,)]
)
def test_adafactors_tiles_and_segments_cover_a_tensor(shape: tuple) -> None:
    cut = geo.geometry([(5, 5), shape])
    row = dict(enumerate(cut.columns[1].tolist(), start=TABLE_WIDTH))
    matrices, rows, cols, factored = geo.matrix_shape(shape)
    covered = np.zeros((matrices, rows, cols), dtype=int)
    for tensor, matrix, r, c in cut.tiles:
        if tensor == 1:
            r0, c0 = r * geo.TILE_ROWS, c * geo.TILE_COLS
            covered[matrix, r0 : r0 + geo.TILE_ROWS, c0 : c0 + geo.TILE_COLS] += 1
    assert (covered == 1).all()
    own = cut.tiles[row[geo.TILE_FIRST] : row[geo.TILE_FIRST] + row[geo.TILE_COUNT]]
    assert (own[:, 0] == 1).all()
    assert len(own) == (cut.tiles[:, 0] == 1).sum()
    lines = [np.zeros((matrices, length), dtype=int) for length in (rows, cols)]
    for tensor, matrix, which, segment in cut.segments:
        if tensor == 1:
            lines[which][matrix, segment * geo.SEGMENT : (segment + 1) * geo.SEGMENT] += 1
    if factored and covered.size:
        assert all((line == 1).all() for line in lines)
