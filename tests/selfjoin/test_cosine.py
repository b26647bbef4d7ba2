"""The cosine that decides: near the real number, exact where that can be, and the same bits by every engine."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
import torch
from exact_cosines import defined_cosine, exact_cosines, real_cosine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_join import check, clustered, engine, gaussian, join, pairs_of  # noqa: F401
from torch import Tensor

from blindpairs.index import ApproximateJoin
from blindpairs.mine import MiningOptions
from blindpairs.mine.ranking import KeptPairs
from blindpairs.selfjoin import JoinPlan, UnitRows, pair_cosines, similar_pairs
from blindpairs.selfjoin.cosine import cosine_error

SLOW = [HealthCheck.function_scoped_fixture]
EVERY_KIND: dict[str, Callable[[Tensor], Tensor]] = {
    "as any": lambda rows: rows,
    "float16": lambda rows: rows.half(),
    "float16 denormals": lambda rows: (rows * 2.0**-22).half(),
    "float16, large": lambda rows: (rows * 8000).clamp(-65504, 65504).half(),
    "float32 of 1e-29": lambda rows: rows * 1e-29,
    "float32 of 1e37": lambda rows: rows / rows.norm(dim=1, keepdim=True).max() * 1e37,
    "float32 of 3e38": lambda rows: rows / rows.norm(dim=1, keepdim=True).max() * 3e38,
    "one number far above the rest": lambda rows: rows + 1e6 * torch.eye(*rows.shape),
}


def with_direction(rows: Tensor) -> Tensor:
    return rows[(rows.double().norm(dim=1) > 1e-29) & rows.float().isfinite().all(1)]


def cosines_of(vectors: Tensor) -> list[float]:
    """Of every row with the first."""
    others = torch.arange(1, len(vectors))
    found: list[float] = pair_cosines(UnitRows(vectors), torch.zeros_like(others), others).tolist()
    return found


@settings(max_examples=60, deadline=None)
@given(dimension=st.integers(1, 400), seed=st.integers(0, 1000), kind=st.sampled_from(sorted(EVERY_KIND)))
def test_definition_is_as_near_the_real_cosine_as_its_error_says(dimension: int, seed: int, kind: str) -> None:
    rows = with_direction(EVERY_KIND[kind](clustered(8, dimension, seed))).numpy()
    exact = exact_cosines(rows)
    for i, j in ((0, 1), (0, 7), (3, 4)):
        if max(i, j) < len(rows):
            assert exact[i, j] == exact[j, i] == defined_cosine(rows[i], rows[j])
            assert abs(real_cosine(rows[i], rows[j]) - Decimal(exact[i, j])) <= cosine_error(dimension)


@pytest.mark.usefixtures("engine")
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(
    dimension=st.sampled_from([1, 2, 7, 8, 9, 40, 127, 128, 129, 300]),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(sorted(EVERY_KIND)),
    minimum=st.sampled_from([-1.0, -0.5, 0.0, 0.6, 1.0]),
)
def test_every_engine_has_the_same_bits_for_every_kind_of_vector(
    dimension: int, seed: int, kind: str, minimum: float
) -> None:
    check(with_direction(EVERY_KIND[kind](clustered(40, dimension, seed))), minimum)


@pytest.mark.usefixtures("engine")
@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(dimension=st.integers(1, 200), seed=st.integers(0, 1000), pair=st.tuples(st.integers(0, 23), st.integers(0, 23)))
def test_pair_on_the_threshold_is_found_and_one_step_above_it_is_not(
    dimension: int, seed: int, pair: tuple[int, int]
) -> None:
    vectors, (i, j) = clustered(24, dimension, seed), sorted(pair)
    if i == j:
        return
    cosine = float(exact_cosines(vectors)[i, j])
    assert join(vectors, cosine)[i, j] == cosine
    if cosine < 1:
        assert (i, j) not in join(vectors, math.nextafter(cosine, 1.0))


def repeated(rows: Tensor, factors: Sequence[float]) -> Tensor:
    return torch.cat([rows * factor for factor in factors])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("dimension", [1, 3, 64, 768])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.25, -1.0, -4.0])
def test_equal_vectors_are_exactly_one_and_opposite_ones_exactly_minus_one(
    dimension: int, dtype: torch.dtype, factor: float
) -> None:
    # Vectors that float16 holds with room for the factors; a power of two is then exact.
    vectors = repeated(gaussian(20, dimension, dimension).half() / 4 + 1, [1.0, factor]).to(dtype)
    found = join(vectors, 1.0 if factor > 0 else -1.0)
    assert all(found[row, row + 20] == math.copysign(1.0, factor) for row in range(20))
    assert all(-1.0 <= cosine <= 1.0 for cosine in join(vectors, -1.0).values())


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("factor", [3.0, -3.0, 4097.0])
def test_other_multiples_are_one_within_the_error(factor: float) -> None:
    vectors = (gaussian(20, 100, 0) * 64).round()  # small integers: a multiple of one is a float32 again
    found = join(repeated(vectors, [1.0, factor]), -1.0)
    for row in range(20):
        assert 1 - cosine_error(100) <= abs(found[row, row + 20]) <= 1


@pytest.mark.usefixtures("engine")
def test_orthogonal_vectors_are_at_zero_and_met_by_a_minimum_of_zero() -> None:
    vectors = torch.eye(40)
    assert len(join(vectors, 0.0)) == 40 * 39 // 2
    assert join(vectors, math.nextafter(0.0, 1.0)) == {}
    assert set(join(torch.cat([vectors, -vectors]), 0.0).values()) == {0.0}


@pytest.mark.usefixtures("engine")
def test_rows_that_compiled_code_cannot_read_have_the_same_cosines() -> None:
    vectors = clustered(60, 150, 2)
    apart = torch.empty(150, 60).copy_(vectors.T).T  # a column's numbers lie side by side
    assert not UnitRows(apart).dense
    assert join(apart, 0.5) == join(vectors, 0.5)
    assert torch.equal(UnitRows(apart).squares, UnitRows(vectors).squares)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("minimum", [1.0, 0.9999999])
def test_index_finds_equal_vectors_as_the_join_does(minimum: float) -> None:
    vectors = gaussian(60, 48, 1)[torch.arange(90) % 60]
    found = {
        pair: float(cosine)
        for block in ApproximateJoin("flat")(UnitRows(vectors), minimum)
        for pair, cosine in zip(pairs_of(block), block.similarity, strict=True)
    }
    assert found == join(vectors, minimum)
    assert len(found) == 30


@pytest.mark.parametrize("dimension", [3, 64, 768])
def test_picture_is_near_itself_whatever_the_thresholds(dimension: int) -> None:
    rows = UnitRows(gaussian(80, dimension, dimension).half())
    kept = KeptPairs(rows, rows, MiningOptions(clip_min=1.0, top=40), 40)
    for i in range(0, 80, 2):
        assert not kept.similar_to(i, i + 1)
        kept.add(i, i + 1)
    assert all(kept.similar_to(i, i + 1) and kept.similar_to(i + 1, i) for i in range(0, 80, 2))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("longest", [1.0, 1e-29, 3e38])
@pytest.mark.parametrize("dimension", [2, 3, 4])
def test_no_equal_pair_is_dropped_by_the_rough_cosine(dimension: int, longest: float) -> None:
    # Few dimensions: what is allowed for the sum is small there, and lengths and scales are all that is left.
    rows = torch.nn.functional.normalize(gaussian(2000, dimension, 0), dim=1) * torch.linspace(0.3, 1, 2000)[:, None]
    vectors = (rows * longest).repeat(2, 1)
    roomy = JoinPlan(dimensions=dimension, cell_rows=192, span_rows=32768, block_pairs=1 << 18)
    found = {pair for block in similar_pairs(vectors, 1.0, plan=roomy) for pair in pairs_of(block)}
    assert {(row, row + 2000) for row in range(2000)} <= found


@pytest.mark.usefixtures("engine")
def test_long_vectors_lose_no_pair_where_the_process_flushes_denormals() -> None:
    vectors = torch.nn.functional.normalize(gaussian(60, 20, 0), dim=1).repeat(2, 1) * 3e38  # 1 / length is a denormal
    wanted = join(vectors, 1.0)
    torch.set_flush_denormal(True)  # as a library built with -ffast-math does for everybody
    try:
        assert join(vectors, 1.0) == wanted
    finally:
        torch.set_flush_denormal(False)
    assert len(wanted) == 60
