"""Scores hold to a slow count, whatever the order of the answers; what is missing is named, never left out."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.errors import InputError
from blindpairs.evaluate.scores import Key, by_pattern, keys_of, outcomes, score

FIRST, SECOND = Question("?", ("x", "y"), (0, 1)), Question("?", ("x", "y"), (1, 0))


def benchmark(count: int, second: bool = True) -> Benchmark:
    pairs = [
        BenchmarkPair(
            f"{number:016x}",
            f"a{number}",
            f"b{number}",
            question=FIRST if number % 3 else SECOND,
            second=(SECOND if number % 3 else FIRST) if second else None,
            patterns=(("Text", "Color and Appearance")[number % 2],),
        )
        for number in range(count)
    ]
    return Benchmark("made", tuple(pairs), HeldImages({}), ("Text", "Color and Appearance", "State and Condition"))


def answered(made: Benchmark, seed: int) -> dict[Key, int | None]:
    draw = random.Random(seed)
    return {key: draw.choice((0, 1, 1, None)) for pair in made.pairs for key in keys_of(pair)}


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(0, 10_000), st.booleans())
def test_scores_equal_a_count_by_hand(count: int, seed: int, second: bool) -> None:
    made = benchmark(count, second)
    given_answers = answered(made, seed)
    got = score(outcomes(made.pairs, given_answers))

    def right(pair: BenchmarkPair, side: int, which: str) -> bool:
        question = pair.question if which == "first" else pair.second
        assert question
        return given_answers[pair.pair_id, "ab"[side], which] == question.answers[side]  # type: ignore[index]

    def both(pair: BenchmarkPair) -> list[int | None]:
        return [given_answers[pair.pair_id, side, "first"] for side in "ab"]

    options = [option for pair in made.pairs for option in both(pair)]
    valid = [both(pair) for pair in made.pairs if None not in both(pair)]
    assert got.pair_accuracy.hits == sum(right(p, 0, "first") and right(p, 1, "first") for p in made.pairs)
    assert got.question_accuracy.hits == sum(right(p, side, "first") for p in made.pairs for side in (0, 1))
    assert (got.confusion.hits, got.confusion.count) == (sum(a == b for a, b in valid), len(valid))
    assert (got.invalid.hits, got.invalid.count) == (options.count(None), 2 * count)
    assert (got.first_option.hits, got.first_option.count) == (options.count(0), 2 * count - options.count(None))
    if not second:
        assert got.group_accuracy is got.second_accuracy is got.image_accuracy is None
        return
    # As naturalbench_vqa.py has them, in its own cells.
    cells = {p.pair_id: {(q, i): right(p, i, q) for q in ("first", "second") for i in (0, 1)} for p in made.pairs}
    assert got.group_accuracy
    assert got.second_accuracy
    assert got.image_accuracy
    assert got.group_accuracy.hits == sum(all(one.values()) for one in cells.values())
    assert got.second_accuracy.hits == sum(
        one[q, 0] and one[q, 1] for one in cells.values() for q in ("first", "second")
    )
    assert got.image_accuracy.hits == sum(
        one["first", i] and one["second", i] for one in cells.values() for i in (0, 1)
    )


def test_order_of_the_answers_and_answers_of_other_pairs_change_nothing() -> None:
    made = benchmark(12)
    given_answers = answered(made, 1)
    shuffled = list(given_answers.items())
    random.Random(2).shuffle(shuffled)
    other: dict[Key, int | None] = {("f" * 16, "a", "first"): 1}
    assert score(outcomes(made.pairs, other | dict(shuffled))) == score(outcomes(made.pairs, given_answers))


def test_missing_answer_is_an_error_that_names_its_pair_and_side() -> None:
    made = benchmark(3, second=False)
    given_answers = answered(made, 1)
    del given_answers[made.pairs[1].pair_id, "b", "first"]
    with pytest.raises(
        InputError, match=f"1 answers of 1 pairs are missing, such as that of image b of pair {made.pairs[1].pair_id}"
    ):
        outcomes(made.pairs, given_answers)


def test_same_answer_to_everything_is_right_about_no_pair_and_always_confused() -> None:
    made = benchmark(200)
    got = score(outcomes(made.pairs, dict.fromkeys(answered(made, 0), 0)))
    assert (got.pair_accuracy.share, got.question_accuracy.share, got.confusion.share) == (0.0, 0.5, 1.0)
    assert got.first_option.share == 1.0
    assert got.question_accuracy.interval == (0.5, 0.5)  # every pair has one right answer: nothing varies between them


def test_few_pairs_have_no_bootstrap_interval_and_a_wilson_interval() -> None:
    made = benchmark(134)
    got = score(outcomes(made.pairs, answered(made, 0)))
    assert got.question_accuracy.interval is None
    assert got.pair_accuracy.interval is not None


def test_patterns_are_scored_apart_and_empty_ones_left_out() -> None:
    made = benchmark(9, second=False)
    truth = {
        (p.pair_id, side, "first"): p.question.answers[n]
        for p in made.pairs
        for n, side in enumerate("ab")
        if p.question
    }
    wrong = {key: 1 - value if int(key[0], 16) % 2 else value for key, value in truth.items()}
    got = by_pattern(made, outcomes(made.pairs, wrong))  # type: ignore[arg-type]
    assert {name: (one.pair_accuracy.hits, one.pair_accuracy.count) for name, one in got.items()} == {
        "Text": (5, 5),
        "Color and Appearance": (0, 4),
    }
    two = replace(made.pairs[0], patterns=("Text", "State and Condition"))
    assert list(by_pattern(made, outcomes([two], truth))) == ["Text", "State and Condition"]  # type: ignore[arg-type]
