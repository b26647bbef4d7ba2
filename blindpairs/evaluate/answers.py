"""Recorded answers: one line of `answers.jsonl` for each question that was asked, with how it was asked.

    {"pair_id": "...", "side": "a", "which": "first", "text": "(b)", "protocol": "letters", "prompt_hash": "...",
     "model": "...", "settings": {...}, "seconds": 0.7, "finish": "stop"}

Questions of suites that are no pairs (POPE, LLaVA-Bench) have `"item_id": "random/12"` in place of the first three.
How an answer is read is no part of it: scores are derived from these lines under any reader, without asking again.

Promises: what `append` has returned from survives a power cut; the bytes after the last line feed are of a write that
was cut short, and are asked again; a damaged line before that is an error that names it. Lines are never rewritten. A
key that is there twice never changes a score in silence: the same answer counts once, different ones are an error.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from blindpairs.access import present, reading, unwritable
from blindpairs.errors import InputError
from blindpairs.evaluate.scores import Key
from blindpairs.workspace import RunLock, digest

_KEY = ("pair_id", "side", "which")
_TEXTS = ("text", "protocol", "prompt_hash", "model", "finish")


@dataclass(frozen=True)
class Answer:
    """What a model, or a person, said to one question."""

    key: Key  # pair id, side "a" or "b", which question; of other suites, `item_key`
    text: str  # as it came
    protocol: str = ""  # how it was asked, by name; "" where that is not known, as in imported answers
    prompt_hash: str = ""  # of the whole prompt without the image
    model: str = ""
    settings: Mapping[str, Any] = field(
        default_factory=dict, hash=False
    )  # everything else that decides what the model says
    seconds: float | None = None  # what it took
    finish: str = ""  # "stop", "length" or another word for how it ended

    @property
    def identity(self) -> str:
        """A hash of everything but the seconds."""
        asked = [self.protocol, self.prompt_hash, self.model, dict(self.settings), self.finish]
        return digest([*self.key, self.text, *asked])


def item_key(item_id: str) -> Key:
    """The key of a question that is not about one side of a pair, by its suite's own id."""
    return item_id, "", "first"


def mean_seconds(answers: Iterable[Answer]) -> float | None:
    """What one answer took, on average; None where no answer says."""
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    return sum(seconds) / len(seconds) if seconds else None


def read_answers(path: Path) -> Iterator[Answer]:
    """The answers of a file, each key once, as a stream; none where there is no file.

    Raises InputError for a damaged line, with its number, and for different answers to one question.
    """
    if not present(path):
        return
    with reading(path), path.open("rb") as file:
        yield from deduplicated(_lines(path, file), str(path))


def deduplicated(numbered: Iterable[tuple[int, Answer]], where: str) -> Iterator[Answer]:
    """Each key once, the first of the same answers; InputError, naming two lines, for different ones to one question.

    Answers are the same where only the seconds differ. Memory holds a hash for each key.
    """
    seen: dict[Key, tuple[int, str]] = {}
    for number, answer in numbered:
        identity = answer.identity
        first, known = seen.setdefault(answer.key, (number, identity))
        if known != identity:
            raise InputError(
                f"{where}: lines {first:,} and {number:,} are different answers to {_described(answer.key)}: "
                "remove the one that does not count"
            )
        if first == number:
            yield answer


