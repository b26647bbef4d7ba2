"""Thresholds by quantile, centred cosines, ranks and distinct findings, against the same written down plainly."""

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from exact_cosines import exact_cosines
from numpy.typing import NDArray
from test_mine import Vectors, images_of, spread

from blindpairs.errors import ConfigError
from blindpairs.mine import MiningOptions, mine

COUNT = 200
UPPER = np.triu_indices(COUNT, 1)


@pytest.fixture(scope="module")
def vectors() -> tuple[Vectors, Vectors]:
    return spread(COUNT, 24, 5, 0.12, 0), spread(COUNT, 16, 30, 0.06, 1)


def sorted_cosines(vectors: Vectors) -> NDArray[np.float64]:
    return np.sort(exact_cosines(vectors)[UPPER])


def test_quantile_is_the_cosine_above_that_share_of_the_pairs(vectors: tuple[Vectors, Vectors]) -> None:
    mined = mine(*vectors, images_of(COUNT), MiningOptions(clip_quantile=0.97, dino_quantile=0.2))
    clip, dino = map(sorted_cosines, vectors)
    assert mined.options.clip_min == clip[int(np.ceil(0.97 * len(clip)))]
    assert mined.options.dino_max == dino[int(0.2 * len(dino))]
    assert mined.counts.above_clip_min == pytest.approx(0.03 * len(clip), abs=1)
    assert mined.counts.kept > 0
    assert min(mined.pairs["clip_quantile"].to_pylist()) >= 0.97
    assert max(mined.pairs["dino_quantile"].to_pylist()) <= 0.2
    plain = MiningOptions(clip_min=mined.options.clip_min, dino_max=mined.options.dino_max)
    assert mine(*vectors, images_of(COUNT), plain).pairs == mined.pairs


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip_quantile": 1.0}, "clip_quantile is a share of pairs, between 0 and 1; 1 is not"),
        ({"dino_quantile": 0.0}, "dino_quantile is a share of pairs"),
        ({"clip_quantile": 0.99999999}, "finer than 4,194,304 random pairs can tell"),
        ({"rank": "best"}, "rank is one of subtle, gap, clip, rarity; 'best' is not"),
        ({"distinct": True, "top": None}, "say how many are wanted with top"),
        ({"spread": True}, "add --differences, or leave it out"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MiningOptions(**options)


def test_quantile_near_one_is_judged_by_more_random_pairs() -> None:
    assert MiningOptions().random_pairs == MiningOptions(clip_quantile=0.999).random_pairs == 1 << 17
    assert MiningOptions(clip_quantile=0.99999).random_pairs == pytest.approx(2_000_000, abs=2)
    assert MiningOptions(clip_quantile=0.999995).random_pairs == pytest.approx(4_000_000, abs=2)


def test_centred_cosines_are_those_about_the_mean_of_the_pictures(vectors: tuple[Vectors, Vectors]) -> None:
    shifted = tuple(np.asarray(one + 0.5, np.float16) for one in vectors)
    images = images_of(COUNT, blank={3, 4})
    options = MiningOptions(clip_min=0.7, dino_max=0.4, center=True, max_per_image=COUNT, top=None)
    mined = mine(shifted[0], shifted[1], images, options)
    assert mined.options.center
    assert mined.counts.kept > 100
    expected = [centred_cosines(one, leave_out=[3, 4]) for one in shifted]
    place = {image_id: row for row, image_id in enumerate(images.ids)}
    for row in mined.pairs.to_pylist():
        i, j = place[row["image_id_a"]], place[row["image_id_b"]]
        assert (row["clip_sim"], row["dino_sim"]) == pytest.approx((expected[0][i, j], expected[1][i, j]), abs=1e-3)
    sure = (expected[0] >= 0.701) & (expected[1] <= 0.399)  # beside the thresholds, float16 may decide
    assert np.triu(sure, 1).sum() <= mined.counts.blind <= np.triu(expected[0] >= 0.699, 1).sum()


def centred_cosines(vectors: Vectors, leave_out: list[int]) -> NDArray[np.float64]:
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    away = unit - np.delete(unit, leave_out, axis=0).mean(0)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    cosines = away @ away.T
    cosines[leave_out] = cosines[:, leave_out] = np.nan  # nobody's business: comparisons with it are false
    return np.asarray(cosines)


def test_rank_by_clip_begins_with_what_clip_is_surest_of() -> None:
    vectors = spread(COUNT, 24, 5, 0.12, 0), spread(COUNT, 16, 9000, 0.1, 1)  # no near-duplicates
    options = MiningOptions(clip_min=0.8, dino_max=0.5, rank="clip", max_per_image=COUNT, most_candidates=200, top=100)
    mined = mine(*vectors, images_of(COUNT), options)
    clip, dino = map(exact_cosines, vectors)
    blind = np.sort(clip[UPPER][(clip[UPPER] >= 0.8) & (dino[UPPER] <= 0.5)])[::-1]
    assert mined.counts.not_ranked > 0  # so that what is held in a flood is the first in this rank, too
    assert mined.pairs["clip_sim"].to_pylist() == blind[:100].tolist()


def test_rank_by_rarity_weighs_both_cosines_by_how_they_are_spread(vectors: tuple[Vectors, Vectors]) -> None:
    options = MiningOptions(clip_min=0.8, dino_max=0.5, rank="rarity", max_per_image=COUNT, top=None)
    mined = mine(*vectors, images_of(COUNT), options)
    floor = 1 / len(UPPER[0])
    ranked = [
        -np.log10(max(1 - row["clip_quantile"], floor)) - np.log10(max(row["dino_quantile"], floor))
        for row in mined.pairs.to_pylist()
    ]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] > ranked[-1]
    gaps = mined.pairs["gap"].to_pylist()
    assert gaps != sorted(gaps, reverse=True)


