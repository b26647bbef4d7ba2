"""How much, in which kind and where the images of a pair differ, on fields in which the differences are planted.

Images of one family share their patches. Each image has four attributes that are there or not; each is a vector at two
by two patches of its own. Some images are shown twice, with nothing but noise between them.
"""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_fields import fields_of

from blindpairs.mine import comparison as module
from blindpairs.mine import differences as judging
from blindpairs.mine.comparison import Comparison
from blindpairs.mine.differences import Differences, _medians, differences
from blindpairs.mine.fields import PatchFields

FAMILIES, SIDE, BLOCKS, AXES = 9, 8, 3, 12
PLACES = [(1, 1), (1, 5), (5, 1), (5, 5)]  # the top left patch of each attribute
Pair = tuple[str, str]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """A division by zero would be one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@dataclass(frozen=True)
class World:
    """Fields with planted differences, and the pairs of each number of differing attributes."""

    fields: PatchFields
    alike: list[Pair]
    single: dict[Pair, int]  # the attribute that differs
    double: list[Pair]

    def compared(self, pairs: list[Pair], fields: PatchFields | None = None) -> Differences:
        """The differences of these pairs, all of one DINOv2 cosine."""
        return differences(fields or self.fields, pairs, np.full(len(pairs), 0.5), self.alike)


def planted(scenes: list[int]) -> tuple[dict[Pair, int], list[Pair]]:
    """The pairs that differ in one attribute, with its number, and those that differ in two."""
    single: dict[Pair, int] = {}
    double: list[Pair] = []
    for family in range(FAMILIES):
        for one, other in itertools.combinations(scenes, 2):
            differing = [attribute for attribute in range(4) if (one ^ other) >> attribute & 1]
            for again in "ab":
                pair = (f"{family:02d}-{one:02d}-a", f"{family:02d}-{other:02d}-{again}")
                if len(differing) == 1:
                    single[pair] = differing[0]
                elif len(differing) == 2:
                    double.append(pair)
    return single, double


@pytest.fixture(scope="module")
def world() -> World:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4, BLOCKS, AXES)) * 2
    names, values = [], []
    shown = {bits: f"{bits:02d}" for bits in (0, 1, 2, 4, 8, 3, 12)}  # bit k: attribute k is there
    for family in range(FAMILIES):
        background = random.normal(size=(BLOCKS, SIDE, SIDE, AXES))
        for bits, name in shown.items():
            scene = background.copy()
            for attribute, (row, column) in enumerate(PLACES):
                if bits >> attribute & 1:
                    scene[:, row : row + 2, column : column + 2] += vectors[attribute][:, None, None]
            for again in "ab":
                names.append(f"{family:02d}-{name}-{again}")
                values.append(scene + 0.05 * random.normal(size=scene.shape))
    fields = fields_of(np.stack(values).reshape(len(values), BLOCKS, SIDE * SIDE, AXES), names, (SIDE, SIDE))
    alike = list(zip(names[::2], names[1::2], strict=True))
    single, double = planted(sorted(shown))
    return World(fields, alike, single, double)


def test_pairs_that_differ_in_one_thing_come_before_those_that_differ_in_two(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With 16 lines each of the few combinations of two kinds would have a line of its own, as if it were a kind.
    monkeypatch.setattr(judging, "LINES", 4)
    pairs = [*world.double, *world.single]
    found = world.compared(pairs)
    two, one = found.difference[: len(world.double)], found.difference[len(world.double) :]
    assert one.max() < two.min()
    assert np.median(found.difference) == pytest.approx(1, abs=0.01)


def test_clusters_are_the_kinds_that_were_planted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "CLUSTERS", 4)
    found = world.compared(list(world.single))
    kinds = set(zip(found.cluster.tolist(), world.single.values(), strict=True))
    assert len(kinds) == 4  # each cluster is one kind and each kind one cluster
    assert {cluster for cluster, _ in kinds} == {kind for _, kind in kinds} == {0, 1, 2, 3}
    sizes = np.bincount(found.cluster)
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)


@pytest.mark.parametrize("count", [1, 5, 200])
def test_axes_of_the_kinds_are_the_first_singular_vectors_of_balanced_signatures(
    world: World, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(module, "KIND_AXES", 6)
    pairs = [*world.single, *world.double][:: len(world.single) // 90][:count]
    plain = Comparison.of(world.fields, pairs, world.alike)
    comparison, axes = plain.balanced()
    signatures = plain.signatures(slice(None)).double().numpy()
    signatures /= np.sqrt(np.square(signatures).sum(2).mean(0))[:, None]
    balanced = comparison.signatures(slice(None)).numpy()
    assert balanced == pytest.approx(signatures, rel=1e-3, abs=1e-4)
    assert np.square(balanced).sum(2).mean(0) == pytest.approx([1] * BLOCKS, rel=1e-4)
    flat = signatures.reshape(len(pairs), -1)
    on_axes = flat @ np.linalg.svd(flat, full_matrices=False)[2][:6].T
    expected = on_axes @ on_axes.T * BLOCKS / np.square(on_axes).sum(1).mean()
    found = flat @ axes.numpy()
    assert found @ found.T == pytest.approx(expected, rel=1e-3, abs=1e-3)  # axes have no sign


def test_map_is_hot_where_the_difference_was_planted_and_nowhere_else(world: World) -> None:
    pairs = list(world.single)
    for pair, one in zip(pairs, world.compared(pairs).comparison.maps(np.arange(len(pairs))), strict=True):
        row, column = PLACES[world.single[pair]]
        planted = np.zeros((SIDE, SIDE), bool)
        planted[row : row + 2, column : column + 2] = True
        for side in (one.a, one.b):
            assert side.min() >= 0
            assert side.max() <= 1
            assert side[planted].min() > 0.2
            assert side[~planted].max() < 0.05


def test_maps_come_in_the_order_that_is_asked_for_on_the_scale_of_all(world: World) -> None:
    pairs = list(world.single)[:60]
    found = world.compared(pairs)
    places = np.array([40, 3, 17])
    some, again = found.comparison.maps(places), found.comparison.maps(places[::-1].copy())
    assert all(np.array_equal(one.a, other.a) for one, other in zip(some, again[::-1], strict=True))
    assert found.comparison.maps(np.empty(0, np.int64)) == []


def test_order_of_the_images_does_not_matter(world: World) -> None:
    pairs = [*world.single, *world.double]
    whole = world.compared(pairs)
    names = list(world.fields.rows)
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(names))
        rows = {names[row]: place for place, row in enumerate(order.tolist())}
        found = world.compared(pairs, replace(world.fields, values=world.fields.values[order], rows=rows))
        assert np.array_equal(found.difference, whole.difference)
        assert np.array_equal(found.cluster, whole.cluster)
        places = np.arange(0, len(pairs), 40)
        for one, other in zip(found.comparison.maps(places), whole.comparison.maps(places), strict=True):
            assert np.array_equal(one.a, other.a)
            assert np.array_equal(one.b, other.b)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_pairs_are_compared_alike_in_blocks_of_any_size(
    world: World, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = list(world.single)[:: 1 if block > 1 else 4]
    whole = world.compared(pairs)
    monkeypatch.setattr(module, "BLOCK", block)
    found = world.compared(pairs)
    assert found.difference == pytest.approx(whole.difference, rel=1e-3)
    assert np.array_equal(found.cluster, whole.cluster)


@pytest.mark.parametrize("factor", [1 / 64, 1024])
@pytest.mark.parametrize("block", range(BLOCKS))
def test_size_of_the_tokens_of_a_block_does_not_matter(world: World, block: int, factor: float) -> None:
    pairs = [*world.single, *world.double]
    whole = world.compared(pairs)
    values = world.fields.values.copy()
    values[:, block] *= np.float16(factor)
    found = world.compared(pairs, replace(world.fields, values=values))
    assert found.difference == pytest.approx(whole.difference, rel=0.01)
    assert np.array_equal(found.cluster, whole.cluster)
    places = np.arange(0, len(pairs), 50)
    for one, other in zip(found.comparison.maps(places), whole.comparison.maps(places), strict=True):
        assert one.a == pytest.approx(other.a, abs=0.01)


def test_images_that_differ_in_nothing_come_first_and_have_empty_maps(world: World) -> None:
    pairs = [*world.alike[:20], *world.single]
    found = world.compared(pairs)
    assert found.difference[:20].max() < found.difference[20:].min()
    assert max(float(one.a.max()) for one in found.comparison.maps(np.arange(len(pairs)))[:20]) < 0.05


def assert_sound(found: Differences, count: int) -> None:
    assert found.difference.shape == found.cluster.shape == (count,)
    assert np.isfinite(found.difference).all()
    assert (found.difference >= 0).all()
    maps = found.comparison.maps(np.arange(count))
    assert len(maps) == count
    for one in maps:
        assert np.isfinite([one.a, one.b]).all()
        assert np.min([one.a, one.b]) >= 0
        assert np.max([one.a, one.b]) <= 1


@pytest.mark.parametrize("with_alike", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_few_pairs_are_compared_with_or_without_images_that_are_alike(
    world: World, count: int, with_alike: bool
) -> None:
    pairs = [*world.single, *world.double][:: len(world.single) // 15][:count]
    some = differences(world.fields, pairs, np.linspace(0.1, 0.6, count), world.alike if with_alike else [])
    assert_sound(some, count)


@pytest.mark.parametrize("dino_sim", [0.5, 1.0])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_pairs_of_equal_images_are_compared(value: float, dino_sim: float) -> None:
    names = [f"{number:02d}" for number in range(40)]
    fields = fields_of(np.full((40, BLOCKS, SIDE * SIDE, AXES), value), names, (SIDE, SIDE))
    pairs = list(zip(names[::2], names[1::2], strict=True))
    found = differences(fields, pairs, np.full(20, dino_sim), pairs[:5])
    assert_sound(found, 20)
    assert len(set(found.difference.tolist())) == 1
    assert not any(one.a.any() or one.b.any() for one in found.comparison.maps(np.arange(20)))


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (2, 2)])
def test_grids_of_few_patches_are_compared(grid: tuple[int, int]) -> None:
    names = [f"{number:02d}" for number in range(30)]
    values = np.random.default_rng(0).normal(size=(30, BLOCKS, grid[0] * grid[1], AXES))
    pairs = list(itertools.combinations(names, 2))[::7]
    fields = fields_of(values, names, grid)
    assert_sound(differences(fields, pairs, np.linspace(0, 0.6, len(pairs)), pairs[:4]), len(pairs))


def test_median_of_each_row_is_the_lower_middle_of_its_values() -> None:
    random = np.random.default_rng(0)
    rows, values = random.integers(0, 40, size=200), random.normal(size=200)
    rows = rows[rows != 7]
    values = values[: len(rows)]
    found: NDArray[np.float64] = _medians(rows, values)
    for row in range(rows.max() + 1):
        own = values[rows == row]
        assert found[row] == (np.percentile(own, 50, method="lower") if len(own) else 1)
    assert len(_medians(np.empty(0, np.int64), np.empty(0))) == 0
