"""The folder of a benchmark as the Hugging Face hub takes it: the native Parquet file, its card, and a record.

It is also the `benchmark/` of a work folder, below which exports in other formats lie. So files are replaced one by
one, each whole, and nothing else in the folder is touched.

Promises: `load_dataset(FOLDER)` reads the folder as it is, offline; `benchmark.json` has the sha256 of the Parquet
file, so that a mixture of two exports, or a damaged copy, is found; the same benchmark gives the same bytes; a folder
with files of somebody else's is refused before anything is written.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blindpairs.access import listed, present
from blindpairs.benchmark.card import Shipped, write_card
from blindpairs.benchmark.checks import Finding
from blindpairs.benchmark.foreign import Exported
from blindpairs.benchmark.model import Benchmark
from blindpairs.benchmark.native import DATA, is_native, write_native
from blindpairs.errors import InputError
from blindpairs.workspace import prepare_folder, read_json, sha256_file, stamp, write_json, write_text

CARD = "README.md"
RECORD = "benchmark.json"
EXPORTS = "exports"  # the folder of the foreign formats


def export_hub(
    benchmark: Benchmark, folder: Path, *, images: bool = True, findings: Sequence[Finding] = ()
) -> Exported:
    """Write the folder; without `images`, its data has ids, hashes and uris only. `findings` are those of `check`.

    All pairs are written. Those that a finding refuses and the caller left out are listed in the record.
    Raises InputError for a folder that holds something else, and for images that cannot be read.
    """
    if not benchmark.pairs:
        raise InputError(f"{benchmark.name} has no pairs to export: accept some drafts, then export again")
    _check_replaceable(folder)
    prepare_folder(folder)
    write_native(benchmark, folder / DATA, images=images)
    kept = {pair.pair_id for pair in benchmark.pairs}
    refused = {one.pair_id: one.message for one in findings if one.refuses and one.pair_id not in kept}
    shipped = Shipped(images, DATA, sha256_file(folder / DATA), findings)
    # The record before the card: a folder with a card and no record is somebody else's.
    write_json(folder / RECORD, _record(benchmark, shipped))
    write_text(folder / CARD, write_card(benchmark, shipped))
    return Exported(folder, len(benchmark.pairs), refused, _notes(benchmark, folder, images=images))


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder for the export")
    found = {path.name for path in listed(folder)} if folder.is_dir() else set()
    if RECORD in found and "blindpairs" not in read_json(folder / RECORD):
        raise InputError(f"{folder / RECORD} was not written by blindpairs: name another folder")
    others = {name for name in found if not name.startswith(".")} - {DATA.split("/")[0], EXPORTS}
    if RECORD not in found and others:
        raise InputError(f"{folder} holds {min(others)} and no export of blindpairs: name another folder")
    data = (folder / DATA).parent
    # `data/test-*` is the split, so another file in it would become part of the benchmark.
    more = [path.name for path in listed(data) if not path.name.startswith(".")] if data.is_dir() else []
    if added := sorted(set(more) - {Path(DATA).name}):
        raise InputError(f"{data} also holds {added[0]}, which blindpairs did not write: move it away")
    if RECORD not in found and present(folder / DATA) and not is_native(folder / DATA):
        raise InputError(f"{folder / DATA} was not written by blindpairs: name another folder")


def _record(benchmark: Benchmark, shipped: Shipped) -> dict[str, Any]:
    blind = [pair for pair in benchmark.pairs if not pair.is_control]
    patterns = Counter(name for pair in benchmark.pairs for name in pair.patterns)
    return {
        **stamp(),
        "name": benchmark.name,
        "fingerprint": benchmark.fingerprint,
        "data": shipped.data,
        "sha256": shipped.sha256,
        "images": shipped.images,
        "pairs": len(benchmark.pairs),
        "blind_pairs": len(blind),
        "controls": len(benchmark.pairs) - len(blind),
        "questions": sum(pair.question is not None for pair in benchmark.pairs),
        "second_questions": sum(pair.second is not None for pair in benchmark.pairs),
        "statements": sum(bool(pair.statement_a and pair.statement_b) for pair in benchmark.pairs),
        "patterns": {name: patterns[name] for name in dict.fromkeys([*benchmark.patterns, *sorted(patterns)])},
        "ground_truth": benchmark.ground_truth,
        "other_ground_truths": list(benchmark.corrections),
        "checks": [asdict(finding) for finding in shipped.findings],
        "provenance": dict(benchmark.provenance),
    }


def _notes(benchmark: Benchmark, folder: Path, *, images: bool) -> tuple[str, ...]:
    unknown = sum(not pair.license for pair in benchmark.pairs)
    notes = [f'Read it with datasets.load_dataset("{folder.resolve()}").']
    if images and unknown:
        notes.append(f"Pairs without a licence of their images: {unknown:,}. Find it before you publish them.")
    if not images:
        notes.append("It has no images: nothing can be asked of it until they are there.")
    return tuple(notes)
