"""The fast join against comparing every pair in float64, on data made to break the bound and at every seam."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from exact_cosines import exact_cosines as defined_cosines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from blindpairs.cores import Cores
from blindpairs.errors import ConfigError, InputError
from blindpairs.selfjoin import Hardware, JoinPlan, PairBlock, UnitRows, pair_cosines, plan_join, similar_pairs
from blindpairs.selfjoin.bound import Layout, largest_distance, place_points, principal_axes, stretch
from blindpairs.selfjoin.c_interface import CompiledCode
from blindpairs.selfjoin.cells import partition
from blindpairs.selfjoin.compiler import NotCompiled, build

SMALL = JoinPlan(dimensions=7, cell_rows=16, span_rows=32, block_pairs=50)  # every seam is crossed by 100 rows
# What does the tasks: the target and the variant that the code is compiled for. Without any, torch does.
ENGINES: dict[str, tuple[str, tuple[str, ...]] | None] = {
    "torch": None,
    "for this processor": ("-march=native", ()),
    "float32": ("-march=native", ("-DFLOAT32",)),
    "AVX512-BF16": ("-march=native", ("-DFORCE_AVX512_BF16", "-mno-amx-bf16")),
    "AVX2": ("-march=haswell", ()),
    "oldest x86": ("-march=x86-64", ()),
}
KINDS = {"AVX512-BF16": "avx512-bf16", "float32": "float32", "AVX2": "float32", "oldest x86": "float32"}
MINIMA = (-1.0, 0.0, 0.5, 0.95, 0.999, 1.0)


def code_of(engine: str) -> CompiledCode | None:
    """The code for an engine; skips the test where this machine cannot make or run it."""
    target = ENGINES[engine]
    if target is None:
        return None
    try:
        code = build(target[0], [target[1]])
    except NotCompiled as error:
        pytest.skip(f"{engine}: {error}")
    if code.kind != KINDS.get(engine, code.kind):
        pytest.skip(f"{engine}: this processor has no such instructions")
    return code


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every engine in turn does the joins of a test."""
    code = code_of(request.param)
    monkeypatch.setattr("blindpairs.selfjoin.rows.compiled_code", lambda: code)


def join(vectors: Tensor, minimum: float, plan: JoinPlan | None = SMALL) -> dict[tuple[int, int], float]:
    """The pairs found; fails on a pair that is met twice or is not i < j."""
    found: dict[tuple[int, int], float] = {}
    for block in similar_pairs(vectors, minimum, plan=plan):
        for i, j, similarity in zip(block.i.tolist(), block.j.tolist(), block.similarity.tolist(), strict=True):
            assert i < j
            assert (i, j) not in found
            found[i, j] = similarity
    return found


def pairs_of(block: PairBlock) -> list[tuple[int, int]]:
    return list(zip(block.i.tolist(), block.j.tolist(), strict=True))


def exact_cosines(vectors: Tensor) -> Tensor:
    """All cosines, (N, N)."""
    return torch.from_numpy(defined_cosines(vectors.numpy()))


def check(vectors: Tensor, minimum: float, plan: JoinPlan | None = SMALL) -> int:
    """The join finds the pairs of the brute force, with the same cosines to the last bit; how many."""
    exact = exact_cosines(vectors)
    found = join(vectors, minimum, plan)
    assert found == {(i, j): float(exact[i, j]) for i, j in (exact >= minimum).nonzero().tolist() if i < j}
    return len(found)


def gaussian(count: int, dimension: int, seed: int) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def uniform_cube(count: int, dimension: int, seed: int) -> Tensor:
    return gaussian(count, dimension, seed).abs() + 1e-3


def clustered(count: int, dimension: int, seed: int) -> Tensor:
    centres = gaussian(7, dimension, seed)
    return centres[torch.arange(count) % 7] + 0.15 * gaussian(count, dimension, seed + 1)


def far_from_the_origin(count: int, dimension: int, seed: int) -> Tensor:
    """A cone so narrow that centring cancels nearly all digits."""
    return 1000.0 + gaussian(count, dimension, seed)


