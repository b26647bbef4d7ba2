"""LLaVA's instruction files, a row at a time: captions (558k), instructions (150k) and mixtures (665k), JSON or JSONL.

A row is an object with `id`, `image` (a path below the folder of images; absent where the row is text only) and
`conversations`, a list of turns `{"from": "human" | "gpt", "value": text}`. Promises: a file of any size is read in
bounded memory; every row of the input is one Row, and whatever is odd about it has a name. `<image>` is the place of
the image only in the question of a row that has one: there it is taken out of the text, and the turn is marked. In all
other places it is text.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from blindpairs.access import reading
from blindpairs.errors import InputError

PLACEHOLDER = "<image>"
BLOCK = 1 << 20  # characters read at once
RESERVED = re.compile("[\ufdd0-\ufdef]")  # noncharacters, with which templates mark places in a text
LONGEST_ROW = 1 << 28  # characters; a row without an end would otherwise fill the memory

Role = Literal["human", "gpt"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says, without the placeholder. `image` marks the question to which the row's image belongs."""

    role: Role
    text: str
    image: bool = False


@dataclass(frozen=True, slots=True)
class Conversation:
    """Questions and answers by turns, a question first. `image` is None for text only; else one turn is marked."""

    id: str
    image: str | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Oddity:
    """What is wrong with a row. `use` says how the row is used all the same; "" if it cannot be used."""

    code: str
    message: str
    use: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input. `number` counts from 1; in JSONL it is the line. No conversation: it cannot be used."""

    number: int
    id: str
    conversation: Conversation | None
    oddities: tuple[Oddity, ...] = ()


NOT_UNICODE = Oddity("not_unicode", "it holds half of a surrogate pair or bytes that are not UTF-8")
NO_PLACEHOLDER = Oddity(
    "no_placeholder", f"it has an image and no {PLACEHOLDER}", "with the image before the first question"
)


class Unusable(Exception):
    """Ends the reading of one row."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.oddity = Oddity(code, message)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file in order. InputError where the file as a whole is not LLaVA's JSON or JSONL."""
    with reading(path), path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        first = _first_character(file)
        if first == "[":
            yield from (row_of(value, number) for number, value in enumerate(_array(file, path), 1))
        elif first == "{":
            yield from _lines(file, path)
        else:
            holds = f"it begins with {first!r}" if first else "it is empty"
            raise InputError(
                f"{path} holds no instructions ({holds}): a JSON array of LLaVA's rows, or JSONL, is needed"
            )


def _first_character(file: IO[str]) -> str:
    while (character := file.read(1)).isspace():
        pass
    file.seek(0)
    return character


