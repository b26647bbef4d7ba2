"""Reading instruction files: LLaVA's kinds, a name for everything odd, and bounded memory."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from instruction_files import caption, row, save_rows

from blindpairs.errors import InputError
from blindpairs.mof import conversations
from blindpairs.mof.conversations import Conversation, Turn, read_rows, row_of

KINDS = [
    caption("00453/004539375", "00453/004539375.jpg"),
    row(
        "000000033471",
        "000000033471.jpg",
        "<image>\nWhat colour is the bus?",
        "Red.",
        "Where?",
        "Here <image> is text.",
    ),
    row("sharegpt", None, "Hello", "Hi!") | {"model": ""},
    row("last", "coco/a.jpg", "What is it?\n<image>", "A bus."),
]
READ = (
    Conversation(
        "00453/004539375",
        "00453/004539375.jpg",
        (Turn("human", "Render a clear summary.", True), Turn("gpt", "the picture 00453/004539375")),
    ),
    Conversation(
        "000000033471",
        "000000033471.jpg",
        (
            Turn("human", "What colour is the bus?", True),
            Turn("gpt", "Red."),
            Turn("human", "Where?"),
            Turn("gpt", "Here <image> is text."),
        ),
    ),
    Conversation("sharegpt", None, (Turn("human", "Hello"), Turn("gpt", "Hi!"))),
    Conversation("last", "coco/a.jpg", (Turn("human", "What is it?", True), Turn("gpt", "A bus."))),
)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n  "], ids=["plain", "byte order mark", "space"])
def test_all_kinds_of_llava_are_read(name: str, start: str, tmp_path: Path) -> None:
    path = save_rows(tmp_path / name, KINDS)
    path.write_text(start + path.read_text(encoding="utf-8"), encoding="utf-8")
    rows = list(read_rows(path))
    assert tuple(one.conversation for one in rows) == READ
    assert [one.oddities for one in rows] == [()] * 4


def test_values_are_the_same_wherever_a_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [*KINDS, 12.5e-3, "a ] , text", [], {}, None, True, {"\u00e9]": '\\"'}]
    path = save_rows(tmp_path / "rows.json", rows)
    for block in (1, 2, 7, 64, 10_000):
        monkeypatch.setattr(conversations, "BLOCK", block)
        read = list(read_rows(path))
        assert read == [row_of(value, number) for number, value in enumerate(rows, 1)], block


def test_array_of_twelve_megabytes_is_read_in_eight(tmp_path: Path) -> None:
    path = save_rows(tmp_path / "rows.json", [row(str(number), None, "a" * 2000, "b" * 1000) for number in range(4000)])
    assert path.stat().st_size > 12_000_000
    tracemalloc.start()
    assert sum(one.conversation is not None for one in read_rows(path)) == 4000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_line_without_an_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "LONGEST_ROW", 1000)
    path = save_rows(tmp_path / "rows.jsonl", [KINDS[0], row("long", None, "a" * 2000, "b"), KINDS[1]])
    rows = read_rows(path)
    assert next(rows).conversation == READ[0]
    with pytest.raises(InputError, match=r"line 2 of .*rows\.jsonl is longer than 1,000 characters"):
        next(rows)


LONE = json.loads('"\\ud800"')
ODD: dict[str, tuple[Any, str]] = {
    "not an object": (["a"], "not_an_object: it is a list, not an object"),
    "no conversation": ({"id": "a"}, "no_conversation: it has no list `conversations`"),
    "no turns": (row("a", None), "empty: its conversation is empty"),
    "blank": (row("a", "a.png", " ", "\n"), "empty: its conversation is empty"),
    "starts with gpt": (
        row("a", None, "Hi") | {"conversations": [{"from": "gpt", "value": "Hi"}]},
        "unanswered: it has no question with an answer",
    ),
    "unanswered": (row("a", None, "Hi"), "unanswered: it has no question with an answer"),
    "no question": (row("a", None, " ", "Hi"), "empty_question: a question is empty"),
    "no answer": (row("a", None, "Hi", ""), "empty_answer: an answer is empty"),
    "unknown role": (
        {"conversations": [{"from": "system", "value": "Hi"}]},
        "unknown_role: a turn is from 'system'; it must be human or gpt",
    ),
    "no text": ({"conversations": [{"from": "human", "value": 3}]}, "no_text: a turn's value is a number, not text"),
    "turn is text": ({"conversations": ["Hi"]}, "unknown_role: a turn is from 'None'; it must be human or gpt"),
    "twice human": (
        {"conversations": [{"from": who, "value": "Hi"} for who in ("human", "human", "gpt", "gpt")]},
        "not_by_turns: human and gpt do not take turns",
    ),
    "two placeholders": (
        row("a", "a.png", "<image> <image>", "Hi"),
        "two_placeholders: its questions have 2 <image>; an image row must have one",
    ),
    "two questions": (
        row("a", "a.png", "<image> A?", "B", "<image> C?", "D"),
        "two_placeholders: its questions have 2 <image>; an image row must have one",
    ),
    "placeholder of a text": (
        row("a", None, "<image> A?", "B"),
        "image_without_name: a question has <image>, and the row has no image",
    ),
    "two images": (
        row("a", None, "<image>", "B") | {"image": ["a", "b"]},
        "several_images: it has 2 images; a row may have one",
    ),
    "absolute": (
        row("a", "/etc/passwd", "<image>", "B"),
        "outside: its image '/etc/passwd' is not a path below the folder of images",
    ),
    "upwards": (
        row("a", "b/../../c.png", "<image>", "B"),
        "outside: its image 'b/../../c.png' is not a path below the folder of images",
    ),
    "number": (row("a", None, "<image>", "B") | {"image": 7}, "no_image_name: its image is '7', which is not a path"),
    "half a character": (
        row("a", None, "A" + LONE, "B"),
        "not_unicode: it holds half of a surrogate pair or bytes that are not UTF-8",
    ),
    "half a name": (
        row("a" + LONE, None, "A", "B"),
        "not_unicode: it holds half of a surrogate pair or bytes that are not UTF-8",
    ),
    "mark": (
        row("a", None, "A \ufdd0", "B"),
        "reserved: it holds a code point that Unicode reserves for marks (U+FDD0 to U+FDEF)",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_row_that_cannot_be_used_is_named(name: str) -> None:
    value, expected = ODD[name]
    read = row_of(value, 7)
    assert (read.number, read.conversation) == (7, None)
    assert [f"{one.code}: {one.message}" for one in read.oddities if not one.use] == [expected]


def test_odd_rows_that_can_be_used_say_how() -> None:
    rows = {
        "starts_with_gpt": {"conversations": [{"from": who, "value": who} for who in ("gpt", "human", "gpt")]},
        "unanswered": {"conversations": [{"from": who, "value": who} for who in ("human", "gpt", "human")]},
        "no_placeholder": row("a", "a.png", "human", "gpt"),
    }
    uses = {
        "starts_with_gpt": "without its first turn",
        "unanswered": "without its last question",
        "no_placeholder": "with the image before the first question",
    }
    for code, value in rows.items():
        read = row_of(value, 1)
        assert read.conversation is not None
        assert [turn.text for turn in read.conversation.turns] == ["human", "gpt"]
        assert [turn.image for turn in read.conversation.turns] == [code == "no_placeholder", False]
        assert [(one.code, one.use) for one in read.oddities] == [(code, uses[code])]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    whole = save_rows(path, KINDS).read_text()
    damage = {
        whole[: len(whole) // 2]: "damaged after row 1",
        whole.rstrip().removesuffix("]"): "damaged after row 3",
        whole.replace("}]},", "}]}", 1): "damaged after row 0",
        "[" * 100_000: "damaged after row 0",
        whole + whole: r"goes on after the end of its array of 4 rows \('\[",
        "": "holds no instructions .it is empty",
        "<html>": "holds no instructions .it begins with '<'",
    }
    for text, expected in damage.items():
        path.write_text(text)
        with pytest.raises(InputError, match=expected):
            list(read_rows(path))
    with pytest.raises(InputError, match="missing"):
        list(read_rows(tmp_path / "absent.json"))


def test_row_without_an_id_has_its_number_for_one() -> None:
    value = row("", None, "A", "B")
    named = [row_of(value | {"id": name}, 5).conversation for name in (None, 17, "x")]
    assert [one.id for one in named if one] == ["5", "17", "x"]


def test_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(save_rows(tmp_path / "rows.json", []))) == []


def test_torn_line_of_jsonl_is_a_row_that_is_named(tmp_path: Path) -> None:
    path = save_rows(tmp_path / "rows.jsonl", KINDS)
    path.write_bytes(path.read_bytes()[:-30] + b"\xff\n\n" + json.dumps(KINDS[2]).encode())
    rows = list(read_rows(path))
    assert [(one.number, one.conversation is None) for one in rows] == [
        (1, False),
        (2, False),
        (3, False),
        (4, True),
        (6, False),
    ]
    assert rows[3].oddities[0].code == "not_json"
