"""The rows of a join on a GPU: vectors, on the GPU if they fit there, and points as the kernels read them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.bound import Layout, place_points
from blindpairs.selfjoin.cosine import quotient
from blindpairs.selfjoin.gpu.kernels import FUSED, LAUNCH, PAIRS, dots
from blindpairs.selfjoin.rows import UnitRows

PROJECT_ROWS = 1 << 15
DECIDE_PAIRS = 1 << 16
PADDING = 256  # a multiple of both sides of every tile


class DeviceRows:
    """The rows of `rows` for one device: all vectors there if `resident`, else each is copied there when needed.

    The lengths and their squares are copied from `rows`, not computed again, so that every row has the same float32
    numbers here as in every other engine, and every pair the same cosine.
    """

    def __init__(self, rows: UnitRows, device: torch.device, resident: bool) -> None:
        self._rows, self.device = rows, device
        self._lengths, self._squares = rows.lengths.to(device), rows.squares.to(device)
        self._resident: Tensor | None = None  # (vectors, D) as stored, contiguous as the kernel `dots` reads them
        self._chosen: Tensor | None = None  # (N,) the vector of each row; None if they have the same numbers
        if resident and rows.device == device and rows.vectors.is_contiguous():
            self._resident, self._chosen = rows.vectors, rows.chosen
        elif resident:
            # Only chosen vectors are copied, so row n is vector n. In parts, because indexing makes a copy of its own.
            self._resident = torch.empty(rows.count, rows.dimension, dtype=rows.vectors.dtype, device=device)
            for start in range(0, rows.count, PROJECT_ROWS):
                part = slice(start, start + PROJECT_ROWS)
                self._resident[part] = self._fetch(part)

    def on_host(self) -> UnitRows:
        """The same rows in host memory; a copy if they are on a device."""
        rows = self._rows
        if rows.device.type == "cpu":
            return rows
        return UnitRows(rows.vectors.cpu(), None if rows.chosen is None else rows.chosen.cpu(), compiled=rows.compiled)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._rows.count

    def block(self, start: int, stop: int) -> Tensor:
        """Rows start to stop as unit rows, (stop - start, D) float32."""
        part = slice(start, stop)
        if self._resident is None:
            stored = self._fetch(part)
        else:
            stored = self._resident[part if self._chosen is None else self._chosen[part]]
        return stored.float() / self._lengths[part, None]

    def cosines(self, i: Tensor, j: Tensor) -> Tensor:
        """Cosines of the pairs (i, j) of row numbers, (n,) float64, as `cosine.py` defines them."""
        out = [torch.empty(0, dtype=torch.float64, device=self.device)]
        for start in range(0, len(i), DECIDE_PAIRS):
            pair = torch.stack([i[start : start + DECIDE_PAIRS], j[start : start + DECIDE_PAIRS]])  # (2, n)
            count = pair.shape[1]
            # `dots` has no mask: the last program is padded with pairs of row 0 and itself, cut off below.
            pair = torch.nn.functional.pad(pair, (0, -count % PAIRS.value))
            stored, index = self._stored(pair)
            found = torch.empty(pair.shape[1], dtype=torch.float64, device=self.device)
            with LAUNCH:
                dots[(len(found) // PAIRS.value,)](stored, index, found, self._rows.dimension, num_warps=4, **FUSED)
            out.append(found[:count])
        return quotient(torch.cat(out), self._squares[i], self._squares[j])

    def _stored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """A matrix (?, D) on the device, and the index in it of each of `rows` (2, n)."""
        if self._resident is None:
            needed, index = torch.unique(rows, return_inverse=True)  # a row of many pairs is copied once
            return self._fetch(needed.to(self._rows.device)), index
        return self._resident, rows if self._chosen is None else self._chosen[rows]

    def _fetch(self, index: Tensor | slice) -> Tensor:
        rows = self._rows
        return rows.vectors[index if rows.chosen is None else rows.chosen[index]].to(self.device)


@dataclass(frozen=True)
class DevicePoints:
    """The points of all rows on one device, ordered along their first axis, as `kernels.py` lays them out."""

    packed: Tensor  # (N padded to a multiple of 256, 2 K) bfloat16
    order: Tensor  # (N,) int64: the row at each place
    first_coordinates: Tensor  # (N,) float64 on the host, by place, ascending
    reach: float

    @property
    def columns(self) -> int:
        """K."""
        return self.packed.shape[1] // 2

    def on(self, device: torch.device) -> "DevicePoints":
        """The same points on another device."""
        return DevicePoints(self.packed.to(device), self.order.to(device), self.first_coordinates, self.reach)


def pack_points(rows: DeviceRows, axes: Tensor, minimum: float, columns: int) -> DevicePoints:
    """Project `rows` on `axes` (D, k) float64, k <= columns - 4, and pack the points in the order of the first axis."""
    with Cores(rows.device) as cores:
        points = place_points(rows, axes, minimum, Layout(torch.bfloat16, columns), cores)
    # By the coordinate as stored, in bfloat16: `spans` searches those numbers, and the bound holds for them.
    order = torch.argsort(points.values[:, 0].float(), stable=True)
    points = points.reordered(order)
    padding = -rows.count % PADDING  # rows that never pass: the kernels load whole tiles without a mask
    places = torch.arange(rows.count + padding, device=rows.device)
    # (N + padding, K) as the row of a pair, then (N + padding, K) as the column: indices from N on give padding.
    packed = torch.cat([points.left(padding), points.right(places)], 1)
    return DevicePoints(packed, order, points.values[:, 0].double().cpu(), points.reach)
