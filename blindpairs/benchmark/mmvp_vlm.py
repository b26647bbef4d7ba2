"""The files of MMVP-VLM (tsb0601/MMVP, scripts/evaluate_vlm.py): import and export.

    Questions.csv                     Question ID,Type,Statement      1,Orientation,a dog facing left
    MLLM_VLM Images/Orientation/1.jpg image a of the first pair; 2.jpg is image b

Exports also hold `pairs.csv` (see sidecar.py), `blindpairs.json`, and in `controls/` the same layout for control pairs.
`Questions-llava.csv` of CLIP-Embeds, beside the others, gives questions (see clip_embeds.py).

The official script counts 15 pairs for each of nine patterns, in its own order, and never reads the Type for that: with
any other number, pairs are counted for a wrong pattern. Types are folders, so a pattern of one's own has no place.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from blindpairs.benchmark.assembly import Assembly
from blindpairs.benchmark.checks import READ_AS_MISSING
from blindpairs.benchmark.clip_embeds import questions
from blindpairs.benchmark.folders import (
    converted_note,
    new_folder,
    read_record,
    require_blind_pairs,
    text_refusal,
    write_jpegs,
    write_record,
)
from blindpairs.benchmark.foreign import Exported, ImportedBenchmark
from blindpairs.benchmark.model import ORIGINAL, Benchmark, BenchmarkPair
from blindpairs.benchmark.sidecar import (
    SidecarEntry,
    not_carried,
    pairs_of,
    pattern_refusal,
    read_sidecar,
    write_sidecar,
)
from blindpairs.benchmark.tables import by_number, entry_named, numbered_images, plain_name, read_table, write_table
from blindpairs.errors import InputError
from blindpairs.mine.patterns import VisualPattern

FORMAT = "mmvp-vlm"
STATEMENTS = "Questions.csv"
IMAGES = "MLLM_VLM Images"
IMAGES_NAMES = (IMAGES, "MMVP_VLM_Images", "images")  # the second in the README, the first in the script
CONTROLS = "controls"
HEADER = ("Question ID", "Type", "Statement")
COLUMNS = {"Question ID": ("id", "Index", "lndex"), "Type": ("pattern",), "Statement": ("caption",)}
OFFICIAL = 15  # pairs of each pattern
# The nine values of the column Type, which name folders, in the order in which the official script counts them.
TYPES = {
    VisualPattern.ORIENTATION: "Orientation",
    VisualPattern.PRESENCE: "Presence",
    VisualPattern.STATE: "State",
    VisualPattern.QUANTITY: "Quantity",
    VisualPattern.POSITION: "Spatial",
    VisualPattern.COLOR: "Color",
    VisualPattern.STRUCTURE: "Structural Character",
    VisualPattern.TEXT: "Text",
    VisualPattern.VIEWPOINT: "Camera Perspective",
}
# Other names of the nine: those of the script's output.
SPELLINGS = {"structural characteristics": VisualPattern.STRUCTURE, "texts": VisualPattern.TEXT}
SPELLINGS |= {plain_name(name): pattern for pattern, kind in TYPES.items() for name in (pattern.value, kind)}


def export_mmvp_vlm(benchmark: Benchmark, folder: Path, per_pattern: int | None = None) -> Exported:
    """Write the files of MMVP-VLM, the patterns in the official order. Images are written as `export_mmvp` does.

    `per_pattern` keeps so many pairs of each pattern (the official script wants 15): those that most annotators
    accepted, the better ranked first. Refused are the others, and pairs without two statements or of other patterns.
    InputError where no blind pair is left.
    """
    refused = {pair.pair_id: reason for pair in benchmark.pairs if (reason := _refusal(pair))}
    kept = []
    for controls in (False, True):
        pairs = [pair for pair in benchmark.pairs if pair.is_control == controls]
        kept.append(_chosen([pair for pair in pairs if pair.pair_id not in refused], per_pattern, refused))
    require_blind_pairs("MMVP-VLM", benchmark, kept[0], refused)
    both = [*kept[0], *kept[1]]
    lost = ("question", "second", "annotators", "source", "license")
    notes = [*not_carried(benchmark, both, lost), *_count_notes(kept[0])]
    if kept[1]:
        notes.append(f"Control pairs in {CONTROLS}/, which the official script does not read: {len(kept[1]):,}.")
    with new_folder(folder, FORMAT) as aside:
        for part, place in zip(kept, (aside, aside / CONTROLS), strict=True):
            if part:
                notes += _write_part(benchmark, part, place)
        exported = Exported(folder, len(both), refused, tuple(notes))
        write_record(aside, FORMAT, benchmark, exported)
    return exported


def import_mmvp_vlm(folder: Path) -> ImportedBenchmark:
    """The benchmark in a folder with the files of MMVP-VLM, in either spelling of folders and types.

    Left out, with a note, are pairs of two types, or with an empty or the same statement. InputError for a damaged
    table, as `import_mmvp`.
    """
    assembly = Assembly()
    _read_part(folder, assembly, "")
    apart = entry_named(folder, CONTROLS)
    if apart and entry_named(apart, STATEMENTS):
        _read_part(apart, assembly, f"{CONTROLS}/")
    record = read_record(folder)
    used = dict.fromkeys(name for pair in assembly.pairs for name in pair.patterns)
    nine = [pattern.value for pattern in VisualPattern]
    return assembly.imported(
        folder,
        record.get("name", "MMVP-VLM" if _is_official(assembly.pairs) else folder.resolve().name),
        patterns=tuple(record.get("patterns", [*nine, *(name for name in used if name not in nine)])),
        ground_truth=record.get("ground_truth", ORIGINAL),
        provenance={"imported": FORMAT},
    )


def _pattern(pair: BenchmarkPair) -> VisualPattern | None:
    """The first of a pair's patterns that is one of the nine."""
    known = (SPELLINGS.get(plain_name(name)) for name in pair.patterns)
    return next((pattern for pattern in known if pattern), None)


