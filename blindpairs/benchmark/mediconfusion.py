"""Import of tables in the shape of MediConfusion (AIF4S/MediConfusion, data/dataset.csv, arXiv 2409.15477).

    id, im_1, im_2, im_1_local, im_2_local, category_1, category_2, BiomedCLIP_sim, DINO_sim,
    question, option_A, option_B, im_1_correct, im_2_correct

An image is `<number>.jpg` of `im_1_local` in images/ beside the table, or the path in `im_1`, relative to the table.
Categories become patterns. Its cosines are kept as those of the miner's two encoders (BiomedCLIP_sim, DINO_sim).
"""

import math
import re
from pathlib import Path

from blindpairs.benchmark.assembly import Assembly
from blindpairs.benchmark.foreign import ImportedBenchmark
from blindpairs.benchmark.questions import answer_of, question_or_refusal
from blindpairs.benchmark.tables import entry_named, read_table
from blindpairs.errors import InputError

FORMAT = "mediconfusion"
TABLE = "dataset.csv"
REQUIRED = {"im_1": (), "im_2": (), "question": (), "option_A": (), "option_B": ()}
REQUIRED |= {"im_1_correct": (), "im_2_correct": ()}
OPTIONAL = {"id": (), "im_1_local": (), "im_2_local": (), "category_1": ("category",), "category_2": ()}
OPTIONAL |= {"BiomedCLIP_sim": (), "clip_sim": (), "DINO_sim": ()}
SIDES = (("a", 1), ("b", 2))
QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def import_mediconfusion(path: Path) -> ImportedBenchmark:
    """The benchmark in a table, or in a folder with `dataset.csv` or `data/dataset.csv`.

    Left out, with a note, are rows without an answer for each image, or with the same for both. InputError where
    images are missing: the licence of the originals demands that each user downloads them.
    """
    table = _table(path)
    rows = read_table(table, {**REQUIRED, **OPTIONAL}, optional=OPTIONAL)
    assembly = Assembly()
    missing: list[Path] = []
    for line, row in enumerate(rows, 1):
        what = f"The pair {row['id'].strip() or f'of row {line}'}"
        options = (row["option_A"].strip(), row["option_B"].strip())
        answers = {side: answer_of(row[f"im_{number}_correct"], options) for side, number in SIDES}
        question = question_or_refusal(row["question"], options, answers)
        paths = (_image(table, row, "im_1"), _image(table, row, "im_2"))
        missing += [each for each in paths if not each.is_file()]
        if isinstance(question, str):
            assembly.leave_out(what, question)
        elif not missing:  # after the first missing image, rows are only read to count the others
            sims = {"clip_sim": _cosine(row["BiomedCLIP_sim"] or row["clip_sim"]), "dino_sim": _cosine(row["DINO_sim"])}
            ids = {f"source_id_{side}": row["id"].strip() and f"{row['id'].strip()}/{number}" for side, number in SIDES}
            assembly.add(paths, {"question": question, "patterns": _categories(row), **ids, **sims})
    if missing:
        many = len(set(missing))
        raise InputError(f"there is no {missing[0]} ({many:,} images are missing): put them beside {table.name}")
    patterns = dict.fromkeys(name for pair in assembly.pairs for name in pair.patterns)
    name = "MediConfusion" if any(row["BiomedCLIP_sim"] for row in rows) else table.resolve().parent.name
    return assembly.imported(table, name, patterns=tuple(patterns), provenance={"imported": FORMAT})


def _table(path: Path) -> Path:
    if not path.is_dir():
        return path
    data = entry_named(path, "data")
    table = entry_named(path, TABLE) or (entry_named(data, TABLE) if data else None)
    if not table:
        raise InputError(f"{path} has no {TABLE}: name the table, or the folder that holds it")
    return table


def _image(table: Path, row: dict[str, str], side: str) -> Path:
    """The file of an image; one that does not exist is the place where it should be."""
    local, given = row[f"{side}_local"].strip(), row[side].strip()
    places = [table.parent / "images" / f"{local}.jpg", table.parent / f"{local}.jpg"] if local else []
    places += [table.parent / given, table.parent / "images" / given] if given else []
    return next((place for place in places if place.is_file()), places[0] if places else table.parent / "?")


def _categories(row: dict[str, str]) -> tuple[str, ...]:
    """The categories of both images, written as a Python list (`['Cardiac', 'Vascular']`) or as one name."""
    found: dict[str, None] = {}
    for cell in (row["category_1"].strip(), row["category_2"].strip()):
        if cell.startswith("["):
            found |= dict.fromkeys(one or other for one, other in QUOTED.findall(cell))
        elif cell:
            found[cell] = None
    return tuple(found)


def _cosine(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
