"""The GPU's join against comparing every pair in float64: on a GPU where there is one, else in Triton's interpreter."""

import importlib.util
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from exact_cosines import exact_cosines as defined_cosines
from gpu_child import DEVICE, GPU, TILE, kernel_child
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.selfjoin import UnitRows, pair_cosines
from blindpairs.selfjoin.bound import principal_axes

if TYPE_CHECKING:
    from blindpairs.selfjoin.gpu.tuning import GpuPlan

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed: it is what the join on a GPU is written in", allow_module_level=True)


Pairs = dict[tuple[int, int], float]


@pytest.fixture(scope="module")
def child() -> Iterator[Executor]:
    with kernel_child() as pool:
        yield pool


def small_plan() -> "GpuPlan":
    """Every seam is crossed by a few tiles: strips of two, launches of four, blocks of pairs of four tile rows."""
    from blindpairs.selfjoin.gpu.tiles import Shape
    from blindpairs.selfjoin.gpu.tuning import GpuPlan

    shape = Shape() if GPU else Shape(TILE, TILE, 1, 1)
    plan = GpuPlan(columns=64 if GPU else 16, shape=shape, devices=(DEVICE,))
    return replace(plan, strip=2, launch_tiles=4, capacity=1000 * TILE, block_pairs=4 * TILE)


def join(vectors: Tensor, minimum: float, chosen: Tensor | None = None, **options: Any) -> Pairs:
    """The pairs found, in the child; fails on a pair that is met twice or is not i < j."""
    from blindpairs.selfjoin.gpu.join import similar_pairs_cuda

    found: Pairs = {}
    for block in similar_pairs_cuda(UnitRows(vectors, chosen), minimum, plan=replace(small_plan(), **options)):
        for i, j, similarity in zip(block.i.tolist(), block.j.tolist(), block.similarity.tolist(), strict=True):
            assert i < j
            assert (i, j) not in found
            found[i, j] = similarity
    return found


def exact_cosines(vectors: Tensor) -> Tensor:
    """All cosines, (N, N)."""
    return torch.from_numpy(defined_cosines(vectors.numpy()))


def check(child: Executor, vectors: Tensor, minimum: float, **options: Any) -> int:
    """The join finds the pairs of the brute force, with the same cosines to the last bit; how many."""
    exact = exact_cosines(vectors)
    found = child.submit(join, vectors, minimum, **options).result()
    assert found == {(i, j): float(exact[i, j]) for i, j in (exact >= minimum).nonzero().tolist() if i < j}
    return len(found)


