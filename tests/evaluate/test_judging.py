"""A judge says which option an answer means; MMVP's says yes or no, asked in its own words."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pictured_pairs import benchmark_of
from scripted_models import Model

from blindpairs.errors import InputError
from blindpairs.evaluate.answering import Conditions, answer_questions
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import FREE_FORM
from blindpairs.evaluate.judging import judge_answers, judge_setup, official_replies, verdict_folder
from blindpairs.evaluate.readers import read_with
from blindpairs.evaluate.results import Setup, recorded_answers
from blindpairs.evaluate.summary import summarise
from blindpairs.evaluate.verdicts import Judging, answered
from blindpairs.vlm import Ask, Cache, open_cache


@pytest.fixture
def cache() -> Iterator[Cache]:
    with open_cache(None) as opened:
        yield opened


def verdict(ask: Ask) -> str:
    """What a sensible judge says."""
    said = ask.texts[0].partition("The person's answer: ")[2]
    return "(a)" if said.startswith("it stands wide") else "(b)" if said.startswith("it is shut") else "neither"


def test_judge_gives_each_answer_the_option_that_it_means_and_is_asked_once(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(3, second=None)
    texts = iter(["it stands wide open", "it is shut", "it stands wide", "no door", "it is shut", "it stands wide"])
    model = Model(lambda _: next(texts))
    setup = Setup(model.name, model.settings, FREE_FORM)
    answer_questions(setup, model, benchmark, tmp_path, Conditions(cache))
    judge = Model(verdict, "judge")
    assert judge_answers(judge, benchmark, tmp_path, Conditions(cache)).answered == 6
    assert judge_answers(judge, benchmark, tmp_path, Conditions(cache)).kept == 6
    assert len(judge.asked) == 4  # equal answers to one question are judged together
    verdicts = recorded_answers(verdict_folder(tmp_path, judge_setup(judge)))
    scores = summarise(setup, benchmark, verdicts, reader="judge").blind
    assert scores
    assert (scores.pair_accuracy.hits, scores.question_accuracy.hits, scores.invalid.hits) == (1, 3, 1)


def test_judge_sees_question_options_and_answer_and_not_what_is_right(tmp_path: Path, cache: Cache) -> None:
    benchmark = benchmark_of(1, second=None)
    model, judge = Model(lambda _: "wide {open}"), Model(lambda _: "(a)", "judge")
    answer_questions(Setup("model", {}, FREE_FORM), model, benchmark, tmp_path, Conditions(cache))
    judge_answers(judge, benchmark, tmp_path, Conditions(cache))
    assert {ask.parts for ask in judge.asked} == {
        (
            "A person was shown an image and asked a question about it. Which of two options does the person's answer "
            "mean?\nQuestion: Is the door open or closed?\n(a) Open\n(b) Closed\nThe person's answer: wide {open}\n"
            "Reply with (a), with (b), or with the word neither. Reply with nothing else.",
        )
    }


def test_official_judge_is_asked_in_the_words_of_the_script(cache: Cache) -> None:
    benchmark = benchmark_of(1, second=None)
    pair = benchmark.pairs[0]
    answers = [Answer((pair.pair_id, "a", "first"), "It is open."), Answer((pair.pair_id, "b", "first"), "Open")]
    judge = Model(lambda ask: "yes" if "It is open." in ask.texts[0] else "Yes.", "judge")
    replies = official_replies(judge, answered(benchmark, answers), Conditions(cache))
    first, second = judge.asked
    assert first.system == (
        "You are a helpful and precise assistant for checking the quality of the answer. "
        "Please answer in only yes or no."
    )
    assert first.parts == (
        "Given the following question Is the door open or closed? (a) Open (b) Closed, the correct answer is (a). "
        "Does the following answer correctly answers the question, answer:It is open.?",
    )
    assert "the correct answer is (b)." in second.texts[0]
    assert (first.temperature, read_with("official", benchmark, answers, Judging(replies)).headline) == (
        0.2,
        {"accuracy": 0.0},  # "Yes." is no yes
    )


def test_judge_that_does_not_reply_is_an_error_that_names_it(cache: Cache) -> None:
    benchmark = benchmark_of(1, second=None)
    answers = [Answer((benchmark.pairs[0].pair_id, "a", "first"), "Open")]
    with pytest.raises(InputError, match=r"the judge judge does not reply \(quota: no answer\)"):
        official_replies(Model(lambda _: "!quota", "judge"), answered(benchmark, answers), Conditions(cache))
