"""The files of MMVP (tsb0601/MMVP, scripts/evaluate_mllm.py): import and export.

    Questions.csv          Index,Question,Options,Correct Answer    1,Is it open?,(a) Open (b) Closed,(a)
    MMVP Images/1.jpg      image a of the first pair; 2.jpg is image b; 3.jpg and 4.jpg are the second pair

Exports also hold `pairs.csv` (see sidecar.py), `blindpairs.json`, and in `controls/` the same layout for control pairs.
`Questions-clip.csv` of CLIP-Embeds, beside the others, gives statements (see clip_embeds.py).

Images are found by the Index of a row, never by its place, and never by the order in which a library lists them:
`load_dataset` lists 1, 10, 100, ... The published answers of two pairs are wrong (lmms-eval, tasks/mmvp/README.md); an
import has the other answers as a second ground truth. No public file says which of the nine patterns a pair has.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from blindpairs.benchmark.assembly import Assembly
from blindpairs.benchmark.checks import READ_AS_MISSING
from blindpairs.benchmark.clip_embeds import statements
from blindpairs.benchmark.folders import (
    converted_note,
    new_folder,
    read_record,
    select,
    text_refusal,
    write_jpegs,
    write_record,
)
from blindpairs.benchmark.foreign import Exported, ImportedBenchmark
from blindpairs.benchmark.model import ORIGINAL, Answers, Benchmark, BenchmarkPair, Question
from blindpairs.benchmark.questions import answer_of, lettered, options_of, question_or_refusal
from blindpairs.benchmark.sidecar import not_carried, pairs_of, pattern_refusal, read_sidecar, write_sidecar
from blindpairs.benchmark.tables import by_number, entry_named, numbered_images, plain_name, read_table, write_table
from blindpairs.errors import InputError

FORMAT = "mmvp"
QUESTIONS = "Questions.csv"
IMAGES = "MMVP Images"
CONTROLS = "controls"
CORRECTED = "corrected"
HEADER = ("Index", "Question", "Options", "Correct Answer")
# `lndex` is how the official file first spelled it.
COLUMNS = {"Index": ("lndex",), "Question": (), "Options": (), "Correct Answer": ("answer",)}
# Row of image a -> how its question begins, and the right options of images a and b, against the published file.
WRONG_ANSWERS = {
    "99": ("does the elephant have long or short tusks", ("short", "long")),
    "279": ("is the elderly person standing or sitting", ("sitting", "standing")),
}


def export_mmvp(benchmark: Benchmark, folder: Path) -> Exported:
    """Write the files of MMVP. Images that are no upright RGB JPEG become JPEGs of quality 95.

    Refused are pairs without a question, with an option that holds "(" (scorers split options there), with one answer
    for both images, and with texts that a reader would not get back. InputError where no blind pair is left.
    """
    selected = select("MMVP", benchmark, _refusal)
    controls = selected.controls
    lost = ("second", "statement_a", "annotators", "source", "license")
    notes = not_carried(benchmark, selected.pairs, lost)
    if controls:
        notes.append(f"Control pairs in {CONTROLS}/, which the official scripts do not read: {len(controls):,}.")
    with new_folder(folder, FORMAT) as aside:
        for pairs, part in ((selected.blind, aside), (controls, aside / CONTROLS)):
            if pairs:
                notes += _write_part(benchmark, pairs, part)
        exported = Exported(folder, len(selected.pairs), selected.refused, tuple(notes))
        write_record(aside, FORMAT, benchmark, exported)
    return exported


def import_mmvp(folder: Path) -> ImportedBenchmark:
    """The benchmark in a folder with the files of MMVP, named in any case, with spaces or underscores.

    Left out, with a note, are pairs whose two questions differ or whose answers do not. InputError for a damaged
    table: half a pair, a number twice, a row without its image.
    """
    assembly = Assembly()
    _read_part(folder, assembly, "")
    apart = entry_named(folder, CONTROLS)
    if apart and entry_named(apart, QUESTIONS):
        _read_part(apart, assembly, f"{CONTROLS}/")
    record = read_record(folder)
    found = _known_corrections(assembly)
    used = dict.fromkeys(name for pair in assembly.pairs for name in pair.patterns)
    ground_truth, corrections = found or (record.get("ground_truth", ORIGINAL), {})
    return assembly.imported(
        folder,
        record.get("name", "MMVP" if found else folder.resolve().name),
        patterns=tuple(record.get("patterns", used)),
        ground_truth=ground_truth,
        corrections=corrections,
        provenance={"imported": FORMAT},
    )


def _refusal(pair: BenchmarkPair) -> str:
    question = pair.question
    if question is None:
        return "it has no question"
    if any("(" in option for option in question.options):
        return 'an option holds "(", where scorers split the options'
    sides = dict(zip("ab", question.answers, strict=True))
    again = question_or_refusal(question.text, options_of(lettered(question.options)), sides)
    if isinstance(again, str):
        return again
    if again != question:
        return "an option begins or ends with a space"
    if question.text in READ_AS_MISSING:
        return f"pandas, with which the official script reads, takes the question {question.text!r} for a missing one"
    return text_refusal((question.text, *question.options, *pair.patterns)) or pattern_refusal(pair)


def _write_part(benchmark: Benchmark, pairs: Sequence[BenchmarkPair], folder: Path) -> list[str]:
    """Write one table with its images; returns what is worth a note."""
    (folder / IMAGES).mkdir(parents=True)
    places: dict[str, list[Path]] = {}
    rows = []
    for index, pair in enumerate(pairs):
        assert pair.question  # pairs without one are refused
        for side, key in enumerate(pair.image_ids):
            number = 2 * index + side + 1
            places.setdefault(key, []).append(folder / IMAGES / f"{number}.jpg")
            letter = "ab"[pair.question.answers[side]]
            rows.append((number, pair.question.text, lettered(pair.question.options), f"({letter})"))
    exported_ids = write_jpegs(benchmark, pairs, places)
    write_table(folder / QUESTIONS, HEADER, rows)
    write_sidecar(folder, pairs, exported_ids)
    return converted_note(exported_ids)


def _read_part(folder: Path, assembly: Assembly, prefix: str) -> None:
    table, images = entry_named(folder, QUESTIONS), entry_named(folder, IMAGES, "images")
    if not table or not images:
        raise InputError(f"{folder} has no {QUESTIONS if not table else IMAGES}: name the folder that holds both")
    rows = by_number(table, "Index", read_table(table, COLUMNS))
    files = numbered_images(images, assembly.notes)
    missing = [number for number in rows if number not in files]
    if missing:
        raise InputError(f"{images} has no {missing[0]}.jpg ({len(missing):,} of {len(rows):,} are missing)")
    if len(files) > len(rows):
        assembly.notes.append(f"Images in {images.name} without a row in {table.name}: {len(files) - len(rows):,}.")
    sidecar = read_sidecar(folder)
    stated = statements(folder, assembly.notes)
    for a, b in pairs_of(rows, sidecar, table):
        question = _question(rows[a], rows[b])
        if isinstance(question, str):
            assembly.leave_out(f"The pair of rows {prefix}{a} and {prefix}{b}", question)
            continue
        fields = {"question": question, "source_id_a": f"{prefix}{a}", "source_id_b": f"{prefix}{b}"}
        if {a, b} <= stated.keys():
            fields |= _statements(stated[a], stated[b], f"{prefix}{a} and {prefix}{b}", assembly.notes)
        assembly.add((files[a], files[b]), fields, (sidecar.get(a), sidecar.get(b)))


def _statements(statement_a: str, statement_b: str, rows: str, notes: list[str]) -> dict[str, str]:
    """The fields of two statements; empty, with a note, where they say nothing."""
    if not statement_a.strip() or not statement_b.strip() or statement_a == statement_b:
        notes.append(f"The statements for {rows} are left out: they are empty or the same.")
        return {}
    return {"statement_a": statement_a, "statement_b": statement_b}


def _question(row_a: Mapping[str, str], row_b: Mapping[str, str]) -> Question | str:
    """The question that both rows ask, or why they ask none."""
    options = options_of(row_a["Options"])
    if row_a["Question"].split() != row_b["Question"].split():
        return "its two rows ask different questions"
    if options != options_of(row_b["Options"]):
        return "its two rows have different options"
    answers = {side: answer_of(row["Correct Answer"], options) for side, row in (("a", row_a), ("b", row_b))}
    return question_or_refusal(row_a["Question"], options, answers)


def _known_corrections(assembly: Assembly) -> tuple[str, Mapping[str, Mapping[str, Answers]]] | None:
    """(the ground truth of the answers that were read, the other one); None for another benchmark than MMVP."""
    other: dict[str, Answers] = {}
    corrected = []
    for pair in assembly.pairs:
        if pair.source_id_a not in WRONG_ANSWERS or not pair.question:
            continue
        beginning, right = WRONG_ANSWERS[pair.source_id_a]
        right_options = [pair.question.options[answer].casefold() for answer in pair.question.answers]
        if plain_name(pair.question.text).startswith(beginning) and sorted(right_options) == sorted(right):
            corrected.append(tuple(right_options) == right)
            other[pair.pair_id] = pair.question.answers[::-1]
    if len(other) < len(WRONG_ANSWERS):
        return None
    if len(set(corrected)) > 1:
        assembly.notes.append("Of the two pairs of MMVP with wrong published answers, only one is corrected here.")
        return None
    return (CORRECTED, {ORIGINAL: other}) if corrected[0] else (ORIGINAL, {CORRECTED: other})