def flat(count: int, dimension: int, seed: int) -> Tensor:
    """All but two axes have no variance at all."""
    vectors = torch.ones(count, dimension)
    vectors[:, :2] += gaussian(count, min(2, dimension), seed)[:, : min(2, dimension)]
    return vectors


def duplicated(count: int, dimension: int, seed: int) -> Tensor:
    return gaussian(3, dimension, seed)[torch.arange(count) % 3]


def equal_residuals(count: int, dimension: int, seed: int) -> Tensor:
    """The sampled axes see nothing: all of the difference is outside of them, or inside, in turn."""
    vectors = 1e-3 * gaussian(count, dimension, seed)
    vectors[torch.arange(count), torch.arange(count) % dimension] += 1.0
    return vectors


def of_every_length(count: int, dimension: int, seed: int) -> Tensor:
    return gaussian(count, dimension, seed) * torch.logspace(-12, 12, max(1, count))[:, None]


SHAPES: list[Callable[[int, int, int], Tensor]] = [
    gaussian,
    uniform_cube,
    clustered,
    far_from_the_origin,
    flat,
    duplicated,
    equal_residuals,
    of_every_length,
]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("minimum", MINIMA)
def test_every_pair_of_the_brute_force_is_found_once(shape: Callable[[int, int, int], Tensor], minimum: float) -> None:
    for dimension in (1, 2, 3, 40):
        check(shape(100, dimension, dimension), minimum)


@pytest.mark.usefixtures("engine")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.sampled_from(SHAPES),
    count=st.integers(0, 90),
    dimension=st.integers(1, 30),
    seed=st.integers(0, 1000),
    minimum=st.one_of(st.sampled_from(MINIMA), st.floats(-1, 1)),
    plan=st.builds(
        JoinPlan,
        dimensions=st.integers(1, 30),
        cell_rows=st.integers(1, 40),
        span_rows=st.integers(1, 100),
        block_pairs=st.sampled_from([1, 1000]),
    ),
)
def test_no_plan_changes_the_result(
    shape: Callable[[int, int, int], Tensor], count: int, dimension: int, seed: int, minimum: float, plan: JoinPlan
) -> None:
    check(shape(count, dimension, seed), minimum, plan)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65])
def test_sizes_around_a_cell_and_a_span_lose_nothing(count: int) -> None:
    for minimum in (-1.0, 0.5, 0.9):
        check(clustered(count, 9, count), minimum)


@pytest.mark.usefixtures("engine")
def test_plan_of_its_own_choice_finds_the_same() -> None:
    vectors = clustered(700, 300, 0).half()  # more dimensions than are rotated at once
    assert check(vectors, 0.95, None) > 0
    assert check(vectors, 0.95, plan_join(vectors, 0.95)) > 0


@pytest.mark.usefixtures("engine")
def test_half_precision_gives_what_the_same_numbers_in_float32_do() -> None:
    vectors = clustered(200, 24, 3).half()
    assert join(vectors, 0.9) == join(vectors.float(), 0.9)


@pytest.mark.usefixtures("engine")
def test_pair_exactly_on_the_threshold_is_in_and_one_ulp_above_it_is_out() -> None:
    vectors = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert join(vectors, 0.6) == {(0, 1): 0.6}
    assert (0, 1) not in join(vectors, math.nextafter(0.6, 1.0))


@pytest.mark.usefixtures("engine")
def test_threshold_at_the_cosine_of_each_pair_in_turn_keeps_that_pair() -> None:
    vectors = clustered(24, 12, 5)
    exact = exact_cosines(vectors)
    for i in range(0, 24, 5):
        for j in range(i + 1, 24, 3):
            assert check(vectors, float(exact[i, j])) > check(vectors, math.nextafter(float(exact[i, j]), 2.0))


@pytest.mark.usefixtures("engine")
def test_pairs_whose_whole_difference_lies_along_the_axes_touch_the_bound_and_are_kept() -> None:
    # Points of a circle in a plane that the axes span: the bound is an equality, the margin alone keeps the pair.
    angles = torch.arange(60) * 0.05
    vectors = torch.zeros(60, 64)
    vectors[:, 3], vectors[:, 40] = angles.cos(), angles.sin()
    minimum = float(exact_cosines(vectors)[0, 6])
    assert check(vectors, minimum) >= 60 - 7


