"""The rows of a GPU's join: vectors wherever they fit, and their points as the kernels lay them out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.selfjoin.cosine import quotient
from blindpairs.selfjoin.gpu.kernels import FUSED, LAUNCH, PAIRS, dots
from blindpairs.selfjoin.points import Layout, place_points
from blindpairs.selfjoin.rows import UnitRows

PROJECT_ROWS = 1 << 15
DECIDE_PAIRS = 1 << 16
PADDING = 256  # a multiple of both sides of every tile


class DeviceRows:
    """The unit rows of `rows` for one device: a copy there if `whole`, else fetched from where they lie when needed.

    The lengths, and their squares, are those of `rows` itself: every row has the same float32 numbers here as on any
    other path, and every pair the same cosine.
    """

    def __init__(self, rows: UnitRows, device: torch.device, whole: bool) -> None:
        self._rows, self.device = rows, device
        self._lengths, self._squares = rows.lengths.to(device), rows.squares.to(device)
        self._whole: Tensor | None = None
        self._chosen: Tensor | None = None
        if whole and rows.device == device and rows.vectors.is_contiguous():
            self._whole, self._chosen = rows.vectors, rows.chosen
        elif whole:
            self._whole = torch.empty(rows.count, rows.dimension, dtype=rows.vectors.dtype, device=device)
            for start in range(0, rows.count, PROJECT_ROWS):
                part = slice(start, start + PROJECT_ROWS)
                self._whole[part] = self._fetch(part)

    def on_host(self) -> UnitRows:
        """The same rows in host memory; a copy where they lie on a device."""
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
        if self._whole is None:
            stored = self._fetch(part)
        else:
            stored = self._whole[part if self._chosen is None else self._chosen[part]]
        return stored.float() / self._lengths[part, None]

    def cosines(self, i: Tensor, j: Tensor) -> Tensor:
        """Cosines of the pairs (i, j) of row numbers, (n,) float64, as `cosine.py` defines them."""
        out = [torch.empty(0, dtype=torch.float64, device=self.device)]
        for start in range(0, len(i), DECIDE_PAIRS):
            pair = torch.stack([i[start : start + DECIDE_PAIRS], j[start : start + DECIDE_PAIRS]])  # (2, n)
            count = pair.shape[1]
            pair = torch.nn.functional.pad(pair, (0, -count % PAIRS.value))
            stored, names = self._stored(pair)
            found = torch.empty(pair.shape[1], dtype=torch.float64, device=self.device)
            with LAUNCH:
                dots[(len(found) // PAIRS.value,)](stored, names, found, self._rows.dimension, num_warps=4, **FUSED)
            out.append(found[:count])
        return quotient(torch.cat(out), self._squares[i], self._squares[j])

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
class DevicePoints:
    """The points of all rows on one device, ordered along their first axis, as `kernels.py` lays them out."""

    packed: Tensor  # (N padded to a multiple of 256, 2 K) bfloat16
    order: Tensor  # (N,) int64: which row stands at a place
    along: Tensor  # (N,) float64 on the host, ascending: the first coordinate by place
    reach: float

    @property
    def columns(self) -> int:
        """K."""
        return self.packed.shape[1] // 2

    def on(self, device: torch.device) -> "DevicePoints":
        """The same points on another device."""
        return DevicePoints(self.packed.to(device), self.order.to(device), self.along, self.reach)


def pack_points(rows: DeviceRows, axes: Tensor, minimum: float, columns: int) -> DevicePoints:
    """Place `rows` on `axes` (D, k) float64, k <= columns - 4, and lay them out."""
    with Cores(rows.device) as cores:
        points = place_points(rows, axes, minimum, Layout(torch.bfloat16, columns), cores)
    order = torch.argsort(points.values[:, 0].float(), stable=True)
    points = points.reordered(order)
    padding = -rows.count % PADDING
    places = torch.arange(rows.count + padding, device=rows.device)
    packed = torch.cat([points.left(padding), points.right(places)], 1)
    return DevicePoints(packed, order, points.values[:, 0].double().cpu(), points.reach)
