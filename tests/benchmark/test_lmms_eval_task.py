"""The task that lmms-eval runs: answers are read or invalid, never guessed; pairs are found by id and are complete."""

import ast
import itertools
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pictured_pairs import benchmark_of
from task_modules import module_at

from blindpairs.benchmark import lmms_eval_task as task
from blindpairs.benchmark.lmms_eval import export_lmms_eval
from blindpairs.evaluate import reading
from blindpairs.statistics import wilson_interval

OPTIONS = ("Open", "Closed")


def doc(pair: str, side: str, answer: str, patterns: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "pair_id": pair,
        "side": side,
        "Question": "Is it?",
        "Options": list(OPTIONS),
        "Correct Answer": answer,
        "pattern_keys": list(patterns),
    }


def letter_of(response: str, options: Sequence[str] = OPTIONS) -> str:
    """The letter that the task reads, "" for an invalid answer."""
    asked = doc("p", "a", "(a)") | {"Options": list(options)}
    letter: str = task.blindpairs_process_results(asked, [response])[task.PREFIX + "accuracy"]["letter"]
    return letter


def items(answers: Sequence[tuple[str, str, str, str]], metric: str) -> list[dict[str, Any]]:
    """What the harness collects under a metric for (pair, side, right letter, response) rows."""
    given = [task.blindpairs_process_results(doc(pair, side, right), [text]) for pair, side, right, text in answers]
    return [one[task.PREFIX + metric] for one in given]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("A", "A"),
        ("b", "B"),
        ("(b)", "B"),
        ("b.", "B"),
        ("**B**", "B"),
        ("$\\boxed{B}$", "B"),
        ("B. Closed", "B"),
        ("b) closed", "B"),
        ("(a) Open", "A"),
        ("B\n\nThe image shows a door.", "B"),
        ("A, since the door stands open", "A"),
        ("A is correct", "A"),
        ("It's B", "B"),
        ("The answer is a.", "A"),
        ("The answer is A because one sees the room", "A"),
        ("The correct answer is **(b) Closed**.", "B"),
        ("The answer is $\\boxed{A}$", "A"),
        ("Answer: B) Closed", "B"),
        ("A. Open\nB. Closed\nAnswer: B", "B"),
        ("option a", "A"),
        ("Option a is right", "A"),
        ("Option B: Closed", "B"),
        ("Closed", "B"),
        ("The door is closed.", "B"),
        ("a door that is open", "A"),
        ("The best option is a red one: open", "A"),
    ],
)
def test_letter_or_option_text_is_read(response: str, letter: str) -> None:
    assert letter_of(response) == letter


@pytest.mark.parametrize(
    "response",
    [
        *("", "  ", "A door.", "I think A or B", "A. Open\nB. Closed", "both open and closed", "It is not closed"),
        *(
            "(a) Closed",
            "The answer is A. Closed",
            "Neither A nor B",
            "The answer is not A",
            "The answer is a red door",
        ),
        *("I cannot tell", "reopened", "enclosed", "\u0391", "Abcd", "AB", "B-movie"),
    ],
)
def test_what_names_no_option_or_both_is_invalid(response: str) -> None:
    assert letter_of(response) == ""


@pytest.mark.parametrize(
    ("response", "options", "letter"),
    [
        ("From the camera perspective it is (b)", OPTIONS, "B"),
        ("A dog facing right, so (b) Right", ("Left", "Right"), "B"),
        ("It is a closed wing. **B**", OPTIONS, "B"),
        ("Not sure", ("Yes", "No"), ""),
    ],
)
def test_answers_that_other_harnesses_read_wrong_are_read_right(
    response: str, options: tuple[str, str], letter: str
) -> None:
    # lmms-eval's mmvp takes the a of "camera" and of "A dog" for the letter; VLMEvalKit takes the no of "not".
    assert letter_of(response, options) == letter


def test_option_that_is_part_of_the_other_is_told_from_it() -> None:
    assert letter_of("It is not open.", ("Open", "Not open")) == "B"
    assert letter_of("It is open.", ("Open", "Not open")) == "A"
    assert letter_of("C++", ("C++", "C")) == "A"
    assert letter_of("3 (three)", ("3 (three)", "4")) == "A"


def test_prompt_has_letters_and_what_the_yaml_puts_around_it() -> None:
    around = {"pre_prompt": "Look. ", "post_prompt": "\nOne letter."}
    assert task.blindpairs_doc_to_text(doc("p", "a", "(a)"), around) == "Look. Is it?\nA. Open\nB. Closed\nOne letter."
    assert task.blindpairs_doc_to_text(doc("p", "a", "(a)")) == "Is it?\nA. Open\nB. Closed"
    assert task.blindpairs_doc_to_target(doc("p", "a", "(b)")) == "B"


