"""The perceptual hash of an image's pixels: near-duplicates differ in a few of its 64 bits.

Promises: the same pixels have the same hash on every machine and with every decoder; the cost hardly depends on the
size of the image, of which a sample is read.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from blindpairs.images.samples import Pixels

Grey = npt.NDArray[np.float32]  # luminances, (32, 32) unless another shape is given
LUMINANCE = np.array([0.25, 0.5, 0.25], np.float32)


def grey_thumbnail(pixels: Pixels) -> Grey:
    """(H, W, 3) bytes -> (32, 32) mean luminance of a grid of cells, 0 to 255.

    Luminance is (R + 2 G + B) / 4. Of large images only every n-th row and column is used, but at least 256 of each:
    a cell then still averages 64 pixels or more. In an image of fewer than 32 pixels, cells share pixels.
    """
    height, width = pixels.shape[:2]
    sampled = pixels[:: max(1, height // 256), :: max(1, width // 256)]
    rows, columns = sampled.shape[:2]
    grey = (sampled.reshape(-1, 3) @ LUMINANCE).reshape(rows, columns)
    cells: Grey = _cells(rows) @ grey @ _cells(columns).T
    return cells


@lru_cache(maxsize=64)
def _cells(length: int) -> Grey:
    """(32, length): the matrix that averages `length` values into 32 cells."""
    edges = np.arange(33) * length // 32
    place = np.arange(length)
    weights = (place >= edges[:-1, None]) & (place < np.maximum(edges[1:], edges[:-1] + 1)[:, None])
    means: Grey = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return means


@lru_cache(maxsize=1)
def _cosines() -> Grey:
    """(8, 32): the eight lowest DCT-II basis functions."""
    frequency, place = np.mgrid[:8, :32]
    waves: Grey = np.cos(math.pi * frequency * (2 * place + 1) / 64).astype(np.float32)
    return waves


def perceptual_hash(grey: Grey) -> int:
    """64 bits of a (32, 32) thumbnail: which of the 8 x 8 lowest DCT coefficients exceed their median, row by row.

    The median is taken without coefficient (0, 0), the mean of the image. Near-duplicates differ in a few bits.
    """
    basis = _cosines()
    low = (basis @ grey @ basis.T).ravel()  # (64,)
    bits = low > np.sort(low[1:])[31]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
