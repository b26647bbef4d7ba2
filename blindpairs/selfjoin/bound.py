"""A few coordinates per vector, and a bound that never loses a pair.

For unit x, y and orthonormal axes V (D, k), k of D:  |V'x - V'y| <= |x - y|, and |x - y|^2 = |x|^2 + |y|^2 - 2 x.y.
So x.y >= minimum implies |V'x - V'y| <= sqrt(2 - 2 minimum): a product over k coordinates rejects whatever lies farther
apart. Which axes is a matter of speed alone: those along which a sample varies most reject the most.

**The rounding margin.** Let u = 2^-24 and g(n) = n u / (1 - n u), which bounds the error of an n-term float32 dot
product, summed in any order and with or without fused multiply-add, relative to the sum of the terms' magnitudes
(Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Where this process lets products round their
inputs first, g grows by that (`product_error`). Three things differ from the theory:
* rows are unit only within 2u each, so |x|^2 + |y|^2 <= 2 (1 + 8u);
* V is rounded: |V'z| <= s |z| with s^2 = ||V'V||_2 <= 1 + ||V'V - I||_F, which is computed in float64, not assumed;
* each of the k coordinates is off by at most g(D) s |x|, and then by u of itself through centring (the same offset is
  subtracted from all rows, so its own value cancels in every difference).
Hence the stored coordinates of a pair that must be found are within
    `reach` = s sqrt(2 (1 + 8u) - 2 minimum + 1e-12) + 2 (sqrt(k) g(D) s (1 + 4u) + u R),   R = max |coordinates|
of one another: 1e-12 covers the float64 arithmetic that finally decides. The product itself (`score`) is then
compared with a threshold lowered by its own error, see `Coordinates`.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.rows import BLOCK_ROWS, UnitRows

UNIT_ROUNDOFF = 2.0**-24
MOST_AXES = 128
FULL_ROTATION = 192  # up to this many dimensions all axes are found at once; above, only the leading ones


def error_growth(terms: int, roundoff: float = UNIT_ROUNDOFF) -> float:
    """Higham's gamma_n: the error of a dot product relative to the sum of its terms' magnitudes."""
    return terms * roundoff / (1.0 - terms * roundoff)


def product_error(terms: int) -> float:
    """`error_growth` of a matrix product as this process has set them: inputs may be rounded to bfloat16 on the way."""
    rounded = 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
    return error_growth(terms) * (1 + rounded) ** 2 + 2 * rounded + rounded**2


def principal_axes(sample: Tensor, most: int = MOST_AXES) -> Tensor:
    """Orthonormal axes (D, at most `most`) along which `sample` (n, D) varies, most first; float64 on its device.

    Exactly orthonormal to float64 rounding whatever the sample is; only how well they reject depends on it.
    """
    centred = sample - sample.mean(0)
    covariance = centred.T @ centred  # (D, D)
    dimension = len(covariance)
    if dimension <= FULL_ROTATION:
        return _leading(covariance.double(), most)
    # Subspace iteration with a margin of 8: a full eigh at D = 768 would take longer than the join of 20,000 vectors.
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(dimension, most + 8, generator=generator).to(sample.device)
    for _ in range(4):
        basis = torch.linalg.qr(covariance @ basis)[0]
    basis = torch.linalg.qr(basis.double())[0]
    within = basis.T @ (covariance.double() @ basis)
    axes: Tensor = basis @ _leading(within, most)
    return axes


def _leading(symmetric: Tensor, most: int) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(symmetric).eigenvectors
    return vectors.flip(1)[:, :most]


@dataclass(frozen=True)
class Coordinates:
    """k coordinates of every row, and how near those of a wanted pair must be.

    A pair is kept when  score = y.x - |x|^2/2  >=  |y|^2/2 - reach^2/2 - error  =  threshold[y],  which is
    |y - x|^2 <= reach^2 with everything that depends on y alone moved to the right: one product over k + 1 columns,
    [y, 1] . [x, -|x|^2/2], decides. `error` is the product's own: g(k + 1) times the largest sum of the terms'
    magnitudes (3/2 R^2), and the rounding of the half norms and of the threshold (8 u R^2).
    """

    values: Tensor  # (N, k + 1) float32, the last column all ones
    half_norms: Tensor  # (N,) float32: |y|^2 / 2
    reach: float
    error: float

    @property
    def thresholds(self) -> Tensor:
        """What a row's score must reach, (N,) float32."""
        return self.half_norms - (self.reach**2 / 2 + self.error)

    def reordered(self, order: Tensor) -> "Coordinates":
        """The same coordinates with the rows in another order."""
        return Coordinates(self.values[order], self.half_norms[order], self.reach, self.error)


def coordinates(rows: UnitRows, axes: Tensor, minimum: float, cores: Cores) -> Coordinates:
    """Project `rows` on `axes` (D, k) and derive how near a pair of cosine >= `minimum` must come."""
    dimension, k = axes.shape
    stored_axes = axes.float()
    stretch = cores.start(partial(_stretch, stored_axes)).result()
    values = torch.ones(rows.count, k + 1, dtype=torch.float32, device=rows.device)
    half_norms = torch.empty(rows.count, dtype=torch.float32, device=rows.device)
    offset = cores.start(lambda: rows.sample(BLOCK_ROWS, seed=0).mean(0) @ stored_axes).result()

    def project(part: slice) -> None:
        block = rows.block(part.start, part.stop) @ stored_axes - offset  # (B, k)
        values[part, :k] = block
        half_norms[part] = block.double().square().sum(1) / 2

    cores.blocks(project, rows.count, BLOCK_ROWS)
    radius = math.sqrt(2 * float(half_norms.max())) * (1 + 1e-6)
    projection_error = math.sqrt(k) * product_error(dimension) * stretch * (1 + 1e-6) + UNIT_ROUNDOFF * radius
    distance = math.sqrt(max(0.0, 2 * (1 + 2.0**-21) - 2 * minimum + 1e-12))
    error = (1.5 * product_error(k + 1) + 8 * UNIT_ROUNDOFF) * radius**2 + 1e-12
    return Coordinates(values, half_norms, stretch * distance + 2 * projection_error, error)


def _stretch(axes: Tensor) -> float:
    """By how much axes (D, k) may lengthen a vector: the square root of at most ||V'V||_2."""
    exact = axes.double()
    defect = exact.T @ exact - torch.eye(axes.shape[1], dtype=torch.float64, device=axes.device)
    return math.sqrt(1.0 + float(torch.linalg.matrix_norm(defect)) + 1e-12)
