"""A benchmark as tables of VLMEvalKit: one row an image, whose report is question accuracy, and pair accuracy.

VLMEvalKit (open-compass/VLMEvalKit, vlmeval/dataset/image_base.py, image_mcq.py) takes an unknown table as multiple
choice. Where a table's name has "circular" in it, the rows with one `g_index` are one item, which is right if all of
them are (utils/multiple_choice.py, `mcq_circular_eval`). So `..._circular.tsv`, with a pair as a group, makes its
`Overall` pair accuracy, and needs no code. It reads the tables, and its own answers, with pandas, which takes "None"
for an empty cell and "007" for 7.

Promises: a pair with a text that would come back changed is refused and named; an image that is used again is a
reference to its first row; the name of a table changes with its content, because VLMEvalKit keeps the images of a name.
"""

import base64
import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from blindpairs.benchmark.checks import READ_AS_MISSING
from blindpairs.benchmark.folders import each_image, new_folder, require_blind_pairs, text_refusal, write_record
from blindpairs.benchmark.foreign import Exported
from blindpairs.benchmark.model import Benchmark, BenchmarkPair, Question
from blindpairs.benchmark.native import ROW_GROUP
from blindpairs.benchmark.rgb import as_rgb
from blindpairs.benchmark.sidecar import not_carried

FORMAT = "vlmevalkit"
COLUMNS = (
    *("index", "image", "question", "A", "B", "answer", "category", "l2-category", "split"),
    *("pair_id", "side", "image_id", "patterns", "clip_sim", "dino_sim", "control_of"),
)
GROUP = "g_index"
PAIRS_AT_ONCE = ROW_GROUP  # whose images are in memory: as they lie in the native file, so that each is read once
NO_PATTERN = "no pattern"
BLIND, CONTROL = "blind pairs", "controls"  # the l2-category
LONGEST_CELL = 32_767  # characters that a cell of the Excel file of its answers holds
SHORTEST_EDGE = 100  # pixels; it enlarges images with a shorter one (smp/vlm.py, VLMEVAL_MIN_IMAGE_EDGE)
# Names of columns of its report: a category of that name would replace them (multiple_choice.py, `report_acc`).
_REPORTED = {"Overall", "split", BLIND, CONTROL}
# Parts of a table's name by which it chooses how to score (image_mcq.py, multiple_choice.py).
_NAMES_WITH_MEANING = ("mmbench", "ccbench", "circular", "mmcr", "mmmu", "lego")
_ROWS_AT_ONCE = 32_768  # pandas tells the type of a column from so many rows of this width, or more
_NUMBER = re.compile(r"\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)\s*|true|false", re.IGNORECASE)
_SAME_AS_NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
_LINK = re.compile(r"(?:https?|ftp|file)://|(?:mailto|internal|external):", re.IGNORECASE)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")


def export_vlmevalkit(benchmark: Benchmark, folder: Path) -> Exported:
    """Write the tables of the blind pairs and, where there are any, of the controls into a folder for `LMUData`.

    Raises InputError if no blind pair can be written, an image cannot be read, or the folder is no export of this kind.
    """
    reasons = {pair.pair_id: _refusal(pair) for pair in benchmark.pairs}
    kept = [pair for pair in benchmark.pairs if not reasons[pair.pair_id]]
    tables = {}
    for kind, is_control in ((BLIND, False), (CONTROL, True)):
        chosen = [pair for pair in kept if pair.is_control == is_control]
        changed = _retyped(chosen)
        reasons |= changed
        tables[kind] = [pair for pair in chosen if pair.pair_id not in changed]
    refused = {key: reason for key, reason in reasons.items() if reason}
    written = [pair for pairs in tables.values() for pair in pairs]
    require_blind_pairs("VLMEvalKit", benchmark, tables[BLIND], refused)
    name = table_name(benchmark)
    names = {BLIND: name, CONTROL: f"{name}_controls"}
    exported = Exported(folder, len(written), refused, _notes(benchmark, written))
    with new_folder(folder, FORMAT) as aside:
        for kind, pairs in tables.items():
            if pairs:
                _write(aside / names[kind], benchmark, pairs, kind)
        write_record(aside, FORMAT, benchmark, exported)
    return replace(exported, notes=(*_commands(tables, names, folder), *exported.notes))


