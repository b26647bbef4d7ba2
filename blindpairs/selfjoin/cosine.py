"""What the cosine of two vectors is here, to the last bit, and how far that is from the real number.

    s = dot(x, y) / sqrt(dot(x, x) dot(y, y)), kept within -1 and 1;  x and y as stored, float16 or float32, in float64

`dot` adds in one order: the product of dimension d is added to accumulator d mod 128, in the order of d; then the upper
half of the 128 accumulators is added to the lower half until one is left. The products are exact, for two significands
of 24 bits fit into 53, so a fused multiply-add changes nothing; sums, quotients and roots are those of IEEE 754. Hence
torch, compiled code and Triton agree in every bit on every CPU and GPU: this file, `compiled.c` and `gpu/kernels.py`
add in the same order.

What follows: s is symmetric. Equal vectors have 1 exactly and opposite ones -1, since sqrt(q q) = q in IEEE arithmetic;
so have vectors that differ by a power of two in length. Any other multiple of a vector has a cosine within
`cosine_error` of 1, as every cosine is of the real one, and may be found or missed at a minimum of 1.

**The error.** With n additions a sum is off by at most g(n) of its terms' magnitudes (`bound.error_growth`, u = 2^-53),
so dot(x, y) by g(n) |x||y| and the root by a factor of 1 + g(n); three more roundings are those of the product under
the root, the root and the quotient. Together less than 2 g(n + 3).
"""

import numpy as np
import torch
from torch import Tensor

from blindpairs.selfjoin.bound import error_growth

ACCUMULATORS = 128


def cosine_error(dimension: int) -> float:
    """How far a cosine of vectors of so many dimensions may be from the real one."""
    additions = -(-dimension // ACCUMULATORS) + ACCUMULATORS.bit_length() - 1
    return 2 * error_growth(additions + 3, 2.0**-53)


def summed(products: Tensor) -> Tensor:
    """The sum of each row of `products` (n, D) float64 in the order of `dot`, (n,)."""
    accumulators = products.new_zeros(len(products), ACCUMULATORS)
    for part in products.split(ACCUMULATORS, dim=1):
        accumulators[:, : part.shape[1]] += part
    width = ACCUMULATORS // 2
    while width:
        accumulators[:, :width] += accumulators[:, width : 2 * width]
        width //= 2
    return accumulators[:, 0]


def root(numbers: Tensor) -> Tensor:
    """The square roots of float64 `numbers`, rounded correctly: MKL's, which torch may take on a CPU, need not be."""
    return numbers.sqrt() if numbers.device.type != "cpu" else torch.from_numpy(np.sqrt(numbers.numpy()))


def quotient(dots: Tensor, squares: Tensor, other_squares: Tensor) -> Tensor:
    """The cosines of pairs with these dot products and squared lengths, each (n,) float64."""
    return (dots / root(squares * other_squares)).clamp_(-1.0, 1.0)
