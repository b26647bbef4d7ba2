"""The two kernels that look at tiles, `find` and `expand`, launched on points of one device; and their check.

A kernel cannot be tested here on every card and compiler. So before a join uses it, its results on this card are
compared with plain arithmetic, on points whose scores are whole numbers and therefore exact everywhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources

from blindpairs.selfjoin.gpu.kernels import FUSED, LAUNCH, expand, find


@dataclass(frozen=True)
class Shape:
    """A tile of `rows` x `columns`, computed by `warps` warps with `stages` tiles of columns under way."""

    rows: int = 128
    columns: int = 128
    warps: int = 4
    stages: int = 3

    def stages_at(self, columns: int) -> int:
        """At K = 128 a stage takes twice the shared memory, so there are half as many."""
        return max(2, self.stages * 64 // columns)

    def shared_bytes(self, columns: int, major: int) -> int:
        """The shared memory of a block of `find`, as Triton compiles it for a compute capability of this major number.

        Where the product reads both sides from shared memory (Hopper and the data centre's Blackwell), that is the rows
        and every stage; elsewhere the rows go on to registers, and one stage fewer is held.
        """
        reads_shared = major in (9, 10)
        stages = self.stages_at(columns) - (0 if reads_shared else 1)
        return 2 * columns * (self.rows + stages * self.columns) + (4 if reads_shared else 8) * self.rows


@dataclass(frozen=True)
class Tiles:
    """The tiles of `packed` (N, 2 K), which `kernels.py` describes; read only, for any number of threads."""

    packed: Tensor
    shape: Shape

    def find(self, items: Tensor, segments: Tensor) -> None:
        """List in `segments` the row pieces of `items` (n, 3) in which something passed."""
        shape, k = self.shape, self.packed.shape[1] // 2
        with LAUNCH:
            find[(len(items),)](
                self.packed, items, segments, k, shape.rows, shape.columns,
                num_warps=shape.warps, num_stages=shape.stages_at(k), **FUSED,
            )  # fmt: skip

    def pieces(self, items: Tensor, capacity: int) -> tuple[int, Tensor]:
        """How many row pieces of `items` hold something, and those, in order, where there are at most `capacity`."""
        segments = empty_list(capacity, self.packed.device)
        self.find(items.to(self.packed.device), segments)
        count = int(segments[0])
        # Blocks of threads finish in any order; sorted, the result is the same every time.
        return count, segments[2 : 2 + count].sort().values if count <= capacity else segments[:0]

    def expanded(self, segments: Tensor) -> Tensor:
        """The places (row << 32 | column) of what passed in `segments`, in order."""
        columns = self.shape.columns
        pairs = empty_list(len(segments) * columns, self.packed.device)
        with LAUNCH:
            expand[(len(segments),)](self.packed, segments, pairs, self.packed.shape[1] // 2, columns, **FUSED)
        return pairs[2 : 2 + int(pairs[0])].sort().values


def empty_list(capacity: int, device: torch.device) -> Tensor:
    """An empty list of codes, see `kernels.py`."""
    codes = torch.empty(2 + capacity, dtype=torch.int64, device=device)
    codes[0], codes[1] = 0, capacity
    return codes


def is_right(device: torch.device, columns: int, shape: Shape) -> bool:
    """Whether both kernels list on this device what plain arithmetic lists, for this K and shape."""
    packed = whole_points(columns, 2 * max(shape.rows, 2 * shape.columns))
    tiles = len(packed) // shape.columns
    items = torch.tensor([[0, 0, tiles - 1], [1, 1, tiles], [0, tiles - 1, tiles]], dtype=torch.int32)
    pieces, pairs = listed_plainly(packed, items, shape)
    kernels = Tiles(packed.to(device), shape)
    count, found = kernels.pieces(items, len(pieces))
    return (
        count == len(pieces) and torch.equal(found.cpu(), pieces) and torch.equal(kernels.expanded(found).cpu(), pairs)
    )


def fits(device: torch.device, columns: int, shape: Shape) -> bool:
    """Whether the device has the resources for this shape, as Triton finds when it launches it."""
    try:
        Tiles(whole_points(columns, 2 * max(shape.rows, shape.columns)).to(device), shape).pieces(
            torch.tensor([[0, 0, 1]], dtype=torch.int32), shape.rows
        )
    except OutOfResources:
        return False
    return True


def whole_points(columns: int, count: int) -> Tensor:
    """Points (count, 2 K) of small whole numbers, of which a few pairs in a hundred pass."""
    packed = torch.randint(-2, 3, (count, 2 * columns), generator=torch.Generator().manual_seed(0))
    packed[::3, columns:] = packed[::3, :columns]  # some are pairs with themselves, which `expand` leaves out
    packed[:, columns - 1] = -round(4.6 * columns**0.5)  # 2.3 standard deviations of the other columns' products
    packed[:, -1] = 1
    return packed.bfloat16()


def listed_plainly(packed: Tensor, items: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """The codes that `find` and `expand` must list, in order: every score is looked at, one tile after another."""
    left, right = packed.double().chunk(2, 1)
    passed = left @ right.T >= 0  # exact: whole numbers
    pieces, pairs = [], []
    for block, first, end in items.tolist():
        for row in range(block * shape.rows, (block + 1) * shape.rows):
            for column in range(first * shape.columns, end * shape.columns, shape.columns):
                hits = passed[row, column : column + shape.columns].nonzero()[:, 0] + column
                pieces += [row << 32 | column] if len(hits) else []
                pairs += [row << 32 | hit for hit in hits.tolist() if hit > row]
    return torch.tensor(sorted(pieces)), torch.tensor(sorted(pairs))