def test_pair_scores_equal_direct_counts_in_any_order() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        rows = [
            (f"pair{number}", side, right, chance.choice(["A", "B", "neither"]))
            for number in range(23)
            for side, right in (("a", "(a)"), ("b", "(b)"))
        ]
        by_pair = {number: (rows[2 * number][3], rows[2 * number + 1][3]) for number in range(23)}
        chance.shuffle(rows)
        solved = sum(answers == ("A", "B") for answers in by_pair.values())
        valid = [answers for answers in by_pair.values() if "neither" not in answers]
        right = sum((a == "A") + (b == "B") for a, b in by_pair.values())
        assert task.blindpairs_pair_accuracy(items(rows, "pair_accuracy")) == solved / 23
        assert task.blindpairs_accuracy(items(rows, "accuracy")) == right / 46
        confused = sum(a == b for a, b in valid)
        assert task.blindpairs_confusion_rate(items(rows, "confusion_rate")) == confused / len(valid)
        invalid = sum("neither" in row for row in rows)
        assert task.blindpairs_invalid_rate(items(rows, "invalid_rate")) == invalid / 46


def test_answer_counts_for_the_metric_of_each_pattern_of_its_pair() -> None:
    given = task.blindpairs_process_results(doc("p", "a", "(a)", ["texts", "color"]), ["A"])
    assert {name for name in given if name.endswith(("texts", "color"))} == {
        "blindpairs_pair_accuracy_texts",
        "blindpairs_pair_accuracy_color",
    }


def test_only_metrics_of_questions_carry_the_score_of_which_standard_errors_are_made() -> None:
    given = task.blindpairs_process_results(doc("p", "a", "(a)", ["texts"]), ["neither"])
    assert {name: item["score"] for name, item in given.items() if "score" in item} == {
        "blindpairs_accuracy": 0,
        "blindpairs_invalid_rate": 1,
    }
    assert {item["pair_id"] for item in given.values()} == {"p"}


@pytest.mark.parametrize("sides", ["a", "b", "aa", "aab", "abb"])
def test_incomplete_or_doubled_pair_is_an_error_that_names_it(sides: str) -> None:
    rows = [("whole", "a", "(a)", "A"), ("whole", "b", "(b)", "B"), *(("torn", side, "(a)", "A") for side in sides)]
    for metric in ("pair_accuracy", "confusion_rate", "pair_accuracy_low95", "pair_accuracy_high95"):
        score = getattr(task, task.PREFIX + metric)
        with pytest.raises(ValueError, match=r"pair torn has answers for images .* without --limit"):
            score(items(rows, metric))


def test_interval_is_wilsons() -> None:
    for solved, pairs in itertools.product(range(8), [7, 40, 150]):
        rows = [
            (str(number), side, right, "A" if side == "a" or number >= solved else "B")
            for number in range(pairs)
            for side, right in (("a", "(a)"), ("b", "(b)"))
        ]
        low = task.blindpairs_pair_accuracy_low95(items(rows, "pair_accuracy_low95"))
        high = task.blindpairs_pair_accuracy_high95(items(rows, "pair_accuracy_high95"))
        assert (low, high) == pytest.approx(wilson_interval(solved / pairs, pairs), abs=1e-12)


def test_nothing_to_score_is_not_a_number() -> None:
    assert math.isnan(task.blindpairs_pair_accuracy([]))
    assert math.isnan(
        task.blindpairs_confusion_rate(items([("p", "a", "(a)", "?"), ("p", "b", "(b)", "?")], "accuracy"))
    )
    assert (task.blindpairs_pair_accuracy_low95([]), task.blindpairs_pair_accuracy_high95([])) == (0, 1)


def rule_of(path: Path) -> dict[str, str]:
    """The definitions of the module at a path, by name."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target): ast.dump(node) for target in node.targets}
    return found


def test_every_definition_of_the_rule_is_that_of_blindpairs() -> None:
    ours, theirs = (rule_of(Path(str(module.__file__))) for module in (reading, task))
    assert len(ours) > 15
    assert {name: theirs.get(name) for name in ours} == ours


# What answers are made of: letters, options, and the words that decide how both are read.
WORDS = ["A", "B", "a", "b", "(a)", "(B)", "**b**", "A.", "b)", "B:", "Option", "choice", "the answer is", "Answer:"]
WORDS += ["is", "because", "not", "no", "neither", "nor", "or", "and", "<think>", "</think>", "\\boxed{B}", "\n", "."]
WORDS += [",", "two", "2", "three", "left", "upper left", "yes", "Yes,", "No.", "open", "Closed", "not open", "door"]
CHOICES = (OPTIONS, ("Yes", "No"), ("left", "upper left"), ("2", "three"), ("open", "not open"), ("A", "T"), ("", "x"))


def test_generated_answers_get_the_same_verdict_in_the_exported_file_and_in_blindpairs(tmp_path: Path) -> None:
    export_lmms_eval(benchmark_of(1), tmp_path / "out")
    exported = module_at(tmp_path / "out" / "blindpairs" / "utils.py")
    chance = random.Random(0)
    verdicts = Counter[str]()
    for _ in range(6_000):
        text = " ".join(chance.choices(WORDS, k=chance.randint(1, 8)))
        options = chance.choice(CHOICES)
        decided = reading.read_answer(text, options)
        again = exported.read_answer(text, options)
        assert (again.option, again.rule) == (decided.option, decided.rule), (text, options)
        verdicts[decided.rule] += 1
    assert min(verdicts[rule] for rule in ("alone", "verdict", "letter", "text", "contradiction", "nothing")) > 50


def test_it_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(task.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names
