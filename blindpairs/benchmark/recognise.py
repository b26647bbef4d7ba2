"""What a path holds, of all that can be imported: by its files, columns and fields, never by its name alone.

Promise: only the start of a file is read, whatever its size.
"""

import csv
import json
from collections.abc import Callable, Collection
from pathlib import Path

from blindpairs.access import listed, present, reading
from blindpairs.benchmark import mediconfusion, mmvp, mmvp_vlm, naturalbench
from blindpairs.benchmark.foreign import ImportedBenchmark
from blindpairs.benchmark.native import DATA, is_native, read_native
from blindpairs.benchmark.tables import encoding_of, entry_named, plain_name, separator_of
from blindpairs.errors import InputError, first_names

HEAD = 1 << 20  # bytes; the first row or object of a table is expected in it
ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08", b"7z\xbc\xaf")  # zip and xlsx, gzip, 7z
# What is recognised, and by what, for the message when nothing fits.
KINDS = {
    "native": f"a benchmark of blindpairs ({DATA})",
    "mmvp": "MMVP (Questions.csv with Question, Options and Correct Answer)",
    "mmvp-vlm": "MMVP-VLM (Questions.csv with Type and Statement)",
    "naturalbench": "NaturalBench (JSON or JSONL with Question_0 and Image_0_Question_0)",
    "mediconfusion": "MediConfusion (dataset.csv with im_1_correct)",
    "clip-retrieval": "clip-retrieval (img_emb/ and metadata/)",
    "csv-decisions": "decisions (CSV with pair_id and decision)",
    "label-studio": "Label Studio (JSON with data and annotations)",
    "answers": "answers of a model (JSONL with question_id and response, or doc_id and resps; a table with prediction)",
}
# Columns or fields that a table or an object of a kind has, as `plain_name` gives them. The first kind that fits is it.
COLUMNS = (
    ("mmvp", {"question", "options", "correct answer"}),
    ("mmvp-vlm", {"type", "statement"}),
    ("mediconfusion", {"im 1 correct", "im 2 correct", "option a", "option b"}),
    ("csv-decisions", {"pair id", "decision"}),
    ("answers", {"index", "prediction"}),
)
FIELDS = (
    ("naturalbench", {"question 0", "question 1", "image 0 question 0"}),
    ("label-studio", {"data", "annotations"}),
    ("answers", {"question id", "response"}),
    ("answers", {"question id", "gt answer"}),
    ("answers", {"doc id", "resps"}),
)


def recognise(path: Path) -> str | None:
    """The kind of a file or folder, a key of KINDS; None where it is of none, or not there."""
    if not present(path):
        return None
    if path.is_dir():
        return _kind_of_folder(path)
    if is_native(path):
        return "native"
    columns, fields = _columns(path), _fields(path)
    return _first(COLUMNS, columns) or _first(FIELDS, fields)


def read_benchmark(path: Path) -> ImportedBenchmark:
    """The benchmark at a path, in whatever format; InputError where it holds none that is known."""
    kind = recognise(path)
    folder = path if path.is_dir() else path.parent
    if kind == "native":
        return ImportedBenchmark(read_native(path), ())
    if kind == "mmvp":
        return mmvp.import_mmvp(folder)
    if kind == "mmvp-vlm":
        return mmvp_vlm.import_mmvp_vlm(folder)
    if kind == "naturalbench":
        return naturalbench.import_naturalbench(path)
    if kind == "mediconfusion":
        return mediconfusion.import_mediconfusion(path)
    if kind is None:
        raise InputError(unrecognised(path))
    raise InputError(f"{path} holds {KINDS[kind]}, where a benchmark is wanted")


def unrecognised(path: Path) -> str:
    """One or two lines for a path that is of no kind: what was found there, and what would be recognised."""
    if not present(path):
        return f"{path} does not exist"
    if path.is_file() and _is_archive(path):
        return f"{path} is an archive or a workbook: unpack it and name the folder, or save the table as CSV"
    return f"{path} {_found(path)}\nrecognised are: {'; '.join(KINDS.values())}"


def _kind_of_folder(folder: Path) -> str | None:
    tests: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("native", lambda: (folder / DATA).is_file()),
        ("clip-retrieval", lambda: (folder / "img_emb").is_dir() and (folder / "metadata").is_dir()),
    )
    for kind, fits in tests:
        if fits():
            return kind
    data = entry_named(folder, "data")
    tables = [entry_named(folder, mmvp.QUESTIONS), entry_named(folder, mediconfusion.TABLE)]
    tables += [entry_named(data, mediconfusion.TABLE)] if data else []
    found = [_first(COLUMNS, _columns(table)) for table in tables if table]
    rows = entry_named(folder, *naturalbench.NAMES)
    found += [_first(FIELDS, _fields(rows))] if rows else []
    imports = (mmvp.FORMAT, mmvp_vlm.FORMAT, mediconfusion.FORMAT, naturalbench.FORMAT)
    return next((kind for kind in found if kind in imports), None)


def _first(kinds: Collection[tuple[str, set[str]]], names: Collection[str]) -> str | None:
    return next((kind for kind, wanted in kinds if wanted <= set(names)), None)


def _head(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        head = file.read(HEAD)
    return head.decode(encoding_of(head), errors="replace")


def _columns(path: Path) -> list[str]:
    """The header of a table, as any spreadsheet writes it; empty for a file that is none."""
    if not path.is_file():
        return []
    first = next(iter(_head(path).splitlines()), "")
    if "\0" in first or first[:1] in ("{", "["):
        return []
    rows = csv.reader([first], delimiter=separator_of(first))
    return [plain_name(name) for name in next(rows, [])][:500]


def _fields(path: Path) -> list[str]:
    """The fields of the first object in a file of JSON, a list or lines; empty for a file that is none."""
    if not path.is_file():
        return []
    head = _head(path).lstrip()
    start = head.find("{")
    if start < 0 or head[:start].strip() not in ("", "["):
        return []
    try:
        value, _ = json.JSONDecoder().raw_decode(head, start)
    except (ValueError, RecursionError):
        return []
    return [plain_name(name) for name in value]


def _is_archive(path: Path) -> bool:
    with reading(path), path.open("rb") as file:
        return file.read(4) in ARCHIVES


def _found(path: Path) -> str:
    if path.is_dir():
        names = [place.name + "/" * place.is_dir() for place in listed(path)]
        return f"holds {_shown(names)}" if names else "is an empty folder"
    fields = _fields(path)
    if fields:
        return f"holds objects with the fields {_shown(fields)}"
    columns = _columns(path)
    return f"is a table with the columns {_shown(columns)}" if len(columns) > 1 else "is neither a table nor JSON"


def _shown(names: Collection[str]) -> str:
    return first_names([name[:60] for name in names], 8)
