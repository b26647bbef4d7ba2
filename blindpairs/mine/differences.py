"""How much differs between the two images of a pair, in which kind of thing, and where: from their patch tokens.

Ranking pairs by how little differs must not count what is no difference: light, noise, a step to the side. What such
changes do to the tokens is learned from the corpus itself, from each image and its nearest neighbour for DINOv2:

    fields of tokens -> aligned (alignment.py) -> coordinates on the principal axes of whole fields
    -> scaled so that what differs between nearest neighbours counts little (within-class covariance normalisation,
       Hatch and Stolcke 2006) -> one signed vector a pair, its signature
    -> its squared length, and 1 - dino_sim: how much differs
    -> relative to what is usual for both images (local scaling, Zelnik-Manor and Perona 2004)

Signatures of pairs that differ in the same kind of thing lie along one line through the origin; which of the two images
comes first is their sign. Clusters are such lines (k-means on unit vectors, without sign). Most of what lies along the
line of its cluster is one difference, however large, so only a part of it counts: a second difference lies elsewhere.

In the demo world, of 300 kept pairs, those that differ in one attribute alone (tests/benchmarks/bench_ranks.py): 0 % by
gap, 31 % by cosine (`subtle`), 63 % so; 57 to 61 % on three other seeds, 38 and 40 % on scenes that stand up to a patch
apart, and 41 % of 20,000 scenes. While this was built the shipped corpus gave 47 % by the sum of squared differences of
tokens in place, 52 % with the scaling, and 58 % with local scaling. What did not help: counting unmatched patches,
Fisher's weights for single patches, non-negative factors of the maps, quantised tokens, and leaving out pairs with a
third image in between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from blindpairs.mine.alignment import TRANSFORMS, Transform, choose_transforms, unmatched, warp
from blindpairs.mine.candidates import Cosines
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.images import Indices
from blindpairs.mine.maps import DifferenceMap

BLOCK = 512  # pairs
FIELD_AXES = 256  # of whole fields, in each block of the encoder
FIELD_SAMPLE = 1024  # fields whose principal axes these are
ALIGNED_BLOCKS, ALIGNED_AXES = 2, 8  # of the fields: what the alignment looks at
SCALE_PAIRS = 2048  # the first pairs in rank, which tell the scale of each block
CLUSTERS, PAIRS_PER_CLUSTER = 16, 25  # fewer clusters for few pairs
CLUSTERED = 6000  # the pairs of the smallest differences, from which the lines are found
ALONG = 0.75  # the share of what lies along the line of its cluster that does not count
ROUNDS, RESTARTS = 20, 3  # of k-means; with one start, one to two in a hundred pairs change with the seed
LEAST = 0.02  # of the usual difference: what is left where nearly all lies along a line


@dataclass(frozen=True)
class Differences:
    """What was found for P pairs, in their order; the maps are made when they are asked for."""

    difference: Cosines  # (P,): 1 is usual, less is subtler
    cluster: NDArray[np.int32]  # (P,): 0 is the cluster with the most of the clustered pairs
    comparison: "Comparison"


def differences(
    fields: PatchFields, ids: Sequence[tuple[str, str]], dino_sim: Cosines, alike: Sequence[tuple[str, str]]
) -> Differences:
    """How P pairs of images differ; `ids` are in rank order, and the smaller id of a pair comes first.

    `alike` are pairs of images whose differences mean little: nearest neighbours of DINOv2. All images have a field.
    """
    comparison = Comparison.of(fields, ids, alike)
    energy = np.concatenate([comparison.energies(part) for part in _blocks(len(ids))])  # (P, L)
    usual = energy.mean(0).clip(1e-12)
    comparison = comparison.balanced(usual)
    unlike = 1 - dino_sim
    whole = (energy / usual).sum(1) + unlike / max(1e-12, float(unlike.mean()))
    lines = comparison.lines(np.argsort(_locally_scaled(whole, comparison.pairs), kind="stable")[:CLUSTERED])
    along, cluster = (
        np.concatenate(column)
        for column in zip(*(comparison.along(part, lines) for part in _blocks(len(ids))), strict=True)
    )
    rest = (whole - ALONG * along).clip(LEAST * float(whole.mean()))
    scaled = _locally_scaled(rest, comparison.pairs)
    return Differences(scaled / max(1e-12, float(np.median(scaled))), cluster, comparison)


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
        transforms, alike_transforms = (
            np.concatenate([np.zeros(0, np.int64), *(_transforms(fields, some[k], scales) for k in _blocks(len(some)))])
            for some in (pairs, alike_pairs)
        )
        basis = _field_axes(fields)
        plain = cls(fields, alike_pairs, alike_transforms, basis, scales, 0.0)
        projections = torch.stack(list(_scaled_by_noise(basis, plain)))
        noise = [plain._excess(part)[0].mean() for part in _blocks(len(alike_pairs))]
        return cls(fields, pairs, transforms, projections, scales, float(np.mean(noise)) if noise else 0.0)

    def balanced(self, usual: NDArray[np.float64]) -> "Comparison":
        """The same, with signatures in which each block of the encoder has the same part; `usual` (L,) are energies."""
        scale = torch.from_numpy(usual).float().sqrt()[:, None, None]
        return replace(self, projections=self.projections / scale)

    def coordinates(self, image_ids: Sequence[str]) -> NDArray[np.float32]:
        """(n, L * S) of images that have a field; their differences are the signatures of pairs that lie in place."""
        rows = np.array([self.fields.rows[key] for key in image_ids], np.int64)
        parts = [self._projected(_read(self.fields, rows[part])).flatten(1) for part in _blocks(len(rows))]
        coordinates: NDArray[np.float32] = torch.cat(parts).numpy()
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

    def energies(self, part: slice) -> NDArray[np.float64]:
        """(P, L): the squared length of the signatures."""
        energies: NDArray[np.float64] = self.signatures(part).square().sum(2).double().numpy()
        return energies

    def lines(self, which: Indices) -> Tensor:
        """(K, L * S): unit vectors along which the signatures of some pairs lie; the line of most pairs comes first."""
        count = min(CLUSTERS, max(1, len(which) // PAIRS_PER_CLUSTER))
        parts = [self.signatures(which[part]).flatten(1) for part in _blocks(len(which))]
        signatures = normalize(torch.cat(parts), dim=1)
        runs = [_lines(signatures, count, seed) for seed in range(RESTARTS)]
        lines, nearest = max(runs, key=lambda run: float((signatures @ run[0].T).square().amax(1).sum()))
        sizes = torch.bincount(nearest, minlength=count)
        return lines[torch.argsort(sizes, descending=True, stable=True)]

    def along(self, part: slice, lines: Tensor) -> tuple[Cosines, NDArray[np.int32]]:
        """How much of each pair's difference lies along the nearest line, and which line that is."""
        nearest = (self.signatures(part).flatten(1) @ lines.T).abs().max(1)
        return nearest.values.square().double().numpy(), nearest.indices.to(torch.int32).numpy()

    def maps(self, which: Indices) -> list[DifferenceMap]:
        """Where the pairs at some places differ, on one scale for all of them."""
        both = [self._excess(which[part]) for part in _blocks(len(which))]
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


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _read(fields: PatchFields, rows: Indices, scales: Tensor | None = None) -> Tensor:
    """(P, L, AXES, rows, columns) float32; with `scales` the usual squared difference of two tokens is 1."""
    values = torch.from_numpy(np.ascontiguousarray(fields.values[rows])).float()  # (P, L, N, AXES)
    if scales is not None:
        values = values / scales.sqrt()[:, None, None]
    laid_out: Tensor = values.transpose(2, 3).unflatten(3, fields.grid)
    return laid_out


