"""`pairs.csv`, beside the official tables of an export: the ids, patterns and cosines that they have no column for.

With it, an import gives the pairs their ids back, also where images were converted to JPEG and so have new bytes; and
finds pairs by their ids, whatever the order and the numbers of the rows. Foreign tools ignore the file.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindpairs.benchmark.model import Benchmark, BenchmarkPair
from blindpairs.benchmark.tables import by_number, read_table, write_table
from blindpairs.errors import InputError

SIDECAR = "pairs.csv"
SEPARATOR = "|"  # between the patterns of a pair
_COLUMNS = ("Index", "pair_id", "side", "image_id", "pattern", "clip_sim", "dino_sim", "control_of")


@dataclass(frozen=True)
class SidecarEntry:
    """What the sidecar says about one numbered image."""

    pair_id: str
    side: str  # a or b
    image_id: str  # of the file as it was exported, which may have been converted
    fields: Mapping[str, Any]  # of the pair: patterns, clip_sim, dino_sim, control_of


def write_sidecar(folder: Path, pairs: Sequence[BenchmarkPair], exported_ids: Mapping[str, str]) -> None:
    """Write `pairs.csv` for pairs whose images are numbered 1, 2, 3, 4, ... in their order.

    `exported_ids` gives the id of the file that was written for an image.
    """
    rows = [
        (
            *(number, pair.pair_id, side, exported_ids[key], SEPARATOR.join(pair.patterns)),
            *("" if sim is None else repr(sim) for sim in (pair.clip_sim, pair.dino_sim)),
            pair.control_of or "",
        )
        for index, pair in enumerate(pairs)
        for number, side, key in ((2 * index + 1, "a", pair.image_id_a), (2 * index + 2, "b", pair.image_id_b))
    ]
    write_table(folder / SIDECAR, _COLUMNS, rows)


def read_sidecar(folder: Path) -> dict[int, SidecarEntry]:
    """What `pairs.csv` says about each numbered image; empty where there is no such file."""
    path = folder / SIDECAR
    if not path.exists():
        return {}
    entries: dict[int, SidecarEntry] = {}
    for number, row in by_number(path, "Index", read_table(path, dict.fromkeys(_COLUMNS, ()))).items():
        try:
            clip_sim, dino_sim = (float(row[name]) if row[name] else None for name in ("clip_sim", "dino_sim"))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}): export again, or move it away to import without") from None
        fields = {
            "patterns": tuple(row["pattern"].split(SEPARATOR)) if row["pattern"] else (),
            "clip_sim": clip_sim,
            "dino_sim": dino_sim,
            "control_of": row["control_of"] or None,
        }
        entries[number] = SidecarEntry(row["pair_id"], row["side"], row["image_id"], fields)
    return entries


def pairs_of(numbers: Collection[int], sidecar: Mapping[int, SidecarEntry], path: Path) -> list[tuple[int, int]]:
    """The numbers of images a and b of each pair: by the sidecar, else an odd number and the one after it.

    InputError, naming `path`, where half of a pair is missing: scorers that count rows mispair all that follow it; and
    where the sidecar gives a side of a pair two numbers.
    """
    groups: dict[object, dict[str, int]] = {}
    unknown = sorted(set(numbers) - sidecar.keys()) if sidecar else []
    if unknown:
        raise InputError(f"{path} has the row {unknown[0]}, which {SIDECAR} beside it does not know: export again")
    for number in sorted(numbers):
        entry = sidecar.get(number)
        key, side = (entry.pair_id, entry.side) if entry else ((number - 1) // 2, "a" if number % 2 else "b")
        first = groups.setdefault(key, {}).setdefault(side, number)
        if first != number:
            both = f"{first} and {number}"
            raise InputError(
                f"{path.parent / SIDECAR} gives image {side} of pair {key} the numbers {both}: export again"
            )
    halves = [numbered for numbered in groups.values() if set(numbered) != {"a", "b"}]
    if halves:
        number = next(iter(halves[0].values()))
        raise InputError(
            f"{path} has half of a pair, row {number} ({len(halves):,} such): a row is missing, so the file is damaged"
        )
    return [(numbered["a"], numbered["b"]) for numbered in groups.values()]


def pattern_refusal(pair: BenchmarkPair) -> str:
    """Why the sidecar cannot hold a pair; "" if it can."""
    torn = [name for name in pair.patterns if SEPARATOR in name or not name]
    return f"its pattern {torn[0]!r} holds {SEPARATOR}, which separates patterns" if torn else ""


def not_carried(benchmark: Benchmark, pairs: Iterable[BenchmarkPair], fields: Sequence[str]) -> list[str]:
    """A sentence if pairs have values in fields that a format has no place for, and one for other ground truths."""
    kept = list(pairs)
    lost = {name: sum(bool(getattr(pair, name)) for pair in kept) for name in fields}
    parts = [f"{name} (of {count:,})" for name, count in lost.items() if count]
    notes = [f"This format has no place for these fields of pairs: {', '.join(parts)}."] if parts else []
    if benchmark.corrections:
        others = ", ".join(benchmark.corrections)
        notes.append(f"The answers are those of the ground truth {benchmark.ground_truth!r}; left out: {others}.")
    return notes
