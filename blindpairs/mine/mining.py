"""Blind pairs from two encoders' vectors: a pure function on arrays.

The result is exact: as if every pair of images had been compared. Steps, each of which is counted:
    leave out blank images -> one row per picture -> all pairs above clip_min (selfjoin) -> their dino cosines
    -> near-duplicates united -> rank -> one pair per two pictures, few per picture -> top
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from blindpairs.mine.advice import Look, advise
from blindpairs.mine.candidates import Pairs
from blindpairs.mine.images import Images
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.pictures import Pictures, Vectors
from blindpairs.mine.ranking import pair_id
from blindpairs.mine.running import LOCAL, Running
from blindpairs.mine.scores import quantiles
from blindpairs.progress import Progress, silent

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "image_id_a", "image_id_b", "uri_a", "uri_b")),
        *((name, pa.float64()) for name in ("clip_sim", "dino_sim", "gap", "clip_quantile", "dino_quantile")),
    ]
)


@dataclass(frozen=True)
class MiningCounts:
    """What became of everything: blind = repeated + capped + similar_findings + beyond_top + kept + not_ranked."""

    images: int
    low_information: int  # left out as blank
    identical: int  # left out as another image's twin: same content, or the same vectors in both encoders
    unlike_twins: int  # of those, with the id of another image but not its vectors
    above_clip_min: int  # pairs, of the images that remain
    near_duplicates: int  # of those, with dino_sim >= 0.95: one picture twice
    blind: int  # of those, with dino_sim <= dino_max
    repeated: int
    capped: int
    similar_findings: int  # views of a blind spot that a better pair shows; 0 unless distinct ones are asked for
    beyond_top: int
    not_ranked: int  # blind pairs of too small a gap to be held; 0 unless there were more than most_candidates
    kept: int


@dataclass(frozen=True)
class Mined:
    """The pairs in rank order with the columns of pairs.parquet, the counts, and what to try where there are none.

    `dino_histogram` counts the pairs above clip_min by dino_sim: one number per step of 0.01 from -1 to 1, each with
    the pairs up to and including that cosine. `complete` is False where a flood of more than `most_candidates` blind
    pairs may have hidden lesser ones that would have filled `top`. `options` are those asked for, with the cosines that
    quantiles came to.
    """

    pairs: pa.Table
    options: MiningOptions
    counts: MiningCounts
    dino_histogram: list[int]
    quantile_pairs: int
    complete: bool
    advice: str


def mine(
    vectors_a: Vectors,
    vectors_b: Vectors,
    images: Images,
    options: MiningOptions | None = None,
    progress: Progress = silent,
    running: Running = LOCAL,
) -> Mined:
    """The blind pairs of encoder a (CLIP's part) against encoder b (DINOv2's): vectors (N, Da), (N, Db) of any length.

    Raises InputError for arrays that do not fit each other or a vector without direction. `progress(done, total)`
    counts tasks of the join. The same input gives the same result, whatever the order of the images.
    """
    pictures = Pictures.of((vectors_a, vectors_b), images, options or MiningOptions(), running)
    options = (options or MiningOptions()).resolved(pictures.random)
    found = pictures.candidates(options, progress)
    best = found.best()
    result = pictures.choose(best, found)
    kept = len(result.pairs)
    counts = MiningCounts(
        images=len(images),
        low_information=pictures.low_information,
        identical=len(images) - pictures.low_information - len(pictures.ids),
        unlike_twins=pictures.unlike_twins,
        above_clip_min=found.above,
        near_duplicates=found.duplicates,
        blind=found.blind,
        repeated=result.repeated,
        capped=result.capped,
        similar_findings=result.similar,
        beyond_top=result.beyond_top,
        not_ranked=found.blind - len(best),
        kept=kept,
    )
    return Mined(
        pairs=_table(result.pairs, images, pictures),
        options=options,
        counts=counts,
        dino_histogram=found.dino_counts.tolist(),
        quantile_pairs=len(pictures.random[0]),
        complete=counts.not_ranked == 0 or kept == options.top,
        advice="" if kept else advise(pictures, options, Look.at(found, 0)),
    )


def _table(pairs: Pairs, images: Images, pictures: Pictures) -> pa.Table:
    chosen = pictures.chosen
    rows = [
        sorted((int(i), int(j)), key=lambda row: images.ids[row])
        for i, j in zip(chosen[pairs.i], chosen[pairs.j], strict=True)
    ]
    columns: dict[str, Any] = {"pair_id": [pair_id(images.ids[a], images.ids[b]) for a, b in rows]}
    for side, name in enumerate("ab"):
        columns[f"image_id_{name}"] = [images.ids[row[side]] for row in rows]
        columns[f"uri_{name}"] = [images.uris[row[side]] for row in rows]
    columns |= {"clip_sim": pairs.clip, "dino_sim": pairs.dino, "gap": pairs.clip - pairs.dino}
    for name, below, values in zip(("clip", "dino"), pictures.random, (pairs.clip, pairs.dino), strict=True):
        columns[f"{name}_quantile"] = quantiles(values, below)
    return pa.table(columns, schema=SCHEMA)