def _scales(fields: PatchFields, pairs: Indices) -> Tensor:
    sums = torch.zeros(fields.values.shape[1], dtype=torch.float64)
    for part in _blocks(len(pairs)):
        first, second = (_read(fields, pairs[part, side]) for side in (0, 1))
        sums += (first - second).square().sum(2).mean((2, 3)).sum(0).double()
    return (sums / max(1, len(pairs))).clamp_min(1e-12).float()


def _transforms(fields: PatchFields, pairs: Indices, scales: Tensor) -> NDArray[np.int64]:
    first, second = (
        _read(fields, pairs[:, side], scales)[:, :ALIGNED_BLOCKS, :ALIGNED_AXES].flatten(1, 2) for side in (0, 1)
    )
    return choose_transforms(first, second).numpy()


def _field_axes(fields: PatchFields) -> Tensor:
    """(L, C * N, S): the principal axes of whole fields, from the fields with the smallest ids."""
    rows = np.array([fields.rows[key] for key in sorted(fields.rows)[:FIELD_SAMPLE]], np.int64)
    sample = _read(fields, rows).flatten(2)  # (n, L, C * N)
    size = min(FIELD_AXES, len(rows), sample.shape[2])
    axes = torch.zeros(sample.shape[1], sample.shape[2], size)
    for block in range(sample.shape[1]):
        centred = sample[:, block] - sample[:, block].mean(0)
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())  # n x n: fields are far longer
        values, vectors = values.flip(0)[:size], vectors.flip(1)[:, :size]
        # The centred sample has no extent along its last axis: what rounding leaves there is no direction.
        real = values > 1e-9 * values[0]
        axes[block, :, real] = (centred.T.double() @ vectors[:, real] / values[real].sqrt()).float()
    return axes


