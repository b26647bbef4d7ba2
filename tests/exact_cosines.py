"""The slow obvious ways to a cosine that the joins are held to: by the definition, and by exact arithmetic."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cosines = NDArray[np.float64]
LANES = 128


def defined_cosine(x: NDArray[Any], y: NDArray[Any]) -> float:
    """The cosine of two vectors (D,), number by number as `selfjoin/cosine.py` says it."""
    quotient = _dot(x, y) / math.sqrt(_dot(x, x) * _dot(y, y))
    return min(1.0, max(-1.0, quotient))


def _dot(x: NDArray[Any], y: NDArray[Any]) -> float:
    lanes = [0.0] * LANES
    for d, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        lanes[d % LANES] += a * b
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def exact_cosines(vectors: Any) -> Cosines:
    """All cosines by the definition, (N, N): `defined_cosine`, a row at a time."""
    exact = np.asarray(vectors, np.float64)
    wide = np.pad(exact, ((0, 0), (0, -exact.shape[1] % LANES)))
    dots = np.empty((len(wide), len(wide)))
    for row, one in enumerate(wide):
        lanes = np.zeros((len(wide), LANES))
        for first in range(0, wide.shape[1], LANES):
            part = slice(first, first + LANES)
            lanes += wide[:, part] * one[part]
        while lanes.shape[1] > 1:
            half = lanes.shape[1] // 2
            lanes = lanes[:, :half] + lanes[:, half:]
        dots[row] = lanes[:, 0]
    squares = dots.diagonal()
    return np.asarray((dots / np.sqrt(squares[:, None] * squares)).clip(-1.0, 1.0))


def real_cosine(x: NDArray[Any], y: NDArray[Any]) -> Decimal:
    """The cosine of two vectors (D,) to fifty digits."""
    one, other = ([Fraction(number) for number in vector.tolist()] for vector in (x, y))
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    squares = sum(a * a for a in one) * sum(b * b for b in other)
    with localcontext() as context:
        context.prec = 60
        return _decimal(Fraction(dot)) / _decimal(Fraction(squares)).sqrt()


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)
