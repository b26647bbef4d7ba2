"""Mining against the same rules written down plainly: every pair compared in float64, one loop per rule."""

import hashlib
import itertools
import math
from collections import Counter
from typing import Any, cast

import numpy as np
import pytest
from exact_cosines import exact_cosines
from numpy.typing import NDArray

from blindpairs.errors import ConfigError, InputError
from blindpairs.mine import Images, Mined, MiningOptions, mine, pair_id
from blindpairs.mine import images as images_module
from blindpairs.mine.advice import CLIP_STEPS, advise
from blindpairs.mine.candidates import EDGES, Candidates, Groups, Pairs
from blindpairs.mine.images import ALIKE, unique_indices
from blindpairs.mine.ranking import score_by
from blindpairs.mine.search import SearchSummary

Vectors = NDArray[np.float16]


def spread(count: int, dimension: int, centres: int, noise: float, seed: int) -> Vectors:
    """Vectors around some centres: enough of them alike for every rule to have work."""
    random = np.random.default_rng(seed)
    middle = random.normal(size=(centres, dimension))[random.integers(centres, size=count)]
    vectors = middle + noise * random.normal(size=(count, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


def images_of(count: int, blank: set[int] = frozenset()) -> Images:  # type: ignore[assignment]
    ids = [hashlib.sha256(str(row).encode()).hexdigest()[:32] for row in range(count)]
    return Images(
        ids, [f"/corpus/{row}.png" for row in range(count)], np.array([row in blank for row in range(count)], bool)
    )


class Oracle:
    """Every rule of mining, one after the other, without any thought of speed."""

    def __init__(self, a: Vectors, b: Vectors, images: Images, options: MiningOptions) -> None:
        rows = [row for row in range(len(images)) if options.keep_low_information or not images.low_information[row]]
        rows.sort(key=lambda row: (images.ids[row], images.uris[row]))
        self.rows: list[int] = []
        for row in rows:
            same_id = any(images.ids[row] == images.ids[other] for other in self.rows)
            if not same_id and not any(
                np.array_equal(a[row], a[other]) and np.array_equal(b[row], b[other]) for other in self.rows
            ):
                self.rows.append(row)
        clip, dino = exact_cosines(a), exact_cosines(b)
        pairs = [(i, j) for i, j in itertools.combinations(sorted(self.rows), 2) if clip[i, j] >= options.clip_min]
        group = {row: {row} for row in self.rows}
        for i, j in pairs:
            if dino[i, j] >= 0.95 and group[i] is not group[j]:
                group[i] |= group[j]
                for row in group[j]:
                    group[row] = group[i]
        blind = [(i, j) for i, j in pairs if dino[i, j] <= options.dino_max]
        compared = tuple(np.array(list(itertools.combinations(sorted(self.rows), 2))).T)
        clip_unit, dino_unit = clip[compared].std(), dino[compared].std()
        gap = clip - dino
        score = gap if options.rank == "gap" else clip / clip_unit + dino / dino_unit
        blind.sort(key=lambda p: (-score[p], -gap[p], pair_id(images.ids[p[0]], images.ids[p[1]])))
        self.counts = Counter(above=len(pairs), blind=len(blind), near=sum(dino[p] >= 0.95 for p in pairs))
        self.kept: list[str] = []
        met, used = set(), Counter[int]()
        for i, j in blind:
            pictures = frozenset((id(group[i]), id(group[j])))
            if len(pictures) == 1 or pictures in met:
                self.counts["repeated"] += 1
                continue
            met.add(pictures)
            if any(used[picture] >= options.max_per_image for picture in pictures):
                self.counts["capped"] += 1
            elif options.top is not None and len(self.kept) >= options.top:
                self.counts["beyond_top"] += 1
            else:
                used.update(pictures)
                self.kept.append(pair_id(images.ids[i], images.ids[j]))


def kept(mined: Mined) -> list[str]:
    found: list[str] = mined.pairs["pair_id"].to_pylist()
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top", [None, 12])
@pytest.mark.parametrize("rank", ["subtle", "gap"])
def test_every_rule_gives_what_comparing_every_pair_gives(seed: int, top: int | None, rank: str) -> None:
    count = 260
    a, b = spread(count, 24, 6, 0.12, seed), spread(count, 16, 40, 0.06, seed + 100)
    a[7], b[7] = a[3], b[3]  # twins by vector
    images = images_of(count, blank={1, 2, 50})
    ids = list(images.ids)
    ids[20] = ids[21]  # twins by content
    images = Images(ids, images.uris, images.low_information)
    options = MiningOptions(clip_min=0.8, dino_max=0.5, top=top, max_per_image=2, rank=rank)
    oracle, mined = Oracle(a, b, images, options), mine(a, b, images, options)
    counts = mined.counts
    assert kept(mined) == oracle.kept
    assert len(oracle.kept) > 10
    assert (counts.images, counts.low_information, counts.identical) == (260, 3, 2)
    assert (counts.above_clip_min, counts.blind, counts.near_duplicates) == (
        oracle.counts["above"],
        oracle.counts["blind"],
        oracle.counts["near"],
    )
    assert counts.near_duplicates > 0
    assert (counts.repeated, counts.capped, counts.beyond_top, counts.kept) == (
        oracle.counts["repeated"],
        oracle.counts["capped"],
        oracle.counts["beyond_top"],
        len(oracle.kept),
    )
    assert sum(mined.dino_histogram) == counts.above_clip_min
    assert (mined.complete, counts.not_ranked, mined.advice) == (True, 0, "")


def test_order_of_the_corpus_does_not_matter() -> None:
    a, b, images = spread(200, 16, 5, 0.1, 0), spread(200, 16, 30, 0.05, 1), images_of(200)
    options = MiningOptions(clip_min=0.8, dino_max=0.5)
    order = np.random.default_rng(0).permutation(200)
    shuffled = Images([images.ids[o] for o in order], [images.uris[o] for o in order], images.low_information[order])
    before, after = mine(a, b, images, options), mine(a[order], b[order], shuffled, options)
    columns = ["pair_id", "image_id_a", "image_id_b", "uri_a", "uri_b"]
    assert before.pairs.select(columns) == after.pairs.select(columns)
    assert before.counts == after.counts
    assert before.counts.kept > 0


def test_row_holds_cosines_quantiles_and_the_smaller_id_first() -> None:
    a, b, images = spread(120, 16, 4, 0.1, 2), spread(120, 16, 30, 0.05, 3), images_of(120)
    mined = mine(a, b, images, MiningOptions(clip_min=0.8, dino_max=0.5, max_per_image=1000, top=None))
    clip, dino = exact_cosines(a), exact_cosines(b)
    upper = np.triu_indices(120, 1)
    assert mined.quantile_pairs == len(upper[0])
    rows = mined.pairs.to_pylist()
    subtle = [row["clip_sim"] / clip[upper].std() + row["dino_sim"] / dino[upper].std() for row in rows]
    assert subtle == sorted(subtle, reverse=True)
    assert {(row["difference"], row["cluster"], row["control_of"]) for row in rows} == {(None, None, None)}
    for row in rows:
        i, j = images.ids.index(row["image_id_a"]), images.ids.index(row["image_id_b"])
        assert row["image_id_a"] < row["image_id_b"]
        assert (row["uri_a"], row["uri_b"]) == (images.uris[i], images.uris[j])
        assert row["pair_id"] == pair_id(row["image_id_b"], row["image_id_a"])
        assert (row["clip_sim"], row["dino_sim"]) == (clip[i, j], dino[i, j])
        assert row["gap"] == row["clip_sim"] - row["dino_sim"]
        assert row["clip_quantile"] == pytest.approx((clip[upper] < row["clip_sim"]).mean(), abs=2e-4)
        assert row["dino_quantile"] == pytest.approx((dino[upper] < row["dino_sim"]).mean(), abs=2e-4)


def test_pair_id_is_the_digest_of_both_ids_in_either_order() -> None:
    assert pair_id("b" * 32, "a" * 32) == hashlib.sha256(b"a" * 32 + b"b" * 32).hexdigest()[:16]
    assert pair_id("a", "b") == pair_id("b", "a")


def test_blank_images_take_part_only_when_asked() -> None:
    a = np.ones((2, 4), np.float16)
    b = np.eye(2, 4, dtype=np.float16)
    images = images_of(2, blank={0, 1})
    assert mine(a, b, images).counts.kept == 0
    assert mine(a, b, images, MiningOptions(keep_low_information=True)).counts.kept == 1


def test_vectors_equal_for_the_blind_encoder_alone_are_the_best_pairs() -> None:
    a = np.ones((3, 4), np.float16)
    b = np.eye(3, 4, dtype=np.float16)
    mined = mine(a, b, images_of(3), MiningOptions(max_per_image=2))
    assert (mined.counts.identical, mined.counts.kept) == (0, 3)
    assert mined.pairs["gap"].to_pylist() == [1.0, 1.0, 1.0]
    assert kept(mined) == sorted(kept(mined))


def test_image_that_is_like_many_is_shown_max_per_image_times() -> None:
    # Row 0 is blind to all others; the others see each other apart in both encoders.
    count = 9
    a = np.asarray(np.eye(count) * 0.3 + np.eye(count)[0] * 2, np.float16)
    a[0] = np.eye(count)[0]
    b = np.eye(count, dtype=np.float16)
    mined = mine(a, b, images_of(count), MiningOptions(clip_min=0.985, max_per_image=3))
    assert (mined.counts.blind, mined.counts.kept, mined.counts.capped) == (8, 3, 5)


def test_near_duplicates_of_one_picture_are_represented_once() -> None:
    # Two pictures, each three times with a little noise: nine blind pairs, one story.
    random = np.random.default_rng(0)
    a = np.asarray(np.ones((6, 8)) + 0.001 * random.normal(size=(6, 8)), np.float16)
    b = np.asarray(np.eye(2, 8)[[0, 0, 0, 1, 1, 1]] + 0.001 * random.normal(size=(6, 8)), np.float16)
    mined = mine(a, b, images_of(6))
    assert (mined.counts.near_duplicates, mined.counts.blind, mined.counts.repeated, mined.counts.kept) == (6, 9, 8, 1)


def test_twenty_thousand_identical_images_are_one_picture() -> None:
    a, b = np.ones((20_000, 8), np.float16), np.ones((20_000, 8), np.float16)
    mined = mine(a, b, images_of(20_000))
    assert (mined.counts.identical, mined.counts.above_clip_min, mined.counts.kept) == (19_999, 0, 0)
    assert mined.advice.startswith("1 of the images can be compared")


def test_flood_of_blind_pairs_is_counted_whole_and_held_in_part() -> None:
    count = 700
    a = np.ones((count, 8), np.float16)
    b = np.random.default_rng(0).normal(size=(count, 64)).astype(np.float16)
    options = MiningOptions(top=40, most_candidates=500, dino_max=0.9)
    mined, oracle = (
        mine(a, b, images_of(count), options),
        mine(a, b, images_of(count), MiningOptions(top=40, dino_max=0.9)),
    )
    assert mined.counts.above_clip_min == count * (count - 1) // 2
    assert mined.counts.not_ranked == mined.counts.blind - 500
    assert mined.complete
    assert mined.pairs == oracle.pairs  # the best 500 hold the first 40


def test_flood_that_hides_lesser_pairs_says_so() -> None:
    a = np.ones((60, 8), np.float16)
    b = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float16)
    mined = mine(a, b, images_of(60), MiningOptions(top=300, most_candidates=20, dino_max=0.9))
    assert not mined.complete
    assert mined.counts.not_ranked == mined.counts.blind - 20


def test_advice_names_thresholds_that_give_what_it_says() -> None:
    a, b, images = spread(150, 24, 4, 0.12, 0), spread(150, 16, 4, 0.12, 0), images_of(150)
    options = MiningOptions(clip_min=0.9, dino_max=-0.9)
    advice = mine(a, b, images, options).advice
    upper = np.triu(np.ones((150, 150), bool), 1)
    lowest = exact_cosines(b)[upper & (exact_cosines(a) >= 0.9)].min()
    assert advice.startswith(f"The lowest dino_sim above clip_min 0.9 is {lowest:.4f}. --dino-max ")
    words = advice.split()
    dino_max, pairs = float(words[words.index("--dino-max") + 1]), int(words[words.index("gives") + 1])
    assert lowest <= dino_max < lowest + 0.01
    assert len(Oracle(a, b, images, MiningOptions(clip_min=0.9, dino_max=dino_max)).kept) == pairs


def test_advice_without_any_alike_pair_names_the_highest_cosine_and_a_clip_min_that_finds() -> None:
    a, b, images = spread(90, 24, 9000, 0.1, 5), spread(90, 16, 9000, 0.1, 6), images_of(90)
    advice = mine(a, b, images).advice
    highest = np.triu(exact_cosines(a), 1).max()
    assert advice.startswith(
        f"No two images reach clip_min 0.95; the highest clip_sim here is {highest:.4f}. --clip-min "
    )
    words = advice.split()
    clip_min, pairs = float(words[words.index("--clip-min") + 1]), int(words[words.index("gives") + 1])
    assert len(Oracle(a, b, images, MiningOptions(clip_min=clip_min)).kept) == pairs


@pytest.mark.parametrize("count", [0, 1])
def test_corpus_of_no_two_images_has_no_pairs_and_says_why(count: int) -> None:
    vectors = np.ones((count, 4), np.float16)
    mined = mine(vectors, vectors, images_of(count))
    assert mined.counts.kept == 0
    assert mined.advice == f"{count} of the images can be compared; it takes two that are neither blank nor identical."


def test_vector_without_direction_is_refused_by_its_row() -> None:
    a, b = np.ones((5, 4), np.float16), np.ones((5, 4), np.float16)
    b[:, 0] = range(5)
    a[:, 1] = range(5)
    b[3] = 0
    with pytest.raises(InputError, match="vector 3 has no direction"):
        mine(a, b, images_of(5, blank={0}))


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"\[3, 3, 3, 3, 2\]"):
        mine(np.ones((3, 4), np.float16), np.ones((2, 4), np.float16), images_of(3))


