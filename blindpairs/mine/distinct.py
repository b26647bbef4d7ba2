"""Several views of one blind spot are one finding: of pairs that show the same two things, the first in rank stands.

Nearness is decided as the join decides: a float32 product settles what is clearly above or below, the definition of
`selfjoin/cosine.py` the rest. So a picture is near itself, even where clip_min is 1.
"""

import torch
from torch import Tensor

from blindpairs.mine.options import MiningOptions
from blindpairs.selfjoin import UnitRows
from blindpairs.selfjoin.bound import product_error
from blindpairs.selfjoin.rows import cosines


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
        self._names = torch.empty(2, most, dtype=torch.int64)  # the rows of the kept pairs
        self._count = 0

    def has(self, i: int, j: int) -> bool:
        """Whether a kept pair is like the pair of rows (i, j)."""
        near: Tensor = torch.ones(2, 2, self._count, dtype=torch.bool)  # (a|b, c|d, kept)
        pair = torch.tensor([i, j])
        for rows, kept, minimum in zip(self._rows, self._kept, self._minima, strict=True):
            above = (kept[:, : self._count] @ rows.take(pair).T).permute(2, 0, 1) - minimum
            error = product_error(rows.dimension + 8)
            near &= above >= -error
            side, other, place = (near & (above <= error)).nonzero(as_tuple=True)
            near[side, other, place] = cosines(rows, pair[side], self._names[other, place]) >= minimum
            if not near.any():
                return False
        straight, crossed = near[0, 0] & near[1, 1], near[0, 1] & near[1, 0]
        return bool((straight | crossed).any())

    def add(self, i: int, j: int) -> None:
        """Keep the pair of rows (i, j)."""
        self._names[:, self._count] = torch.tensor([i, j])
        for rows, kept in zip(self._rows, self._kept, strict=True):
            kept[:, self._count] = rows.take(torch.tensor([i, j]))
        self._count += 1
