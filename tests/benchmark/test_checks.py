"""Checks: every fault that the harnesses of the field would turn into a wrong score is found, with its pair."""

from dataclasses import replace

import pytest
from pictured_pairs import benchmark_of, pair_of

from blindpairs.benchmark import BenchmarkPair, Question
from blindpairs.benchmark.checks import READ_AS_MISSING, check, shown_by_one, without_refused
from blindpairs.benchmark.clip_tokens import clip_token_count
from blindpairs.mine.patterns import VisualPattern


def question(text: str = "Is it open or closed?", **changes: object) -> Question:
    return replace(Question(text, ("Open", "Closed"), (0, 1)), **changes)  # type: ignore[arg-type]


def found(pair: BenchmarkPair) -> set[tuple[str, bool]]:
    benchmark = replace(benchmark_of(0), pairs=(pair,))
    return {(one.check, one.refuses) for one in check(benchmark) if one.pair_id == pair.pair_id}


def pair(**changes: object) -> BenchmarkPair:
    return pair_of(0, 1, **changes)[0]


def test_complete_pair_has_no_finding() -> None:
    assert check(benchmark_of(6)) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"question": question(answers=(1, 1))}, "same_answer"),
        ({"question": question(options=("open", " OPEN "))}, "equal_options"),
        ({"question": question(options=("T-shirt (red)", "Shirt"))}, "bracket"),
        ({"question": question(options=("None", "One"))}, "read_as_missing"),
        ({"question": question(text=" ")}, "no_text"),
        ({"question": question(text="Is the door open in the first image?")}, "other_image"),
        ({"question": question(answers=(0, 2))}, "no_such_option"),
        ({"second": question(answers=(0, 1))}, "second_not_exchanged"),
        ({"statement_a": "A door", "statement_b": "a  door"}, "equal_statements"),
        ({"statement_b": ""}, "one_statement"),
        ({"statement_b": "unlike the other image, a door"}, "other_image"),
        ({"statement_a": "a door that is " + "very " * 70 + "open"}, "long_statement"),
        ({"patterns": ("State and condition",)}, "unknown_pattern"),
        ({"question": None, "second": None, "statement_a": "", "statement_b": ""}, "nothing_asked"),
        ({"control_of": "0" * 16}, "blind_pair_missing"),
    ],
)
def test_fault_refuses_its_pair(changes: dict[str, object], word: str) -> None:
    assert (word, True) in found(pair(**changes))


@pytest.mark.parametrize("option", sorted(READ_AS_MISSING - {""}))
def test_option_that_pandas_reads_as_missing_is_refused(option: str) -> None:
    assert found(pair(question=question(options=(option, "One")), second=None)) == {("read_as_missing", True)}


def test_wrong_name_of_a_pattern_comes_with_the_right_one() -> None:
    (finding,) = check(replace(benchmark_of(0), pairs=(pair(patterns=("State and condition",)),)))
    assert finding.message == "'State and condition' is not in the taxonomy: did you mean 'State and Condition'?"


def test_pair_without_pattern_is_a_note() -> None:
    assert found(pair(patterns=())) == {("no_pattern", False)}


def test_length_counts_tokens_with_the_prompt_of_the_official_script() -> None:
    words = ["door"] * 71  # with "a photo of" 74, with start and end 76
    assert clip_token_count("a photo of " + " ".join(words)) == 76
    assert found(pair(statement_a=" ".join([*words, "open"]))) == set()
    assert found(pair(statement_a=" ".join([*words, "open", "wide"]))) == {("long_statement", True)}


def test_repeated_pairs_are_named() -> None:
    one, other = pair(), pair()
    same_id = check(replace(benchmark_of(0), pairs=(one, other)))
    assert [(finding.pair_id, finding.check) for finding in same_id] == [(one.pair_id, "duplicate_id")]
    again = replace(other, pair_id=f"{one.pair_id}-2")
    same_text = check(replace(benchmark_of(0), pairs=(one, again)))
    assert [(finding.pair_id, finding.check) for finding in same_text] == [(again.pair_id, "duplicate")]


