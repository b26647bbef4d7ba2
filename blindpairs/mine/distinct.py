"""Several views of one blind spot are one finding: of pairs that show the same two things, the first in rank stands."""

import torch
from torch import Tensor

from blindpairs.mine.options import MiningOptions
from blindpairs.selfjoin import UnitRows


class Findings:
    """The kept pairs, at most `most`, to compare others with: one product each, however many come.

    Pair (a, b) is like (c, d) where a is near c and b near d, or a near d and b near c. Near means to both encoders:
    the CLIP cosine reaches clip_min, so that CLIP is blind to what sets the two apart, if anything does; and the
    DINOv2 cosine lies at least halfway from dino_max, up to which pictures differ, to 1.
    """

    def __init__(self, rows_a: UnitRows, rows_b: UnitRows, options: MiningOptions, most: int) -> None:
        # The seeing encoder first: it is the one that tells most pairs apart.
        self._rows = (rows_b, rows_a)
        self._minima = ((1 + options.dino_max) / 2, options.clip_min)
        self._kept = tuple(torch.empty(2, most, rows.dimension) for rows in self._rows)
        self._count = 0

    def has(self, i: int, j: int) -> bool:
        """Whether a kept pair is like the pair of rows (i, j)."""
        near: Tensor = torch.ones(2, 2, self._count, dtype=torch.bool)
        for rows, kept, minimum in zip(self._rows, self._kept, self._minima, strict=True):
            both = rows.take(torch.tensor([i, j]))  # (2, D)
            near &= (kept[:, : self._count] @ both.T).transpose(1, 2).ge(minimum).transpose(0, 1)  # (a|b, c|d, kept)
            if not near.any():
                return False
        straight, crossed = near[0, 0] & near[1, 1], near[0, 1] & near[1, 0]
        return bool((straight | crossed).any())

    def add(self, i: int, j: int) -> None:
        """Keep the pair of rows (i, j)."""
        for rows, kept in zip(self._rows, self._kept, strict=True):
            kept[:, self._count] = rows.take(torch.tensor([i, j]))
        self._count += 1