def _lines(file: IO[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(iter(partial(file.readline, LONGEST_ROW + 1), ""), 1):
        if len(line) > LONGEST_ROW:
            raise InputError(f"line {number:,} of {path} is longer than {LONGEST_ROW:,} characters: it is not JSONL")
        if line.isspace():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(number, "", None, (Oddity("not_json", f"the line is not JSON ({str(error)[:80]})"),))
            continue
        yield row_of(value, number)


def _array(file: IO[str], path: Path) -> Iterator[Any]:
    """The values of a JSON array, parsed one by one: json.load would need five times the file's size in memory."""
    decoder, text, rows = json.JSONDecoder(), file.read(BLOCK), 0
    place, closed = text.index("[") + 1, ""
    while closed != "]":
        try:
            found, closed, place = _element(decoder, text, place, first=not rows)
        except (ValueError, RecursionError) as error:
            # It may only be cut by the end of the block; what a block cuts in two, a longer one does not.
            left = len(text) - place
            more = "" if left > LONGEST_ROW else file.read(max(BLOCK, left))
            if not more:
                raise InputError(
                    f"{path} is damaged after row {rows:,} ({str(error)[:80]}): mend it, or get it again"
                ) from error
            text, place = text[place:] + more, 0
            continue
        rows += len(found)
        yield from found
    rest = text[place:]
    while rest.isspace() or not rest:
        if not (rest := file.read(BLOCK)):
            return
    raise InputError(
        f"{path} goes on after the end of its array of {rows:,} rows ({rest.strip()[:20]!r}): mend it, or get it again"
    )


def _element(decoder: json.JSONDecoder, text: str, place: int, *, first: bool) -> tuple[list[Any], str, int]:
    """The next value (none in an empty array), the `,` or `]` after it, and where that ends. ValueError if cut."""
    place = _past_space(text, place)
    if first and text[place : place + 1] == "]":
        return [], "]", place + 1
    value, end = decoder.raw_decode(text, place)
    end = _past_space(text, end)
    closed = text[end : end + 1]
    if closed not in (",", "]"):  # it may also be "", at the end of a block
        raise json.JSONDecodeError("no ',' or ']' after a row", text, end)
    return [value], closed, end + 1


def _past_space(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def row_of(value: Any, number: int) -> Row:
    """One value of the input as a row, with everything that is odd about it."""
    name = value.get("id", "") if isinstance(value, dict) else ""
    name = str(name) if isinstance(name, (str, int)) else ""
    try:
        name.encode()
        conversation, oddities = _conversation(value, name or str(number))
        return Row(number, name, conversation, tuple(oddities))
    except UnicodeEncodeError:
        return Row(number, "", None, (NOT_UNICODE,))
    except Unusable as reason:
        return Row(number, name, None, (reason.oddity,))


def _conversation(value: Any, name: str) -> tuple[Conversation, list[Oddity]]:
    if not isinstance(value, dict):
        raise Unusable("not_an_object", f"it is {_kind(value)}, not an object")
    image = _image(value.get("image"))
    turns, oddities = _in_turns(_turns(value.get("conversations")))
    turns, misplaced = _placed(turns, image)
    for text in (image or "", *(turn.text for turn in turns)):
        text.encode()  # what is not Unicode can be neither stored nor tokenized
        if RESERVED.search(text):
            raise Unusable("reserved", "it holds a code point that Unicode reserves for marks (U+FDD0 to U+FDEF)")
    return Conversation(name, image, tuple(turns)), oddities + misplaced


def _kind(value: Any) -> str:
    """What JSON calls a value."""
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def _image(value: Any) -> str | None:
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, list):
        raise Unusable("several_images", f"it has {len(value)} images; a row may have one")
    if not isinstance(value, str) or "\0" in value:
        raise Unusable("no_image_name", f"its image is {str(value)[:40]!r}, which is not a path")
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        raise Unusable("outside", f"its image {value[:200]!r} is not a path below the folder of images")
    return value


def _turns(value: Any) -> list[Turn]:
    if not isinstance(value, list):
        raise Unusable("no_conversation", "it has no list `conversations`")
    turns = []
    for turn in value:
        role, text = (turn.get("from"), turn.get("value")) if isinstance(turn, dict) else (None, None)
        if role not in ("human", "gpt"):
            raise Unusable("unknown_role", f"a turn is from {str(role)[:40]!r}; it must be human or gpt")
        if not isinstance(text, str):
            raise Unusable("no_text", f"a turn's value is {_kind(text)}, not text")
        turns.append(Turn(role, text))
    return turns


def _in_turns(turns: list[Turn]) -> tuple[list[Turn], list[Oddity]]:
    """Questions and answers by turns. LLaVA's code drops an answer at the start, too; it says nothing."""
    oddities = []
    if not any(turn.text.strip() for turn in turns):
        raise Unusable("empty", "its conversation is empty")
    if turns[0].role == "gpt":
        turns = turns[1:]
        oddities.append(Oddity("starts_with_gpt", "its conversation starts with gpt", "without its first turn"))
    if turns and turns[-1].role == "human":
        turns = turns[:-1]
        oddities.append(Oddity("unanswered", "its last question has no answer", "without its last question"))
    if not turns:
        raise Unusable("unanswered", "it has no question with an answer")
    if any(turn.role != ("human", "gpt")[place % 2] for place, turn in enumerate(turns)):
        raise Unusable("not_by_turns", "human and gpt do not take turns")
    if any(turn.role == "gpt" and not turn.text.strip() for turn in turns):
        raise Unusable("empty_answer", "an answer is empty")
    return turns, oddities


def _placed(turns: list[Turn], image: str | None) -> tuple[list[Turn], list[Oddity]]:
    """The turns with the question marked that has the image; LLaVA puts the image at the front of its question."""
    questions = [place for place in range(0, len(turns), 2) if PLACEHOLDER in turns[place].text]
    count = sum(turns[place].text.count(PLACEHOLDER) for place in questions)
    if any(not turn.text.strip() for turn in turns):
        raise Unusable("empty_question", "a question is empty")
    if image is None:
        if count:
            raise Unusable("image_without_name", f"a question has {PLACEHOLDER}, and the row has no image")
        return turns, []
    if count > 1:
        raise Unusable("two_placeholders", f"its questions have {count} {PLACEHOLDER}; an image row must have one")
    place = questions[0] if questions else 0
    text = turns[place].text.replace(PLACEHOLDER, "").strip() if questions else turns[place].text
    marked = [*turns[:place], Turn("human", text, image=True), *turns[place + 1 :]]
    return marked, [] if questions else [NO_PLACEHOLDER]
