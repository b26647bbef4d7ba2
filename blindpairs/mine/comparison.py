"""Pairs of fields of patch tokens, laid over each other: their signatures, and where their images differ.

The steps are those at the head of differences.py, up to signatures and their axes. The same fields and pairs give the
same bits on any number of threads (reproducible.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.mine.alignment import TRANSFORMS, Transform, choose_transforms, unmatched, warp
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.images import Indices
from blindpairs.mine.maps import DifferenceMap
from blindpairs.mine.reproducible import in_blocks, on_cores, on_one_core

BLOCK = 128  # pairs
FIELD_AXES = 256  # of whole fields, in each block of the encoder
FIELD_SAMPLE = 1024  # fields whose principal axes these are
ALIGNED_BLOCKS, ALIGNED_AXES = 2, 8  # of the fields: what the alignment looks at
SCALE_PAIRS = 2048  # the first pairs in rank, which tell the scale of each block
KIND_AXES = 32  # in which pairs differ most, two for each line; 24 and 40 rank about as well


@dataclass(frozen=True)
class Comparison:
    """Pairs of fields, laid over each other, and the axes on which whole fields are compared."""

    fields: PatchFields
    pairs: Indices  # (P, 2): rows of the fields
    transforms: NDArray[np.int64]  # (P,): from the first image of a pair to the second
    projections: Tensor  # (L, N * AXES, S): whole fields -> signatures
    scales: Tensor  # (L,): the usual squared difference of two tokens of a block
    noise: float  # the same of images that are alike, in all blocks, on the scale of the maps

    @classmethod
    def of(cls, fields: PatchFields, ids: Sequence[tuple[str, str]], alike: Sequence[tuple[str, str]]) -> "Comparison":
        """Align all pairs, and learn from those that are alike what counts little."""
        pairs, alike_pairs = (
            np.array([[fields.rows[a], fields.rows[b]] for a, b in some], np.int64).reshape(-1, 2)
            for some in (ids, alike)
        )
        scales = _scales(fields, pairs[:SCALE_PAIRS])
        transforms, alike_transforms = (_transforms(fields, some, scales) for some in (pairs, alike_pairs))
        basis = _field_axes(fields)
        plain = cls(fields, alike_pairs, alike_transforms, basis, scales, 0.0)
        projections = _scaled_by_noise(basis, plain)
        noise = list(in_blocks(lambda part: plain._excess(part)[0].mean(), len(alike_pairs), BLOCK))
        return cls(fields, pairs, transforms, projections, scales, float(np.mean(noise)) if noise else 0.0)

    def balanced(self) -> tuple["Comparison", Tensor]:
        """The same, with signatures in which each block of the encoder has the same part, and the axes of the kinds.

        These axes, (L * S, A), are the principal ones of the signatures. On them the mean squared length is L.
        """
        blocks, size = len(self.projections), self.projections.shape[2]
        sums = np.zeros((blocks * size, blocks * size))
        for products in in_blocks(self._moments, len(self.pairs), BLOCK):
            sums += products
        scale, axes = on_one_core(lambda: _kind_axes(torch.from_numpy(sums) / max(1, len(self.pairs)), blocks, size))
        return replace(self, projections=self.projections / scale[:, None, None]), axes

    def on_axes(self, axes: Tensor) -> Tensor:
        """(P, A): the coordinates of all signatures on axes (L * S, A)."""
        parts = in_blocks(lambda part: self.signatures(part).flatten(1) @ axes, len(self.pairs), BLOCK)
        return torch.cat([torch.zeros(0, axes.shape[1]), *parts])

    def _moments(self, part: slice) -> NDArray[np.float64]:
        """(L * S, L * S): the sum of the squares and products of the signatures of some pairs."""
        signatures = self.signatures(part).flatten(1)
        moments: NDArray[np.float64] = (signatures.T @ signatures).double().numpy()
        return moments

    def coordinates(self, image_ids: Sequence[str]) -> NDArray[np.float32]:
        """(n, L * S) of images that have a field; their differences are the signatures of pairs that lie in place."""
        rows = np.array([self.fields.rows[key] for key in image_ids], np.int64)
        parts = in_blocks(lambda part: self._projected(_read(self.fields, rows[part])).flatten(1), len(rows), BLOCK)
        coordinates: NDArray[np.float32] = torch.cat(list(parts)).numpy()
        return coordinates

    def signatures(self, part: slice | Indices) -> Tensor:
        """(P, L, S): the signed difference of the pairs, the first image minus the second as seen from the first."""
        rows, transforms = self.pairs[part], self.transforms[part]
        first, second = (_read(self.fields, rows[:, side]) for side in (0, 1))
        for some, transform in _by_transform(transforms):
            second[some] = warp(second[some].flatten(1, 2), transform).unflatten(1, second.shape[1:3])
        return self._projected(first - second)

    def _projected(self, fields: Tensor) -> Tensor:
        """(P, L, C, rows, columns) -> (P, L, S)."""
        projected: Tensor = torch.einsum("plc,lcs->pls", fields.flatten(2), self.projections)
        return projected

    def maps(self, which: Indices) -> list[DifferenceMap]:
        """Where the pairs at some places differ, on one scale for all of them."""
        both = list(in_blocks(lambda part: self._excess(which[part]), len(which), BLOCK))
        if not both:
            return []
        a, b = (np.clip(np.concatenate(side) - self.noise, 0, None) for side in zip(*both, strict=True))
        most = max(float(np.quantile(np.stack([a, b]), 0.99)), 1e-6)
        boxes = self.fields.boxes
        return [
            DifferenceMap(one.clip(0, most) / most, other.clip(0, most) / most, boxes[first], boxes[second])
            for one, other, (first, second) in zip(a, b, self.pairs[which].tolist(), strict=True)
        ]

    def _excess(self, part: slice | Indices) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, rows, columns) on the first images and on the second: what is unmatched, 1 being usual in place."""
        rows, transforms = self.pairs[part], self.transforms[part]
        a, b = (_read(self.fields, rows[:, side], self.scales) for side in (0, 1))  # (P, L, C, rows, columns)
        first, second = (torch.empty(len(rows), *self.fields.grid) for _ in "ab")
        for some, transform in _by_transform(transforms):
            left, right = a[some].flatten(1, 2), b[some].flatten(1, 2)
            first[some] = unmatched(left, warp(right, transform))
            second[some] = unmatched(right, warp(left, transform.inverse))
        blocks = a.shape[1]
        return (first / blocks).numpy(), (second / blocks).numpy()