def on_the_bound(dimension: int, axes: int, radius: float, apart: float, seed: int) -> Tensor:
    """(60, dimension) unit rows, row i and row i + 30 all as far `apart`, and every difference along the same few axes.

    They lie on a small sphere of `radius` around one direction, in `axes` dimensions of a random turn of space: there
    the bound is an equality, and what it allows for rounding is all that keeps a pair.
    """
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator).double())[0]
    one, across = torch.randn(2, 30, axes, generator=generator).double()
    one = torch.nn.functional.normalize(one)
    across = torch.nn.functional.normalize(across - (across * one).sum(1, keepdim=True) * one)
    cosine = 1 - (apart / radius) ** 2 / 2  # on the small sphere
    both = torch.cat([one, cosine * one + math.sqrt(max(0.0, 1 - cosine**2)) * across])
    rows: Tensor = radius * both @ turn[:axes] + math.sqrt(1 - radius**2) * turn[axes]
    return rows.float()


@pytest.mark.usefixtures("engine")
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    extra=st.integers(1, 60),
    axes=st.integers(2, 20),
    radius=st.floats(0.05, 0.999),
    share=st.floats(0.001, 1.9),
    seed=st.integers(0, 10_000),
    half=st.booleans(),
)
def test_pairs_on_the_bound_and_on_the_threshold_are_kept(
    extra: int, axes: int, radius: float, share: float, seed: int, half: bool
) -> None:
    vectors = on_the_bound(axes + extra, axes, radius, share * radius, seed)
    vectors = vectors.half() if half else vectors
    cosines = exact_cosines(vectors)[torch.arange(30), torch.arange(30, 60)]
    plan = JoinPlan(dimensions=axes, cell_rows=16, span_rows=32, block_pairs=50)
    assert check(vectors, float(cosines.min()), plan) >= 30


@pytest.mark.parametrize("layout", [Layout(), Layout(torch.bfloat16, 32)])
def test_points_of_a_pair_are_never_farther_apart_than_reach_and_always_score(layout: Layout) -> None:
    for shape in SHAPES:
        rows = UnitRows(shape(120, 33, 1))
        exact = exact_cosines(rows.vectors)
        axes = principal_axes(rows.block(0, 120))[:, :9]
        for minimum, precise in itertools.product(MINIMA, (torch.float32, torch.float64)):
            with Cores(rows.device) as cores:
                points = place_points(rows, axes.to(precise), minimum, layout, cores)
            values = points.values.double()
            apart = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
            wanted = exact >= minimum
            assert bool((apart[wanted] <= points.reach).all())
            exactly = rows.block(0, 120).double() @ axes.double()
            truly_apart = torch.cdist(exactly, exactly, compute_mode="donot_use_mm_for_euclid_dist")
            allowed = points.reach - stretch(axes) * largest_distance(33, minimum)
            assert bool(((apart - truly_apart).abs() <= allowed).all())  # of every pair, so the allowance does it alone
            left, right = points.left(3), points.right(torch.arange(123))
            scores = left.float() @ right.float().T
            assert bool((scores[:120, :120][wanted] >= 0).all())
            apart_score = points.half_squares + points.half_squares[:, None] - values @ values.T  # |x - y|^2 / 2
            exact_scores = points.reach**2 / 2 + points.error - apart_score
            assert bool(((scores[:120, :120] - exact_scores).abs() <= points.error).all())
            assert bool((scores[120:] < 0).all())
            assert bool((scores[:, 120:] < 0).all())


def test_axes_are_orthonormal_whatever_the_sample() -> None:
    for sample in (
        torch.zeros(5, 300),
        torch.ones(1, 300),
        gaussian(4, 300, 0),
        1e6 + gaussian(50, 300, 0),
        flat(9, 20, 0),
    ):
        axes = principal_axes(sample)
        assert torch.allclose(axes.T @ axes, torch.eye(axes.shape[1], dtype=torch.float64), atol=1e-12)