@pytest.mark.parametrize("options", [{"clip_min": 1.5}, {"dino_max": -2.0}, {"dino_max": 0.97}, {"top": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MiningOptions(**options)


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_following_every_link(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 400
    smallest = np.arange(count)  # of the group, by row
    groups = Groups(count)
    for size in (1, 5, 50, 100):
        i, j = random.integers(count, size=(2, size))
        groups.unite(i, j)
        for a, b in zip(i, j, strict=True):
            one, other = smallest[a], smallest[b]
            smallest[smallest == max(one, other)] = min(one, other)
        rows = random.permutation(count)[:70]
        assert np.array_equal(groups.roots(rows), smallest[rows])


@pytest.mark.parametrize("order", [1, -1])
def test_long_chain_of_near_duplicates_is_one_group_whichever_end_comes_first(order: int) -> None:
    count = 200_000
    groups = Groups(count)
    for block in np.array_split(np.arange(count - 1)[::order], 7):
        groups.unite(block, block + 1)
    assert not groups.roots(np.arange(count)).any()


def test_advice_stops_looking_where_searches_become_floods() -> None:
    looked_at: list[float] = []

    class Flooded:
        @property
        def ids(self) -> list[str]:
            return ["one", "two"]

        def summary(self, options: MiningOptions) -> SearchSummary:
            looked_at.append(options.clip_min)
            return SearchSummary(above=1_500_000 * len(looked_at), kept=0, lowest_dino=0.9, nearest_dino_max=None)

        def highest_clip(self) -> float:
            return 0.9

    advice = advise(cast(Any, Flooded()), MiningOptions(clip_min=0.95), SearchSummary(0, 0, math.inf, None))
    assert looked_at == [0.9, 0.89]
    assert advice.endswith("No nearby threshold finds a pair in this corpus.")


NOTHING = (np.empty(0), np.empty(0))  # random pairs, which the gap does not need


def pairs_of(clip: list[float], dino: list[float]) -> Pairs:
    rows = np.arange(len(clip))
    return Pairs(rows, rows + 1, np.array(clip), np.array(dino))


def seen(dino: list[float], options: MiningOptions) -> Candidates:
    found = Candidates(options, Groups(len(dino) + 1), score_by("gap", NOTHING))
    found.add(pairs_of([0.99] * len(dino), dino))
    return found


@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.6, 0.9])
def test_the_nearest_dino_max_lies_above_the_one_that_was_tried_and_below_near_duplicates(threshold: float) -> None:
    options = MiningOptions(dino_max=threshold)
    just_above, next_edge = threshold + 1e-9, round(threshold + 0.01, 2)
    assert SearchSummary.of(seen([just_above], options), 0).nearest_dino_max == pytest.approx(next_edge)
    # A pair exactly on the threshold was blind already: to name the threshold again would advise nothing.
    assert SearchSummary.of(seen([threshold], options), 0).nearest_dino_max is None
    assert (
        SearchSummary.of(seen([0.9401], options), 0).nearest_dino_max is None
    )  # its edge, 0.95, is where near-duplicates begin
    assert SearchSummary.of(seen([0.94], options), 0).nearest_dino_max == pytest.approx(0.94)


@pytest.mark.parametrize("dino", [-1.0, -0.5, 0.0, 0.59, 0.6, 0.61, 0.95, 1.0])
def test_a_cosine_on_a_threshold_or_an_edge_belongs_to_it(dino: float) -> None:
    found = seen([dino], MiningOptions(dino_max=0.6))
    assert (found.blind, found.duplicates) == (int(dino <= 0.6), int(dino >= 0.95))
    assert EDGES[np.flatnonzero(found.dino_counts)[0]] == pytest.approx(dino)
    beside = seen([math.nextafter(0.6, 1), math.nextafter(0.95, 0)], MiningOptions(dino_max=0.6))
    assert (beside.blind, beside.duplicates) == (0, 0)


def test_pairs_held_in_a_flood_are_the_best_wherever_they_come_and_ties_are_those_of_the_first_rows() -> None:
    options = MiningOptions(most_candidates=7, dino_max=0.9)
    random = np.random.default_rng(0)
    clip, dino = 0.95 + 0.05 * random.random(200), random.integers(0, 8, 200) / 10  # many equal gaps
    clip = np.where(random.random(200) < 0.7, 0.96, clip)
    whole = pairs_of(clip.tolist(), dino.tolist())
    order = np.lexsort((whole.j, whole.i, dino - clip))[:7]
    for size in (1, 3, 15, 200):
        found = Candidates(options, Groups(201), score_by("gap", NOTHING))
        for start in range(0, 200, size):
            found.add(whole.take(np.arange(start, min(start + size, 200))))
        assert sorted(found.best().i.tolist()) == sorted(order.tolist())


def test_equal_hashes_are_only_a_hint_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "HASH_ROWS", 4)
    monkeypatch.setattr(images_module, "_row_hashes", lambda _, rows, seed: np.full(len(rows), seed, np.uint64))
    a, b = spread(30, 8, 30, 0.1, 0), spread(30, 8, 30, 0.1, 1)
    a[20], b[20] = a[0], b[0]
    a[25] = a[0]  # equal to one encoder only
    images = Images([f"{row:032x}" for row in range(30)], [""] * 30, np.zeros(30, bool))
    chosen, unlike = unique_indices(images, (a, b), np.arange(30))
    assert chosen.tolist() == [row for row in range(30) if row != 20]
    assert unlike == 0


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 9000])
def test_each_picture_is_there_once_however_many_blocks_its_twins_fill(count: int) -> None:
    a = np.repeat(spread(3, 8, 3, 0.1, 0), count, axis=0)
    images = Images([f"{row:032x}" for row in range(3 * count)], [""] * 3 * count, np.zeros(3 * count, bool))
    assert unique_indices(images, (a, a), np.arange(3 * count))[0].tolist() == [0, count, 2 * count]


