"""The rows of a GPU's join: vectors wherever they fit, coordinates in bfloat16, and the bound that these keep.

**The bound**, in the terms of `bound.py`: a pair of cosine >= minimum lies within `distance` = s sqrt(2 (1 + 8u) -
2 minimum + 1e-12) in the k coordinates. Here the coordinates are computed in float64 (off by less than 1e-9 in all, for
any D below 10^5) and then rounded to bfloat16, and *the rounded points are taken for the points*. No analysis of
the rounding is needed: how far each point moved is measured, in float64, and with `moved` the farthest any moved
    reach = distance + 2 moved + 1e-9
is how near two rounded points of a wanted pair must be. A pair passes when
    y.x - |x|^2/2 - t >= 0,   t = |y|^2/2 - reach^2/2 - error
with both squared norms those of the rounded points, in float64. `error` covers what the product does to that:
* |x|^2/2 and t enter as the sum of two bfloat16, which leaves out less than 2^-17 of each (twice 2^-18, for float64 to
  bfloat16 rounds twice);
* products of bfloat16 are exact in float32; tensor cores add them with truncation and not in IEEE order. Measured
  behaviour (Fasi, Higham, Mikaitis, Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 2021) stays below
  one unit of 2^-23 of the largest magnitude per term; u = 2^-22 is allowed for here, g(K) in all.
With R the largest norm of a point the magnitudes sum to |y||x| + |x|^2/2 + |t| < 3 R^2 + reach^2, hence
    error = (g(K) + 2^-17) (3 R^2 + reach^2) + 1e-12,
which at K = 64 and minimum 0.95 lowers the threshold by a thousandth.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blindpairs.selfjoin.bound import error_growth
from blindpairs.selfjoin.kernel import LAUNCH, PAIRS, decide
from blindpairs.selfjoin.rows import UnitRows

NORM_COLUMNS = 4  # of the K columns: threshold and half norm, a high and a low part each
PROJECT_ROWS = 1 << 15
DECIDE_PAIRS = 1 << 16
PADDING = 256  # a multiple of both sides of every tile
FAR = -1024.0  # in place of a norm: padding passes with nothing


class DeviceRows:
    """The unit rows of `rows` for one device: a copy there if `whole`, else fetched from where they lie when needed.

    The lengths are those of `rows` itself, so every row has the same float32 numbers here as on any other path.
    """

    def __init__(self, rows: UnitRows, device: torch.device, whole: bool) -> None:
        self._rows, self.device = rows, device
        self._lengths = rows.lengths.to(device)
        self._whole: Tensor | None = None
        self._chosen: Tensor | None = None
        if whole and rows.device == device and rows.vectors.is_contiguous():
            self._whole, self._chosen = rows.vectors, rows.chosen
        elif whole:
            self._whole = torch.empty(rows.count, rows.dimension, dtype=rows.vectors.dtype, device=device)
            for start in range(0, rows.count, PROJECT_ROWS):
                part = slice(start, start + PROJECT_ROWS)
                self._whole[part] = self._fetch(part)

    def unit(self, start: int, stop: int) -> Tensor:
        """Rows start to stop as unit rows, (stop - start, D) float32."""
        part = slice(start, stop)
        if self._whole is None:
            stored = self._fetch(part)
        else:
            stored = self._whole[part if self._chosen is None else self._chosen[part]]
        return stored.float() / self._lengths[part, None]

    def cosines(self, i: Tensor, j: Tensor) -> Tensor:
        """Cosines of the pairs (i, j) of row numbers, (n,) float64, as `verify.cosines` gives them."""
        out = [torch.empty(0, dtype=torch.float64, device=self.device)]
        for start in range(0, len(i), DECIDE_PAIRS):
            pair = torch.stack([i[start : start + DECIDE_PAIRS], j[start : start + DECIDE_PAIRS]])  # (2, n)
            count = pair.shape[1]
            pair = torch.nn.functional.pad(pair, (0, -count % PAIRS.value))
            stored, names = self._stored(pair)
            found = torch.empty(pair.shape[1], dtype=torch.float64, device=self.device)
            lengths = self._lengths[pair]
            with LAUNCH:
                decide[(len(found) // PAIRS.value,)](stored, names, lengths, found, self._rows.dimension, num_warps=4)
            out.append(found[:count])
        return torch.cat(out)

    def _stored(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """A matrix on the device, and where in it the rows `index` stand."""
        if self._whole is None:
            needed, names = torch.unique(index, return_inverse=True)
            return self._fetch(needed.to(self._rows.device)), names
        return self._whole, index if self._chosen is None else self._chosen[index]

    def _fetch(self, index: Tensor | slice) -> Tensor:
        rows = self._rows
        return rows.vectors[index if rows.chosen is None else rows.chosen[index]].to(self.device)


@dataclass(frozen=True)
class Points:
    """The points of all rows on one device, ordered along their first axis, as `kernel.py` lays them out."""

    packed: Tensor  # (N padded to a multiple of 256, 2 K) bfloat16
    order: Tensor  # (N,) int64: which row stands at a place
    along: Tensor  # (N,) float64 on the host, ascending: the first coordinate by place
    reach: float

    @property
    def columns(self) -> int:
        """K."""
        return self.packed.shape[1] // 2

    def on(self, device: torch.device) -> "Points":
        """The same points on another device."""
        return Points(self.packed.to(device), self.order.to(device), self.along, self.reach)


def place_points(rows: DeviceRows, count: int, axes: Tensor, minimum: float, columns: int) -> Points:
    """Project `count` rows on `axes` (D, k) float64, k <= columns - 4, round, measure the rounding, and pack."""
    k = axes.shape[1]
    values = torch.empty(count, k, dtype=torch.bfloat16, device=rows.device)
    halves = torch.empty(count, dtype=torch.float64, device=rows.device)
    moved = torch.zeros((), dtype=torch.float64, device=rows.device)
    offset = rows.unit(0, min(count, PROJECT_ROWS)).double().mean(0) @ axes
    for start in range(0, count, PROJECT_ROWS):
        part = slice(start, min(start + PROJECT_ROWS, count))
        exact = rows.unit(part.start, part.stop).double() @ axes - offset
        values[part] = exact.bfloat16()
        rounded = values[part].double()
        moved = torch.maximum(moved, torch.linalg.vector_norm(exact - rounded, dim=1).max())
        halves[part] = rounded.square().sum(1) / 2
    defect = torch.linalg.matrix_norm(axes.T @ axes - torch.eye(k, dtype=torch.float64, device=axes.device))
    distance = math.sqrt(1 + float(defect) + 1e-12) * math.sqrt(max(0.0, 2 * (1 + 2.0**-21) - 2 * minimum + 1e-12))
    reach = distance + 2 * float(moved) * (1 + 1e-9) + 1e-9
    magnitude = 6 * float(halves.max()) + reach**2  # 3 R^2 + reach^2
    error = (error_growth(columns, 2.0**-22) + 2.0**-17) * magnitude + 1e-12
    order = torch.argsort(values[:, 0].float(), stable=True)
    thresholds = halves - (reach**2 / 2 + error)
    packed = _pack(values[order], thresholds[order], halves[order], columns)
    return Points(packed, order, values[order, 0].double().cpu(), reach)


def _pack(values: Tensor, thresholds: Tensor, halves: Tensor, columns: int) -> Tensor:
    count, k = values.shape
    packed = values.new_zeros(-(-count // PADDING) * PADDING, 2, columns)
    packed[:count, :, :k] = values[:, None]
    packed[:, 0, -4:-2] = 1.0
    packed[:count, 0, -2:] = _high_and_low(-thresholds)
    packed[count:, 0, -2] = FAR
    packed[:count, 1, -4:-2] = _high_and_low(-halves)
    packed[count:, 1, -4] = FAR
    packed[:, 1, -2:] = 1.0
    return packed.flatten(1)


def _high_and_low(numbers: Tensor) -> Tensor:
    """float64 (N,) as the sum of two bfloat16, (N, 2)."""
    high = numbers.bfloat16()
    return torch.stack([high, (numbers - high.double()).bfloat16()], 1)