def _refusal(pair: BenchmarkPair) -> str:
    statements = (pair.statement_a, pair.statement_b)
    if not all(statement.strip() for statement in statements):
        return "it has no two statements"
    if pair.statement_a == pair.statement_b:
        return "its two statements are the same"
    if not _pattern(pair):
        which = repr(pair.patterns[0]) if pair.patterns else "none"
        return f"its pattern ({which}) is not one of the nine that have a folder"
    taken = [statement for statement in statements if statement in READ_AS_MISSING]
    if taken:
        return f"pandas, with which scripts read this table, takes the statement {taken[0]!r} for a missing one"
    return text_refusal((*statements, *pair.patterns)) or pattern_refusal(pair)


def _chosen(pairs: Sequence[BenchmarkPair], most: int | None, refused: dict[str, str]) -> list[BenchmarkPair]:
    """The pairs to write in the order of the patterns; those that `most` leaves out are added to `refused`."""
    chosen: list[BenchmarkPair] = []
    for pattern in TYPES:
        ranked = [pair for pair in pairs if _pattern(pair) is pattern]
        best = sorted(ranked, key=lambda pair: -len(pair.annotators))[:most]  # stable: then the better ranked
        names = {pair.pair_id for pair in best}
        chosen += [pair for pair in ranked if pair.pair_id in names]
        refused |= {
            pair.pair_id: f"{most} pairs of {pattern.value} were accepted by more annotators or ranked better"
            for pair in ranked
            if pair.pair_id not in names
        }
    return chosen


def _count_notes(pairs: Sequence[BenchmarkPair]) -> list[str]:
    counts = Counter(_pattern(pair) for pair in pairs)
    if all(counts[pattern] == OFFICIAL for pattern in TYPES):
        return []
    counted = ", ".join(f"{counts[pattern]} {kind}" for pattern, kind in TYPES.items())
    fault = "stops with an IndexError" if len(pairs) > OFFICIAL * len(TYPES) else "counts pairs for wrong patterns"
    return [f"The official script wants {OFFICIAL} pairs of each type, and {fault} here ({counted})."]