def turned(cosine: float) -> Vectors:
    return np.array([cosine, math.sqrt(1 - cosine**2)], np.float32)


@pytest.mark.parametrize(("cosine", "unlike"), [(ALIKE + 1e-5, 0), (ALIKE - 1e-5, 1), (0.0, 1), (-1.0, 1)])
@pytest.mark.parametrize("encoder", [0, 1])
@pytest.mark.parametrize("length", [1e-20, 1.0, 1e30])
def test_images_of_one_id_with_other_vectors_are_one_picture_and_told(
    cosine: float, unlike: int, encoder: int, length: float
) -> None:
    vectors = [np.array([[1, 0], [1, 0], [0, 1]], np.float32) for _ in range(2)]
    vectors[encoder][1] = turned(cosine)
    vectors[encoder] *= np.float32(length)
    images = Images(["a", "a", "b"], ["1", "2", "3"], np.zeros(3, bool))
    counts = mine(vectors[0], vectors[1], images).counts
    assert (counts.identical, counts.id_conflicts) == (1, unlike)


def test_which_of_an_ids_vectors_stand_for_it_does_not_depend_on_the_order() -> None:
    a, b = spread(40, 16, 5, 0.1, 0), spread(40, 16, 30, 0.05, 1)
    ids, uris = [f"{row // 4:032x}" for row in range(40)], ["same"] * 40
    options = MiningOptions(clip_min=-1, dino_max=0.9, top=None, max_per_image=100)
    results = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(40)
        images = Images([ids[row] for row in order], uris, np.zeros(40, bool))
        results.append(mine(a[order], b[order], images, options))
    columns = ["pair_id", "image_id_a", "image_id_b"]
    assert all(one.pairs.select(columns) == results[0].pairs.select(columns) for one in results)
    assert all(one.counts == results[0].counts for one in results)
    assert results[0].counts.id_conflicts == 30


def test_clip_steps_never_name_a_threshold_that_is_not_lower() -> None:
    class Nothing:
        def __init__(self) -> None:
            self.ids = ["a", "b"]
            self.tried: list[float] = []

        def summary(self, options: MiningOptions) -> SearchSummary:
            self.tried.append(options.clip_min)
            return SearchSummary(0, 0, math.inf, None)

        def highest_clip(self) -> float:
            return 0.9

    search = Nothing()
    advise(cast(Any, search), MiningOptions(clip_min=0.9), SearchSummary(0, 0, math.inf, None))
    assert search.tried == pytest.approx([0.9 - step for step in CLIP_STEPS])