def test_image_in_three_blind_pairs_is_a_note_that_names_them() -> None:
    pairs = [pair_of(0, other, question=question(text=f"Is door {other} open?"))[0] for other in (1, 2, 3)]
    (finding,) = check(replace(benchmark_of(0), pairs=tuple(pairs)))
    assert (finding.check, finding.refuses) == ("image_used_often", False)
    assert all(one.pair_id in finding.message for one in pairs)
    control = replace(pairs[2], control_of=pairs[0].pair_id)
    assert check(replace(benchmark_of(0), pairs=(*pairs[:2], control))) == []


def test_control_goes_with_its_refused_pair_and_says_so() -> None:
    blind = pair(question=question(answers=(1, 1)), second=None)
    control = pair_of(2, 3, control_of=blind.pair_id)[0]
    findings = check(replace(benchmark_of(0), pairs=(blind, control)))
    assert [(one.pair_id, one.check) for one in findings] == [
        (blind.pair_id, "same_answer"),
        (control.pair_id, "blind_pair_missing"),
    ]
    assert "which was refused" in findings[1].message
    assert without_refused((blind, control), findings) == ()


@pytest.mark.parametrize(("first", "words"), [(8, {"answer_a", "option_order"}), (7, set()), (4, set())])
def test_unequal_splits_are_notes_of_the_whole_set(first: int, words: set[str]) -> None:
    def turned(one: BenchmarkPair) -> BenchmarkPair:
        return replace(one, question=Question("Is the door open?", ("Closed", "Open"), (1, 0)), second=None)

    benchmark = benchmark_of(8)
    pairs = benchmark.pairs[:first] + tuple(turned(one) for one in benchmark.pairs[first:])
    findings = check(replace(benchmark, pairs=pairs))
    assert {one.check for one in findings} == words
    assert all(one.pair_id == "" and not one.refuses for one in findings)


def test_patterns_of_the_paper_are_a_taxonomy() -> None:
    benchmark = replace(benchmark_of(3), patterns=tuple(VisualPattern))
    assert check(benchmark) == []


@pytest.mark.parametrize(
    ("text", "options", "statements", "word"),
    [
        ("What colour is the open door?", ("Open", "Closed"), ("", ""), "Open"),
        ("Which way does the dog on the left look?", ("left", "right"), ("", ""), "left"),
        ("How many of the two dogs sit?", ("one", "two"), ("", ""), "two"),
        ("What colour is the hat?", ("Red", "Blue"), ("a man with a hat", "a man"), "hat"),
    ],
)
def test_question_that_only_one_image_can_answer_is_a_note(
    text: str, options: tuple[str, str], statements: tuple[str, str], word: str
) -> None:
    assert f"'{word}'" in shown_by_one(Question(text, options, (0, 1)), statements)


@pytest.mark.parametrize(
    ("text", "options", "statements"),
    [
        ("Is the door open?", ("Open", "Closed"), ("an open door", "a closed door")),
        ("Is the man wearing a hat?", ("Yes", "No"), ("a man with a hat", "a man")),
        ("Is the dog on the left or on the right?", ("left", "right"), ("a dog on the left", "a dog on the right")),
        ("What is on the table?", ("A cup", "Nothing"), ("a cup on a table", "an empty table")),
        ("Where does the dog look?", ("left", "right"), ("", "")),
        (
            "How many cars are there?",
            ("One", "Two"),
            ("a red car", "two red cars"),
        ),
        ("How many people?", ("One", "Two"), ("a woman", "two women")),
        ("How bright is the light?", ("on", "off"), ("", "")),
        ("", ("Open", "Closed"), ("a", "b")),
        ("What?", ("", ""), ("", "")),
    ],
)
def test_question_that_fits_both_images_is_none(
    text: str, options: tuple[str, str], statements: tuple[str, str]
) -> None:
    assert shown_by_one(Question(text, options, (0, 1)), statements) == ""
