"""Controls: to each blind pair a pair that CLIP tells apart and that is otherwise alike for DINOv2.

A model that fails on blind pairs may fail because CLIP is blind to them or because the difference is small. A control
has the same DINOv2 cosine and about as small a difference, but a low CLIP cosine. What CLIP sees (the category, the
background) also changes DINOv2's features, and would hide whether the rest differs much. So the part of the features
that is a linear function of the CLIP vector is removed first. What remains is compared along the axes in which blind
pairs differ most. Promises: the result depends neither on the order of the images nor on the number of threads, and
memory does not grow with the number of pairs of images. The match is close, not perfect:
`tests/mine/test_controls.py` holds what it must do.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.mine.candidates import Groups, Pairs
from blindpairs.mine.images import Indices
from blindpairs.mine.reproducible import in_blocks, on_one_core
from blindpairs.selfjoin import UnitRows, pair_cosines

BLOCK_ROWS = 512
MOST_PAIRS, MOST_IMAGES, MOST_EXAMPLES = 5000, 4096, 15_000  # more would take memory for each, or time for its square
RIDGE = 0.1  # of the mean variance of a CLIP dimension: 0.03 to 1 remove about the same
SCALE_QUANTILE = 0.25  # of an image's differences: some images differ more from all others
SCALE_POWER = 0.5
CLASS_WEIGHT = 0.5  # of the class token's difference, against that of the patch features


@dataclass(frozen=True)
class ControlRequest:
    """Which pairs may be controls. `clip_max` is the highest CLIP cosine that still tells two images apart."""

    clip_max: float
    max_per_image: int  # controls; images of one near-duplicate group count as one
    dino_tolerance: float = 0.015  # between the DINOv2 cosines of a blind pair and its control
    axes: int = 20  # in which blind pairs differ most; more of them add noise
    most_candidates: int = 40_000  # held during the search: those that differ least


@dataclass(frozen=True)
class Pool:
    """The images that controls are made of, n of the N rows. The search costs n * n products: choose a few thousand.

    `features` are those whose differences tell what differs, such as whitened patch tokens. Without them the DINOv2
    vectors alone are compared. `examples` are pairs that CLIP does not tell apart, at best all blind pairs that were
    found, not only the kept ones: controls are compared along the axes in which these differ most.
    """

    rows: Indices  # (n,) unique row numbers
    features: NDArray[np.float32] | None = None  # (n, S)
    examples: Pairs | None = None  # without them the axes are those of the blind pairs

    def sorted_by_id(self, ids: Sequence[str]) -> "Pool":
        """The same pool in an order that does not depend on the order of the corpus."""
        order = np.array(sorted(range(len(self.rows)), key=lambda place: ids[int(self.rows[place])]), np.int64)
        return Pool(self.rows[order], None if self.features is None else self.features[order], self.examples)

    def places(self, pairs: Pairs, count: int) -> tuple[Tensor, Tensor]:
        """The places of both images of each pair in the pool, (2, P), and which pairs have both there, (P,)."""
        places = np.full(count, -1, np.int64)
        places[self.rows] = np.arange(len(self.rows))
        sides = torch.from_numpy(places[np.stack([pairs.i, pairs.j])])
        return sides, (sides >= 0).all(0)


@dataclass(frozen=True)
class Controls:
    """Control pairs in the order of the blind pairs that they match."""

    pairs: Pairs
    control_of: Indices  # (C,) ascending: the places of the blind pairs

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class _ScoredPlaces:
    """Pairs of places i < j in the pool, with how much their images differ; those that differ least come first."""

    i: Tensor
    j: Tensor
    score: Tensor  # (P,) float32

    def best(self, most: int) -> "_ScoredPlaces":
        """Those that differ least; ties by place, which is the order of the ids."""
        order = torch.from_numpy(np.lexsort((self.j.numpy(), self.i.numpy(), self.score.numpy()))[:most])
        return _ScoredPlaces(self.i[order], self.j[order], self.score[order])


def find_controls(
    vectors: tuple[UnitRows, UnitRows],
    ids: Sequence[str],
    pairs: Pairs,
    pool: Pool,
    groups: Groups,
    request: ControlRequest,
) -> Controls:
    """Controls for blind `pairs`, at most one each; a pair without a possible control has none.

    `vectors` are those of (clip, dino) for the N images, `ids` (N,) their ids. Candidates are taken from the smallest
    difference up. Each goes to a blind pair of about its DINOv2 cosine that has no control yet: with features to the
    one that differs in the most similar way, without to the one with the nearest cosine.
    """
    if not len(pairs) or len(pool.rows) < 2:
        return Controls(pairs.take(np.empty(0, np.int64)), np.empty(0, np.int64))
    clip, dino = vectors
    pool = pool.sorted_by_id(ids)
    sides, known = pool.places(pairs, clip.count)
    examples, usable = pool.places(pool.examples or pairs, clip.count)
    features = on_one_core(lambda: unseen_features(vectors, pool, examples[:, usable], request.axes))
    bounds = (
        float(pairs.dino_sim.min()) - request.dino_tolerance,
        float(pairs.dino_sim.max()) + request.dino_tolerance,
    )
    held = _search(
        _DifferenceBlocks(clip, dino, torch.from_numpy(pool.rows), features, request.clip_max, bounds), request
    )
    possible = _exact(vectors, pool.rows, held)
    fits = possible.clip_sim <= request.clip_max
    likeness = None
    if pool.features is not None:
        kinds = torch.zeros(len(pairs), features.shape[1])
        kinds[known] = features[sides[0, known]] - features[sides[1, known]]
        likeness = on_one_core(lambda: _likeness(kinds, features[held.i] - features[held.j]))[fits]
    return _assigned(pairs, possible.take(fits), likeness, groups, request)


def unseen_features(vectors: tuple[UnitRows, UnitRows], pool: Pool, pairs: Tensor, axes: int) -> Tensor:
    """What DINOv2 sees of the pool's images and CLIP does not, (n, S') float32.

    `pairs` (2, B) are places of blind pairs in the pool. S' is at most `axes` and DINOv2's dimension together.
    """
    clip, dino = (each.take(torch.from_numpy(pool.rows)) for each in vectors)
    classes = _scaled(without_linear_part(dino, clip))
    if pool.features is None:
        return classes
    features = without_linear_part(torch.from_numpy(pool.features), clip)
    if pairs.shape[1]:
        pairs = pairs.sort(0).values.unique(dim=1)  # a sum has other last bits in another order
        differences = features[pairs[0]] - features[pairs[1]]
        _, directions = torch.linalg.eigh(differences.T @ differences)  # ascending
        features = features @ directions[:, -axes:]
    return torch.cat([_scaled(features), CLASS_WEIGHT**0.5 * classes], 1)


def without_linear_part(features: Tensor, explained_by: Tensor) -> Tensor:
    """The residual of a ridge regression of `features` (n, S) on `explained_by` (n, D)."""
    features, given = features - features.mean(0), explained_by - explained_by.mean(0)
    covariance = given.T @ given
    ridge = RIDGE * float(covariance.diagonal().mean()) + 1e-12
    weights: Tensor = torch.linalg.solve(covariance + ridge * torch.eye(len(covariance)), given.T @ features)
    return features - given @ weights


def _scaled(features: Tensor) -> Tensor:
    """The features with a mean squared difference of about 1."""
    return features / (2 * features.var(0, correction=0).sum()).clamp_min(1e-12).sqrt()


@dataclass(frozen=True)
class _DifferenceBlocks:
    """The differences between the images of the pool, a block of rows at a time."""

    clip: UnitRows
    dino: UnitRows
    rows: Tensor
    features: Tensor
    clip_max: float
    dino_bounds: tuple[float, float]

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """(first place, (b, n) squared differences); inf for pairs that cannot be controls."""
        clip, dino = self.clip.take(self.rows), self.dino.take(self.rows)
        squares = on_one_core(lambda: self.features.square().sum(1))
        low, high = self.dino_bounds

        def block(part: slice) -> tuple[int, Tensor]:
            cosines = dino[part] @ dino.T
            fits = (clip[part] @ clip.T <= self.clip_max + 1e-5) & (cosines >= low) & (cosines <= high)
            difference = squares[part, None] + squares - 2 * self.features[part] @ self.features.T
            difference = difference.clamp_min(1e-9).masked_fill(~fits, torch.inf)
            return part.start, difference

        return in_blocks(block, len(self.rows), BLOCK_ROWS)


def _search(blocks: _DifferenceBlocks, request: ControlRequest) -> _ScoredPlaces:
    """The candidates that differ least, in units of how much their two images differ from others."""
    scales = torch.cat([_row_quantile(difference) for _, difference in blocks]) ** SCALE_POWER
    held = _ScoredPlaces(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0))
    worst = float("inf")
    for start, difference in blocks:
        score = difference / (scales[start : start + len(difference), None] * scales)
        i, j = ((score < worst) & torch.isfinite(score)).triu(start + 1).nonzero(as_tuple=True)
        merged = _ScoredPlaces(
            torch.cat([held.i, i + start]), torch.cat([held.j, j]), torch.cat([held.score, score[i, j]])
        )
        held = merged.best(request.most_candidates)
        if len(held.score) == request.most_candidates:
            worst = float(held.score[-1]) * (1 + 1e-6)
    return held


def _row_quantile(differences: Tensor) -> Tensor:
    """The quantile of the finite values of each row, (b,); 1 where there are none."""
    ordered = differences.sort(1).values
    counts = torch.isfinite(ordered).sum(1)
    picked = ordered.gather(1, (counts * SCALE_QUANTILE).long()[:, None].clamp_max(ordered.shape[1] - 1))[:, 0]
    return torch.where(counts > 0, picked, 1.0)


def _exact(vectors: tuple[UnitRows, UnitRows], rows: Indices, held: _ScoredPlaces) -> Pairs:
    """The candidates as pairs of rows i < j, with the cosines that the join would give them."""
    ends = torch.from_numpy(rows)[torch.stack([held.i, held.j])]
    i, j = ends.amin(0), ends.amax(0)
    clip_sim, dino_sim = (pair_cosines(each, i, j).numpy() for each in vectors)
    return Pairs(i.numpy(), j.numpy(), clip_sim, dino_sim)


def _likeness(kinds: Tensor, differences: Tensor) -> Tensor:
    """The absolute cosine of each candidate's difference with each blind pair's, (candidates, pairs).

    Absolute, because a pair of images has no order.
    """
    normalize = torch.nn.functional.normalize
    return (normalize(differences, dim=1) @ normalize(kinds, dim=1).T).abs()


def _assigned(
    pairs: Pairs, possible: Pairs, likeness: Tensor | None, groups: Groups, request: ControlRequest
) -> Controls:
    """Walk the candidates from the smallest difference up; each goes to the free blind pair that it fits best."""
    matched: dict[int, int] = {}  # blind pair -> candidate
    free = np.ones(len(pairs), bool)
    used: Counter[int] = Counter()
    seen: set[tuple[int, int]] = set()
    for place, both in enumerate(groups.of_pairs(possible)):
        if both is None or both in seen or max(used[root] for root in both) >= request.max_per_image:
            continue
        away = np.abs(pairs.dino_sim - possible.dino_sim[place])
        near = np.flatnonzero(free & (away <= request.dino_tolerance))
        if not len(near):
            continue
        preference = -away[near] if likeness is None else likeness[place].numpy()[near]
        blind = int(near[preference.argmax()])
        matched[blind], free[blind] = place, False
        seen.add(both)
        used.update(both)
        if not free.any():
            break
    control_of = np.array(sorted(matched), np.int64)
    return Controls(possible.take(np.array([matched[blind] for blind in control_of.tolist()], np.int64)), control_of)
