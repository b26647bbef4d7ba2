"""An instruction file as an index on disk: conversations with their lengths in tokens, read by memory mapping.

    TEMPLATE.arrow       one row a usable conversation: number, id, image, turns, tokens, ids, learned
    TEMPLATE-odd.arrow   one row an oddity: number, id, code, message, use
    TEMPLATE.json        from what it was made; written last

Promises: building holds a few thousand rows in memory, whatever the size of the file; an index that is damaged, or was
made from other data, with another tokenizer or template, is made anew; the workers of a loader share one copy of it;
rows that cannot be used stand among the oddities, every one.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from blindpairs.access import present, reading, remove, unreadable
from blindpairs.errors import InputError, Refused
from blindpairs.mof.conversations import Conversation, Oddity, Row, Turn, read_rows
from blindpairs.mof.shards import Shards
from blindpairs.mof.templates import Encoded, TurnTokenizer
from blindpairs.progress import Notice, drop_notice
from blindpairs.workspace import (
    RunLock,
    digest,
    prepare_folder,
    read_json,
    sha256_file,
    stamp,
    write_json,
    written_atomically,
)

AT_ONCE = 2048  # rows of a record batch, tokenized together
TOLD = 50_000  # rows between two notices
ROWS = pa.schema(
    [
        ("number", pa.int64()),
        ("id", pa.string()),
        ("image", pa.string()),
        ("turns", pa.list_(pa.struct([("human", pa.bool_()), ("text", pa.string()), ("image", pa.bool_())]))),
        ("tokens", pa.int32()),  # ids besides that of the image
        ("ids", pa.list_(pa.int32())),
        ("learned", pa.list_(pa.bool_())),
    ]
)
ODD = pa.schema(
    [("number", pa.int64()), ("id", pa.string()), ("code", pa.string()), ("message", pa.string()), ("use", pa.string())]
)


class Damaged(InputError):
    """A file of the index is not whole."""


class InstructionIndex:
    """The usable conversations of an instruction file. `chosen` are those of its rows that count, None for all."""

    def __init__(self, path: Path, chosen: npt.NDArray[np.int64] | None = None) -> None:
        self.path = path
        self._chosen = chosen
        self._batches = _batches(path)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self.numbers = self._column("number", np.int64)  # where each stands in the input, counted from 1
        self.tokens = self._column("tokens", np.int32)  # ids besides those of the image
        self.has_image = self._of_batches([batch.column("image").is_valid() for batch in self._batches], np.bool_)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the same file."""
        return (InstructionIndex, (self.path, self._chosen))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> Conversation:
        batch, row = self._at(place)
        values = {name: batch.column(name)[row].as_py() for name in ("id", "image", "turns")}
        turns = tuple(
            Turn("human" if turn["human"] else "gpt", turn["text"], turn["image"]) for turn in values["turns"]
        )
        return Conversation(values["id"], values["image"], turns)

    def __iter__(self) -> Iterator[Conversation]:
        return (self[place] for place in range(len(self)))

    def encoded(self, place: int) -> Encoded:
        """The conversation at a place as ids."""
        batch, row = self._at(place)
        ids, learned = (batch.column(name)[row].values.to_numpy(zero_copy_only=False) for name in ("ids", "learned"))
        return Encoded(ids.astype(np.int64), learned)

    def image(self, place: int) -> tuple[str, str | None]:
        """The id of the conversation at a place, and the name of its image."""
        batch, row = self._at(place)
        return batch.column("id")[row].as_py(), batch.column("image")[row].as_py()

    def _at(self, place: int) -> tuple[Any, int]:
        """The record batch of a place, and the row in it."""
        if not 0 <= place < len(self):
            raise IndexError(place)
        row = place if self._chosen is None else int(self._chosen[place])
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._batches[number], row - int(self._starts[number])

    def without(self, numbers: Iterable[int]) -> "InstructionIndex":
        """The same index without rows of the input, by number."""
        kept = np.flatnonzero(~np.isin(self.numbers, np.array(sorted(numbers), dtype=np.int64)))
        return InstructionIndex(self.path, kept if self._chosen is None else self._chosen[kept])

    def images(self) -> dict[str, list[int]]:
        """The name of every image, and the numbers of the rows that have it."""
        found: dict[str, list[int]] = {}
        for number, name in zip(self.numbers.tolist(), self._texts("image"), strict=True):
            if name is not None:
                found.setdefault(name, []).append(number)
        return found

    def ids(self) -> dict[int, str]:
        """The id of every row, by its number."""
        return dict(zip(self.numbers.tolist(), self._texts("id"), strict=True))

    @property
    def oddities(self) -> list[tuple[int, str, Oddity]]:
        """What is odd about the rows of the input, usable or not: number, id, and what it is."""
        rows = [row for batch in _batches(_odd_path(self.path)) for row in batch.to_pylist()]
        return [(row["number"], row["id"], Oddity(row["code"], row["message"], row["use"])) for row in rows]

    def _texts(self, name: str) -> list[Any]:
        """A column of texts, of the chosen rows."""
        texts = [text for batch in self._batches for text in batch.column(name).to_pylist()]
        return texts if self._chosen is None else [texts[row] for row in self._chosen]

    def _column(self, name: str, kind: Any) -> npt.NDArray[Any]:
        return self._of_batches([batch.column(name) for batch in self._batches], kind)

    def _of_batches(self, columns: list[Any], kind: Any) -> npt.NDArray[Any]:
        whole = np.concatenate([np.zeros(0, kind), *(column.to_numpy(zero_copy_only=False) for column in columns)])
        chosen: npt.NDArray[Any] = (whole if self._chosen is None else whole[self._chosen]).astype(kind)
        return chosen