def _scaled_by_noise(basis: Tensor, alike: Comparison) -> Iterator[Tensor]:
    """`basis` (L, C * N, S), turned and scaled so that the differences of pairs that are alike are small and round."""
    nothing = torch.zeros(0, len(basis), basis.shape[2])
    differences = torch.cat([nothing, *(alike.signatures(part) for part in _blocks(len(alike.pairs)))])  # (Q, L, S)
    for block in range(len(basis)):
        noise = differences[:, block].double()
        covariance = noise.T @ noise / max(1, len(noise))
        # Shrunk by its mean: the few pairs do not know the small directions, which would blow up.
        usual = covariance.diagonal().mean().clamp_min(1e-12)
        values, vectors = torch.linalg.eigh(covariance + usual * torch.eye(len(covariance), dtype=torch.float64))
        yield basis[block] @ (vectors / values.sqrt()).float()


def _lines(signatures: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """K-means of unit vectors (n, D), whose sign does not count: K unit vectors, and for each of n the nearest one."""
    lines = _first_lines(signatures, count, seed)
    for _ in range(ROUNDS):
        products = signatures @ lines.T  # (n, K)
        nearest = products.abs().argmax(1)
        signs = products.gather(1, nearest[:, None]).sign()
        sums = torch.zeros_like(lines).index_add_(0, nearest, signatures * signs)
        # A line that lost all its pairs stays where it was.
        lines = torch.where(sums.norm(dim=1, keepdim=True) > 0, normalize(sums, dim=1), lines)
    return lines, (signatures @ lines.T).abs().argmax(1)


def _first_lines(signatures: Tensor, count: int, seed: int) -> Tensor:
    """(K, D): signatures that lie far from each other's lines (k-means++, Arthur and Vassilvitskii 2007)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(signatures), (1,), generator=generator))]
    farthest = torch.full((len(signatures),), torch.inf)
    for _ in range(count - 1):
        farthest = torch.minimum(farthest, 1 - (signatures @ signatures[chosen[-1]]).abs())
        chosen.append(int(torch.multinomial(farthest.clamp_min(1e-9), 1, generator=generator)))
    return signatures[chosen].clone()


def _locally_scaled(energy: NDArray[np.float64], pairs: Indices) -> Cosines:
    """Energies relative to the usual one of both images: divided by the root of the medians' geometric mean."""
    medians = _medians(pairs.ravel(), np.repeat(energy, 2))
    usual: Any = np.sqrt(medians[pairs[:, 0]] * medians[pairs[:, 1]])
    scaled: Cosines = energy / np.sqrt(usual).clip(1e-12)
    return scaled


def _medians(rows: Indices, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of the values of each row; 1 for a row without any."""
    count = int(rows.max(initial=-1)) + 1
    order = np.lexsort((values, rows))
    sizes = np.bincount(rows, minlength=count)
    middle = np.cumsum(sizes) - sizes + np.maximum(sizes - 1, 0) // 2
    medians = np.ones(count)
    medians[sizes > 0] = values[order][middle[sizes > 0]]
    return medians