def table_name(benchmark: Benchmark) -> str:
    """`BlindPairs_NAME_FINGERPRINT`, with no word in it that means something to VLMEvalKit."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", benchmark.name).strip("-")[:60]
    if any(word in plain.lower() for word in _NAMES_WITH_MEANING):
        plain = ""
    return "_".join(part for part in ("BlindPairs", plain, benchmark.fingerprint[:8]) if part)


def _refusal(pair: BenchmarkPair) -> str:
    """Why a pair cannot be in a table, whatever else is in it; "" if it can."""
    if pair.question is None:
        return "it has no question"
    for name, text in _cells(pair, pair.question).items():
        if why := _cell_refusal(text):
            return f"{name} {text[:40]!r} {why}"
    if pair.patterns and pair.patterns[0] in _REPORTED:
        return f"its pattern {pair.patterns[0]!r} is the name of another column of VLMEvalKit's report"
    return ""


def _cells(pair: BenchmarkPair, question: Question) -> dict[str, str]:
    first, other = question.options
    return {"question": question.text, "A": first, "B": other, "category": _category(pair)}


def _category(pair: BenchmarkPair) -> str:
    return pair.patterns[0] if pair.patterns else NO_PATTERN


def _cell_refusal(text: str) -> str:
    if why := text_refusal([text]):
        return f"cannot be written: {why}"
    if _CONTROL_CHARACTER.search(text):
        return "has a tab, a line break or another control character"
    if text.strip() in READ_AS_MISSING:
        return "is an empty cell for pandas, and would vanish"
    if len(text) > LONGEST_CELL:
        return f"has {len(text):,} characters; the Excel file of its answers holds {LONGEST_CELL:,}"
    return "is a link for Excel, which changes it" if _LINK.match(text) else ""


def _retyped(pairs: Sequence[BenchmarkPair]) -> dict[str, str]:
    """Pairs with a text that pandas would write otherwise, such as "007" as 7: in a column of numbers alone."""
    found: dict[str, str] = {}
    cells = {pair.pair_id: _cells(pair, pair.question) for pair in pairs if pair.question}
    for column in ("question", "A", "B", "category"):
        texts = {key: row[column] for key, row in cells.items()}
        # A part of a long table is a column of its own for pandas, so there each number counts.
        if 2 * len(texts) < _ROWS_AT_ONCE and not all(map(_NUMBER.fullmatch, texts.values())):
            continue
        for key, text in texts.items():
            if _NUMBER.fullmatch(text) and not _SAME_AS_NUMBER.fullmatch(text):
                found.setdefault(key, f"{column} {text!r} is a number for pandas, which writes it in another way")
    return found


def _write(path: Path, benchmark: Benchmark, pairs: Sequence[BenchmarkPair], kind: str) -> None:
    """Both tables of some pairs, `PATH.tsv` and `PATH_circular.tsv`, in one pass over the images."""
    with ExitStack() as files:
        writers = []
        for ending in ("", "_circular"):
            file = files.enter_context(Path(f"{path}{ending}.tsv").open("w", encoding="utf-8", newline=""))
            writers.append(csv.writer(file, delimiter="\t", lineterminator="\n"))
        plain, circular = writers
        plain.writerow(COLUMNS)
        circular.writerow([*COLUMNS, GROUP])
        for number, row in enumerate(_rows(benchmark, pairs, kind)):
            plain.writerow(row)
            circular.writerow([*row, number - number % 2])  # the index of its pair's first row


def _rows(benchmark: Benchmark, pairs: Sequence[BenchmarkPair], kind: str) -> Iterator[list[Any]]:
    first_row: dict[str, int] = {}  # of each image
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        batch = pairs[start : start + PAIRS_AT_ONCE]
        images = _new_images(benchmark, batch, first_row)
        for place, pair in enumerate(batch, start):
            assert pair.question is not None
            for at, (side, key) in enumerate(zip("ab", pair.image_ids, strict=True)):
                index = 2 * place + at
                # VLMEvalKit reads a short text in the column `image` as the index of the row that has the image.
                seen = first_row.setdefault(key, index)
                pixels = images.pop(key) if seen == index else str(seen)
                text, first, other, category = _cells(pair, pair.question).values()
                answer = "AB"[pair.question.answers[at]]
                sims = ["" if sim is None else repr(sim) for sim in (pair.clip_sim, pair.dino_sim)]
                ids = [pair.pair_id, side, key, " | ".join(pair.patterns), *sims, pair.control_of or ""]
                yield [index, pixels, text, first, other, answer, category, kind, "test", *ids]


def _new_images(benchmark: Benchmark, pairs: Sequence[BenchmarkPair], seen: Collection[str]) -> dict[str, str]:
    """The images of some pairs that no earlier row holds, by id, in base64."""
    wanted = {key for pair in pairs for key in pair.image_ids} - set(seen)
    needing = [pair for pair in pairs if wanted.intersection(pair.image_ids)]
    read = each_image(benchmark, needing, as_rgb)
    return {key: base64.b64encode(data).decode() for key, data in read if key in wanted}


def _commands(tables: Mapping[str, Sequence[BenchmarkPair]], names: Mapping[str, str], folder: Path) -> list[str]:
    return [
        f"Run in VLMEvalKit: LMUData={folder.resolve()} python run.py --data {names[kind]}_circular "
        "--model llava_v1.5_7b --judge exact_matching"
        for kind, pairs in tables.items()
        if pairs
    ]


def _notes(benchmark: Benchmark, pairs: Sequence[BenchmarkPair]) -> tuple[str, ...]:
    notes = ["Overall of a table with _circular is pair accuracy, and question accuracy of one without."]
    notes.append(f"VLMEvalKit enlarges images with an edge below {SHORTEST_EDGE} pixels.")
    notes.append("It writes images/ beside the tables: remove that folder before you export here again.")
    if several := sum(len(pair.patterns) > 1 for pair in pairs):
        notes.append(f"Pairs with several patterns: {several:,}. Their category is the first; `patterns` has all.")
    lost = not_carried(benchmark, pairs, ("second", "statement_a", "annotators", "source", "license"))
    return (*notes, *lost)
