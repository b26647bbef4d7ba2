"""A few coordinates per vector, and why a bound on them never loses a pair.

For unit x, y and orthonormal axes V (D, k), k of D:  |V'x - V'y| <= |x - y|, and |x - y|^2 = |x|^2 + |y|^2 - 2 x.y.
So x.y >= minimum implies |V'x - V'y| <= sqrt(2 - 2 minimum): a product over k coordinates rejects whatever lies farther
apart. Which axes is a matter of speed alone: those along which a sample varies most reject the most.

**Rounding.** Let u = 2^-24 and g(n) = n u / (1 - n u), which bounds the error of an n-term float32 dot product, summed
in any order and with or without fused multiply-add, relative to the sum of the terms' magnitudes (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1). Where this process lets products round their inputs first, g grows by
that (`product_error`). The axes as stored lengthen a vector by at most s, s^2 = ||V'V||_2 <= 1 + ||V'V - I||_F, which
is computed in float64, not assumed (`stretch`). Each of k coordinates is then off by at most g(D) s |x|, and by u of
itself through centring (the same offset is subtracted from all rows, so its own value cancels in every difference):
`projection_error`. `points.py` puts it together.
"""

import math

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-24
MAX_AXES = 124  # with the norms, 128 columns
FULL_ROTATION = 192  # up to this many dimensions all axes are found at once; above, only the leading ones


def error_growth(terms: int, roundoff: float = UNIT_ROUNDOFF) -> float:
    """Higham's gamma_n: the error of a dot product relative to the sum of its terms' magnitudes."""
    return terms * roundoff / (1.0 - terms * roundoff)


def product_error(terms: int, dtype: torch.dtype = torch.float32) -> float:
    """`error_growth` of a matrix product of this type that is summed in float32.

    Products of two bfloat16 are exact there, but tensor cores add them with truncation and not in IEEE order. Measured
    behaviour (Fasi, Higham, Mikaitis, Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 2021) stays below
    one unit of 2^-23 of the largest magnitude per term; u = 2^-22 is allowed for. AMX rounds every sum to nearest.
    A float32 product is as this process has set it: inputs may be rounded to bfloat16 on the way.
    """
    if dtype == torch.bfloat16:
        return error_growth(terms, 2.0**-22)
    rounded = 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
    return error_growth(terms) * (1 + rounded) ** 2 + 2 * rounded + rounded**2


def stretch(axes: Tensor) -> float:
    """By how much axes (D, k) may lengthen a vector: the square root of at most ||V'V||_2."""
    exact = axes.double()
    defect = exact.T @ exact - torch.eye(axes.shape[1], dtype=torch.float64, device=axes.device)
    return math.sqrt(1.0 + float(torch.linalg.matrix_norm(defect)) + 1e-12)


def projection_error(dimension: int, k: int, longer: float, radius: float, dtype: torch.dtype) -> float:
    """How far a computed point may be from where its unit row of `dimension` lies in k axes that stretch by `longer`.

    `radius` is the largest norm of a computed point.
    """
    if dtype == torch.float64:
        growth, roundoff = error_growth(dimension, 2.0**-53), 2.0**-53
    else:
        growth, roundoff = product_error(dimension), UNIT_ROUNDOFF
    return math.sqrt(k) * growth * longer * (1 + 1e-6) + roundoff * radius


def principal_axes(sample: Tensor, count: int = MAX_AXES) -> Tensor:
    """Orthonormal axes (D, at most `count`) along which `sample` (n, D) varies, most first; float64 on its device.

    Exactly orthonormal to float64 rounding whatever the sample is; only how well they reject depends on it.
    """
    centred = sample - sample.mean(0)
    covariance = centred.T @ centred  # (D, D)
    dimension = len(covariance)
    if dimension <= FULL_ROTATION:
        return _leading(covariance.double(), count)
    # Subspace iteration with a margin of 8: a full eigh at D = 768 would take longer than the join of 20,000 vectors.
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(dimension, count + 8, generator=generator).to(sample.device)
    for _ in range(4):
        basis = torch.linalg.qr(covariance @ basis)[0]
    basis = torch.linalg.qr(basis.double())[0]
    within = basis.T @ (covariance.double() @ basis)
    axes: Tensor = basis @ _leading(within, count)
    return axes


def _leading(symmetric: Tensor, count: int) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(symmetric).eigenvectors
    return vectors.flip(1)[:, :count]
