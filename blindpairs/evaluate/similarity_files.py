"""What a CLIP-style model leaves in its folder of the results: `similarities.parquet`, and MMVP-VLM's `output.csv`.

    similarities.parquet   template, pair_id, s_aa, s_ab, s_ba, s_bb   s_ab: statement a with image b
    output.csv             qid1,qid2,pred1,pred2,gt1,gt2,q1score,q2score,pattern,s00,s01,s10,s11

Promises: the Parquet file is written aside and renamed, so that its existence means that it is complete; it carries the
settings that it was made with, and one made with others is refused, never mixed or overwritten. The first eight columns
of output.csv are those of tsb0601/MMVP, scripts/evaluate_vlm.py: `q1score` is the model's probability of image a for
statement a, and `pred2` is img1 where that of statement b is above one half.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import present, reading
from blindpairs.benchmark import BenchmarkPair
from blindpairs.benchmark.tables import write_table
from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.matching import Blocks
from blindpairs.workspace import canonical_json, digest, stamp, written_atomically

SIMILARITIES = "similarities.parquet"
OUTPUT = "output.csv"
RECORD_KEY = b"blindpairs"  # of the schema's metadata
CELLS = ("s_aa", "s_ab", "s_ba", "s_bb")
HEADER = ("qid1", "qid2", "pred1", "pred2", "gt1", "gt2", "q1score", "q2score", "pattern", "s00", "s01", "s10", "s11")


@dataclass(frozen=True)
class Similarities:
    """The similarities of one model on one benchmark; the first template is the one that scores are quoted for."""

    pair_ids: tuple[str, ...]
    blocks: Mapping[str, Blocks]  # template -> (P, 2, 2), in the order of `pair_ids`; see matching.py
    settings: Mapping[str, Any]  # the benchmark, the model with its weights' hashes, the templates

    @property
    def templates(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(self.blocks)


def write_similarities(similarities: Similarities, folder: Path) -> None:
    """Write `similarities.parquet`."""
    count = len(similarities.pair_ids)
    cells = np.concatenate([one.reshape(-1, 4) for one in similarities.blocks.values()])  # (T * P, 4)
    table = pa.table(
        {
            "template": [template for template in similarities.templates for _ in range(count)],
            "pair_id": list(similarities.pair_ids) * len(similarities.templates),
            **{name: cells[:, place] for place, name in enumerate(CELLS)},
        }
    )
    record = {**stamp(), "settings": similarities.settings, "settings_hash": digest(similarities.settings)}
    table = table.replace_schema_metadata({RECORD_KEY: canonical_json(record)})
    with written_atomically(folder / SIMILARITIES) as aside:
        pq.write_table(table, aside, compression="zstd", write_page_checksum=True)


def read_similarities(folder: Path) -> Similarities:
    """The similarities in a folder. InputError where there are none, or they are damaged."""
    path = folder / SIMILARITIES
    if not present(path):
        raise InputError(f"there is no {path}: run `blindpairs eval` with this model")
    with reading(path):
        try:
            table = pq.read_table(path, page_checksum_verification=True)
            settings = json.loads((table.schema.metadata or {})[RECORD_KEY])["settings"]
            columns = {name: table.column(name).to_pylist() for name in ("template", "pair_id", *CELLS)}
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:  # OSError: how Arrow reports bad checksums
            raise InputError(f"{path} is damaged ({str(error)[:100]}): remove it, and evaluate again") from error
    found: dict[str, dict[str, list[float]]] = {template: {} for template in settings["templates"]}
    for template, pair_id, *cells in zip(*columns.values(), strict=True):
        found[template][pair_id] = cells
    pair_ids = tuple(found[settings["templates"][0]])
    blocks = {
        template: np.array([rows[pair_id] for pair_id in pair_ids], np.float64).reshape(-1, 2, 2)
        for template, rows in found.items()
    }
    return Similarities(pair_ids, blocks, settings)


def kept_similarities(folder: Path, settings: Mapping[str, Any]) -> Similarities | None:
    """What an earlier run with the same settings left; None without any. ConfigError names how the settings differ."""
    if not present(folder / SIMILARITIES):
        return None
    kept = read_similarities(folder)
    if digest(kept.settings) == digest(settings):
        return kept
    name, before, now = next(_differences(kept.settings, settings))
    raise ConfigError(
        f"{folder} holds similarities of other settings ({name}: {before} there, {now} now): "
        "give this evaluation another folder, or remove that one"
    )


def write_output(similarities: Similarities, pairs: Sequence[BenchmarkPair], folder: Path) -> None:
    """Write `output.csv` of the blind pairs for the first template, in the order of their official numbers."""
    at = {pair_id: place for place, pair_id in enumerate(similarities.pair_ids)}
    blocks, scale = similarities.blocks[similarities.templates[0]], similarities.settings["texts"]["logit_scale"]
    blind = [pair for pair in pairs if pair.pair_id in at and not pair.is_control]
    if all(one.isdecimal() for pair in blind for one in (pair.source_id_a, pair.source_id_b)):
        numbered = [(int(pair.source_id_a), int(pair.source_id_b), pair) for pair in blind]
        numbered.sort(key=lambda one: one[:2])
    else:
        numbered = [(2 * place + 1, 2 * place + 2, pair) for place, pair in enumerate(blind)]
    rows = [(a, b, *_answers(blocks[at[pair.pair_id]], scale, pair)) for a, b, pair in numbered]
    with written_atomically(folder / OUTPUT) as aside:
        write_table(aside, HEADER, rows)


def _answers(block: Blocks, scale: float, pair: BenchmarkPair) -> tuple[object, ...]:
    """Everything after the two numbers, of one block (2, 2)."""
    predicted = ["img1" if row[0] > row[1] else "img2" for row in block]
    # The softmax over the two images; 700 keeps exp within a float.
    probabilities = [1 / (1 + math.exp(min(700.0, scale * float(row[1] - row[0])))) for row in block]
    cells = [float(cell) for cell in block.reshape(-1)]
    return (*predicted, "img1", "img2", *probabilities, "; ".join(pair.patterns), *cells)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key in dict.fromkeys([*now, *before]):
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif canonical_json(one) != canonical_json(other):
            yield f"{prefix}{key}", one, other
