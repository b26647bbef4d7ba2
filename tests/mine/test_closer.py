"""Which candidates are looked at, and in which order they come afterwards, against loops over single pairs."""

from collections import Counter

import numpy as np
import pytest
import torch
from exact_cosines import exact_cosines
from patch_fields import ArraySource, fields_of
from test_mine import images_of, spread

from blindpairs.mine import MiningOptions, closer
from blindpairs.mine.candidates import Groups, Pairs
from blindpairs.mine.closer import CloserLook, look_closer, nearest_neighbours, places_to_look_at
from blindpairs.mine.ranking import choose, score_by
from blindpairs.selfjoin import UnitRows

COUNT, GRID = 60, (4, 4)


def random_pairs(count: int, images: int, seed: int) -> Pairs:
    random = np.random.default_rng(seed)
    every = np.array([(i, j) for i in range(images) for j in range(i + 1, images)])
    i, j = every[random.permutation(len(every))[:count]].T
    return Pairs(i, j, 0.9 + 0.1 * random.random(len(i)), 0.6 * random.random(len(i)))


def grouped(images: int, seed: int) -> Groups:
    """Some images are near-duplicates of others."""
    random, groups = np.random.default_rng(seed), Groups(images)
    groups.unite(random.integers(images, size=images // 5), random.integers(images, size=images // 5))
    return groups


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top", [None, 1, 2, 5, 1000])
def test_first_pairs_of_new_groups_are_looked_at_until_there_are_enough_and_then_those_of_the_same_images(
    seed: int, top: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closer, "PAIRS_PER_WANTED", 12)
    monkeypatch.setattr(closer, "IMAGES_PER_WANTED", [4, 8, 30][seed % 3])
    pairs, groups = random_pairs(300, COUNT, seed), grouped(COUNT, seed)
    wanted = len(pairs) if top is None else top
    expected: list[int] = []
    seen: set[frozenset[int]] = set()
    for place in range(len(pairs)):
        roots = frozenset(groups.roots(np.array([pairs.i[place], pairs.j[place]])).tolist())
        if len(roots) == 1 or roots in seen:
            continue
        shown = {int(row) for other in [*expected, place] for row in (pairs.i[other], pairs.j[other])}
        if len(expected) < 12 * wanted and len(shown) <= [4, 8, 30][seed % 3] * wanted:
            seen.add(roots)
            expected.append(place)
    assert places_to_look_at(pairs, groups, MiningOptions(top=top)).tolist() == expected


def test_nothing_is_looked_at_where_there_are_no_pairs() -> None:
    assert places_to_look_at(random_pairs(0, COUNT, 0), Groups(COUNT), MiningOptions()).tolist() == []


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize(("most", "among"), [(4096, 1 << 16), (20, 1 << 16), (20, 50)])
def test_images_that_are_alike_are_the_closer_half_of_nearest_neighbours(
    block: int, most: int, among: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BLOCK_ROWS", block), ("ALIKE_IMAGES", most), ("ALIKE_AMONG", among)):
        monkeypatch.setattr(closer, name, value)
    vectors, ids = spread(90, 16, 9, 0.3, 0), list(images_of(90).ids)
    rows = sorted(range(0, 90, 2), key=ids.__getitem__)
    cosines = exact_cosines(vectors)
    np.fill_diagonal(cosines, -2)
    some = rows[:among]
    nearest = [max(some, key=lambda other: float(cosines[row, other])) for row in some[:most]]
    best = np.array([cosines[row, other] for row, other in zip(some, nearest, strict=False)])
    median = np.sort(best)[(len(best) - 1) // 2]  # the lower one
    expected = [
        tuple(sorted((row, other), key=ids.__getitem__))
        for row, other, cosine in zip(some, nearest, best, strict=False)
        if cosine >= median
    ]
    assert nearest_neighbours(UnitRows(torch.from_numpy(vectors)), rows, ids) == expected
    assert len(expected) == (min(most, len(some)) + 1) // 2 or len(best) % 2 == 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_image_or_one_has_no_neighbours(count: int) -> None:
    assert nearest_neighbours(UnitRows(torch.from_numpy(spread(5, 8, 2, 0.1, 0))), range(count), list("abcde")) == []


def looked(pairs: Pairs, unread: list[int], places: list[int] | None = None) -> tuple[CloserLook, ArraySource]:
    ids = list(images_of(COUNT).ids)
    random = np.random.default_rng(0)
    fields = fields_of(random.normal(size=(COUNT, 2, 16, 32)), ids, GRID)
    source = ArraySource(fields, [ids[row] for row in unread])
    look = look_closer(
        pairs,
        np.arange(len(pairs)) if places is None else np.array(places, np.int64),
        ids=ids,
        dino=UnitRows(torch.from_numpy(spread(COUNT, 16, 9, 0.3, 0))),
        source=source,
    )
    return look, source


def test_pairs_that_were_looked_at_come_first_by_difference_and_the_others_follow_in_rank_order() -> None:
    pairs = random_pairs(200, COUNT, 3)
    unread = [4, 9, 30]
    places = [place for place in range(200) if place % 3]
    look, source = looked(pairs, unread, places)
    readable = [p for p in places if pairs.i[p] not in unread and pairs.j[p] not in unread]
    assert sorted(look.order.tolist()) == list(range(200))
    assert sorted(look.order[: look.pairs].tolist()) == readable
    assert look.order[look.pairs :].tolist() == [place for place in range(200) if place not in readable]
    assert look.difference[: look.pairs].tolist() == sorted(look.difference[: look.pairs])
    assert np.isfinite(look.difference[: look.pairs]).all()
    assert np.isnan(look.difference[look.pairs :]).all()
    assert (look.cluster >= 0).tolist() == [True] * look.pairs + [False] * (200 - look.pairs)
    assert look.unread == {"missing": 3}
    ids = images_of(COUNT).ids
    shown = {ids[row] for place in places for row in (pairs.i[place], pairs.j[place])}
    assert source.asked == [sorted(shown)]
    assert look.images == len(shown) - 3
    maps = look.maps(np.arange(190, -1, -10))
    assert sorted(maps) == [place for place in range(0, 191, 10) if place < look.pairs]
    assert all(one.a.shape == one.b.shape == GRID for one in maps.values())


def test_maps_are_those_of_their_pairs_in_the_new_order() -> None:
    pairs = random_pairs(40, COUNT, 3)
    look, _ = looked(pairs, [])
    assert look.found is not None
    whole = look.found.comparison.maps(np.arange(40))
    found = look.maps(np.arange(40))
    for place, one in found.items():
        assert np.array_equal(one.a, whole[int(look.order[place])].a)


@pytest.mark.parametrize("readable", [0, 1])
def test_order_stays_where_fewer_than_two_pairs_can_be_read(readable: int) -> None:
    pairs = random_pairs(50, COUNT, 1)
    kept = {int(pairs.i[7]), int(pairs.j[7])} if readable else set()
    look, _ = looked(pairs, [row for row in range(COUNT) if row not in kept])
    assert look.order.tolist() == list(range(50))
    assert (look.pairs, look.maps(np.arange(50))) == (0, {})
    assert look.unread["missing"] > 0
    assert np.isnan(look.difference).all()


def test_order_stays_where_nothing_is_looked_at() -> None:
    pairs = random_pairs(50, COUNT, 1)
    look, _ = looked(pairs, [], places=[])
    assert look.order.tolist() == CloserLook.none(50).order.tolist() == list(range(50))


@pytest.mark.parametrize("seed", range(4))
def test_clusters_in_turn_are_a_round_robin_of_pairs_that_are_kept(seed: int) -> None:
    random = np.random.default_rng(seed)
    pairs, groups = random_pairs(250, COUNT, seed), grouped(COUNT, seed)
    clusters = random.choice([-1, 0, 1, 2, 5], size=250, p=[0.2, 0.4, 0.2, 0.15, 0.05]).astype(np.int32)
    options = MiningOptions(top=[None, 9, 30, 1][seed], max_per_image=2)
    chosen = choose(pairs, groups, options, clusters=clusters.copy())
    roots = [tuple(sorted(groups.roots(np.array(both)).tolist())) for both in zip(pairs.i, pairs.j, strict=True)]
    if options.top is not None:
        clusters[4 * options.top :] = -1  # their turns are over
    queues = {name: [place for place in range(250) if clusters[place] == name] for name in (0, 1, 2, 5, -1)}
    kept: list[int] = []
    seen: set[tuple[int, ...]] = set()
    used, repeated = Counter[int](), 0

    def takes_from(queue: list[int]) -> None:
        nonlocal repeated
        while queue:
            place = queue.pop(0)
            both = roots[place]
            if both in seen or both[0] == both[1]:
                repeated += 1
                continue
            seen.add(both)
            if max(used[both[0]], used[both[1]]) < 2 and len(kept) < (options.top or 1000):
                used.update(both)
                kept.append(place)
                return

    while any(queues[name] for name in (0, 1, 2, 5)):
        for name in (0, 1, 2, 5):
            takes_from(queues[name])
    while queues[-1]:
        takes_from(queues[-1])
    assert chosen.places.tolist() == kept
    assert chosen.pairs.i.tolist() == pairs.i[kept].tolist()
    assert max(used.values()) <= 2
    assert chosen.repeated == repeated
    assert chosen.repeated + chosen.capped + chosen.similar + chosen.beyond_top + len(kept) == 250


def test_one_cluster_is_the_order_that_no_cluster_is() -> None:
    pairs, groups = random_pairs(250, COUNT, 0), grouped(COUNT, 0)
    alone = choose(pairs, groups, MiningOptions(top=20))
    for name in (-1, 0, 7):
        found = choose(pairs, groups, MiningOptions(top=20), clusters=np.full(250, name, np.int32))
        assert found.places.tolist() == alone.places.tolist()


def test_subtle_adds_both_cosines_in_units_of_their_spread() -> None:
    pairs = Pairs(np.array([0, 1]), np.array([2, 3]), np.array([0.9, 0.8]), np.array([0.1, 0.5]))
    random_sims = np.array([0.0, 0.2]), np.array([-1.0, 0.0, 1.0])  # spread 0.1, and the root of two thirds
    found = score_by("subtle", random_sims)(pairs)
    assert found.tolist() == pytest.approx([0.9 / 0.1 + 0.1 / (2 / 3) ** 0.5, 0.8 / 0.1 + 0.5 / (2 / 3) ** 0.5])


@pytest.mark.parametrize("sims", [[], [0.5], [0.5, 0.5]])
def test_subtle_is_finite_where_random_pairs_have_no_spread(sims: list[float]) -> None:
    pairs = random_pairs(30, COUNT, 0)
    found = score_by("subtle", (np.array(sims), np.array(sims)))(pairs)
    assert np.isfinite(found).all()
    assert np.argsort(found).tolist() == np.argsort(pairs.clip_sim + pairs.dino_sim).tolist()
