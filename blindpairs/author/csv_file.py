"""Drafts and decisions as a CSV file for any spreadsheet, one row a pair, and back.

Promises: every text comes back as it was, character for character, unless a person changed it; no text is run as a
formula; nothing is imported from a file with a fault; no file is replaced that holds work which was not imported.
Written as RFC 4180 with a byte order mark, without which Excel takes UTF-8 for another encoding. Read in what
spreadsheets make of it: other separators, UTF-16, columns in any order.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from blindpairs.access import reading
from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.rows import COLUMNS, NEEDED, SHOWN, ImportedDecisions, Row, import_rows, rows_of, unsaved
from blindpairs.benchmark.tables import encoding_of, separator_of
from blindpairs.errors import InputError
from blindpairs.workspace import written_atomically

# A cell that begins so can be run as a formula (OWASP, CSV Injection). A guard is guarded itself, so that every text
# comes back.
GUARD = "'"
GUARDED = (*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", GUARD)
_FIGURES = ("clip_sim", "dino_sim", "cluster", "revision")  # a cosine may be negative, and is no formula
_LONGEST = 1 << 24  # characters in a cell; the csv module's own limit is 131,072


def write_csv(database: AuthoringDatabase, path: Path, annotator: str = "") -> int:
    """Write a row for every pair, as `rows.rows_of` says; returns the number of pairs.

    Raises InputError where the file is there and holds something that is not in the database.
    """
    _refuse_loss(database, path)
    count = 0
    with written_atomically(path) as aside, aside.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for _, _, cells in rows_of(database, annotator):
            writer.writerow([cells[name] if name in _FIGURES else guarded(cells[name]) for name in COLUMNS])
            count += 1
    return count


def import_csv(database: AuthoringDatabase, path: Path, annotator: str = "") -> ImportedDecisions:
    """Keep the decisions in a CSV file, all or none, as `rows.import_rows` says.

    Raises InputError for a file of another encoding, and for one without a column that is needed.
    """
    return import_rows(database, _rows(path), path.name, annotator)


def guarded(text: str) -> str:
    """A text that no spreadsheet runs; `unguarded` gives it back."""
    return GUARD + text if text.startswith(GUARDED) else text


def unguarded(text: str) -> str:
    """The text of a cell. A person may have typed a guard that guards nothing: it stays."""
    return text[1:] if text.startswith(GUARD) and text[1:].startswith(GUARDED) else text


def _refuse_loss(database: AuthoringDatabase, path: Path) -> None:
    """InputError where replacing the file would lose decisions that nobody imported, or a file of something else."""
    if not path.is_file():
        return
    try:
        lost = unsaved(database, _rows(path))
    except InputError as error:
        raise InputError(f"{path} is not replaced ({error}): name another file with --output") from error
    if lost:
        raise InputError(
            f"{path} holds decisions or texts of {len(lost):,} pairs that were not imported, such as {lost[0]}: "
            "import it first, or name another file with --output"
        )


def _rows(path: Path) -> Iterator[Row]:
    text = _text(path)
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator_of(text.split("\n", 1)[0]), strict=True)
    line = 1
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        _check_header(path, header)
        line = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(header) and any(cells[len(header) :]):
                raise InputError(f"{path.name}, line {line}: it has {len(cells)} cells, the first line {len(header)}")
            if any(cell.strip() for cell in cells):  # spreadsheets leave empty lines
                padded = [*cells, *[""] * (len(header) - len(cells))]
                named = dict(zip(header, padded, strict=False))
                yield Row(f"line {line}", {key: unguarded(cell) for key, cell in named.items() if key not in SHOWN})
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path.name}, line {line}: this is no CSV ({error}): save it again as CSV UTF-8") from error


def _check_header(path: Path, header: list[str]) -> None:
    if missing := [name for name in NEEDED if name not in header]:
        raise InputError(f"{path.name} has no column {', '.join(missing)}: keep the first line as it was exported")
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise InputError(f"{path.name} has two columns {twice[0]}: keep one")


def _text(path: Path) -> str:
    with reading(path):
        data = path.read_bytes()
    try:
        return data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path.name}, line {line}: this is no UTF-8 text: save it as `CSV UTF-8` in the spreadsheet"
        ) from error