def _write_part(benchmark: Benchmark, pairs: Sequence[BenchmarkPair], folder: Path) -> list[str]:
    """Write one table with its images; returns what is worth a note."""
    (folder / IMAGES).mkdir(parents=True)
    places: dict[str, list[Path]] = {}
    rows = []
    for place, pair in enumerate(pairs):
        pattern = _pattern(pair)
        assert pattern  # pairs of none of the nine are refused
        statements = (pair.statement_a, pair.statement_b)
        for number, key, statement in zip((2 * place + 1, 2 * place + 2), pair.image_ids, statements, strict=True):
            file = folder / IMAGES / TYPES[pattern] / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            places.setdefault(key, []).append(file)
            rows.append((number, TYPES[pattern], statement))
    exported_ids = write_jpegs(benchmark, pairs, places)
    write_table(folder / STATEMENTS, HEADER, rows)
    write_sidecar(folder, pairs, exported_ids)
    return converted_note(exported_ids)


def _read_part(folder: Path, assembly: Assembly, prefix: str) -> None:
    table, images = entry_named(folder, STATEMENTS), entry_named(folder, *IMAGES_NAMES)
    if not table or not images:
        raise InputError(f"{folder} has no {STATEMENTS if not table else IMAGES}: name the folder that holds both")
    rows = by_number(table, "Question ID", read_table(table, COLUMNS))
    types = {number: row["Type"] for number, row in rows.items()}
    files = _files(images, types, assembly.notes)
    sidecar = read_sidecar(folder)
    asked = questions(folder, types, assembly.notes)
    for a, b in pairs_of(rows, sidecar, table):
        what = f"The pair of rows {prefix}{a} and {prefix}{b}"
        kind, statements = rows[a]["Type"], (rows[a]["Statement"], rows[b]["Statement"])
        if plain_name(kind) != plain_name(rows[b]["Type"]):
            assembly.leave_out(what, f"its rows have two types, {kind!r} and {rows[b]['Type']!r}")
        elif not all(one.strip() for one in statements) or statements[0] == statements[1]:
            assembly.leave_out(what, "its statements are empty or the same")
        else:
            fields = {"statement_a": statements[0], "statement_b": statements[1], "question": asked.get(a)}
            fields |= {"source_id_a": f"{prefix}{a}", "source_id_b": f"{prefix}{b}"}
            entries = (sidecar.get(a), sidecar.get(b))
            assembly.add((files[a], files[b]), {**fields, **_patterns(kind, entries[0])}, entries)


def _patterns(kind: str, entry: SidecarEntry | None) -> dict[str, tuple[str, ...]]:
    """The field `patterns` of a pair; empty where a sidecar has it, with all patterns of the pair."""
    known = SPELLINGS.get(plain_name(kind))
    return {} if entry else {"patterns": (known.value if known else kind.strip(),)}


def _files(images: Path, types: dict[int, str], notes: list[str]) -> dict[int, Path]:
    """The file of each id: in the folder of its type, else beside the folders. InputError where one is missing."""
    flat = numbered_images(images, notes)
    folders = {plain_name(kind): entry_named(images, kind) for kind in set(types.values())}
    sorted_files = {kind: numbered_images(place, notes) if place else {} for kind, place in folders.items()}
    found = {number: sorted_files[plain_name(kind)].get(number, flat.get(number)) for number, kind in types.items()}
    missing = [number for number, path in found.items() if path is None]
    if missing:
        where = images / types[missing[0]] / f"{missing[0]}.jpg"
        raise InputError(f"there is no {where} ({len(missing):,} of {len(types):,} images are missing)")
    return {number: path for number, path in found.items() if path}


def _is_official(pairs: Sequence[BenchmarkPair]) -> bool:
    counts = Counter(_pattern(pair) for pair in pairs)
    return len(pairs) == OFFICIAL * len(TYPES) and all(counts[pattern] == OFFICIAL for pattern in TYPES)
