"""CSV tables of foreign benchmarks: columns by name, cells as they are.

Promises: no column is found by its position and no row by its number; a table that is damaged is an error that names
the line; what is written is read back unchanged, quotes, line breaks and formulas included.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from blindpairs.access import listed, reading
from blindpairs.errors import InputError

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SEPARATORS = ",;\t"  # Excel writes semicolons where a comma is the decimal point, and tabs as "Unicode text"
END = "\x1eend of the table"  # read after the last row; inside a cell, a quote was never closed


def encoding_of(start: bytes) -> str:
    """The encoding of a text by its first bytes: UTF-16 has a byte order mark, as Excel's "Unicode text" does."""
    return "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def separator_of(header: str) -> str:
    """The separator of a table by its first line."""
    return max(SEPARATORS, key=header.count)


def plain_name(name: str) -> str:
    """A name in lower case with single spaces: `MMVP_VLM_Images` and `mmvp vlm images` are the same folder."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def entry_named(folder: Path, *names: str) -> Path | None:
    """The entry of a folder with one of these names, in any case, with spaces or underscores; None without one."""
    wanted = [plain_name(name) for name in names]
    # Reversed, so that of two entries with one plain name the first in the listing stays.
    found = {plain_name(path.name): path for path in reversed(listed(folder))}
    return next((found[name] for name in wanted if name in found), None)


def read_table(
    path: Path, columns: Mapping[str, Sequence[str]], optional: Collection[str] = ()
) -> list[dict[str, str]]:
    """The rows of a table: {column: cell} for each of `columns`, a name and its other spellings.

    Read in what spreadsheets make of it: commas, semicolons or tabs, UTF-8 or UTF-16. Other columns are ignored. A
    missing one of `optional` has the cell "" in every row. InputError for another missing column, a doubled column, a
    row with too few or too many cells, bytes of another encoding, and an open quote. Other loose quotes are read as the
    csv module reads them: the files of CLIP-Embeds have some.
    """
    with reading(path):
        content = path.read_bytes()
    try:
        text = content.decode(encoding_of(content))
        lines = csv.reader(io.StringIO(f"{text}\n{END}\n", newline=""), delimiter=separator_of(text.split("\n", 1)[0]))
        header = [plain_name(name) for name in next(lines)]
        places = {name: _place(path, header, (name, *more)) for name, more in columns.items()}
        _refuse_missing(path, header, [name for name in places if places[name] is None and name not in optional])
        rows = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    except UnicodeDecodeError as error:
        why = f"is neither UTF-8 nor UTF-16 text (byte {error.start:,})"
        raise InputError(f"{path} {why}: save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {lines.line_num}: {error}: it is not a CSV table") from error
    if not rows or rows.pop()[1] != [END]:
        raise InputError(f"{path} ends inside a quoted cell: it was cut short, or a closing quote is missing")
    for line, cells in rows:
        short, extra = len(cells) < len(header), any(cell.strip() for cell in cells[len(header) :])
        if short or extra:
            why = "was the download cut short?" if short else "is a cell with a comma not in quotes?"
            raise InputError(f"{path}, line {line}: it has {len(cells)} cells, and the header {len(header)} ({why})")
    return [{name: "" if at is None else cells[at] for name, at in places.items()} for _, cells in rows]


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file as the official ones are: commas, LF, quotes only where they are needed."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in (header, *rows):
            file.write(",".join(_cell(str(value)) for value in row) + "\n")


def _cell(text: str) -> str:
    """A cell, in quotes also for a lone carriage return, which the csv module of Python 3.11 leaves bare."""
    return '"' + text.replace('"', '""') + '"' if any(each in text for each in ',"\r\n') else text


def number_of(path: Path, column: str, cell: str) -> int:
    """A cell that holds a whole number of at least 1, also as a spreadsheet writes it (`7.0`)."""
    match = re.fullmatch(r"\s*\+?(\d{1,9})(?:\.0*)?\s*", cell, re.ASCII)
    if not match:
        raise InputError(f"{path}: {column} {cell[:40]!r} is not a whole number")
    if int(match[1]) == 0:
        raise InputError(f"{path}: {column} counts from 0; the official files count from 1")
    return int(match[1])


def by_number(path: Path, column: str, rows: Iterable[dict[str, str]]) -> dict[int, dict[str, str]]:
    """Rows by the number in a column, which must be different in each; in the order of the numbers."""
    found: dict[int, dict[str, str]] = {}
    for row in rows:
        number = number_of(path, column, row[column])
        if number in found:
            raise InputError(f"{path}: {column} {number} is there twice, so its rows cannot be told apart")
        found[number] = row
    return dict(sorted(found.items()))


def numbered_images(folder: Path, notes: list[str]) -> dict[int, Path]:
    """The images of a folder whose name is a number, by number; of several with one number, `.jpg`, with a note."""
    found: dict[int, list[Path]] = {}
    for path in listed(folder):
        is_number = path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 10
        if is_number and path.suffix.lower() in IMAGE_ENDINGS:
            found.setdefault(int(path.stem), []).append(path)
    taken: dict[int, Path] = {}
    for number, paths in found.items():
        taken[number] = next((path for path in paths if path.name == f"{number}.jpg"), paths[0])
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            notes.append(f"{folder.name} has several images {number}: {names}; {taken[number].name} is taken.")
    return taken


def _place(path: Path, header: Sequence[str], spellings: Sequence[str]) -> int | None:
    wanted = {plain_name(one) for one in spellings}
    places = [place for place, one in enumerate(header) if one in wanted]
    if len(places) > 1:
        raise InputError(f"{path} has the column {spellings[0]!r} {len(places)} times")
    return places[0] if places else None


def _refuse_missing(path: Path, header: Sequence[str], missing: Sequence[str]) -> None:
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}: it has {', '.join(header[:20]) or 'no header'}")