def _by_transform(transforms: NDArray[np.int64]) -> Iterator[tuple[Tensor, Transform]]:
    """Which pairs (P,) have each transform that occurs, and the transform."""
    for number in np.unique(transforms).tolist():
        yield torch.from_numpy(transforms == number), TRANSFORMS[number]


def _read(fields: PatchFields, rows: Indices, scales: Tensor | None = None) -> Tensor:
    """(P, L, AXES, rows, columns) float32; with `scales` the usual squared difference of two tokens is 1."""
    values = torch.from_numpy(np.ascontiguousarray(fields.values[rows])).float()  # (P, L, N, AXES)
    if scales is not None:
        values = values / scales.sqrt()[:, None, None]
    laid_out: Tensor = values.transpose(2, 3).unflatten(3, fields.grid)
    return laid_out


def _scales(fields: PatchFields, pairs: Indices) -> Tensor:
    def squares(part: slice) -> NDArray[np.float64]:
        first, second = (_read(fields, pairs[part, side]) for side in (0, 1))
        found: NDArray[np.float64] = (first - second).square().sum(2).mean((2, 3)).double().sum(0).numpy()
        return found

    sums = np.zeros(fields.values.shape[1])
    for found in in_blocks(squares, len(pairs), BLOCK):
        sums += found
    return torch.from_numpy(sums / max(1, len(pairs))).clamp_min(1e-12).float()


def _transforms(fields: PatchFields, pairs: Indices, scales: Tensor) -> NDArray[np.int64]:
    def chosen(part: slice) -> NDArray[np.int64]:
        first, second = (
            _read(fields, pairs[part, side], scales)[:, :ALIGNED_BLOCKS, :ALIGNED_AXES].flatten(1, 2) for side in (0, 1)
        )
        return choose_transforms(first, second).numpy()

    return np.concatenate([np.zeros(0, np.int64), *in_blocks(chosen, len(pairs), BLOCK)])


def _field_axes(fields: PatchFields) -> Tensor:
    """(L, C * N, S): the principal axes of whole fields, from the fields with the smallest ids."""
    rows = np.array([fields.rows[key] for key in sorted(fields.rows)[:FIELD_SAMPLE]], np.int64)
    sample = _read(fields, rows).flatten(2)  # (n, L, C * N)
    size = min(FIELD_AXES, len(rows), sample.shape[2])
    return torch.stack(list(on_cores(lambda block: _principal_axes(sample[:, block], size), range(sample.shape[1]))))


def _principal_axes(sample: Tensor, size: int) -> Tensor:
    """(D, size): the principal axes of vectors (n, D); zeros where there are fewer."""
    centred = sample - sample.mean(0)
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())  # n x n: fields are far longer
    values, vectors = values.flip(0)[:size], vectors.flip(1)[:, :size]
    # The centred sample has no extent along its last axis: what rounding leaves there is no direction.
    real = values > 1e-9 * values[0]
    axes = torch.zeros(sample.shape[1], size)
    axes[:, real] = (centred.T.double() @ vectors[:, real] / values[real].sqrt()).float()
    return axes


def _scaled_by_noise(basis: Tensor, alike: Comparison) -> Tensor:
    """`basis` (L, C * N, S), turned and scaled so that the differences of pairs that are alike are small and round."""
    nothing = torch.zeros(0, len(basis), basis.shape[2])
    differences = torch.cat([nothing, *in_blocks(alike.signatures, len(alike.pairs), BLOCK)])  # (Q, L, S)

    def scaled(block: int) -> Tensor:
        noise = differences[:, block].double()
        covariance = noise.T @ noise / max(1, len(noise))
        # Shrunk by its mean: the few pairs do not know the small directions, which would blow up.
        usual = covariance.diagonal().mean().clamp_min(1e-12)
        values, vectors = torch.linalg.eigh(covariance + usual * torch.eye(len(covariance), dtype=torch.float64))
        turned: Tensor = basis[block] @ (vectors / values.sqrt()).float()
        return turned

    return torch.stack(list(on_cores(scaled, range(len(basis)))))


def _kind_axes(moments: Tensor, blocks: int, size: int) -> tuple[Tensor, Tensor]:
    """From the mean products of signatures, (L * S, L * S): the usual length of each block's, (L,), and the axes.

    The axes (L * S, A) are the principal ones of signatures divided by these lengths.
    """
    usual = moments.diagonal().unflatten(0, (blocks, size)).sum(1)
    scale = usual.clamp_min(1e-12).sqrt()
    moments = moments / torch.outer(scale, scale).repeat_interleave(size, 0).repeat_interleave(size, 1)
    values, vectors = (part.flip(-1)[..., :KIND_AXES] for part in torch.linalg.eigh(moments))
    return scale.float(), (vectors * (blocks / values.sum().clamp_min(1e-12)).sqrt()).float()
