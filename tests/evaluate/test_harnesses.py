"""Readers held to the functions of the harnesses themselves: to what they returned, and to them where installed."""

import random
from collections.abc import Callable

import pytest
from asked_pairs import answers_of, benchmark_of, one_answer
from harness_verdicts import OPTIONS, VERDICTS

from blindpairs.evaluate.as_lmms_eval import mmvp_letter, mmvp_options, shared_letter
from blindpairs.evaluate.as_vlmevalkit import choices_of, match
from blindpairs.evaluate.readers import read_with

ABSENT = "is not installed here: the recorded verdicts hold the reader"
WORDS = [
    *("a", "A", "b", "B", "(a)", "(b)", "(A)", "(B)", "A.", "B.", "a)", "**B**", "B:", "Z", "answer is", "option"),
    *("The answer is", "Answer:", "Open", "Closed", "yes", "no", "Not", "camera", "dog", "答案是", ".", ",", "\n", "İ"),
]


def drawn(count: int) -> list[str]:
    """Answers of up to twelve words, some of them run together."""
    draw = random.Random(20)
    return [draw.choice([" ", "", "\n"]).join(draw.choices(WORDS, k=draw.randrange(13))) for _ in range(count)]


def read(reader: str, text: str, options: tuple[str, str], truth: int) -> tuple[str, int | None]:
    """The verdict and the option of a reader."""
    benchmark, answers = one_answer(text, options, truth)
    (verdict,) = read_with(reader, benchmark, answers).verdicts.values()
    return verdict.outcome, verdict.option


@pytest.mark.parametrize(
    ("reader", "place"),
    [("lmms-eval", 0), ("lmms-eval-shared", 1), ("vlmevalkit", 2), ("naturalbench", 5), ("mediconfusion", 6)],
)
def test_letters_are_those_that_the_harness_read(reader: str, place: int) -> None:
    for text, options, verdicts in VERDICTS:
        letter = verdicts[place].replace("Z", "-")
        expected = None if letter == "-" else "AB".index(letter)
        outcome = "unreadable" if expected is None else "wrong" if expected else "right"
        assert read(reader, text, OPTIONS[options], 0) == (outcome, expected), text


def test_cambrian_counts_right_what_its_script_did() -> None:
    for text, options, verdicts in VERDICTS:
        right = ["+" if read("cambrian", text, OPTIONS[options], truth)[0] == "right" else "-" for truth in (0, 1)]
        assert "".join(right) == verdicts[3:5], text


def test_recorded_verdicts_tell_the_readers_apart() -> None:
    columns = list(zip(*[verdicts for _, _, verdicts in VERDICTS], strict=True))
    assert len(VERDICTS) == 170
    assert len(set(columns)) == len(columns)
    assert all(len(set(column)) > 1 for column in columns)


def test_lmms_eval_itself_reads_the_same_letters_and_options() -> None:
    theirs = pytest.importorskip("lmms_eval.tasks.mmvp.utils", reason=f"lmms-eval {ABSENT}")
    shared = pytest.importorskip("lmms_eval.tasks._task_utils.mcq_extract", reason=f"lmms-eval {ABSENT}")
    for text in drawn(3_000):
        assert mmvp_letter(text)[0] == theirs._extract_answer_letter(text)
        assert shared_letter(text)[0] == shared.extract_mcq_answer(text, ["A", "B"])
        for line in (f"(a) {text} (b) {text[::-1]}", text):
            assert mmvp_options(line) == theirs._parse_options(line)


def test_lmms_eval_itself_prints_the_same_numbers_whatever_is_missing() -> None:
    theirs = pytest.importorskip("lmms_eval.tasks.mmvp.utils", reason=f"lmms-eval {ABSENT}")
    draw = random.Random(8)
    for count in (1, 2, 7, 40):
        benchmark = benchmark_of([("Open", "Closed")] * count)
        answers = answers_of(benchmark, [draw.choice(["A", "(b)", "a wing", ""]) for _ in range(2 * count)])
        for kept in (answers, draw.sample(answers, 2 * count - 1), draw.sample(answers, count)):
            rows = [
                {"Index": 2 * int(pair_id, 16) + "ab".index(side) + 1, "Correct Answer": f"({side})"}
                for pair_id, side, _ in (answer.key for answer in kept)
            ]  # the right option of image a is (a)
            results = [
                theirs.mmvp_process_results(row, [answer.text])["mmvp_accuracy"]
                for row, answer in zip(rows, kept, strict=True)
            ]
            assert read_with("lmms-eval", benchmark, kept).headline == {
                "mmvp_accuracy": theirs.mmvp_aggregate_results(results),
                "mmvp_pair_accuracy": theirs.mmvp_aggregate_pair_results(results),
            }


def test_vlmevalkit_itself_reads_the_same_options() -> None:
    theirs = pytest.importorskip("vlmeval.utils.matching_util", reason=f"VLMEvalKit {ABSENT}")
    can_infer: Callable[[str, dict[str, str]], str | bool] = theirs.can_infer
    for text in drawn(3_000):
        for options in OPTIONS:
            assert match(text, choices_of(options))[0] == (can_infer(text, choices_of(options)) or "")
