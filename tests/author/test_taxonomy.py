"""Taxonomies of one's own, and those that a model finds in the questions."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from answering_model import AnsweringModel

from blindpairs.author.taxonomy import BATCH, MOST_READ, NINE, PatternFinder, read_taxonomy, write_proposal
from blindpairs.benchmark import Question
from blindpairs.errors import InputError
from blindpairs.mine.patterns import VisualPattern
from blindpairs.vlm import Ask, Cache, open_cache

FOUND = {"patterns": [{"name": "Doors", "description": "open or closed"}, {"name": "Colours ", "description": ""}]}


def questions(count: int) -> dict[str, Question]:
    texts = ("Is door {} open?", "What colour is thing {}?")
    return {f"{n:016x}": Question(texts[n % 2].format(n), (f"x{n}", "y"), (0, 1)) for n in range(count)}


def answer(ask: Ask) -> str:
    """Finds two patterns, and assigns by the words of each question."""
    if ask.key == "find" or "struggles with" in ask.texts[0]:
        return json.dumps(FOUND)
    lines = [line for line in ask.texts[0].splitlines() if line[:1].isdigit()]
    named = [
        {"number": int(line.partition(".")[0]), "pattern": "Doors" if "door" in line else "Colours"} for line in lines
    ]
    return json.dumps({"assignments": named})


@pytest.fixture
def cache() -> Iterator[Cache]:
    with open_cache(None) as opened:
        yield opened


@pytest.mark.parametrize(
    "text",
    [
        "Doors: open or closed\n\n# a comment\n  Colours\n",
        '{"Doors": "open or closed", "Colours": ""}',
        '{"taxonomy": {"Doors": "open or closed", "Colours": ""}, "model": "x"}',
        "\ufeffDoors:  open or closed\r\nColours:",
    ],
)
def test_taxonomy_is_read_from_any_of_its_forms(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine").write_text(text, encoding="utf-8")
    assert list(read_taxonomy(tmp_path / "mine").items()) == [("Doors", "open or closed"), ("Colours", "")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names no pattern"),
        (b"Doors\nDoors: again", "'Doors' stands there twice"),
        (b"[1, 2]", "no list of names"),
        (b'{"a": ', "begins like JSON and is not"),
        (b": meaning", "has no name"),
        (b"\xff\xfe", "not UTF-8"),
        (b"Doors\nA\x00B", r"'A\\x00B' has a character that cannot be seen"),
        ('["A\u202eB"]'.encode(), r"'A\\u202eB' has a character that cannot be seen"),
    ],
)
def test_other_content_is_an_error_with_its_reason(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_taxonomy(tmp_path / "mine")


def test_model_finds_patterns_and_assigns_every_question(cache: Cache, tmp_path: Path) -> None:
    model = AnsweringModel(answer)
    proposal = PatternFinder(model, cache).propose(questions(2 * BATCH + 3))
    assert proposal.taxonomy == {"Doors": "open or closed", "Colours": ""}
    wanted = {key: "Colours" if int(key, 16) % 2 else "Doors" for key in questions(2 * BATCH + 3)}
    assert proposal.assignment == wanted
    assert proposal.unassigned == {}
    assert len(model.asked) == 1 + 3
    write_proposal(tmp_path / "patterns.json", proposal)
    assert read_taxonomy(tmp_path / "patterns.json") == proposal.taxonomy


def test_given_taxonomy_is_only_assigned(cache: Cache) -> None:
    model = AnsweringModel(answer)
    proposal = PatternFinder(model, cache).propose(questions(4), {"Doors": "", "Colours": "of things"})
    assert len(model.asked) == 1
    assert proposal.taxonomy == {"Doors": "", "Colours": "of things"}
    assert set(proposal.assignment) == set(questions(4))
    assert "- Colours: of things" in model.asked[0].texts[0]


def test_of_many_questions_an_even_part_is_read(cache: Cache) -> None:
    model = AnsweringModel(answer)
    PatternFinder(model, cache).propose(questions(3 * MOST_READ))
    shown = [line for line in model.asked[0].texts[0].splitlines() if line.endswith("/ y)")]
    assert len(shown) == MOST_READ


def test_question_that_the_model_leaves_out_is_named(cache: Cache) -> None:
    def forgetful(ask: Ask) -> str:
        return answer(ask) if "struggles with" in ask.texts[0] else json.dumps({"assignments": []})

    proposal = PatternFinder(AnsweringModel(forgetful), cache).propose(questions(2))
    assert proposal.assignment == {}
    assert proposal.unassigned == dict.fromkeys(questions(2), "the model named none")


def test_failed_request_names_its_questions(cache: Cache) -> None:
    model = AnsweringModel(lambda ask: answer(ask) if "struggles with" in ask.texts[0] else None)
    assert PatternFinder(model, cache).propose(questions(2)).unassigned == dict.fromkeys(questions(2), "HTTP 500")


@pytest.mark.parametrize(("reply", "words"), [(None, "HTTP 500"), ('{"patterns": []}', "named no pattern")])
def test_no_pattern_at_all_is_an_error(cache: Cache, reply: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PatternFinder(AnsweringModel(lambda _: reply), cache).propose(questions(2))


def test_without_questions_there_is_nothing_to_ask(cache: Cache) -> None:
    with pytest.raises(InputError, match="run `blindpairs draft` first"):
        PatternFinder(AnsweringModel(answer), cache).propose({})


def test_plan_counts_the_requests(cache: Cache) -> None:
    finder = PatternFinder(AnsweringModel(answer), cache)
    assert finder.plan(questions(BATCH + 1)).requests == 3
    assert finder.plan(questions(BATCH + 1), NINE).requests == 2


def test_the_nine_are_the_papers() -> None:
    assert list(NINE) == [one.value for one in VisualPattern]
