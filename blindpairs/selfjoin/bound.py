"""The projection of vectors on a few axes, and why a bound on the distance of two projections never loses a pair.

For unit vectors x, y and k orthonormal axes V (D, k):  |V'x - V'y| <= |x - y|, and |x - y|^2 = |x|^2 + |y|^2 - 2 x.y.
So x.y >= minimum implies |V'x - V'y| <= sqrt(2 - 2 minimum), and a product over k coordinates can reject every pair
whose projections are farther apart. The bound holds for any axes, and the choice changes the speed only: the axes along
which a sample varies most reject the most pairs.

**Rounding.** Let u = 2^-24 and g(n) = n u / (1 - n u). This bounds the error of a float32 dot product of n terms, in
any order of summation and with or without fused multiply-add, relative to the sum of the terms' magnitudes (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1). If a setting of this process rounds the inputs of products
first, the bound is larger by that (`product_error`).
The axes as stored are not exactly orthonormal. They lengthen a vector by a factor of at most s, with
s^2 = ||V'V||_2 <= 1 + ||V'V - I||_F, which `stretch` computes in float64. Each of the k coordinates is off by at most
g(D) s |x| from the product, and by u times itself from centring. (Centring subtracts the same offset from all rows, so
an error of the offset cancels in every difference.) Together these are `projection_error`, from which `points.py`
derives the bound of the stored points.
"""

import math

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-24
MAX_AXES = 124  # with the four columns of the norms, 128
EIGH_DIMENSIONS = 192  # up to this many, a full eigendecomposition; above, only the leading axes are computed


def error_growth(terms: int, roundoff: float = UNIT_ROUNDOFF) -> float:
    """Higham's gamma_n: the error of a dot product relative to the sum of its terms' magnitudes."""
    return terms * roundoff / (1.0 - terms * roundoff)


def product_error(terms: int, dtype: torch.dtype = torch.float32) -> float:
    """`error_growth` of a matrix product of this type that is summed in float32.

    The product of two bfloat16 is exact in float32, but tensor cores truncate sums instead of rounding them. Their
    error, as measured by Fasi, Higham, Mikaitis and Pranesh (Numerical behavior of NVIDIA tensor cores, PeerJ CS 2021),
    is below 2^-23 of the largest magnitude for each term; u = 2^-22 allows for twice that. AMX rounds every sum to
    nearest. The inputs of a float32 product may be rounded to bfloat16, if torch is set so in this process.
    """
    if dtype == torch.bfloat16:
        return error_growth(terms, 2.0**-22)
    rounded = 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
    return error_growth(terms) * (1 + rounded) ** 2 + 2 * rounded + rounded**2


def stretch(axes: Tensor) -> float:
    """The largest factor by which axes (D, k) may lengthen a vector: an upper bound of the root of ||V'V||_2."""
    exact = axes.double()
    # (k, k): how far the axes are from orthonormal
    defect = exact.T @ exact - torch.eye(axes.shape[1], dtype=torch.float64, device=axes.device)
    return math.sqrt(1.0 + float(torch.linalg.matrix_norm(defect)) + 1e-12)


def projection_error(dimension: int, k: int, stretch_factor: float, radius: float, dtype: torch.dtype) -> float:
    """How far a computed point may be from the exact projection of its unit row of `dimension` numbers on k axes.

    `stretch_factor` is that of the axes, and `radius` the largest norm of a computed point.
    """
    if dtype == torch.float64:
        growth, roundoff = error_growth(dimension, 2.0**-53), 2.0**-53
    else:
        growth, roundoff = product_error(dimension), UNIT_ROUNDOFF
    return math.sqrt(k) * growth * stretch_factor * (1 + 1e-6) + roundoff * radius


def principal_axes(sample: Tensor, count: int = MAX_AXES) -> Tensor:
    """Orthonormal axes (D, at most `count`) along which `sample` (n, D) varies, most first; float64 on its device.

    They are orthonormal up to float64 rounding for any sample; only how many pairs they reject depends on it.
    """
    centred = sample - sample.mean(0)
    covariance = centred.T @ centred  # (D, D)
    dimension = len(covariance)
    if dimension <= EIGH_DIMENSIONS:
        return _leading(covariance.double(), count)
    # Subspace iteration, because a full eigh at D = 768 would take longer than the join of 20,000 vectors. With 8 axes
    # more than wanted, the wanted ones converge in a few rounds.
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(dimension, count + 8, generator=generator).to(sample.device)
    for _ in range(4):
        basis = torch.linalg.qr(covariance @ basis)[0]
    basis = torch.linalg.qr(basis.double())[0]  # (D, count + 8), orthonormal in float64 from here on
    within = basis.T @ (covariance.double() @ basis)
    axes: Tensor = basis @ _leading(within, count)
    return axes


def _leading(symmetric: Tensor, count: int) -> Tensor:
    # eigh sorts eigenvalues in ascending order
    vectors: Tensor = torch.linalg.eigh(symmetric).eigenvectors
    return vectors.flip(1)[:, :count]
