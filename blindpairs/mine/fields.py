"""The patch tokens of images as they are compared, and what gives them: a store's encoder (`patches`) or an array.

This module knows no encoder, so that what only compares fields needs none.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from blindpairs.mine.maps import Box
from blindpairs.progress import Progress, silent


@dataclass(frozen=True)
class PatchFields:
    """The patch tokens of M images in L blocks, as C coordinates on principal axes of each block.

    Images that could not be read have no row: `rows` maps the ids of the others to theirs.
    """

    values: NDArray[np.float16]  # (M, L, N, C); patches are row-major over the grid
    grid: tuple[int, int]  # (rows, columns), N in all
    rows: Mapping[str, int]
    boxes: Sequence[Box]  # (M,): which part of its image a grid covers
    unread: Mapping[str, int]  # failure code -> images


class PatchSource(Protocol):
    """What gives the fields of images: a store with its encoder, or an array in tests."""

    def fields(self, image_ids: Collection[str], progress: Progress = silent) -> PatchFields:
        """The fields of these images."""
