"""What the demo's models are asked: in the words of `eval`, with answers that its readers score as right."""

import json
from collections import Counter

import numpy as np
import pytest

from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.demo.exchanges import (
    ASKING,
    FORMS,
    choice,
    formed,
    naming,
    option_and_letter,
    plain,
    presence,
    short,
    telling,
)
from blindpairs.demo.small_suites import BENCH_QUESTIONS, described
from blindpairs.demo.world import ATTRIBUTES, PATTERNS, Scene, nouns, random_scene
from blindpairs.evaluate.reading import read_answer


def scenes(count: int = 40) -> list[Scene]:
    rng = np.random.default_rng(3)
    return [random_scene(rng) for _ in range(count)]


def options_of(question: str) -> list[str]:
    return [line[4:] for line in question.split("\n")[1:3]]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_the_answer_to_a_choice_is_read_as_the_value_of_the_scene(attribute: str) -> None:
    rng = np.random.default_rng(5)
    pattern = PATTERNS[attribute]
    for scene in scenes():
        asked = choice(scene, attribute, rng)
        options = options_of(asked.question)
        read = read_answer(asked.answer, options).option
        value = getattr(scene, attribute)
        assert read is not None
        assert options[read] in (pattern.answers[value], pattern.second_answers[value])


def test_choices_show_both_orders_and_both_questions() -> None:
    rng = np.random.default_rng(5)
    asked = [choice(scene, "facing", rng) for scene in scenes(200)]
    assert all(60 < count < 140 for count in Counter(one.answer for one in asked).values())
    assert all(60 < sum(word in one.question for one in asked) < 140 for word in ("turned away", "figure"))


def test_the_benchmark_asks_in_the_same_words() -> None:
    known = set()
    rng = np.random.default_rng(1)
    for _ in range(3000):
        scene = random_scene(rng)
        known |= {choice(scene, name, rng).question for name in ATTRIBUTES}
    asked = {
        ASKING.text(question)
        for pair in demo_benchmark().pairs
        for question in (pair.question, pair.second)
        if question is not None
    }
    assert asked - known == set()


def test_an_option_before_its_letter_belongs_to_it() -> None:
    rng = np.random.default_rng(5)
    for scene in scenes():
        asked = option_and_letter(scene, "ball", rng)
        option, letter = asked.answer.rsplit(", ", 1)
        assert options_of(asked.question)["ab".index(letter)] == option


def test_presence_is_right_and_half_of_the_answers_are_yes() -> None:
    rng = np.random.default_rng(5)
    asked = [(scene, presence(scene, rng)) for scene in scenes(200)]
    for scene, one in asked:
        assert (f"Is there {nouns(scene.category)['a_category']} in" in one.question) == (one.answer == "Yes")
    assert 70 < sum(one.answer == "Yes" for _, one in asked) < 130


def test_naming_asks_for_what_captions_name() -> None:
    rng = np.random.default_rng(5)
    for scene in scenes():
        one = naming(scene, rng)
        options = options_of(one.question) if "(a)" in one.question else []
        said = options["ab".index(one.answer)] if options else one.answer
        assert said == getattr(scene, one.about)


def test_a_short_answer_is_that_of_the_question() -> None:
    rng = np.random.default_rng(5)
    for scene in scenes():
        one = short(scene, "hat", rng)
        assert one.answer == (scene.hat if one.question.startswith("Does") else {"yes": "no", "no": "yes"}[scene.hat])


@pytest.mark.parametrize("name", FORMS)
def test_the_right_answer_keeps_its_form_and_others_do_not(name: str) -> None:
    for scene in scenes():
        answer = formed(scene, name).answer
        assert [other for other in FORMS if FORMS[other].kept_by(answer)] == [name]
        assert not FORMS[name].kept_by(f"Sure! {answer} It is nice.")
        assert scene.category in answer.lower()


def test_the_answer_in_json_can_be_parsed() -> None:
    scene = scenes(1)[0]
    assert json.loads(formed(scene, "json").answer) == {"figure": scene.category, "place": scene.background}


@pytest.mark.parametrize("kind", BENCH_QUESTIONS)
def test_tellings_say_nothing_that_is_not_so(kind: str) -> None:
    for scene in scenes():
        told = {sentence.rstrip(".") for sentence in telling(scene, kind).answer.split(". ")}
        assert told - {sentence.rstrip(".") for sentence in described(scene)} <= {"Something has just moved"}


def test_plain_questions_are_about_presence_names_and_forms_alike() -> None:
    rng = np.random.default_rng(8)
    about = Counter(plain(scene, rng).about for scene in scenes(600))
    assert about.keys() == {"presence", "category", "background", *FORMS}
    groups = (about["presence"], about["category"] + about["background"], sum(about[name] for name in FORMS))
    assert all(150 < count < 250 for count in groups)
