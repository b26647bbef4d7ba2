"""Correlations have the paper's values, the textbook's intervals, and p-values that a slow count of orders confirms."""

import itertools
import math

import numpy as np
import pytest

from blindpairs.errors import InputError
from blindpairs.evaluate.correlation import Coefficient, correlate, mean_accuracies, permutation_p
from blindpairs.evaluate.published import load_published, table_values

CLIP_OF_THE_PAPER = ("OpenAI ViT-L-14 224", "OpenAI ViT-L-14 336", "EVA01 ViT-g-14 224")


def by_pattern(table: str) -> dict[str, dict[str, float]]:
    """The published accuracies of each model by pattern."""
    found: dict[str, dict[str, float]] = {}
    for one in table_values(load_published(), table):
        if one.pattern:
            found.setdefault(one.model, {})[one.pattern] = one.value
    return found


@pytest.fixture(scope="module")
def clip() -> dict[str, float]:
    rows = by_pattern("mmvp_vlm")
    return mean_accuracies([rows[name] for name in CLIP_OF_THE_PAPER])


def test_curve_of_clip_in_the_paper_is_the_mean_of_three_rows_of_its_table(clip: dict[str, float]) -> None:
    assert {pattern: round(value, 1) for pattern, value in clip.items()} == by_pattern("by_pattern")["CLIP"]


@pytest.mark.parametrize(
    ("model", "r", "published", "low", "high"),
    [("LLaVA-1.5", 0.870, 0.87, 0.49, 0.97), ("Gemini", 0.721, 0.72, 0.11, 0.94), ("GPT-4", 0.308, 0.31, -0.45, 0.81)],
)
def test_correlations_of_the_paper_come_out(
    clip: dict[str, float], model: str, r: float, published: float, low: float, high: float
) -> None:
    got = correlate(clip, by_pattern("by_pattern")[model], ("mean of three CLIP models", model))
    assert got.pearson.value == pytest.approx(r, abs=5e-4)
    (printed,) = [one.value for one in table_values(load_published(), "correlations") if one.model == model]
    assert round(got.pearson.value, 2) == printed == published
    assert got.pearson.interval == pytest.approx((low, high), abs=5e-3)
    assert got.pearson.exact


def test_sentence_names_both_models_and_gives_n_intervals_and_p_values(clip: dict[str, float]) -> None:
    got = correlate(clip, by_pattern("by_pattern")["GPT-4"], ("mean CLIP", "GPT-4"))
    assert got.sentence == (
        "GPT-4 and mean CLIP over 9 patterns: Pearson r = 0.31 (-0.45 to 0.81), p = 0.42; "
        "Spearman rho = 0.14 (-0.58 to 0.74), p = 0.72"
    )


def test_choice_of_clip_decides_the_correlation() -> None:
    llava = by_pattern("by_pattern")["LLaVA-1.5"]
    found = {
        name: round(correlate(row, llava, (name, "LLaVA-1.5")).pearson.value, 2)
        for name, row in by_pattern("mmvp_vlm").items()
    }
    assert (min(found, key=lambda name: found[name]), min(found.values())) == ("OpenAI ViT-L-14 336", 0.32)
    assert (max(found, key=lambda name: found[name]), max(found.values())) == ("OpenAI ViT-L-14 224", 0.88)


def test_order_of_the_patterns_changes_nothing(clip: dict[str, float]) -> None:
    model = by_pattern("by_pattern")["Gemini"]
    turned = correlate(clip, dict(reversed(model.items())), ("CLIP", "Gemini"))
    assert turned == correlate(clip, model, ("CLIP", "Gemini"))


@pytest.mark.parametrize("count", [3, 5, 6])
def test_exact_p_value_counts_all_orders(count: int) -> None:
    draw = np.random.default_rng(count)
    x, y = draw.integers(0, 4, count).astype(float), draw.integers(0, 4, count).astype(float)
    x[0], y[0] = 7, 9
    strong = [
        abs(np.corrcoef(x, np.array(order))[0, 1]) >= abs(np.corrcoef(x, y)[0, 1]) - 1e-9
        for order in itertools.permutations(y)
    ]
    assert permutation_p(x, y) == pytest.approx(np.mean(strong))


def test_drawn_orders_agree_with_all_of_them_and_repeat_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    x = draw.random(9)
    y = x + draw.normal(0, 0.5, 9)
    exact = permutation_p(x, y)
    monkeypatch.setattr("blindpairs.evaluate.correlation.MOST_EXACT", 8)
    drawn = permutation_p(x, y, seed=1)
    assert drawn == permutation_p(x, y, seed=1)
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 100_000))
    names = [str(one) for one in range(9)]
    got = correlate(dict(zip(names, x, strict=True)), dict(zip(names, y, strict=True)), ("a", "b"), seed=1)
    assert (got.pearson.p, got.pearson.exact) == (drawn, False)


def test_spearman_takes_ranks_with_ties_shared() -> None:
    clip, model = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 10.0}, {"a": 1.0, "b": 3.0, "c": 2.0, "d": 90.0}
    got = correlate(clip, model, ("x", "y"))
    assert got.spearman.value == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1])
    assert got.spearman.interval
    assert got.spearman.interval[0] < got.pearson.value
    assert got.spearman.p == pytest.approx(4 / 24)  # the best two orders, and the same two turned round


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_both_intervals_cover_the_true_correlation_as_often_as_they_say(rho: float) -> None:
    drawn = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], (1000, 7))
    true_ranks = 6 / math.pi * math.asin(rho / 2)  # Spearman's rho of a normal distribution
    inside = []
    for sample in drawn:
        clip, model = (dict(zip("abcdefg", side, strict=True)) for side in sample.T)
        got = correlate(clip, model, ("CLIP", "model"))
        if got.pearson.interval and got.spearman.interval:  # all ranks in line have none
            (low, high), (lowest, highest) = got.pearson.interval, got.spearman.interval
            inside.append((low <= rho <= high, lowest <= true_ranks <= highest))
    assert len(inside) > 950
    assert np.all((np.mean(inside, axis=0) >= 0.93) & (np.mean(inside, axis=0) <= 0.985))


def test_model_that_is_equally_accurate_everywhere_has_no_correlation() -> None:
    got = correlate({"a": 0.1, "b": 0.2, "c": 0.3}, dict.fromkeys("abc", 0.3), ("CLIP", "flat"))
    assert math.isnan(got.pearson.value)
    assert (got.pearson.interval, got.pearson.p) == (None, 1.0)
    assert "undefined, because one of the two is the same everywhere" in got.sentence


def test_few_patterns_and_a_line_have_no_interval() -> None:
    line = {"a": 0.1, "b": 0.2, "c": 0.3}
    assert correlate(line, line, ("a", "b")).pearson == Coefficient(1.0, None, 2 / 6, True)
    four = line | {"d": 0.4}
    assert correlate(four, four, ("a", "b")).pearson.interval is None


def test_different_patterns_and_too_few_are_refused() -> None:
    with pytest.raises(InputError, match="have no common patterns: c is of one of them only"):
        correlate({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, ("x", "y"))
    with pytest.raises(InputError, match="three patterns at least, not 2"):
        correlate({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}, ("x", "y"))
