"""Scores of 2 x 2 blocks equal those of the published formulas, computed slowly, whatever the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blindpairs.evaluate.matching import Blocks, MatchingScores, score_blocks
from blindpairs.statistics import Rate, wilson_interval

# Few values, so that ties are frequent.
TIED = arrays(
    np.float64, st.tuples(st.integers(1, 12), st.just(2), st.just(2)), elements=st.sampled_from([0, 0.2, 0.3])
)


def by_the_official_script(block: Blocks) -> tuple[str, str]:
    """The predictions of tsb0601/MMVP, scripts/evaluate_vlm.py: for each text a softmax over the two images."""
    predictions = []
    for logits in 100 * block:
        shares = np.exp(logits - logits.max())
        predictions.append("img1" if (shares / shares.sum())[0] > 0.5 else "img2")
    return predictions[0], predictions[1]


def slowly(blocks: Blocks) -> dict[str, int]:
    """How many pairs each published formula calls right, one pair at a time."""
    found = dict.fromkeys(("image", "text", "group", "match", "confusion", "ties"), 0)
    for block in blocks:
        (c0_i0, c0_i1), (c1_i0, c1_i1) = block
        predicted = by_the_official_script(block)
        text = c0_i0 > c1_i0 and c1_i1 > c0_i1
        found["image"] += predicted == ("img1", "img2")
        found["text"] += bool(text)
        found["group"] += bool(text and c0_i0 > c0_i1 and c1_i1 > c1_i0)
        found["match"] += bool(c0_i0 + c1_i1 > c0_i1 + c1_i0)
        found["confusion"] += predicted[0] == predicted[1]
        found["ties"] += c0_i0 == c0_i1 or c1_i1 == c1_i0 or c0_i0 == c1_i0 or c1_i1 == c0_i1
    return found


def hits(scores: MatchingScores) -> dict[str, int]:
    return {name: rate.hits for name, rate in scores.rates().items()} | {"ties": scores.ties}


@given(TIED)
@settings(deadline=None)
def test_scores_are_those_of_the_published_formulas_ties_included(blocks: Blocks) -> None:
    assert hits(score_blocks(blocks)) == slowly(blocks)


@given(TIED, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_of_the_pairs_changes_nothing(blocks: Blocks, random: object) -> None:
    order = list(range(len(blocks)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert score_blocks(blocks[order]) == score_blocks(blocks)


@given(TIED)
@settings(deadline=None)
def test_exchanging_the_sides_changes_only_who_gets_a_tie(blocks: Blocks) -> None:
    before, after = score_blocks(blocks), score_blocks(blocks[:, ::-1, ::-1])
    assert (before.text, before.group, before.match, before.ties) == (after.text, after.group, after.match, after.ties)
    untied = blocks[[len(set(block.ravel())) == 4 for block in blocks + np.arange(4).reshape(2, 2) * 1e-3]]
    untied = untied + np.arange(4).reshape(2, 2) * 1e-3
    assert score_blocks(untied) == score_blocks(untied[:, ::-1, ::-1])


def test_exchanged_statements_turn_a_right_match_into_a_wrong_one() -> None:
    blocks = np.random.default_rng(0).normal(size=(500, 2, 2))
    before, after = score_blocks(blocks), score_blocks(blocks[:, ::-1])
    assert before.match.hits + after.match.hits == 500
    assert before.confusion == after.confusion


def test_independent_similarities_score_what_guessing_does() -> None:
    scores = score_blocks(np.random.default_rng(1).normal(size=(60_000, 2, 2)))
    shares = {name: round(rate.share, 2) for name, rate in scores.rates().items()}
    assert shares == {"image": 0.25, "text": 0.25, "group": 0.17, "match": 0.5, "confusion": 0.5}


def test_statements_that_the_model_takes_for_one_score_far_below_guessing_and_match_at_half() -> None:
    generator = np.random.default_rng(2)
    one = generator.normal(size=(4000, 1, 2)) + generator.normal(size=(4000, 2, 2)) * 0.05
    scores = score_blocks(one)
    assert scores.image.share < 0.05
    assert scores.confusion.share > 0.9
    assert scores.match.share == pytest.approx(0.5, abs=0.03)


def test_rates_have_wilson_intervals_and_no_pairs_have_none() -> None:
    blocks = np.array([[[0.3, 0.2], [0.1, 0.4]]] * 26 + [[[0.2, 0.3], [0.1, 0.4]]] * 109)
    assert score_blocks(blocks).image == Rate(26, 135, wilson_interval(26 / 135, 135))
    assert score_blocks(blocks[:0]).image == Rate(0, 0, None)
