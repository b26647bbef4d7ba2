"""Answers are recorded once, whatever interrupts a run, and n shards record what one run would."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_endpoint import QUICK, FakeEndpoint, Received, Response, completion, error
from pictured_pairs import benchmark_of, picture
from scripted_models import Model

from blindpairs.benchmark import Benchmark, HeldImages
from blindpairs.errors import BudgetSpent, EndpointFailed
from blindpairs.evaluate.answering import AnsweringReport, Conditions, answer_questions, missing_plan, shard_questions
from blindpairs.evaluate.asking import OURS, exchanged
from blindpairs.evaluate.baselines import UNASKED, Baseline, guessing
from blindpairs.evaluate.results import WHOLE, Setup, Shard, read_failures, read_setup, recorded_answers
from blindpairs.evaluate.scores import questions_of
from blindpairs.evaluate.summary import summarise
from blindpairs.vlm import Answerer, Budget, Cache, Meter, Plan, open_cache, open_model


@pytest.fixture
def cache() -> Iterator[Cache]:
    with open_cache(None) as opened:
        yield opened


def setup_of(model: Answerer) -> Setup:
    return Setup(model.name, model.settings, OURS)


def answer(
    model: Answerer, benchmark: Benchmark, folder: Path, conditions: Conditions, shard: Shard = WHOLE
) -> AnsweringReport:
    return answer_questions(setup_of(model), model, benchmark, folder, conditions, shard)


def said(folder: Path) -> dict[tuple[str, ...], str]:
    return {one.key: one.text for one in recorded_answers(folder)}


def test_every_answer_is_recorded_with_how_it_was_asked(tmp_path: Path, cache: Cache) -> None:
    benchmark, model = benchmark_of(3), Model()
    assert answer(model, benchmark, tmp_path, Conditions(cache)) == AnsweringReport(12, 0, {})
    (first, *_), texts = recorded_answers(tmp_path), {ask.texts[0] for ask in model.asked}
    assert len(said(tmp_path)) == 12
    assert texts == {OURS.text(question) for question in questions_of(benchmark).values()}
    assert (first.protocol, first.model, first.seconds, first.finish) == ("ours", "model", 0.5, "stop")
    decoding = {"temperature": 0.0, "max_tokens": 512, "protocol_hash": OURS.hash}
    assert first.settings == {**model.settings, **decoding, "exchanged": False, "images": True}
    assert read_setup(tmp_path) == setup_of(model)


def test_each_question_is_asked_about_its_own_image(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3, second=None)
    model = Model(lambda ask: f"seen {ask.pictures[0].data[:4000].hex()}")
    answer(model, benchmark, tmp_path, Conditions(cache))
    images = dict(benchmark.images(benchmark.image_ids))
    for pair in benchmark.pairs:
        for side, image in zip("ab", pair.image_ids, strict=True):
            data = images[image]
            assert isinstance(data, bytes)
            assert said(tmp_path)[pair.pair_id, side, "first"] == f"seen {data[:4000].hex()}"


def test_same_call_again_asks_nothing(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3)
    answer(Model(), benchmark, tmp_path, Conditions(cache))
    before = (tmp_path / "answers.jsonl").read_bytes()
    model = Model()
    with open_cache(None) as empty:
        assert answer(model, benchmark, tmp_path, Conditions(empty)) == AnsweringReport(0, 12, {})
    assert model.asked == []
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_only_what_is_missing_is_asked_and_a_torn_last_line_is_missing(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3)
    answer(Model(), benchmark, tmp_path, Conditions(cache))
    file = tmp_path / "answers.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:7]) + lines[7][:40])  # what a kill in the middle of a write leaves
    model = Model()
    with open_cache(None) as empty:
        assert answer(model, benchmark, tmp_path, Conditions(empty)) == AnsweringReport(5, 7, {})
    assert len(model.asked) == 5
    assert file.read_bytes().splitlines(keepends=True)[:7] == lines[:7]
    assert sorted(file.read_bytes().splitlines()) == sorted(line.rstrip(b"\n") for line in lines)


def test_shards_in_any_order_record_and_score_what_one_run_does(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(7)
    answer(Model(), benchmark, tmp_path / "one", Conditions(cache))
    shards = [(place, 3) for place in range(3)]
    random.Random(5).shuffle(shards)
    answered = 0
    for shard in shards:
        model = Model()
        with open_cache(None) as empty:
            report = answer(model, benchmark, tmp_path / "many", Conditions(empty), shard)
        answered += report.answered
        assert len(model.asked) == report.answered == len(shard_questions(benchmark, shard))
    assert answered == 28
    assert said(tmp_path / "many") == said(tmp_path / "one")
    one, many = (
        summarise(read_setup(folder), benchmark, recorded_answers(folder))
        for folder in (tmp_path / "one", tmp_path / "many")
    )
    assert many == one
    assert one.complete


def test_run_after_shards_asks_only_what_they_left(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(5)
    answer(Model(), benchmark, tmp_path, Conditions(cache), (1, 2))
    assert answer(Model(), benchmark, tmp_path, Conditions(cache)) == AnsweringReport(12, 8, {})
    assert said(tmp_path).keys() == questions_of(benchmark).keys()


def test_shards_part_the_pairs() -> None:
    benchmark = benchmark_of(5)
    parts = [set(shard_questions(benchmark, (place, 3))) for place in range(3)]
    assert [len(part) for part in parts] == [8, 8, 4]
    assert set.union(*parts) == set(questions_of(benchmark))
    assert all(
        len({key[0] for key in one} & {key[0] for key in other}) == 0
        for one in parts
        for other in parts
        if one != other
    )


def test_endpoint_that_fails_half_way_loses_nothing_and_is_asked_for_the_rest(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(10, second=None)
    retry_policy = replace(QUICK, concurrency=1, attempts=1, consecutive_failures=2)

    def dies(number: int, _: Received) -> Response:
        return completion("(a)") if number < 9 else error(500, "out of memory")

    with FakeEndpoint(dies) as endpoint:
        model = open_model(endpoint.spec, work=tmp_path, retry_policy=retry_policy)
        folder = tmp_path / "answers"
        report = answer(model, benchmark, folder, Conditions(cache))
        assert isinstance(report.stopped, EndpointFailed)
        assert (report.answered, len(said(folder))) == (9, 9)
        assert {one.code for one in report.failures.values()} == {"server"}
        assert read_failures(folder) == report.failures
        received = len(endpoint.received)
    assert received <= 12
    well = Model(lambda _: "(a)", model.name)
    well.settings = model.settings
    assert answer(well, benchmark, folder, Conditions(cache)) == AnsweringReport(11, 9, {})
    assert read_failures(folder) == {}


def test_what_got_no_answer_is_a_failure_and_no_answer(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3, second=None)
    model = Model(lambda ask: "!timeout" if len(model.asked) == 2 else "(a)")
    report = answer(model, benchmark, tmp_path, Conditions(cache))
    assert (report.answered, [one.code for one in report.failures.values()], report.stopped) == (5, ["timeout"], None)
    assert set(said(tmp_path)) == set(questions_of(benchmark)) - set(report.failures)


@pytest.mark.parametrize("code", ["refused", "empty"])
def test_refusal_is_an_answer_that_cannot_be_read(tmp_path: Path, cache: Cache, code: str) -> None:
    benchmark = benchmark_of(2, second=None)
    report = answer(Model(lambda _: f"!{code}"), benchmark, tmp_path, Conditions(cache))
    assert report == AnsweringReport(4, 0, {})
    assert {(one.text, one.finish) for one in recorded_answers(tmp_path)} == {("", code)}
    scores = summarise(read_setup(tmp_path), benchmark, recorded_answers(tmp_path)).blind
    assert scores is not None
    assert (scores.invalid.hits, scores.invalid.count, scores.pair_accuracy.hits) == (4, 4, 0)


def test_image_that_cannot_be_read_is_a_failure_of_its_questions_alone(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3)
    images = dict(benchmark.images(benchmark.image_ids))
    broken, gone = benchmark.pairs[0].image_id_b, benchmark.pairs[1].image_id_a
    held = {key: data for key, data in images.items() if isinstance(data, bytes) and key != gone}
    held[broken] = picture(1)[:300]
    report = answer(Model(), replace(benchmark, images=HeldImages(held)), tmp_path, Conditions(cache))
    failed = {(key[:2], one.code) for key, one in report.failures.items()}
    assert failed == {
        ((benchmark.pairs[0].pair_id, "b"), "bad_image"),
        ((benchmark.pairs[1].pair_id, "a"), "bad_image"),
    }
    assert report.answered == 8
    assert "(truncated)" in report.failures[benchmark.pairs[0].pair_id, "b", "first"].message


def test_budget_is_kept_over_several_models_and_a_later_run_goes_on(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(4, second=None)
    conditions = Conditions(cache, Meter(Budget(max_requests=11)))
    one, other = Model(name="one"), Model(name="other")
    assert answer(one, benchmark, tmp_path / "one", conditions).stopped is None
    report = answer(other, benchmark, tmp_path / "other", conditions)
    assert isinstance(report.stopped, BudgetSpent)
    assert (len(one.asked), len(other.asked), report.answered) == (8, 3, 3)
    assert answer(other, benchmark, tmp_path / "other", Conditions(cache)) == AnsweringReport(5, 3, {})
    assert len(other.asked) == 8


def test_blind_model_sees_no_image_and_no_image_is_read(tmp_path: Path, cache: Cache) -> None:
    benchmark = replace(benchmark_of(3), images=HeldImages({}))
    model = Model()
    setup = Setup("blind:model", model.settings, OURS, images=False)
    assert answer_questions(setup, model, benchmark, tmp_path, Conditions(cache)).failures == {}
    assert [ask.pictures for ask in model.asked] == [[]] * len(model.asked)
    scores = summarise(setup, benchmark, recorded_answers(tmp_path)).blind
    assert scores is not None
    assert (scores.pair_accuracy.hits, scores.question_accuracy.hits, scores.confusion.hits) == (0, 3, 3)


def test_exchanged_options_are_shown_in_the_other_order(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(2, second=None)
    model = Model()
    setup = replace(setup_of(model), exchanged=True)
    answer_questions(setup, model, exchanged(benchmark), tmp_path, Conditions(cache))
    assert {ask.texts[0].split("\n")[1] for ask in model.asked} == {"(a) Closed"}
    assert recorded_answers(tmp_path)[0].settings["exchanged"] is True


def test_answers_of_a_baseline_are_the_same_for_every_shard_and_order(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(9)
    mixed = replace(benchmark, pairs=benchmark.pairs[::-1])
    setup = Setup("random", guessing().settings, UNASKED, images=False)

    def run(made: Benchmark, folder: Path, shard: tuple[int, int], baseline: Baseline) -> None:
        answer_questions(setup, baseline, made, folder, Conditions(cache), shard)

    run(benchmark, tmp_path / "one", (0, 1), guessing())
    for place in (1, 0):
        run(mixed, tmp_path / "two", (place, 2), guessing())
    run(benchmark, tmp_path / "other seed", (0, 1), guessing(1))
    assert said(tmp_path / "one") == said(tmp_path / "two") != said(tmp_path / "other seed")
    assert set(said(tmp_path / "one").values()) == {"(a)", "(b)"}


def test_plan_counts_what_is_missing_without_an_image(tmp_path: Path) -> None:
    benchmark = replace(benchmark_of(2, second=None), images=HeldImages({}))
    questions = questions_of(benchmark)
    text = -(-len(OURS.text(next(iter(questions.values())))) // 4)
    setup = setup_of(Model())
    assert missing_plan(setup, questions) == Plan(4, 4, 4 * (1000 + text), 4 * 512)
    assert missing_plan(replace(setup, images=False), questions) == Plan(4, 0, 4 * text, 4 * 512)


def test_every_way_to_ask_has_its_own_readable_folder() -> None:
    model = Model(name="org/llava-1.5@localhost:8000")
    setup = setup_of(model)
    others = [
        replace(setup, exchanged=True),
        replace(setup, images=False),
        replace(setup, asking=replace(OURS, max_tokens=8)),
        replace(setup, settings={"kind": "test", "name": "another revision"}),
    ]
    names = [one.folder_name for one in (setup, *others)]
    assert len(set(names)) == 5
    assert [name.rpartition("-")[0] for name in names] == [
        "llava-1.5-ours",
        "llava-1.5-ours-exchanged",
        "llava-1.5-ours",
        "llava-1.5-ours",
        "llava-1.5-ours",
    ]
    assert replace(setup, model="blind:hf:/models/llava/").folder_name.startswith("blind-llava-ours-")
