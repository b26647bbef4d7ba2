"""Scores mining on the demo world against its ground truth.

Terms: two images are *alike* if their CLIP cosine is at least `clip_min`, *re-rendered* if their scenes are equal, so
that no question has different answers for them, and *mined* if they are alike and their DINO cosine is at most
`dino_max`. Cosines are computed as mining computes them, so that a pair on a threshold counts the same in both.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from blindpairs.defaults import CLIP_MIN, DINO_MAX
from blindpairs.demo.world import ATTRIBUTES, FIELDS, PATTERNS, Scene, differences
from blindpairs.images.decode import image_id
from blindpairs.selfjoin import UnitRows, pair_cosines
from blindpairs.statistics import mann_whitney, normalised_mutual_information

Vectors = NDArray[np.floating[Any]]
_PRODUCT_ERROR = 1e-4  # more than the error of a float32 product of unit rows


@dataclass(frozen=True)
class TruthReport:
    """Counts of pairs; mined pairs are also counted by the hidden attribute in which they differ.

    A pair that differs in several attributes counts under each of them in `differing`, and nowhere in `alone`.
    """

    alike: int
    alike_differing: int  # alike in CLIP, and some hidden attribute differs: what mining should find
    rerendered: int  # alike in CLIP with equal scenes: what mining should not find
    mined: int
    mined_differing: int
    mined_rerendered: int
    differing_in_one: int  # mined pairs in which one thing differs, whatever it is
    differing_in_two: int
    differing: Mapping[str, int]
    alone: Mapping[str, int]

    @property
    def precision(self) -> float:
        """Share of mined pairs in which a hidden attribute differs."""
        return self.mined_differing / max(self.mined, 1)

    @property
    def recall(self) -> float:
        """Share of the pairs alike in CLIP in which a hidden attribute differs that were mined."""
        return self.mined_differing / max(self.alike_differing, 1)

    @property
    def rerendered_share(self) -> float:
        """Share of the re-rendered pairs alike in CLIP that were mined, wrongly."""
        return self.mined_rerendered / max(self.rerendered, 1)


def read_truth(path: Path) -> dict[str, Scene]:
    """Return the scene of every image of a demo corpus, by image id."""
    table = pq.read_table(path, columns=["image", *FIELDS]).to_pylist()
    return {image_id(row["image"]["bytes"]): Scene(**{name: row[name] for name in FIELDS}) for row in table}


def codes(scenes: Sequence[Scene]) -> NDArray[np.int8]:
    """Return the scenes as (N, 11) integers, equal where the fields are equal, in the order of `FIELDS`."""
    columns = [np.unique([getattr(scene, name) for scene in scenes], return_inverse=True)[1] for name in FIELDS]
    return np.stack(columns, axis=1).astype(np.int8)


def judge_rows(alike: NDArray[np.int64], mined: NDArray[np.bool_], known: NDArray[np.int8]) -> TruthReport:
    """Judge pairs of rows: `alike` (P, 2) above `clip_min`, which of them were `mined` (P,), and `codes` (N, 11)."""
    hidden = [FIELDS.index(name) for name in ATTRIBUTES]
    unequal = known[alike[:, 0]] != known[alike[:, 1]]  # (P, 11)
    differs = unequal[:, hidden]  # (P, 9)
    equal = ~unequal.any(axis=1)
    found = differs[mined]
    single = found[unequal[mined].sum(axis=1) == 1]  # equal category and background, and one hidden attribute differs
    return TruthReport(
        alike=len(alike),
        alike_differing=int(differs.any(axis=1).sum()),
        rerendered=int(equal.sum()),
        mined=int(mined.sum()),
        mined_differing=int(found.any(axis=1).sum()),
        mined_rerendered=int((equal & mined).sum()),
        differing_in_one=int((unequal[mined].sum(axis=1) == 1).sum()),
        differing_in_two=int((unequal[mined].sum(axis=1) == 2).sum()),
        differing=dict(zip(ATTRIBUTES, found.sum(axis=0).tolist(), strict=True)),
        alone=dict(zip(ATTRIBUTES, single.sum(axis=0).tolist(), strict=True)),
    )


def judge_vectors(
    clip: Vectors, dino: Vectors, scenes: Sequence[Scene], *, clip_min: float = CLIP_MIN, dino_max: float = DINO_MAX
) -> TruthReport:
    """Judge all pairs of N images, float16 or float32 vectors (N, D) of any length; N up to some thousands.

    Every pair is compared, by one product of all with all, independently of the join.
    """
    one, other = (UnitRows(torch.from_numpy(vectors)) for vectors in (clip, dino))
    unit = one.block(0, one.count)
    pairs = torch.triu(unit @ unit.T >= clip_min - _PRODUCT_ERROR, diagonal=1).nonzero()  # (P, 2)
    # The product only preselects: the cosines that mining uses decide.
    pairs = pairs[pair_cosines(one, pairs[:, 0], pairs[:, 1]) >= clip_min]
    apart = pair_cosines(other, pairs[:, 0], pairs[:, 1]) <= dino_max
    return judge_rows(pairs.numpy(), apart.numpy(), codes(scenes))


def judge(
    mined: Iterable[tuple[str, str]], truth: Mapping[str, Scene], alike: Iterable[tuple[str, str]] | None = None
) -> TruthReport:
    """Judge mined pairs of image ids. `alike` are all pairs above `clip_min`; without them recall is always 1.0."""
    rows = {name: row for row, name in enumerate(truth)}
    chosen = {(min(rows[a], rows[b]), max(rows[a], rows[b])) for a, b in mined}
    every = chosen | {(min(rows[a], rows[b]), max(rows[a], rows[b])) for a, b in alike or ()}
    pairs = sorted(every)
    mask = np.array([pair in chosen for pair in pairs], dtype=np.bool_)
    return judge_rows(np.array(pairs, dtype=np.int64).reshape(-1, 2), mask, codes(list(truth.values())))


@dataclass(frozen=True)
class ControlReport:
    """Controls beside the blind pairs that they match: how much differs, and what else does."""

    controls: int
    hidden_blind: float  # hidden attributes that differ, on average
    hidden_control: float
    hidden_p: float  # of the Mann-Whitney test that both are distributed alike
    dino_p: float  # the same of the DINOv2 cosines
    category: int  # controls that differ in it
    background: int


def judge_controls(pairs: pa.Table, truth: Mapping[str, Scene]) -> ControlReport | None:
    """Compare the controls in `pairs` (columns of pairs.parquet) with their blind pairs; None without controls."""
    rows = pairs.select(["pair_id", "image_id_a", "image_id_b", "dino_sim", "control_of"]).to_pylist()
    blind = {row["pair_id"]: row for row in rows if row["control_of"] is None}
    matches = [(blind[row["control_of"]], row) for row in rows if row["control_of"] is not None]
    if not matches:
        return None
    differing = [[differences(truth[row["image_id_a"]], truth[row["image_id_b"]]) for row in both] for both in matches]
    hidden = [np.array([len(set(names) & set(ATTRIBUTES)) for names in side]) for side in zip(*differing, strict=True)]
    cosines = [np.array([row["dino_sim"] for row in side]) for side in zip(*matches, strict=True)]
    return ControlReport(
        controls=len(matches),
        hidden_blind=float(np.mean(hidden[0])),
        hidden_control=float(np.mean(hidden[1])),
        hidden_p=mann_whitney(*hidden),
        dino_p=mann_whitney(*cosines),
        category=sum("category" in names for _, names in differing),
        background=sum("background" in names for _, names in differing),
    )


def cluster_agreement(pairs: pa.Table, truth: Mapping[str, Scene]) -> float:
    """Normalised mutual information of cluster and attribute over the blind pairs that differ in one thing alone."""
    rows = pairs.select(["image_id_a", "image_id_b", "cluster", "control_of"]).to_pylist()
    labels = [
        (row["cluster"], names[0])
        for row in rows
        if row["control_of"] is None
        and len(names := differences(truth[row["image_id_a"]], truth[row["image_id_b"]])) == 1
    ]
    return normalised_mutual_information(*zip(*labels, strict=True)) if labels else 0.0


def patterns_of(one: Scene, other: Scene) -> tuple[str, ...]:
    """Return the visual patterns, by the paper's names, in which two scenes differ."""
    return tuple(PATTERNS[name].name for name in differences(one, other) if name in PATTERNS)