def gaussian(count: int, dimension: int, seed: int) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def clustered(count: int, dimension: int, seed: int) -> Tensor:
    centres = gaussian(max(1, count // 3), dimension, seed)
    return centres[torch.arange(count) % len(centres)] + 0.1 * gaussian(count, dimension, seed + 1)


def far_from_the_origin(count: int, dimension: int, seed: int) -> Tensor:
    """A cone so narrow that centring cancels nearly all digits."""
    return 1000.0 + gaussian(count, dimension, seed)


def duplicated(count: int, dimension: int, seed: int) -> Tensor:
    return gaussian(max(1, count // 3), dimension, seed)[torch.arange(count) % max(1, count // 3)]


def in_a_plane(count: int, dimension: int, seed: int) -> Tensor:
    """All of a difference lies along the axes, so the bound is an equality and only the margin keeps the pair."""
    vectors = torch.zeros(count, dimension)
    angles = 0.25 * torch.arange(count) + seed
    vectors[:, 1], vectors[:, -1] = angles.cos(), angles.sin()
    return vectors


Make = Callable[[int, int, int], Tensor]
SHAPES: list[Make] = [gaussian, clustered, far_from_the_origin, duplicated, in_a_plane]
MINIMA = (0.45, 0.95, 0.9999994, 1.0, 0.87)  # where each of these has some pairs


@pytest.mark.parametrize(("shape", "minimum"), list(zip(SHAPES, MINIMA, strict=True)))
def test_every_pair_of_the_brute_force_is_found_once(child: Executor, shape: Make, minimum: float) -> None:
    assert check(child, shape(2 * TILE + 5, 20, 1), minimum) > 10


@pytest.mark.parametrize("count", [0, 1, 2, TILE - 1, TILE, TILE + 1, 2 * TILE + 1])
def test_sizes_around_a_tile_lose_nothing(child: Executor, count: int) -> None:
    check(child, clustered(count, 9, count), 0.9)


@pytest.mark.parametrize("dimension", [1, 2, 3, 150])
def test_fewer_dimensions_than_columns_and_more_than_a_block_find_the_same(child: Executor, dimension: int) -> None:
    check(child, clustered(TILE + 2, dimension, 0), 0.99)


def test_half_precision_gives_the_cosines_of_its_numbers(child: Executor) -> None:
    vectors = clustered(TILE + 5, 24, 3).half()
    assert check(child, vectors, 0.9) > 0


def test_full_buffer_loses_nothing(child: Executor) -> None:
    # Three row blocks in which everything passes; the buffer holds one tile's rows and never less.
    assert check(child, torch.ones(2 * TILE + 2, 5), 0.99, capacity=8, strip=8) == (2 * TILE + 2) * (2 * TILE + 1) // 2


def test_minimum_of_minus_one_is_all_pairs(child: Executor) -> None:
    assert check(child, gaussian(TILE + 3, 8, 0), -1.0) == (TILE + 3) * (TILE + 2) // 2


def test_pair_exactly_on_the_threshold_is_in_and_one_ulp_above_it_is_out(child: Executor) -> None:
    vectors = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert child.submit(join, vectors, 0.6).result() == {(0, 1): 0.6}
    assert (0, 1) not in child.submit(join, vectors, math.nextafter(0.6, 1.0)).result()


def test_chosen_rows_are_joined_as_if_the_others_were_not_there(child: Executor) -> None:
    vectors = clustered(2 * TILE, 16, 0)
    vectors[5] = 0
    chosen = torch.arange(0, 2 * TILE, 2)
    found = child.submit(join, vectors, 0.9, chosen).result()
    assert found == child.submit(join, vectors[chosen], 0.9).result()
    assert found


def cosines_both_ways(vectors: Tensor, chosen: Tensor | None, i: Tensor, j: Tensor) -> list[Tensor]:
    from blindpairs.selfjoin.gpu.points import DeviceRows

    rows, device = UnitRows(vectors, chosen), torch.device(DEVICE)
    return [DeviceRows(rows, device, whole).cosines(i.to(device), j.to(device)).cpu() for whole in (True, False)]


@pytest.mark.parametrize("chosen", [None, torch.arange(29, 0, -1)])
def test_vectors_that_stay_on_the_host_are_fetched_and_give_the_same_cosines(
    child: Executor, chosen: Tensor | None
) -> None:
    vectors = gaussian(30, 150, 0).half()
    i, j = torch.triu_indices(29, 29, 1)[:, ::20]
    whole, fetched = child.submit(cosines_both_ways, vectors, chosen, i, j).result()
    assert torch.equal(whole, fetched)
    assert torch.equal(whole, pair_cosines(UnitRows(vectors, chosen), i, j))


def with_other(vectors: Tensor, others: Tensor) -> tuple[list[tuple[int, int, float]], list[tuple[int, int]]]:
    from blindpairs.selfjoin.gpu.join import similar_pairs_cuda

    found, calls = [], []
    pairs = similar_pairs_cuda(
        UnitRows(vectors), 0.9, other=UnitRows(others), plan=small_plan(), progress=lambda *call: calls.append(call)
    )
    for block in pairs:
        assert block.other is not None
        found += list(zip(block.i.tolist(), block.j.tolist(), block.other.tolist(), strict=True))
    return found, calls


def test_other_vectors_give_their_cosine_and_progress_goes_from_nothing_to_the_total(child: Executor) -> None:
    vectors, others = clustered(2 * TILE, 20, 0), gaussian(2 * TILE, 8, 1)
    exact = exact_cosines(others)
    found, calls = child.submit(with_other, vectors, others).result()
    assert len(found) > TILE
    assert all(other == exact[i, j] for i, j, other in found)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[0][0] == 0
    assert calls[-1][0] == calls[-1][1]


def scores_of_wanted_pairs(vectors: Tensor, minimum: float, columns: int) -> tuple[float, float]:
    """The least score of a pair that must pass, and the most that it lies apart over `reach`."""
    from blindpairs.selfjoin.bound import NORM_COLUMNS
    from blindpairs.selfjoin.gpu.points import DeviceRows, pack_points

    rows = DeviceRows(UnitRows(vectors), torch.device("cpu"), resident=True)
    axes = principal_axes(rows.block(0, len(vectors)))[:, : columns - NORM_COLUMNS]
    points = pack_points(rows, axes, minimum, columns)
    left, right = points.packed[: len(vectors)].double().chunk(2, 1)
    wanted = (exact_cosines(vectors) >= minimum)[points.order][:, points.order]
    coordinates = left[:, : columns - NORM_COLUMNS]
    apart = torch.cdist(coordinates, coordinates, compute_mode="donot_use_mm_for_euclid_dist")
    padding = left[0] @ points.packed[len(vectors) :, columns:].double().T
    assert bool((padding < -1).all())
    return float((left @ right.T)[wanted].min()), float((apart[wanted] - points.reach).max())


@pytest.mark.parametrize("minimum", [-1.0, 0.0, 0.5, 0.95, 0.999, 1.0])
def test_no_wanted_pair_is_rejected_by_its_rounded_points(child: Executor, minimum: float) -> None:
    for shape in SHAPES:
        score, beyond = child.submit(scores_of_wanted_pairs, shape(120, 33, 1), minimum, 16).result()
        assert score > 0
        assert beyond <= 0


def visited(along: Tensor, reach: float) -> list[tuple[int, int]]:
    """The (row block, tile) of all items, and the launches within their size."""
    from blindpairs.selfjoin.gpu.launches import launches, spans, split
    from blindpairs.selfjoin.gpu.points import DevicePoints
    from blindpairs.selfjoin.gpu.tiles import Shape

    points = DevicePoints(torch.empty(0, 32), torch.arange(len(along)), along, reach)
    cut = list(launches(spans(points, Shape(32, 16)), strip=3, launch_tiles=12))
    assert max(map(len, cut)) <= 4
    parts = [part for launch in cut for part in split(launch, 3)]
    return [(block, tile) for part in parts for block, first, end in part.tolist() for tile in range(first, end)]


def test_tiles_within_reach_are_visited_once_and_those_beyond_it_never(child: Executor) -> None:
    along = gaussian(200, 1, 0)[:, 0].double().sort().values
    near = (along[None, :] - along[:, None] <= 0.5) & (torch.arange(200)[None, :] >= torch.arange(200)[:, None])
    needed = {(i // 32, j // 16) for i, j in near.nonzero().tolist()}
    tiles = child.submit(visited, along, 0.5).result()
    assert len(tiles) == len(set(tiles))
    assert needed <= set(tiles)
    assert len(tiles) < sum(1 for block, tile in itertools.product(range(7), range(13)) if tile >= 2 * block)


def threads_after_leaving_off() -> tuple[int, int]:
    from blindpairs.selfjoin.gpu.join import similar_pairs_cuda

    before = threading.active_count()
    pairs = similar_pairs_cuda(UnitRows(torch.ones(TILE + 4, 5)), 0.9, plan=small_plan())
    next(pairs)
    pairs.close()  # type: ignore[attr-defined]
    return before, threading.active_count()


def test_leaving_off_in_the_middle_ends_the_threads(child: Executor) -> None:
    before, after = child.submit(threads_after_leaving_off).result()
    assert before == after


def test_minimum_that_is_no_cosine_is_refused(child: Executor) -> None:
    with pytest.raises(ConfigError, match="between -1 and 1"):
        child.submit(join, torch.ones(4, 2), 1.5).result()


@pytest.mark.skipif(GPU, reason="there is a GPU here")
def test_without_a_gpu_it_says_so(child: Executor) -> None:
    with pytest.raises(ConfigError, match="torch sees no GPU; there is cpu"):
        child.submit(join, torch.ones(4, 2), 0.5, devices=()).result()
