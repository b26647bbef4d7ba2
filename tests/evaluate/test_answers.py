"""Recorded answers survive kills and torn lines; damage and contradictions are errors that name their line."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindpairs.errors import InputError, Locked
from blindpairs.evaluate.answers import Answer, AnswerFile, item_key, read_answers

FIRST = Answer(
    ("00ab", "a", "first"),
    "(b) Closed\n",
    protocol="letters",
    prompt_hash="12ef",
    model="llava@localhost",
    settings={"temperature": 0.0},
    seconds=0.25,
    finish="stop",
)
OTHER = replace(FIRST, key=("00ab", "b", "first"), text="", seconds=None)

WRITER = """
import sys
from pathlib import Path
from blindpairs.evaluate.answers import Answer, AnswerFile
with AnswerFile(Path(sys.argv[1])) as file:
    for number in range(1_000_000):
        sides = [Answer((f"{number:08x}", side, "first"), "x" * 3000) for side in "ab"]
        file.append(one for one in sides if one.key not in file.keys)
        print(f"{number:08x}", flush=True)
"""


FULL_DISK = """
import resource, sys
from pathlib import Path
from blindpairs.errors import InputError
from blindpairs.evaluate.answers import Answer, AnswerFile
with AnswerFile(Path(sys.argv[1])) as file:
    file.append([Answer(("00", "a", "first"), "small")])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, limit))
    try:
        file.append([Answer(("00", "b", "first"), "x" * 5_000)])
    except InputError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    file.append([Answer(("00", "b", "first"), "x" * 5_000)])
