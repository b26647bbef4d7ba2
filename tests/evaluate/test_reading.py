"""Reading answers: what the published readers get wrong is read rightly, and nothing is ever guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blindpairs.evaluate.reading import read_answer

OPEN = ("Open", "Closed")
A, B, UNREADABLE = 0, 1, None


@pytest.mark.parametrize(
    ("answer", "options", "option"),
    [
        # Read wrongly by lmms-eval's mmvp reader (lmms_eval/tasks/mmvp/utils.py)
        ("From the camera perspective it is (b)", OPEN, B),
        ("A dog facing right, so (b) Right", ("Left", "Right"), B),
        ("It is a closed wing. **B**", OPEN, B),
        ("Closed", OPEN, B),
        # by VLMEvalKit's (vlmeval/utils/matching_util.py)
        ("(b)", OPEN, B),
        ("b", OPEN, B),
        ("(b) Closed", OPEN, B),
        ("Not sure", ("Yes", "No"), UNREADABLE),
        ("I think A or B", OPEN, UNREADABLE),
        # by Cambrian's (eval/eval/mmvp/mmvp_test.py)
        ("(a) Open", OPEN, A),
        ("The answer is: b.", OPEN, B),
        # and by the official judge, which takes "Yes." for a no
        ("Yes.", ("Yes", "No"), A),
    ],
)
def test_what_a_published_reader_gets_wrong(answer: str, options: tuple[str, str], option: int | None) -> None:
    assert read_answer(answer, options).option == option


@pytest.mark.parametrize("answer", ["a", "A", "(a)", "(A).", "A.", "a)", "[a]", "**A**", "**(a)**", " A\n", "A) Open"])
def test_letter_of_any_form(answer: str) -> None:
    assert read_answer(answer, OPEN).option == A


@pytest.mark.parametrize(
    ("answer", "option"),
    [
        ("open", A),
        ("**Closed**.", B),
        ("The wings are closed.", B),
        ("Answer: closed", B),
        ("The correct answer is **B**, because the wings touch.", B),
        ("Option B", B),
        ("option a", A),
        ("Option a is right.", A),
        ("A is correct", A),
        ("The answer is A because one sees the room", A),
        ("The answer is B. The wings are not open.", B),
        ("I would choose A", A),
        ("First I thought the answer is A. No: the answer is B.", B),
        ("Options: A. Open B. Closed\nAnswer: B", B),
        ("So we get \\boxed{B}", B),
        ("<think>It may be open (a).</think>\n(b)", B),
        ("(b) Closed. The wings are not open.", B),
    ],
)
def test_answer_in_a_sentence(answer: str, option: int) -> None:
    assert read_answer(answer, OPEN).option == option


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n",
        "I cannot tell.",
        "A butterfly.",
        "It is not open.",
        "The answer is not (a).",
        "Both are closed or open.",
        "(a) Closed",
        "The answer is A. Closed",
        "The answer is A.\nClosed",
        "an option a person takes",
        "(a) (b)",
        "<think>It is (a)",
        "The door is disclosed",
    ],
)
def test_no_option_both_or_a_denied_one_is_unreadable(answer: str) -> None:
    assert read_answer(answer, OPEN).option is None


def test_letter_that_is_also_the_text_of_the_other_option_is_unreadable() -> None:
    assert read_answer("a", ("T", "A")).option is None
    assert read_answer("A", ("A", "T")).option == A
    assert read_answer("T", ("A", "T")).option == B


@pytest.mark.parametrize(
    ("answer", "options", "option"),
    [
        ("There are two.", ("2", "3"), A),
        ("3", ("two", "three"), B),
        ("It is in the upper left.", ("left", "upper left"), B),
        ("on the left", ("left", "upper left"), A),
        ("There is no hat.", ("yes", "no"), B),
        ("No, there is not.", ("Yes", "No"), B),
        ("It does not wear one.", ("yes", "no"), UNREADABLE),
        ("not open", ("open", "not open"), B),
        ("T-shirt (red)", ("T-shirt (red)", "T-shirt (blue)"), A),
        ("a cat", ("cat", "cats"), A),
        ("Rechts", ("links", "rechts"), B),
        ("左", ("左", "右"), A),
    ],
)
def test_text_of_an_option(answer: str, options: tuple[str, str], option: int | None) -> None:
    assert read_answer(answer, options).option == option


@given(st.text(max_size=300), st.tuples(st.text(max_size=12), st.text(max_size=12)))
def test_any_text_is_read_without_an_error_and_always_alike(answer: str, options: tuple[str, str]) -> None:
    assert read_answer(answer, options) == read_answer(answer, options)


@given(st.text(max_size=200))
def test_exchanged_options_never_give_the_same_option_by_text(answer: str) -> None:
    first, other = read_answer(answer, OPEN), read_answer(answer, OPEN[::-1])
    if first.rule == other.rule == "text" and first.option is not None:
        assert other.option == 1 - first.option


def test_answer_that_never_ends_is_read_like_a_short_one() -> None:
    options = ("Open", "Closed")
    for text, option in (("(a) ", 0), ("(b)", 1), ("closed ", 1), ("open closed ", None)):
        assert read_answer(text * 25_000, options).option == read_answer(text * 2, options).option == option
    assert read_answer("(a) " * 25_000 + "but not (a)", options).option is None
