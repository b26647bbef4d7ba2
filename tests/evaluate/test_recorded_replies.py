"""Recorded replies of a judge are found by key; what is missing or damaged is an error that names it."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from asked_pairs import OPEN, answers_of, benchmark_of

from blindpairs.errors import InputError
from blindpairs.evaluate.as_official import recorded_replies
from blindpairs.evaluate.readers import read_with
from blindpairs.evaluate.verdicts import Judging

BENCHMARK = benchmark_of([OPEN, OPEN])
ANSWERS = answers_of(BENCHMARK, ["a", "b", "no idea", "B"])


def recorded(path: Path, replies: Iterable[Sequence[str]]) -> Path:
    """A file with the replies about ANSWERS, the last answer first."""
    lines = [
        json.dumps({"pair_id": answer.key[0], "side": answer.key[1], "which": answer.key[2], "replies": list(said)})
        for answer, said in zip(ANSWERS, replies, strict=False)
    ]
    path.write_text("\n".join(reversed(lines)) + "\n")
    return path


def test_replies_are_found_by_key_whatever_their_order(tmp_path: Path) -> None:
    judge = Judging(recorded_replies(recorded(tmp_path / "replies.jsonl", [["yes"], ["Yes"], ["no"], ["Yes."]])))
    got = read_with("official", BENCHMARK, ANSWERS, judge)
    assert [got.verdicts[answer.key].outcome for answer in ANSWERS] == ["right", "right", "wrong", "unreadable"]
    assert got.headline == {"accuracy": 0.5}


def test_each_attempt_has_its_reply_and_a_missing_one_is_named(tmp_path: Path) -> None:
    path = recorded(tmp_path / "replies.jsonl", [[], [], ["?", "?", "A"]])
    got = read_with("vlmevalkit", BENCHMARK, [ANSWERS[2]], Judging(recorded_replies(path)))
    assert [(one.outcome, one.reason) for one in got.verdicts.values()] == [("right", "judge")]
    path = recorded(tmp_path / "replies.jsonl", [[], [], ["?", "?"]])
    with pytest.raises(
        InputError,
        match=f"has 2 replies about the first question, image a of pair {ANSWERS[2].key[0]}, and 3 are needed: ask",
    ):
        read_with("vlmevalkit", BENCHMARK, [ANSWERS[2]], Judging(recorded_replies(path)))


def test_other_replies_about_one_answer_are_an_error_and_the_same_are_none(tmp_path: Path) -> None:
    path = recorded(tmp_path / "replies.jsonl", [["yes"]])
    line = path.read_text()
    path.write_text(line + line)
    assert read_with("official", BENCHMARK, ANSWERS[:1], Judging(recorded_replies(path))).headline == {}
    path.write_text(line + line.replace("yes", "no"))
    with pytest.raises(InputError, match=f"line 2: other replies about the same answer of pair {ANSWERS[0].key[0]}"):
        recorded_replies(path)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        '{"pair_id": "0", "side": "a", "which": "first"}',
        '{"pair_id": "0", "side": "a", "which": "first", "replies": "yes"}',
        '{"pair_id": "0", "side": "a", "which": "first", "replies": [1]}',
        '{"pair_id": 0, "side": "a", "which": "first", "replies": []}',
        '{"pair_id": ["0"], "side": "a", "which": "first", "replies": []}',
    ],
)
def test_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "replies.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match="line 1 is not a recorded reply"):
        recorded_replies(tmp_path / "replies.jsonl")
