"""The two kernels that compute on tiles, `find` and `expand`, launched on the points of one device.

A tile is `rows` x `columns` of the pair matrix. A row segment is one row of one tile, so `columns` pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blindpairs.selfjoin.gpu.kernels import FUSED, LAUNCH, expand, find


@dataclass(frozen=True)
class Shape:
    """A tile of `rows` x `columns`, computed by `warps` warps while `stages` tiles of columns are being loaded."""

    rows: int = 128
    columns: int = 128
    warps: int = 4
    stages: int = 3

    def stages_at(self, columns: int) -> int:
        """The stages for K = `columns`: at 128 a stage takes twice the shared memory, so there are half as many."""
        return max(2, self.stages * 64 // columns)

    def shared_bytes(self, columns: int, major: int) -> int:
        """The shared memory of a block of `find`, as Triton compiles it for a compute capability of this major number.

        Where the product reads both sides from shared memory (Hopper and the data centre's Blackwell), that is the rows
        and every stage. Elsewhere the rows are kept in registers, and one stage fewer is held.
        """
        reads_shared = major in (9, 10)
        stages = self.stages_at(columns) - (0 if reads_shared else 1)
        # 2 bytes for each bf16; the last term is what the compiler adds. A test compares the sum with its own figure.
        return 2 * columns * (self.rows + stages * self.columns) + (4 if reads_shared else 8) * self.rows


@dataclass(frozen=True)
class Tiles:
    """The tiles of `packed` (N, 2 K), which `kernels.py` describes; read only, for any number of threads."""

    packed: Tensor
    shape: Shape

    def launch_find(self, items: Tensor, segments: Tensor) -> None:
        """Append to the list `segments` the row segments of `items` (n, 3) in which some score passed."""
        shape, k = self.shape, self.packed.shape[1] // 2
        with LAUNCH:
            find[(len(items),)](
                self.packed, items, segments, k, shape.rows, shape.columns,
                num_warps=shape.warps, num_stages=shape.stages_at(k), **FUSED,
            )  # fmt: skip

    def find_segments(self, items: Tensor, capacity: int) -> tuple[int, Tensor]:
        """(how many row segments of `items` have a score that passed, their codes), no codes if over `capacity`."""
        segments = empty_list(capacity, self.packed.device)
        self.launch_find(items.to(self.packed.device), segments)
        count = int(segments[0])
        # Blocks of threads finish in any order; sorted, the result is the same every time.
        return count, segments[2 : 2 + count].sort().values if count <= capacity else segments[:0]

    def expand_segments(self, segments: Tensor) -> Tensor:
        """The pairs of places (row << 32 | column) whose score passed in `segments`, in order."""
        columns = self.shape.columns
        pairs = empty_list(len(segments) * columns, self.packed.device)  # room for every pair: it never overflows
        with LAUNCH:
            expand[(len(segments),)](self.packed, segments, pairs, self.packed.shape[1] // 2, columns, **FUSED)
        return pairs[2 : 2 + int(pairs[0])].sort().values


def empty_list(capacity: int, device: torch.device) -> Tensor:
    """A list with room for `capacity` codes, (2 + capacity,) int64: see `kernels.py`."""
    codes = torch.empty(2 + capacity, dtype=torch.int64, device=device)
    codes[0], codes[1] = 0, capacity
    return codes
