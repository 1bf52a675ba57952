"""The output tiles of cuBLAS' fp32 products, and which of them a generation's library uses.

A tile is named columns x rows as in cuBLAS' kernel names, which think in columns: ``ampere_sgemm_128x64_tn`` makes
blocks of 128 output columns and 64 rows of a row-major product. The thread tiles follow from tile and block size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .coefficients import Coefficients

#: Registers for about this many threads of a product are on an SM: 64 K registers, 128 a thread.
_RESIDENT_THREADS = 512

#: SMs hold more blocks of 64 threads than their speed can use.
_MOST_BLOCKS = 8


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes:
        name: columns x rows, ``s`` when the threads also slice the inner dimension.
        columns: output columns of a block.
        rows: output rows of a block.
        threads: threads of a block.
        thread_columns: output columns of a thread.
        thread_rows: output rows of a thread.
    """

    name: str
    columns: int
    rows: int
    threads: int
    thread_columns: int
    thread_rows: int

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.threads // 32

    @property
    def resident(self) -> int:
        """Blocks that an SM holds at once."""
        return max(1, min(_MOST_BLOCKS, _RESIDENT_THREADS // self.threads))


SIMT_TILES = {
    tile.name: tile
    for tile in (
        Tile("128x128", 128, 128, 256, 8, 8),
        Tile("128x64", 128, 64, 128, 8, 8),
        Tile("64x64", 64, 64, 64, 8, 8),
        Tile("128x32", 128, 32, 256, 4, 4),
        Tile("32x128", 32, 128, 256, 4, 4),
        Tile("128x32s", 128, 32, 256, 8, 8),
        Tile("64x32s", 64, 32, 256, 8, 4),
        Tile("32x32s", 32, 32, 128, 8, 4),
    )
}

#: Matrix units: tiles of cuBLAS and CUTLASS; a warp holds 64 x 64, so operands are fed at the same cost in all of them.
TENSOR_TILES = {
    tile.name: tile
    for tile in (
        Tile("256x128", 256, 128, 256, 8, 8),
        Tile("128x256", 128, 256, 256, 8, 8),
        Tile("128x128", 128, 128, 128, 8, 8),
        Tile("128x64", 128, 64, 128, 8, 8),
        Tile("64x128", 64, 128, 128, 8, 8),
        Tile("64x64", 64, 64, 128, 8, 8),
    )
}


def simt_tiles(coefficients: Coefficients, major: int, batched: bool) -> Sequence[Tile]:
    """Tiles that cuBLAS chooses from on a GPU of compute capability ``major``.

    A generation that was not measured gets the tiles of the newest measured one before it: libraries keep older
    kernels. Without any catalogue all tiles are there.
    """
    kinds = _nearest(coefficients.catalogue, major)
    names = kinds.get("bmm" if batched else "linear", ()) if kinds else ()
    return [SIMT_TILES[name] for name in names] or list(SIMT_TILES.values())


def _nearest(
    catalogue: Mapping[str, Mapping[str, tuple[str, ...]]], major: int
) -> Mapping[str, tuple[str, ...]] | None:
    if not catalogue:
        return None
    families = sorted(int(family) for family in catalogue)
    older = [family for family in families if family <= major]
    return catalogue[str(older[-1] if older else families[0])]