@pytest.mark.parametrize("seed", range(3))
def test_distinct_findings_are_those_that_no_better_pair_shows(seed: int) -> None:
    # Things to tell apart that CLIP takes for one, each photographed several times.
    random = np.random.default_rng(seed)
    a = spread(COUNT, 24, 4, 0.08, seed)
    things = np.repeat(random.normal(size=(COUNT // 4, 16)), 4, axis=0)
    b = np.asarray(things + 0.4 * random.normal(size=(COUNT, 16)), np.float16)
    images = images_of(COUNT)
    # By gap, whose first pairs are the farthest apart: many of them show the same two things.
    every = MiningOptions(clip_min=0.85, dino_max=0.3, rank="gap", max_per_image=COUNT, top=None)
    ranked = mine(a, b, images, every)
    options = MiningOptions(clip_min=0.85, dino_max=0.3, rank="gap", max_per_image=3, top=60, distinct=True)
    mined = mine(a, b, images, options)
    near = (exact_cosines(a) >= 0.85) & (exact_cosines(b) >= 0.65)
    place = {image_id: row for row, image_id in enumerate(images.ids)}
    kept: list[tuple[int, int]] = []
    used, similar = Counter[int](), 0
    for row in ranked.pairs.to_pylist():
        i, j = place[row["image_id_a"]], place[row["image_id_b"]]
        if max(used[i], used[j]) >= 3 or len(kept) >= 60:
            continue
        if any((near[i, c] and near[j, d]) or (near[i, d] and near[j, c]) for c, d in kept):
            similar += 1
            continue
        kept.append((i, j))
        used.update((i, j))
    found = [(place[row["image_id_a"]], place[row["image_id_b"]]) for row in mined.pairs.to_pylist()]
    assert found == kept
    counts = mined.counts
    assert counts.similar_findings == similar > 20
    others = counts.repeated + counts.capped + counts.beyond_top + counts.not_ranked
    assert counts.blind == others + counts.similar_findings + counts.kept


FLOOD = """
import resource, sys
import numpy as np
from blindpairs.mine import MiningOptions, mine

count = 20_000
b = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float16)
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))  # 2e8 pairs with two cosines each would be 6.4 GB
counts = mine(np.ones((count, 8), np.float16), b, options=MiningOptions(top=1000)).counts
sys.stdout.write(repr([counts.above_clip_min, counts.kept, counts.blind - counts.not_ranked]))
"""


@pytest.mark.slow
def test_flood_of_two_hundred_million_pairs_is_counted_in_bounded_memory() -> None:
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == repr([20_000 * 19_999 // 2, 1000, 1 << 20])