def test_cells_hold_every_row_once_and_none_is_over_full() -> None:
    points = duplicated(100, 4, 0)
    with Cores(points.device) as cores:
        cells = partition(points, 10, 16, 0, cores)
    assert cells.order.sort().values.tolist() == list(range(100))
    sizes = torch.tensor(cells.starts).diff()
    assert cells.starts[-1] == 100
    assert 1 <= int(sizes.min()) <= int(sizes.max()) <= 16


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("shape", SHAPES)
def test_cells_found_in_two_steps_lose_nothing(
    shape: Callable[[int, int, int], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blindpairs.selfjoin.cells.ONE_STEP_CELLS", 3)
    check(shape(150, 20, 0), 0.95)


@pytest.mark.usefixtures("engine")
def test_all_identical_vectors_are_all_pairs_in_blocks_of_bounded_size() -> None:
    vectors = torch.ones(300, 5)
    blocks = list(similar_pairs(vectors, 0.99, plan=SMALL))
    assert sum(map(len, blocks)) == 300 * 299 // 2
    assert max(map(len, blocks)) <= SMALL.block_pairs + SMALL.cell_rows * SMALL.span_rows


@pytest.mark.usefixtures("engine")
def test_other_vectors_give_their_cosine_for_every_pair_found() -> None:
    for minimum in (0.95, 0.0):  # few pairs, checked one by one; and many, by one product
        vectors, others = clustered(150, 20, 0), gaussian(150, 8, 1)
        exact = exact_cosines(others)
        seen = 0
        for block in similar_pairs(vectors, minimum, other=UnitRows(others), plan=SMALL):
            assert block.other is not None
            assert torch.equal(block.other, exact[block.i, block.j])
            seen += len(block)
        assert seen > 100


@pytest.mark.usefixtures("engine")
def test_chosen_rows_are_joined_as_if_the_others_were_not_there() -> None:
    vectors = clustered(120, 16, 0)
    vectors[5] = 0
    chosen = torch.arange(0, 120, 2)
    found = {
        (int(i), int(j))
        for b in similar_pairs(UnitRows(vectors, chosen), 0.9, plan=SMALL)
        for i, j in zip(b.i, b.j, strict=True)
    }
    assert found == set(join(vectors[chosen], 0.9))


@pytest.mark.usefixtures("engine")
def test_result_and_its_order_do_not_depend_on_the_number_of_threads() -> None:
    vectors, before = clustered(200, 16, 0), torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            runs.append([b.i.tolist() + b.similarity.tolist() for b in similar_pairs(vectors, 0.9, plan=SMALL)])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.usefixtures("engine")
def test_lower_precision_of_products_is_allowed_for() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        check(clustered(100, 40, 2), 0.95)
    finally:
        torch.set_float32_matmul_precision(before)


def test_leaving_off_in_the_middle_ends_the_threads() -> None:
    before = threading.active_count()
    pairs = similar_pairs(torch.ones(300, 5), 0.9, plan=SMALL)
    next(pairs)
    pairs.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.usefixtures("engine")
def test_progress_begins_with_nothing_and_ends_at_the_total() -> None:
    calls: list[tuple[int, int]] = []
    list(similar_pairs(torch.ones(100, 5), 0.9, plan=SMALL, progress=lambda *call: calls.append(call[:2])))
    assert [done for done, _ in calls] == list(range(calls[-1][1] + 1))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("chosen", [torch.arange(300)[::2], torch.arange(0, 300, 2).int()])
def test_chosen_rows_may_come_as_any_tensor_of_numbers(chosen: Tensor) -> None:
    vectors = clustered(300, 9, 1)
    found = {(i, j) for block in similar_pairs(UnitRows(vectors, chosen), 0.9, plan=SMALL) for i, j in pairs_of(block)}
    assert found == join(vectors[::2], 0.9).keys()


@pytest.mark.parametrize("chosen", [[0, 300], [-1, 4]])
def test_chosen_row_that_there_is_not_is_refused(chosen: list[int]) -> None:
    with pytest.raises(InputError, match=r"300 vectors cannot choose numbers from (0 to 300|-1 to 4)"):
        UnitRows(torch.ones(300, 5), torch.tensor(chosen))


def test_other_vectors_of_another_number_are_refused() -> None:
    with pytest.raises(InputError, match="there are 300 vectors to join and 10 other vectors"):
        list(similar_pairs(torch.ones(300, 5), 0.5, other=UnitRows(torch.ones(10, 5))))


@pytest.mark.parametrize("chosen", [None, torch.arange(0, 300, 2)])
@pytest.mark.parametrize("count", [20, 1000])
def test_part_holds_the_rows_of_the_sample(chosen: Tensor | None, count: int) -> None:
    rows = UnitRows(torch.randn(300, 5, generator=torch.Generator().manual_seed(0)), chosen)
    part = rows.part(count, seed=3)
    assert torch.equal(part.block(0, part.count), rows.sample(count, seed=3))
    assert part.vectors is rows.vectors


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_row_without_direction_is_refused_by_its_number(value: float) -> None:
    vectors = torch.ones(10, 3)
    vectors[6] = value
    with pytest.raises(InputError, match="vector 6 has no direction"):
        list(similar_pairs(vectors, 0.9))


@pytest.mark.parametrize("vectors", [torch.ones(4), torch.ones(4, 0), torch.ones(4, 2, dtype=torch.int32)])
def test_what_is_no_matrix_of_floats_is_refused(vectors: Tensor) -> None:
    with pytest.raises(InputError, match=r"needs an \(N, D\) matrix"):
        list(similar_pairs(vectors, 0.9))


@pytest.mark.parametrize("minimum", [1.01, -1.5, math.nan])
def test_minimum_that_is_no_cosine_is_refused(minimum: float) -> None:
    with pytest.raises(ConfigError, match="between -1 and 1"):
        list(similar_pairs(torch.ones(4, 2), minimum))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dimension", [1, 17, 128, 129, 300])
def test_pair_cosines_are_those_of_the_join(dimension: int) -> None:
    vectors = gaussian(50, dimension, 0)
    i, j = torch.triu_indices(50, 50, 1)
    assert torch.equal(pair_cosines(UnitRows(vectors), i, j), exact_cosines(vectors)[i, j])


@pytest.mark.parametrize(
    "array",
    [
        lambda vectors: vectors,
        lambda vectors: vectors.astype(np.float16).astype(np.float32),
        lambda vectors: vectors[::-1],  # torch has no negative strides
        lambda vectors: np.asfortranarray(vectors),
        lambda vectors: np.repeat(vectors, 2, axis=1)[:, ::2],
    ],
)
def test_numpy_arrays_are_joined_as_tensors_are(array: Callable[[np.ndarray], np.ndarray]) -> None:
    vectors = array(clustered(80, 12, 0).numpy())
    before = vectors.copy()
    vectors.flags.writeable = False
    found = {pair for block in similar_pairs(vectors, 0.9) for pair in pairs_of(block)}
    assert found == join(torch.from_numpy(before), 0.9).keys()
    assert np.array_equal(vectors, before)


@pytest.mark.parametrize("vectors", [np.ones((4, 2)), np.ones((4, 2), ">f4"), np.ones((4, 2), int)])
def test_numpy_array_of_another_type_is_refused(vectors: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"matrix of float16 or float32, this one is"):
        list(similar_pairs(vectors, 0.9))


@pytest.mark.parametrize("plan", [None, SMALL])
def test_plan_does_not_choose_the_engine(plan: JoinPlan | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Hardware] = []

    def on_gpus(*arguments: object) -> Iterator[PairBlock]:
        asked.append(arguments[-1])  # type: ignore[arg-type]
        yield from ()

    monkeypatch.setattr("blindpairs.selfjoin.join._on_gpus", on_gpus)
    hardware = Hardware("cpu")
    hardware.gpus = ("cuda:0",)
    assert list(similar_pairs(torch.ones(5, 2), 0.9, plan=plan, hardware=hardware)) == []
    assert asked == [hardware]
