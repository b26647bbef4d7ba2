"""The projection of the rows to points of a few dimensions, and why a bound on their distance never loses a pair.

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
an error of the offset cancels in every difference.) Together these are `projection_error`.

**The bound of the stored points.** In exact arithmetic, the projections of a wanted pair (its cosine is at least the
minimum) are at most
    distance = s (sqrt(2 - 2 minimum + 2 cosine_error) + 5 u)
apart: the exact cosine is within `cosine_error` of the one that decides (`cosine.py`), each float32 row is within
2 u + O(u^2) of the exact unit row, and the axes lengthen by a factor of s at most. A stored point differs from the
exact projection for two reasons:
* computing the k coordinates is off by at most `projection_error`;
* storing them as bfloat16 moves the point. This is not estimated but measured: `moved` is the largest distance, in
  float64, that any point was moved. From there on only the stored points are used.
So the two stored points of a wanted pair are at most
    reach = distance + 2 projection_error + 2 moved + 1e-9
apart. A pair passes if
    y.x - |x|^2/2 - t >= 0,   t = |y|^2/2 - reach^2/2 - error
where the squared norms are those of the stored points, in float64. This is one product over K columns,
[y, 1, 1, -t, -t'] . [x, -h, -h', 1, 1], with zeros after the coordinates. t + t' is the threshold and h + h' half the
squared norm, each split into a high and a low part of the stored type. `error` allows for the errors of the product:
* splitting leaves out less than 2^-17 of a number in bfloat16 (twice 2^-18, because float64 is rounded twice), or 2^-40
  in float32;
* the product is off by at most g(K) times the sum of its terms' magnitudes (`product_error`).
With R the largest norm of a point, the magnitudes add up to |y||x| + |x|^2/2 + |t| < 3 R^2 + reach^2. Therefore
    error = (g(K) + 2^-17) (3 R^2 + reach^2) + 1e-12.
At K = 64, bfloat16 and minimum 0.95 this lowers the threshold by a thousandth.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.cosine import UNIT_ROUNDOFF, cosine_error, error_growth

MAX_AXES = 124  # with the four columns of the norms, 128
EIGH_DIMENSIONS = 192  # up to this many, a full eigendecomposition; above, only the leading axes are computed
BLOCK_ROWS = 4096  # of one call on one core
NORM_COLUMNS = 4  # of the K columns: half the squared norm and the threshold, a high and a low part each
NEVER_PASSES = -1024.0  # in place of a norm of padding: other terms of a score are far smaller
SPLIT_ERROR = {torch.bfloat16: 2.0**-17, torch.float32: 2.0**-40}  # relative, of a number as high and low part


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


def principal_axes(sample: Tensor) -> Tensor:
    """Orthonormal axes (D, at most MAX_AXES) along which `sample` (n, D) varies, most first; float64 on its device.

    They are orthonormal up to float64 rounding for any sample; only how many pairs they reject depends on it.
    """
    centred = sample - sample.mean(0)
    covariance = centred.T @ centred  # (D, D)
    dimension = len(covariance)
    if dimension <= EIGH_DIMENSIONS:
        return _leading(covariance.double())
    # Subspace iteration, because a full eigh at D = 768 would take longer than the join of 20,000 vectors. With 8 axes
    # more than wanted, the wanted ones converge in a few rounds.
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(dimension, MAX_AXES + 8, generator=generator).to(sample.device)
    for _ in range(4):
        basis = torch.linalg.qr(covariance @ basis)[0]
    basis = torch.linalg.qr(basis.double())[0]  # (D, MAX_AXES + 8), orthonormal in float64 from here on
    within = basis.T @ (covariance.double() @ basis)
    axes: Tensor = basis @ _leading(within)
    return axes


def _leading(symmetric: Tensor) -> Tensor:
    # eigh sorts eigenvalues in ascending order
    vectors: Tensor = torch.linalg.eigh(symmetric).eigenvectors
    return vectors.flip(1)[:, :MAX_AXES]


class RowSource(Protocol):
    """The rows to project: `rows.UnitRows` or `gpu.points.DeviceRows`."""

    @property
    def device(self) -> torch.device:
        """The device that projects them."""

    @property
    def count(self) -> int:
        """The number of rows."""

    def block(self, start: int, stop: int) -> Tensor:
        """Rows start to stop as unit rows, (stop - start, D) float32."""


@dataclass(frozen=True)
class Layout:
    """How points are stored for a product: their type, and the multiple to which its columns are padded."""

    dtype: torch.dtype = torch.float32
    multiple: int = 8

    def columns(self, dimensions: int) -> int:
        """K: the columns of a product of points in this many dimensions."""
        return -(-(dimensions + NORM_COLUMNS) // self.multiple) * self.multiple


@dataclass(frozen=True)
class Points:
    """The k stored coordinates of every row, and the bound for the two points of a wanted pair."""

    values: Tensor  # (N, k) bfloat16 or float32
    half_squares: Tensor  # (N,) float64: half the squared norm of the stored point
    columns: int  # K
    reach: float  # the largest distance of the two points of a wanted pair
    error: float  # of the product: it lowers the threshold

    @property
    def radius(self) -> float:
        """The largest norm."""
        return math.sqrt(2 * float(self.half_squares.max())) * (1 + 1e-6)

    def reordered(self, order: Tensor) -> "Points":
        """The same points in another order."""
        return Points(self.values[order], self.half_squares[order], self.columns, self.reach, self.error)

    def left(self, padding: int) -> Tensor:
        """Every point as the left side of a product, and `padding` rows that never pass: (N + padding, K)."""
        count, k = self.values.shape
        sides = self.values.new_zeros(count + padding, self.columns)
        sides[:count, :k] = self.values  # [y, 0..., 1, 1, -t, -t']
        sides[:, -4:-2] = 1.0
        sides[:count, -2:] = self._parts(self.reach**2 / 2 + self.error - self.half_squares)
        sides[count:, -2] = NEVER_PASSES
        return sides

    def right(self, index: Tensor) -> Tensor:
        """The points that `index` (n,) numbers as the right side, (n, K); numbers from N on never pass."""
        count, k = self.values.shape
        is_point = index < count
        index = index.clamp(max=count - 1)  # any row will do for padding, whose norm is overwritten below
        sides = self.values.new_zeros(len(index), self.columns)
        sides[:, :k] = self.values[index]  # [x, 0..., -h, -h', 1, 1]
        sides[:, -4:-2] = self._parts(-self.half_squares[index])
        sides[:, -2:] = 1.0
        sides[:, -4] = torch.where(is_point, sides[:, -4], NEVER_PASSES)
        return sides

    def _parts(self, numbers: Tensor) -> Tensor:
        """float64 (n,) as a high and a low part of the points' type, (n, 2)."""
        high = numbers.to(self.values.dtype)
        return torch.stack([high, (numbers - high.double()).to(self.values.dtype)], 1)


