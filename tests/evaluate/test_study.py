"""People answer as models do: nothing lost, nothing twice, no key in sight, and scores that a hand count gives."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pictured_pairs import benchmark_of
from test_session import refuse

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.errors import ConfigError, InputError, Locked
from blindpairs.evaluate.answering import Conditions
from blindpairs.evaluate.contenders import Contenders
from blindpairs.evaluate.results import benchmark_folder, recorded_answers
from blindpairs.evaluate.scores import Key, questions_of
from blindpairs.evaluate.session import Asked, Rules, Session
from blindpairs.evaluate.study import (
    CANNOT_TELL,
    Participation,
    Study,
    participants,
    recorded_human,
    setup_of,
    spec_of,
    study_scores,
)
from blindpairs.evaluate.study_order import asked_order
from blindpairs.progress import silent
from blindpairs.statistics import wilson_interval
from blindpairs.system import child_environment
from blindpairs.vlm import open_cache

PLAIN: dict[str, Any] = {"second": None}


def answer_all(study: Study, benchmark: Benchmark, name: str, wrong: Collection[Key] = ()) -> list[str]:
    """Answer everything rightly but for some keys; returns the tokens in the order in which they were asked."""
    asked = []
    tokens = tokens_of(study, name)
    questions = questions_of(benchmark)
    while items := study.next_items(name, 1):
        key = tokens[items[0].token]
        right = questions[key].answers["ab".index(key[1])]
        study.answer(name, items[0].token, 1 - right if key in wrong else right, 2.0)
        asked.append(items[0].token)
    return asked


def tokens_of(study: Study, name: str) -> dict[str, Key]:
    study.participation(name)
    return study._open[spec_of(name)].tokens


def test_everything_is_asked_once_about_one_image_without_the_key(tmp_path: Path) -> None:
    benchmark = benchmark_of(6)
    with Study(tmp_path, benchmark) as study:
        items = study.next_items("Ann", count=99)
        assert len({one.token for one in items}) == len(items) == 24
        for item in items:
            shown = json.dumps(astuple(item))
            assert all(pair.pair_id not in shown for pair in benchmark.pairs)
            assert item.image_id in study.image_ids
        keys = [tokens_of(study, "Ann")[one.token] for one in items]
        images = {
            (pair.pair_id, side): image
            for pair in benchmark.pairs
            for side, image in zip("ab", pair.image_ids, strict=True)
        }
        assert [one.image_id for one in items] == [images[key[:2]] for key in keys]


def test_the_images_of_a_pair_never_follow_each_other() -> None:
    for pairs in (2, 3, 5, 150):
        keys: list[Key] = [(f"p{number}", side, "first") for number in range(pairs) for side in "ab"]
        for seed in range(50):
            order = asked_order(keys, str(seed))
            assert sorted(order) == sorted(keys)
            assert all(one[0] != other[0] for one, other in pairwise(order)), (pairs, seed, order)
    assert len(asked_order([("p", "a", "first"), ("p", "b", "first")], "0")) == 2  # where there is no other way


def test_participants_are_asked_in_orders_of_their_own(tmp_path: Path) -> None:
    with Study(tmp_path, benchmark_of(6)) as study:
        orders = [[tokens_of(study, name)[one.token] for one in study.next_items(name, 99)] for name in ("Ann", "Ben")]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_a_study_goes_on_where_it_ended_in_the_same_order(tmp_path: Path) -> None:
    benchmark = benchmark_of(5)
    with Study(tmp_path, benchmark) as study:
        whole = [one.token for one in study.next_items("Ann", 99)]
        for token in whole[:7]:
            study.answer("Ann", token, 0)
    with Study(tmp_path, benchmark) as study:
        assert study.participation("Ann") == Participation("Ann", 7, 20)
        assert [one.token for one in study.next_items("Ann", 99)] == whole[7:]


def test_an_answer_that_is_sent_twice_is_kept_once_and_another_is_refused(tmp_path: Path) -> None:
    benchmark = benchmark_of(2)
    with Study(tmp_path, benchmark) as study:
        token = study.next_items("Ann")[0].token
        assert study.answer("Ann", token, 1) == study.answer("Ann", token, 1)
        for other in (0, None):
            with pytest.raises(InputError, match="answers are never rewritten"):
                study.answer("Ann", token, other)
        with pytest.raises(InputError, match="is not part of the study"):
            study.answer("Ann", "0" * 24, 1)
        with pytest.raises(InputError, match="is not part of the study"):
            study.answer("Ben", token, 1)  # a token stands for one person's question
        with pytest.raises(InputError, match="option 2 is neither 0 nor 1"):
            study.answer("Ann", study.next_items("Ann")[0].token, 2)
        for seconds in (float("nan"), float("inf"), -1.0):  # would be a damaged line
            with pytest.raises(InputError, match="not a number of seconds"):
                study.answer("Ann", study.next_items("Ann")[0].token, 0, seconds)
    folder = recorded_human(benchmark_folder(tmp_path, benchmark), "human:Ann")
    (answer,) = recorded_answers(folder)
    assert (answer.text, answer.model, answer.protocol, answer.finish) == ("(b)", "human:Ann", "study", "stop")


def test_people_are_scored_by_hand_as_by_eval(tmp_path: Path) -> None:
    benchmark = benchmark_of(8, **PLAIN)
    names = [pair.pair_id for pair in benchmark.pairs]
    wrong: set[Key] = {(names[0], "a", "first"), (names[0], "b", "first"), (names[3], "b", "first")}
    with Study(tmp_path, benchmark) as study:
        answer_all(study, benchmark, "Ann Lee", wrong)
    folder = benchmark_folder(tmp_path, benchmark)
    scores = study_scores(benchmark, folder)["human:Ann Lee"]
    assert (scores.questions.hits, scores.questions.count) == (13, 16)
    assert (scores.pairs.hits, scores.pairs.count) == (6, 8)
    assert scores.pairs.interval == wilson_interval(6 / 8, 8)
    assert scores.questions.interval == wilson_interval(13 / 16, 8)  # two answers a pair count as one
    assert scores.seconds == 2.0
    with open_cache(None) as cache:
        session = Session(tmp_path, benchmark, Conditions(cache), refuse)
        session.check("human:Ann Lee")
        entry = session.answer(Asked("human:Ann Lee"))
        session.score([entry], Rules())
    assert entry.summary
    assert entry.summary.blind
    assert (entry.summary.blind.pair_accuracy.hits, entry.summary.blind.question_accuracy.hits) == (6, 13)
    person = Contenders(tmp_path, benchmark, benchmark).find("human:Ann Lee", lambda *_: silent)
    assert (person.spec, person.accuracy.hits, person.sees) == ("human:Ann Lee", 6, True)


def test_several_people_are_scored_together_and_apart(tmp_path: Path) -> None:
    benchmark = benchmark_of(4, **PLAIN)
    names = [pair.pair_id for pair in benchmark.pairs]
    with Study(tmp_path, benchmark) as study:
        answer_all(study, benchmark, "Ann")
        answer_all(study, benchmark, "Ben", {(names[1], "a", "first")})
        first = study.next_items("Cleo")[0]  # has answered one question
        study.answer("Cleo", first.token, None)
    folder = benchmark_folder(tmp_path, benchmark)
    scores = study_scores(benchmark, folder)
    assert participants(folder) == ["human:Ann", "human:Ben", "human:Cleo"]
    assert [(one.questions.hits, one.questions.count) for one in scores.values()] == [(8, 8), (7, 8), (0, 1), (15, 17)]
    assert [(one.pairs.hits, one.pairs.count) for one in scores.values()] == [(4, 4), (3, 4), (0, 0), (7, 8)]
    assert scores[""].participants == ("human:Ann", "human:Ben", "human:Cleo")
    assert scores[""].pairs.interval == wilson_interval(7 / 8, 4)  # two people on one pair count as one


def test_controls_are_not_averaged_with_blind_pairs(tmp_path: Path) -> None:
    benchmark = benchmark_of(4, **PLAIN)
    (first, *rest) = benchmark.pairs
    controls = [replace(pair, control_of=first.pair_id) for pair in rest]
    benchmark = replace(benchmark, pairs=(first, *controls))
    with Study(tmp_path, benchmark) as study:
        answer_all(study, benchmark, "Ann", {(first.pair_id, "a", "first")})
    scores = study_scores(benchmark, benchmark_folder(tmp_path, benchmark))["human:Ann"]
    assert (scores.questions.hits, scores.questions.count, scores.pairs.hits, scores.pairs.count) == (1, 2, 0, 1)


def test_who_cannot_tell_is_wrong_and_unreadable(tmp_path: Path) -> None:
    benchmark = benchmark_of(1, **PLAIN)
    with Study(tmp_path, benchmark) as study:
        for item in study.next_items("Ann", 9):
            study.answer("Ann", item.token, None)
    with open_cache(None) as cache:
        session = Session(tmp_path, benchmark, Conditions(cache), refuse)
        entry = session.answer(Asked("human:Ann"))
        session.score([entry], Rules())
    assert entry.summary
    assert entry.summary.blind
    assert (entry.summary.blind.invalid.hits, entry.summary.blind.question_accuracy.hits) == (2, 0)
    assert [one.text for one in recorded_answers(entry.folder)] == [CANNOT_TELL] * 2


def of_options(options: tuple[str, str]) -> Benchmark:
    pair = BenchmarkPair("p", "a", "b", question=Question("Which?", options, (0, 1)))
    return Benchmark("odd", (pair,), HeldImages({}))


@pytest.mark.parametrize("options", [("A", "B"), ("Yes", "No"), ("not open", "open"), ("(a)", "two"), ("I", "you")])
def test_any_two_options_are_read_as_they_were_chosen(tmp_path: Path, options: tuple[str, str]) -> None:
    benchmark = of_options(options)
    with Study(tmp_path, benchmark) as study:
        answer_all(study, benchmark, "Ann")
    scores = study_scores(benchmark, benchmark_folder(tmp_path, benchmark))["human:Ann"]
    assert scores.questions.hits == 2


def test_options_that_are_each_others_letters_are_refused_and_not_read_wrongly(tmp_path: Path) -> None:
    benchmark = of_options(("b", "a"))
    with Study(tmp_path, benchmark) as study, pytest.raises(InputError, match="'b' and 'a' cannot be told apart"):
        answer_all(study, benchmark, "Ann")


def test_a_limit_asks_everybody_about_the_same_first_pairs(tmp_path: Path) -> None:
    benchmark = benchmark_of(5, **PLAIN)
    with Study(tmp_path, benchmark, limit=2) as study:
        asked = {tokens_of(study, "Ann")[token][0] for token in answer_all(study, benchmark, "Ann")}
        assert study.participation("Ann") == Participation("Ann", 4, 4)
    assert asked == {pair.pair_id for pair in benchmark.pairs[:2]}


def test_what_is_left_takes_five_seconds_a_question_until_there_is_a_pace(tmp_path: Path) -> None:
    benchmark = benchmark_of(30, **PLAIN)
    with Study(tmp_path, benchmark) as study:
        assert (study.questions, study.minutes_left("Ann")) == (60, 5)
        for answered in range(10):
            assert study.minutes_left("Ann") == math.ceil((60 - answered) * 5 / 60)
            study.answer("Ann", study.next_items("Ann", 1)[0].token, 0, 24.0)
        assert study.minutes_left("Ann") == 20
    with Study(tmp_path, benchmark) as study:  # another day
        assert study.minutes_left("Ann") == 20


def test_a_benchmark_of_statements_alone_asks_nobody(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="doors has no questions"):
        Study(tmp_path, benchmark_of(2, question=None, second=None))


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a@b", "A\nB", "A\u202eb", "x" * 41])
def test_a_name_that_is_no_part_of_a_spec_is_refused(tmp_path: Path, name: str) -> None:
    with Study(tmp_path, benchmark_of(1)) as study, pytest.raises(InputError, match="the name of a participant"):
        study.next_items(name)
    assert not any(tmp_path.iterdir())


def test_names_that_look_alike_in_folders_are_different_people() -> None:
    names = ("Ann Lee", "Ann-Lee", "ann lee", "Änn", "李")
    assert len({setup_of(name).folder_name for name in names}) == len(names)
    assert spec_of(" A\u0308nn ") == spec_of("Änn") == "human:Änn"


def test_a_changed_benchmark_is_another_study(tmp_path: Path) -> None:
    benchmark = benchmark_of(2, **PLAIN)
    with Study(tmp_path, benchmark) as study:
        answer_all(study, benchmark, "Ann")
    (pair, *rest) = benchmark.pairs
    assert pair.question
    changed = replace(benchmark, pairs=(replace(pair, question=replace(pair.question, text="Is it?")), *rest))
    with Study(tmp_path, changed) as study:
        assert study.participation("Ann").answered == 0


def test_many_threads_lose_no_answer(tmp_path: Path) -> None:
    benchmark = benchmark_of(8)
    with Study(tmp_path, benchmark) as study:
        names = ("Ann", "Ben", "Cleo", "Dan")
        threads = [threading.Thread(target=answer_all, args=(study, benchmark, name)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    folder = benchmark_folder(tmp_path, benchmark)
    for name in names:
        assert len(recorded_answers(recorded_human(folder, f"human:{name}"))) == 32


def test_a_killed_study_loses_no_answer_and_nobody_else_asks_the_same_person(tmp_path: Path) -> None:
    worker = Path(__file__).with_name("study_process.py")
    command = [sys.executable, str(worker), str(tmp_path), "100", "Ann"]
    environment = child_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(worker.parents[1]), environment.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    reported = [process.stdout.readline() for _ in range(20)]
    with Study(tmp_path, benchmark_of(100)) as study:
        with pytest.raises(Locked):
            study.next_items("Ann")
        assert len(study.next_items("Ben")) == 2
    os.kill(process.pid, signal.SIGKILL)
    reported += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert process.wait() == -signal.SIGKILL
    with Study(tmp_path, benchmark_of(100)) as study:
        answered = study.participation("Ann").answered
        left = {one.token for one in study.next_items("Ann", 999)}
    assert not left & {line.strip() for line in reported}
    assert answered - len(reported) in (0, 1)