def open_index(
    data: Path | Shards, tokens: TurnTokenizer, folder: Path, notice: Notice = drop_notice
) -> InstructionIndex:
    """The index of an instruction file, made where there is none in `folder`, or one of something else.

    Raises InputError where `data` is no instruction file, or holds no usable row.
    """
    made_from = {
        "columns": ROWS.names,
        "data": data_hash(data),
        "tokenizer": tokens.fingerprint,
        "template": tokens.template,
    }
    path = folder / f"{tokens.template}.arrow"
    if (index := _whole(path, made_from)) is not None:
        return index
    prepare_folder(folder)
    lock = RunLock(folder)
    try:
        with lock.planning():  # of several processes of one training, one makes it and the others wait
            if (index := _whole(path, made_from)) is not None:
                return index
            remove(_marker(path))
            source = str(data) if isinstance(data, Path) else f"{len(data.paths)} archives"
            notice(f"reading {source} and counting the tokens of its rows")
            rows = read_rows(data) if isinstance(data, Path) else data.rows()
            usable, odd = _build(_told(rows, notice), tokens, path)
            if not usable:
                raise InputError(f"{source} has no usable row: {_first(path) or 'it has no rows'}")
            facts = {"made_from": made_from, "rows": usable, "oddities": odd, "source": source}
            write_json(_marker(path), stamp() | facts)
    finally:
        lock.release()
    return InstructionIndex(path)


def _marker(path: Path) -> Path:
    return path.with_suffix(".json")


def _whole(path: Path, made_from: object) -> InstructionIndex | None:
    """The index at a path, if both of its tables are whole and it was made from this."""
    if present(_marker(path)):
        with suppress(Damaged):
            if _made_from(_marker(path)) == made_from:
                _batches(_odd_path(path))
                return InstructionIndex(path)
    return None


def data_hash(data: Path | Shards) -> str:
    """What a run records of its data: a hash of the file, or of the names, sizes and times of the archives."""
    if not isinstance(data, Path):
        return digest(data.fingerprint())
    with reading(data):
        status = data.stat()
    return _hash_at(data, status.st_ino, status.st_size, status.st_mtime_ns)


# A run asks several times for the hash of a file that may have a gigabyte.
@lru_cache(maxsize=16)
def _hash_at(path: Path, inode: int, size: int, time: int) -> str:
    return sha256_file(path)


def _made_from(marker: Path) -> Any:
    """What an index was made from; Damaged where its marker does not say."""
    try:
        return read_json(marker).get("made_from")
    except Refused:
        raise
    except InputError as error:
        raise Damaged(str(error)) from error


def _first(path: Path) -> str:
    rows = [row for batch in _batches(_odd_path(path)) for row in batch.to_pylist()]
    return f"row {rows[0]['number']}: {rows[0]['message']}" if rows else ""


def _told(rows: Iterator[Row], notice: Notice) -> Iterator[Row]:
    """The rows; their number is told now and then."""
    for count, row in enumerate(rows, 1):
        yield row
        if count % TOLD == 0:
            notice(f"{count:,} rows are read")


def _build(rows: Iterator[Row], tokens: TurnTokenizer, path: Path) -> tuple[int, int]:
    """Write both tables; how many rows each has."""
    usable = odd = 0
    with ExitStack() as stack:
        files = [stack.enter_context(written_atomically(one)) for one in (path, _odd_path(path))]
        good, bad = (
            stack.enter_context(pa.ipc.new_file(str(file), schema))
            for file, schema in zip(files, (ROWS, ODD), strict=True)
        )
        while some := [_fitting(row, tokens) for row in islice(rows, AT_ONCE)]:
            read = [(row, row.conversation) for row in some if row.conversation is not None]
            good.write_batch(_of_rows(read, tokens))
            oddities = [
                {"number": row.number, "id": row.id, "code": one.code, "message": one.message, "use": one.use}
                for row in some
                for one in row.oddities
            ]
            bad.write_batch(pa.RecordBatch.from_pylist(oddities, schema=ODD))
            usable, odd = usable + len(read), odd + len(oddities)
    return usable, odd


def _fitting(row: Row, tokens: TurnTokenizer) -> Row:
    """The row; without its conversation where the template has no room for that."""
    if tokens.template == "plain" and row.conversation is not None and len(row.conversation.turns) != 2:
        message = f"it has {len(row.conversation.turns)} turns; template plain takes one caption an image"
        return Row(row.number, row.id, None, (*row.oddities, Oddity("not_a_caption", message)))
    return row


def _of_rows(rows: Sequence[tuple[Row, Conversation]], tokens: TurnTokenizer) -> Any:
    conversations = [conversation for _, conversation in rows]
    encoded = tokens.encoded(conversations)
    values = [
        {
            "number": row.number,
            "id": conversation.id,
            "image": conversation.image,
            "turns": [
                {"human": turn.role == "human", "text": turn.text, "image": turn.image} for turn in conversation.turns
            ],
            "tokens": len(one.ids) - (conversation.image is not None),
            "ids": one.ids,
            "learned": one.learned,
        }
        for (row, conversation), one in zip(rows, encoded, strict=True)
    ]
    return pa.RecordBatch.from_pylist(values, schema=ROWS)


def _odd_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}-odd.arrow")


def _batches(path: Path) -> list[Any]:
    """The record batches of a file, mapped."""
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        return [file.get_batch(number) for number in range(file.num_record_batches)]
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise Damaged(
            f"{path} is damaged or missing ({str(error)[:80]}); it is made again when training starts"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