"""


def written(path: Path, *answers: Answer) -> Path:
    with AnswerFile(path) as file:
        file.append(answers)
    return path


def test_answers_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    path = written(tmp_path / "results" / "answers.jsonl", FIRST)
    written(path, OTHER, replace(OTHER, key=("00ab", "b", "second")))
    assert list(read_answers(path)) == [FIRST, OTHER, replace(OTHER, key=("00ab", "b", "second"))]
    assert path.read_text().splitlines()[0] == (
        '{"pair_id": "00ab", "side": "a", "which": "first", "text": "(b) Closed\\n", "protocol": "letters", '
        '"prompt_hash": "12ef", "model": "llava@localhost", "settings": {"temperature": 0.0}, "seconds": 0.25, '
        '"finish": "stop"}'
    )


def test_an_item_of_a_suite_has_its_own_id_in_the_line_and_in_messages(tmp_path: Path) -> None:
    item = replace(FIRST, key=item_key("random/12"))
    path = written(tmp_path / "answers.jsonl", FIRST, item)
    assert list(read_answers(path)) == [FIRST, item]
    line = json.loads(path.read_bytes().splitlines()[1])
    assert (line["item_id"], {"pair_id", "side", "which"} & line.keys()) == ("random/12", set())
    with AnswerFile(path) as file, pytest.raises(InputError, match="has an answer to item random/12 already"):
        file.append([item])
    path.write_bytes(path.read_bytes().replace(b'"item_id": "random/12"', b'"item_id": 12'))
    with pytest.raises(InputError, match=r"line 2 is damaged \(it has no text 'item_id'\)"):
        list(read_answers(path))


def test_no_file_has_no_answers(tmp_path: Path) -> None:
    assert list(read_answers(tmp_path / "answers.jsonl")) == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1, max_size=5))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    # Two halves of a surrogate pair become the character that they mean.
    texts = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts] + ["\ud800 \udc00"]
    answers = [Answer((str(number), "a", "first"), text) for number, text in enumerate(texts)]
    path = written(tmp_path_factory.mktemp("any") / "answers.jsonl", *answers)
    assert list(read_answers(path)) == answers


def test_torn_last_line_at_any_byte_is_dropped_and_asked_again(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole" / "answers.jsonl", FIRST, OTHER).read_bytes()
    end = whole.index(b"\n") + 1
    for cut in range(end, len(whole)):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(whole[:cut])
        assert list(read_answers(path)) == [FIRST]
        if cut % 50 == 0 or cut > len(whole) - 2:  # a file is opened for writing at some of them
            with AnswerFile(path) as file:
                assert file.keys == {FIRST.key}
                file.append([OTHER])
            assert path.read_bytes() == whole


def test_file_of_one_torn_line_of_a_megabyte_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * 1_000_000)
    written(path, FIRST)
    assert list(read_answers(path)) == [FIRST]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{not json}", "Expecting property name"),
        (b"\x00\x00\x00", "Expecting value"),
        (b"\xff\xfe", "codec can't decode"),
        (b"[1]", "it holds a JSON list, not an object"),
        (b'{"pair_id": "00ab", "side": "a", "which": "first"}', "it has no text 'text'"),
        (b'"' * 3, "Expecting value|Extra data"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path, line: bytes, why: str) -> None:
    path = written(tmp_path / "answers.jsonl", FIRST)
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(InputError, match=f"line 2 is damaged .*({why})"):
        list(read_answers(path))
    with pytest.raises(InputError, match="line 2 is damaged"):
        AnswerFile(path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"side": "a"', '"side": "c"', "side 'c' or which 'first' is unknown"),
        ('"which": "first"', '"which": "third"', "side 'a' or which 'third' is unknown"),
        ('"seconds": 0.25', '"seconds": NaN', "seconds nan is not a number"),
        ('"settings": {"temperature": 0.0}', '"settings": 3', "it has no object 'settings'"),
        ('"model": "llava@localhost"', '"model": null', "it has no text 'model'"),
    ],
)
def test_line_that_says_something_else_is_damaged(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = written(tmp_path / "answers.jsonl", FIRST)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=f"line 1 is damaged \\({why}\\)"):
        list(read_answers(path))


def test_same_answer_twice_counts_once_and_different_ones_are_an_error_with_both_lines(tmp_path: Path) -> None:
    path, again = written(tmp_path / "answers.jsonl", FIRST, OTHER), tmp_path / "again.jsonl"
    again.write_bytes(path.read_bytes() + written(tmp_path / "x" / "x.jsonl", replace(FIRST, seconds=9.0)).read_bytes())
    assert list(read_answers(again)) == [FIRST, OTHER]
    for changed in (replace(FIRST, text="(a)"), replace(FIRST, model="other"), replace(FIRST, settings={})):
        other = written(tmp_path / changed.identity / "x.jsonl", changed)
        again.write_bytes(path.read_bytes() + other.read_bytes())
        with pytest.raises(
            InputError, match="lines 1 and 3 are different answers to the first question about image a of pair 00ab"
        ):
            list(read_answers(again))


def test_key_that_is_answered_is_never_written_again(tmp_path: Path) -> None:
    path = written(tmp_path / "answers.jsonl", FIRST)
    before = path.read_bytes()
    with AnswerFile(path) as file:
        for batch in ([OTHER, FIRST], [OTHER, OTHER]):
            with pytest.raises(InputError, match=r"has an answer to the first question about image \w of pair 00ab"):
                file.append(batch)
    assert path.read_bytes() == before


def test_killed_writer_loses_nothing_that_it_said_was_written_and_locks_out_others(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    for lines in (1, 40):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            said = [process.stdout.readline().strip() for _ in range(lines)]
            with pytest.raises(Locked):
                AnswerFile(path)
            os.kill(process.pid, signal.SIGKILL)
            said += process.stdout.read().split()
        kept = {answer.key[:2] for answer in read_answers(path)}
        assert kept >= {(pair_id, side) for pair_id in said for side in "ab"}


def test_batch_that_finds_no_room_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"no room to write {path}")
    assert [(answer.key[1], len(answer.text)) for answer in read_answers(path)] == [("a", 5), ("b", 5_000)]
