"""Questions are put in the words of each protocol, to the byte, and a protocol is known by all of them."""

from dataclasses import replace

import pytest
from pictured_pairs import benchmark_of

from blindpairs.benchmark import Question
from blindpairs.errors import ConfigError
from blindpairs.evaluate.asking import FREE_FORM, PROTOCOLS, Asking, exchanged, protocol
from blindpairs.evaluate.scores import questions_of
from blindpairs.vlm import Ask, Picture

WINGS = Question("Are the wings open?", ("Open", "Closed"), (0, 1))
PICTURE = Picture(b"...", "image/png")


@pytest.mark.parametrize(
    ("name", "words", "temperature", "max_tokens"),
    [
        (
            "ours",
            "Are the wings open?\n(a) Open\n(b) Closed\nAnswer with the letter of the right option only.",
            0.0,
            512,
        ),
        ("official", "Are the wings open? (a) Open (b) Closed", 0.2, 1024),
        (
            "lmms-eval",
            "Are the wings open?\nA. Open\nB. Closed\nAnswer with the option's letter from the given choices directly.",
            0.0,
            16,
        ),
        (
            "vlmevalkit",
            "Question: Are the wings open?\nOptions:\nA. Open\nB. Closed\n"
            "Please select the correct answer from the options above. \n",
            0.0,
            512,
        ),
        (
            "cambrian",
            "Are the wings open? Options:\nA. Open\nB. Closed\n"
            "Answer with the option's letter from the given choices directly.",
            0.0,
            512,
        ),
    ],
)
def test_words_and_decoding_are_those_of_the_protocol(
    name: str, words: str, temperature: float, max_tokens: int
) -> None:
    asked = protocol(name).ask("key", WINGS, PICTURE)
    assert asked == Ask("key", (PICTURE, words), max_tokens=max_tokens, temperature=temperature)
    assert protocol(name).ask("key", WINGS, None).parts == (words,)


def test_free_form_shows_no_option() -> None:
    assert FREE_FORM.parts(WINGS, PICTURE) == (PICTURE, "Are the wings open?\nAnswer in a few words.")


@pytest.mark.parametrize("asking", PROTOCOLS.values(), ids=lambda asking: asking.name)
def test_braces_and_line_feeds_in_a_question_stay_as_they_are(asking: Asking) -> None:
    text = asking.text(Question("{first} of {0}?\n{{", ("{question}", "%s {second}"), (0, 1)))
    assert "{first} of {0}?\n{{" in text
    assert "{question}" in text
    assert "%s {second}" in text


def test_every_change_of_words_or_decoding_is_another_protocol() -> None:
    ours = PROTOCOLS["ours"]
    others = [
        replace(ours, template=ours.template + "\n"),
        replace(ours, temperature=0.1),
        replace(ours, max_tokens=511),
        *(one for name, one in PROTOCOLS.items() if name != "ours"),
        FREE_FORM,
    ]
    assert len({ours.hash, *(one.hash for one in others)}) == len(others) + 1
    assert ours.identity == f"ours ({ours.hash[:8]})"


def test_unknown_protocol_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no way to ask 'gpt': choose one of ours, official, lmms-eval, vlmevalkit"):
        protocol("gpt")


def test_exchanged_options_keep_keys_and_truth() -> None:
    benchmark = benchmark_of(2)
    other = exchanged(benchmark)
    given, shown = questions_of(benchmark), questions_of(other)
    assert list(given) == list(shown)
    for key, question in given.items():
        assert shown[key].options == question.options[::-1]
        for answer, exchanged_answer in zip(question.answers, shown[key].answers, strict=True):
            assert question.options[answer] == shown[key].options[exchanged_answer]
    assert exchanged(other).pairs == benchmark.pairs


def test_every_question_about_every_image_has_its_own_key() -> None:
    benchmark = benchmark_of(2)
    one, two = (pair.pair_id for pair in benchmark.pairs)
    assert list(questions_of(benchmark)) == [
        *((one, side, which) for which in ("first", "second") for side in "ab"),
        *((two, side, which) for which in ("first", "second") for side in "ab"),
    ]