class AnswerFile:
    """An open `answers.jsonl` to which answers are appended. It holds the lock of its folder.

    Opening makes the file, or cuts the bytes of a write that was cut short, so that the next line begins at a line's
    start. Raises Locked while another process has the folder, and InputError where the system refuses or a line is
    damaged. Batches are written whole: one that fails leaves nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        self._lock = RunLock(path.parent)
        try:
            self._lock.claim_all()
            self.keys = {answer.key for answer in read_answers(path)}  # those that are answered
            self._file = self._opened()
        except BaseException:
            self._lock.release()
            raise

    def append(self, answers: Iterable[Answer]) -> None:
        """Write a batch, durably. InputError for a key that is there already, before anything is written."""
        batch = list(answers)
        new: set[Key] = set()
        for answer in batch:
            if answer.key in self.keys or answer.key in new:
                raise InputError(
                    f"{self._path} has an answer to {_described(answer.key)} already: lines are never rewritten"
                )
            new.add(answer.key)
        try:
            self._write(b"".join(_line(answer) for answer in batch))
        except OSError as error:
            raise unwritable(self._path, error) from error
        self.keys |= new

    def close(self) -> None:
        """Close the file and give the folder back."""
        os.close(self._file)
        self._lock.release()

    def __enter__(self) -> "AnswerFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> int:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            os.ftruncate(file, _whole_lines(self._path))
            os.fsync(file)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # a new file's name must survive a power cut, too
            finally:
                os.close(folder)
        except OSError as error:
            raise unwritable(self._path, error) from error
        return file

    def _write(self, content: bytes) -> None:
        """All of it or nothing: the next batch must begin at a line's start, also after a full disk or Ctrl-C."""
        size, rest = os.fstat(self._file).st_size, memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._file, size)
            raise


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, Answer]]:
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return  # a write that was cut short: only the last line can lack its end
        yield number, _parsed(path, number, line)


def _described(key: Key) -> str:
    """`the first question about image a of pair ...`, for messages."""
    if not key[1]:
        return f"item {key[0]}"
    return f"the {key[2]} question about image {key[1]} of pair {key[0]}"


def _line(answer: Answer) -> bytes:
    key = dict(zip(_KEY, answer.key, strict=True)) if answer.key[1] else {"item_id": answer.key[0]}
    record = {
        **key,
        **{"text": answer.text, "protocol": answer.protocol},
        **{"prompt_hash": answer.prompt_hash, "model": answer.model, "settings": dict(answer.settings)},
        **{"seconds": answer.seconds, "finish": answer.finish},
    }
    # A JSON reader turns the escapes of backslashreplace back into the characters, so half a surrogate pair survives.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _parsed(path: Path, number: int, line: bytes) -> Answer:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, str(error)[:80]) from error
    if not isinstance(record, dict):
        raise _damaged(path, number, f"it holds a JSON {type(record).__name__}, not an object")
    names = ("item_id",) if "item_id" in record else _KEY
    texts = {name: record.get(name) for name in (*names, *_TEXTS)}
    wrong = [name for name, text in texts.items() if not isinstance(text, str)]
    if wrong:
        raise _damaged(path, number, f"it has no text {wrong[0]!r}")
    if "side" in texts and (texts["side"] not in ("a", "b") or texts["which"] not in ("first", "second")):
        raise _damaged(path, number, f"side {texts['side']!r} or which {texts['which']!r} is unknown")
    seconds, settings = record.get("seconds"), record.get("settings")
    if seconds is not None and not (isinstance(seconds, (int, float)) and math.isfinite(seconds)):
        raise _damaged(path, number, f"seconds {seconds!r} is not a number")
    if not isinstance(settings, dict):
        raise _damaged(path, number, "it has no object 'settings'")
    parts = [texts.pop(name) for name in names]
    key: Key = item_key(str(parts[0])) if len(parts) == 1 else tuple(parts)  # type: ignore[assignment]
    return Answer(key, settings=settings, seconds=seconds, **texts)  # type: ignore[arg-type]


def _damaged(path: Path, number: int, why: str) -> InputError:
    return InputError(
        f"{path}, line {number:,} is damaged ({why}): repair or remove it; a removed answer is asked again"
    )


def _whole_lines(path: Path) -> int:
    """The size in bytes of the lines that have an end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:  # backwards, a block at a time: the last line feed is near the end
            start = max(0, end - (1 << 16))
            file.seek(start)
            if (line_feed := file.read(end - start).rfind(b"\n")) >= 0:
                return start + line_feed + 1
            end = start
    return 0
