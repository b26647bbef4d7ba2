"""Scores are of whole sets of answers or say that they are not; controls and orders stand beside, never in between."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictured_pairs import benchmark_of
from scripted_models import with_controls

from blindpairs.benchmark import Benchmark
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import OURS, exchanged
from blindpairs.evaluate.results import Setup
from blindpairs.evaluate.scores import Key, keys_of, outcomes, questions_of, score
from blindpairs.evaluate.summary import Counts, both_orders, summarise
from blindpairs.statistics import difference_interval
from blindpairs.vlm import Failure

SETUP = Setup("model", {"kind": "test"}, OURS)
TEXTS = ("(a)", "(b)", "I cannot tell")


def answers_of(benchmark: Benchmark, seed: int = 0) -> list[Answer]:
    draw = random.Random(seed)
    return [Answer(key, draw.choice(TEXTS)) for key in questions_of(benchmark)]


def test_scores_are_those_of_the_options_that_were_read() -> None:
    benchmark = benchmark_of(20)
    answers = answers_of(benchmark)
    read: dict[Key, int | None] = {one.key: dict(zip(TEXTS, (0, 1, None), strict=True))[one.text] for one in answers}
    got = summarise(SETUP, benchmark, answers)
    assert got.blind == score(outcomes(benchmark.pairs, read))
    assert got.counts == Counts(20, 20, 80, 80, sum(option is None for option in read.values()))
    assert (got.complete, got.controls, got.difference, got.reader) == (True, None, None, "ours")
    assert (got.benchmark, got.fingerprint, got.ground_truth) == ("doors", benchmark.fingerprint, "original")


def test_answers_that_did_not_end_by_themselves_are_counted_by_how_they_did() -> None:
    benchmark = benchmark_of(2, second=None)
    ends = ("stop", "length", "length", "refused")
    answers = [replace(one, finish=end) for one, end in zip(answers_of(benchmark), ends, strict=True)]
    other = replace(answers[0], key=("another pair", "a", "first"), finish="length")
    assert summarise(SETUP, benchmark, [*answers, other]).counts.endings == {"length": 2, "refused": 1}


def test_complete_controls_never_stand_in_the_place_of_incomplete_blind_pairs() -> None:
    benchmark = with_controls(3)
    controls = {pair.pair_id for pair in benchmark.pairs if pair.control_of}
    answers = [one for one in answers_of(benchmark) if one.key[0] in controls]
    got = summarise(SETUP, benchmark, answers, complete_pairs=True)
    assert (got.blind, got.controls, got.patterns, got.counts.complete_pairs) == (None, None, {}, 3)


def test_missing_answer_gives_no_score_but_its_count() -> None:
    benchmark = benchmark_of(4)
    answers = answers_of(benchmark)[1:]
    missing = next(iter(questions_of(benchmark)))
    failures = {missing: Failure("", "timeout", "too slow"), answers[0].key: Failure("", "server", "answered since")}
    got = summarise(SETUP, benchmark, answers, failures)
    assert (got.complete, got.blind, got.patterns) == (False, None, {})
    assert (got.counts.complete_pairs, got.counts.answered, got.failures) == (3, 15, {"timeout": 1})
    assert got.fields()["scores"] is None


def test_complete_pairs_are_scored_on_request_and_say_so() -> None:
    benchmark = benchmark_of(4)
    answers = answers_of(benchmark)[1:]
    got = summarise(SETUP, benchmark, answers, complete_pairs=True)
    whole = replace(benchmark, pairs=benchmark.pairs[1:])
    assert got.blind == summarise(SETUP, whole, answers).blind
    assert (got.complete, got.fields()["of_complete_pairs_only"]) == (False, True)
    assert (
        summarise(SETUP, benchmark, answers_of(benchmark), complete_pairs=True).fields()["of_complete_pairs_only"]
        is False
    )
    assert summarise(SETUP, benchmark, [], complete_pairs=True).blind is None


def test_controls_are_scored_beside_the_blind_pairs_and_never_with_them() -> None:
    benchmark = with_controls(10)
    blind = replace(benchmark, pairs=benchmark.pairs[:10])
    controls = replace(benchmark, pairs=benchmark.pairs[10:])
    answers = answers_of(benchmark, 3)
    got = summarise(SETUP, benchmark, answers)
    assert got.blind == summarise(SETUP, blind, answers).blind
    assert got.controls == summarise(SETUP, controls, answers).blind
    assert got.difference
    assert got.controls
    assert got.blind
    one, other = got.controls.pair_accuracy, got.blind.pair_accuracy
    assert got.difference.share == one.share - other.share
    assert got.difference.interval == difference_interval((one.share, 10), (other.share, 10))
    assert {name: one.pair_accuracy.count for name, one in got.patterns.items()} == {"State and Condition": 10}


def test_missing_control_makes_the_answers_incomplete() -> None:
    benchmark = with_controls(2)
    assert summarise(SETUP, benchmark, answers_of(benchmark)[:-1]).blind is None


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_exchanged_options_change_no_score_of_a_model_that_looks(seed: int) -> None:
    benchmark = benchmark_of(6)
    answers = answers_of(benchmark, seed)
    back = {"(a)": "(b)", "(b)": "(a)"}
    others = [replace(one, text=back.get(one.text, one.text)) for one in answers]
    given_order = summarise(SETUP, benchmark, answers).blind
    other_order = summarise(replace(SETUP, exchanged=True), benchmark, others).blind
    assert given_order
    assert other_order
    assert replace(other_order, first_option=given_order.first_option) == given_order
    assert other_order.first_option.hits == given_order.first_option.count - given_order.first_option.hits
    both = both_orders(benchmark, answers, others)
    assert both
    assert both.pair_accuracy == given_order.pair_accuracy
    assert both.same_option.hits == both.same_option.count == given_order.first_option.count


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_both_orders_equal_a_count_by_hand(seed: int) -> None:
    benchmark = benchmark_of(5)
    given_order, other_order = answers_of(benchmark, seed), answers_of(benchmark, seed + 1)
    got = both_orders(benchmark, given_order, other_order)
    one = {answer.key: {"(a)": "Open", "(b)": "Closed"}.get(answer.text) for answer in given_order}
    other = {answer.key: {"(a)": "Closed", "(b)": "Open"}.get(answer.text) for answer in other_order}
    right, same, readable = 0, 0, 0
    for pair in benchmark.pairs:
        keys = [key for key in keys_of(pair) if key[2] == "first"]
        right += all(one[key] == other[key] == ("Open" if key[1] == "a" else "Closed") for key in keys)
        same += sum(one[key] == other[key] for key in keys if one[key] and other[key])
        readable += sum(bool(one[key] and other[key]) for key in keys)
    assert got
    assert (got.pair_accuracy.hits, got.pair_accuracy.count) == (right, 5)
    assert (got.same_option.hits, got.same_option.count) == (same, readable)


def test_both_orders_need_both() -> None:
    benchmark = benchmark_of(3)
    answers = answers_of(benchmark)
    assert both_orders(benchmark, answers, []) is None
    assert both_orders(benchmark, [one for one in answers if one.key[1] == "a"], answers) is None


def test_always_the_first_option_is_right_about_no_pair_and_the_same_in_no_order() -> None:
    benchmark = benchmark_of(3)
    answers = [Answer(key, "(a)") for key in questions_of(benchmark)]
    got = both_orders(benchmark, answers, [Answer(key, "(a)") for key in questions_of(exchanged(benchmark))])
    assert got
    assert (got.pair_accuracy.hits, got.same_option.hits, got.same_option.count) == (0, 0, 6)


def test_fields_have_every_number_with_what_it_rests_on() -> None:
    benchmark = with_controls(3)
    fields = summarise(SETUP, benchmark, answers_of(benchmark)).fields()
    assert fields["benchmark"] == {
        "name": "doors",
        "fingerprint": benchmark.fingerprint,
        "ground_truth": "original",
    }
    assert (fields["model"], fields["settings"], fields["reading"]) == ("model", {"kind": "test"}, "ours")
    assert fields["protocol"] == {
        "name": "ours",
        "template": OURS.template,
        "temperature": 0.0,
        "max_tokens": 512,
        "hash": OURS.hash,
        "exchanged": False,
        "images": True,
    }
    for scores in (fields["scores"], fields["controls"], fields["patterns"]["State and Condition"]):
        assert set(scores) == {"pair_accuracy", "question_accuracy", "confusion", "invalid", "first_option"}
        assert all(set(rate) == {"share", "hits", "count", "interval"} for rate in scores.values())
    assert set(fields["controls_minus_blind_pairs"]) == {"share", "interval"}


def test_rate_of_nothing_is_null_and_not_nan() -> None:
    benchmark = benchmark_of(2, second=None)
    answers = [Answer(key, "no idea") for key in questions_of(benchmark)]
    confusion = summarise(SETUP, benchmark, answers).fields()["scores"]["confusion"]
    assert confusion == {"share": None, "hits": 0, "count": 0, "interval": None}


def test_answers_to_other_questions_change_nothing() -> None:
    benchmark = benchmark_of(3)
    answers = answers_of(benchmark)
    strange = [Answer(("another pair", "a", "first"), "(a)")]
    assert summarise(SETUP, benchmark, [*strange, *answers[::-1]]) == summarise(SETUP, benchmark, answers)
    with pytest.raises(KeyError):
        questions_of(benchmark)["another pair", "a", "first"]
