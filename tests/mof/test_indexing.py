"""The index of an instruction file: what it holds is what was read, and it is made anew when it must be."""

import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from instruction_files import caption, row, save_rows
from trained_tokenizers import llama_like, qwen_like

from blindpairs.errors import InputError
from blindpairs.mof import indexing
from blindpairs.mof.conversations import read_rows
from blindpairs.mof.indexing import InstructionIndex, open_index
from blindpairs.mof.templates import TurnTokenizer

ROWS = [
    caption("a", "a.png"),
    row("b", None, "Hello", "Hi", "And?", "So."),
    row("bad", "c.png", "<image> <image>", "No."),
    row("\N{CAT}", "d/\N{CAT}.png", "<image>\nWhich?", "That."),
    row("odd", "a.png", "Which?", "That."),
]


def tokens() -> TurnTokenizer:
    return TurnTokenizer(llama_like(), "vicuna_v1")


def test_index_holds_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = save_rows(tmp_path / "rows.json", ROWS)
    expected = [one.conversation for one in read_rows(data) if one.conversation is not None]
    for at_once in (1, 2, 100):
        monkeypatch.setattr(indexing, "AT_ONCE", at_once)
        index = open_index(data, tokens(), tmp_path / str(at_once))
        assert list(index) == expected
        assert index.numbers.tolist() == [1, 2, 4, 5]
        assert index.has_image.tolist() == [True, False, True, True]
        images = [len(tokens().tokenized(one, 9)[0]) - 9 * (one.image is not None) for one in expected]
        assert index.tokens.tolist() == images
        ids = [tuple(each.tolist() for each in tokens().spread(index.encoded(place), 9)) for place in range(4)]
        assert ids == [tokens().tokenized(one, 9) for one in expected]
        assert [index.image(place) for place in range(4)] == [(one.id, one.image) for one in expected]
        assert index.images() == {"a.png": [1, 5], "d/\N{CAT}.png": [4]}
        assert [(number, name, odd.code, bool(odd.use)) for number, name, odd in index.oddities] == [
            (3, "bad", "two_placeholders", False),
            (5, "odd", "no_placeholder", True),
        ]


def test_rows_are_left_out_by_number_and_other_processes_see_the_same(tmp_path: Path) -> None:
    index = open_index(save_rows(tmp_path / "rows.json", ROWS), tokens(), tmp_path)
    fewer = index.without([2, 77]).without([5])
    assert [one.id for one in fewer] == ["a", "\N{CAT}"]
    assert fewer.numbers.tolist() == [1, 4]
    assert fewer.images() == {"a.png": [1], "d/\N{CAT}.png": [4]}
    assert fewer.ids() == {1: "a", 4: "\N{CAT}"}
    assert list(pickle.loads(pickle.dumps(fewer))) == list(fewer)
    with pytest.raises(IndexError):
        fewer[2]


def test_index_is_made_anew_for_other_data_tokenizers_and_damage_only(tmp_path: Path) -> None:
    data = save_rows(tmp_path / "rows.json", ROWS)
    made: list[str] = []

    def opened(tokens: TurnTokenizer) -> InstructionIndex:
        made.clear()
        return open_index(data, tokens, tmp_path / "index", made.append)

    opened(tokens())
    assert made
    opened(tokens())
    assert not made
    os.utime(data)
    opened(tokens())
    assert not made, "a newer date is no other content"
    path = opened(tokens()).path
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        path.write_bytes(damaged)
        assert len(opened(tokens())) == 4
        assert made
    odd = path.with_name("vicuna_v1-odd.arrow")
    for damage in (lambda: odd.write_bytes(odd.read_bytes()[:100]), odd.unlink):
        damage()
        assert [number for number, *_ in opened(tokens()).oddities] == [3, 5]
        assert made
    assert len(opened(TurnTokenizer(qwen_like(tags=True), "vicuna_v1"))) == 4
    assert made
    save_rows(data, ROWS[:2])
    assert len(opened(tokens())) == 2
    assert made


def make_and_tell(folder: Path, together: Any, told: Any) -> None:
    """The work of a process that begins together with others."""
    made: list[str] = []
    together.wait()
    index = open_index(folder / "rows.json", tokens(), folder / "index", made.append)
    told.put((len(made), len(index)))


def test_processes_that_begin_together_make_one_index(tmp_path: Path) -> None:
    save_rows(tmp_path / "rows.json", ROWS)
    context = multiprocessing.get_context("fork")
    together, told = context.Barrier(3), context.Queue()
    started = [context.Process(target=make_and_tell, args=(tmp_path, together, told)) for _ in range(3)]
    for process in started:
        process.start()
    assert sorted(told.get(timeout=60) for _ in started) == [(0, 4), (0, 4), (1, 4)]
    for process in started:
        process.join(60)


def test_plain_takes_captions_alone(tmp_path: Path) -> None:
    index = open_index(save_rows(tmp_path / "rows.json", ROWS), TurnTokenizer(llama_like(), "plain"), tmp_path)
    assert [one.id for one in index] == ["a", "\N{CAT}", "odd"]
    assert (2, "b", "not_a_caption") in [(number, name, odd.code) for number, name, odd in index.oddities]


def test_file_without_a_usable_row_is_an_error_that_says_why(tmp_path: Path) -> None:
    data = save_rows(tmp_path / "rows.json", ROWS[2:3])
    with pytest.raises(InputError, match="no usable row: row 1: its questions have 2 <image>"):
        open_index(data, tokens(), tmp_path / "index")
    with pytest.raises(InputError, match="no usable row: it has no rows"):
        open_index(save_rows(data, []), tokens(), tmp_path / "index")


def test_a_row_is_read_without_reading_the_file(tmp_path: Path) -> None:
    rows = [row(str(number), None, "a word " * 140, "some more " * 50) for number in range(400)]
    data = save_rows(tmp_path / "rows.json", rows)
    assert data.stat().st_size > 500_000
    open_index(data, tokens(), tmp_path / "index")
    before = pa.total_allocated_bytes()
    index = open_index(data, tokens(), tmp_path / "index")
    assert index[399].id == "399"
    assert pa.total_allocated_bytes() - before < 100_000
