"""The definition of the cosine of two vectors, to the last bit, and how far it is from the exact value.

    s = dot(x, y) / sqrt(dot(x, x) dot(y, y)), kept within -1 and 1;  x and y as stored, float16 or float32, in float64

`dot` adds in a fixed order: the product of dimension d is added to accumulator d mod 128, in the order of d; then the
upper half of the 128 accumulators is added to the lower half until one is left. The products are exact, because the
product of two significands of 24 bits fits into 53 bits, so a fused multiply-add changes nothing; sums, quotients and
roots are those of IEEE 754. Therefore torch, compiled code and Triton agree in every bit on every CPU and GPU: this
file, `compiled.c` and `gpu/kernels.py` add in the same order.

Consequences: s is symmetric. Equal vectors have a cosine of exactly 1 and opposite ones of exactly -1, because
sqrt(q q) = q in IEEE arithmetic. The same holds for vectors that differ in length by a power of two. Any other multiple
of a vector has a cosine within `cosine_error` of 1, and may be found or missed at a minimum of 1.

**The error.** A sum of n additions is off by at most g(n) times the sum of its terms' magnitudes (`error_growth`,
u = 2^-53). So dot(x, y) is off by at most g(n) |x||y| and the root by a factor of 1 + g(n). Three more roundings are
those of the product under the root, of the root and of the quotient. Together this is less than 2 g(n + 3).
"""

import numpy as np
import torch
from torch import Tensor

ACCUMULATORS = 128
UNIT_ROUNDOFF = 2.0**-24  # of float32


def error_growth(terms: int, roundoff: float = UNIT_ROUNDOFF) -> float:
    """Higham's gamma_n: the error of a dot product relative to the sum of its terms' magnitudes."""
    return terms * roundoff / (1.0 - terms * roundoff)


def cosine_error(dimension: int) -> float:
    """How far a cosine of vectors of `dimension` dimensions may be from the exact one."""
    # Those of one accumulator, then the 7 of halving 128 accumulators.
    additions = -(-dimension // ACCUMULATORS) + ACCUMULATORS.bit_length() - 1
    return 2 * error_growth(additions + 3, 2.0**-53)


def summed(products: Tensor) -> Tensor:
    """The sum of each row of `products` (n, D) float64 in the order of `dot`, (n,)."""
    accumulators = products.new_zeros(len(products), ACCUMULATORS)  # (n, 128)
    for part in products.split(ACCUMULATORS, dim=1):
        accumulators[:, : part.shape[1]] += part  # the last part may have fewer columns
    width = ACCUMULATORS // 2
    while width:
        accumulators[:, :width] += accumulators[:, width : 2 * width]
        width //= 2
    return accumulators[:, 0]


def root(numbers: Tensor) -> Tensor:
    """The square roots of float64 `numbers`, rounded correctly."""
    # Not torch's on a CPU: it may call MKL, whose roots need not be rounded correctly. NumPy's are.
    return numbers.sqrt() if numbers.device.type != "cpu" else torch.from_numpy(np.sqrt(numbers.numpy()))


def quotient(dots: Tensor, squares: Tensor, other_squares: Tensor) -> Tensor:
    """The cosines of pairs with these dot products and squared lengths, each (n,) float64."""
    return (dots / root(squares * other_squares)).clamp_(-1.0, 1.0)