def largest_distance(dimension: int, minimum: float) -> float:
    """The largest distance of the float32 rows of a pair whose cosine, as defined, is at least `minimum`."""
    return math.sqrt(max(0.0, 2 - 2 * minimum + 2 * cosine_error(dimension))) + 5 * UNIT_ROUNDOFF


def place_points(rows: RowSource, axes: Tensor, minimum: float, layout: Layout, cores: Cores) -> Points:
    """Project `rows` on `axes` (D, k), round, measure the rounding, and derive `reach` and `error` for a wanted pair.

    Float64 axes are multiplied in float64, as on GPUs; float32 axes in float32.
    """
    dimension, k = axes.shape
    values = torch.empty(rows.count, k, dtype=layout.dtype, device=rows.device)
    half_squares = torch.empty(rows.count, dtype=torch.float64, device=rows.device)
    # (k,) close to the mean, so that coordinates are small and lose little in bfloat16. Any offset is correct.
    offset = cores.start(lambda: rows.block(0, min(rows.count, BLOCK_ROWS)).to(axes.dtype).mean(0) @ axes).result()

    def project(part: slice) -> Tensor:
        exact = rows.block(part.start, part.stop).to(axes.dtype) @ axes - offset  # (B, k)
        values[part] = exact.to(layout.dtype)
        stored = values[part].double()
        half_squares[part] = stored.square().sum(1) / 2
        return torch.stack([torch.linalg.vector_norm(exact - stored, dim=1).max(), exact.double().norm(dim=1).max()])

    moved, radius = torch.stack(cores.blocks(project, rows.count, BLOCK_ROWS)).amax(0).tolist()
    stretch_factor = cores.start(lambda: stretch(axes)).result()
    distance = stretch_factor * largest_distance(dimension, minimum)
    computed = projection_error(dimension, k, stretch_factor, radius, axes.dtype)
    reach = distance + 2 * computed + 2 * moved * (1 + 1e-9) + 1e-9
    columns = layout.columns(k)
    magnitude = 6 * float(half_squares.max()) + reach**2  # 3 R^2 + reach^2
    error = (product_error(columns, layout.dtype) + SPLIT_ERROR[layout.dtype]) * magnitude + 1e-12
    return Points(values, half_squares, columns, reach, error)
