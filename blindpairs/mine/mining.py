"""Blind pairs from the vectors of two encoders: a pure function on arrays.

The result is exact: the same as comparing every pair of images. Each step counts what it leaves out:
    leave out blank images -> one row per unique image -> all pairs above clip_min (selfjoin), with their DINOv2 cosines
    -> near-duplicate groups -> rank -> a closer look at the first (closer.py, where options.differences asks for it)
    -> one pair per two groups, max_per_image pairs per group -> top -> a control for each (controls.py, on request)

The two encoders are called `clip` (the blind one) and `dino` (the one that sees) in all of mine/. These are roles:
any two encoders can take them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from blindpairs.defaults import COLUMNS
from blindpairs.mine.advice import advise
from blindpairs.mine.candidates import Candidates, Pairs
from blindpairs.mine.closer import CloserLook, look_closer, places_to_look_at
from blindpairs.mine.controls import (
    MOST_EXAMPLES,
    MOST_IMAGES,
    MOST_PAIRS,
    ControlRequest,
    Controls,
    Pool,
    find_controls,
)
from blindpairs.mine.images import Images, pair_id
from blindpairs.mine.maps import DifferenceMap
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.ranking import Chosen, quantiles
from blindpairs.mine.search import LOCAL, Running, Search, SearchSummary, Vectors
from blindpairs.progress import Progress, silent

CONTROL_MARGIN = 0.1  # below clip_min: a pair of so low a CLIP cosine is told apart

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "image_id_a", "image_id_b", "uri_a", "uri_b")),
        *((name, pa.float64()) for name in ("clip_sim", "dino_sim", "gap", "clip_quantile", "dino_quantile")),
        ("difference", pa.float64()),
        ("cluster", pa.int32()),
        ("control_of", pa.string()),
    ]
)


@dataclass(frozen=True)
class MiningCounts:
    """What became of each image and pair.

    blind = repeated + capped + similar_findings + beyond_top + kept + not_ranked.
    """

    images: int
    low_information: int  # images left out as blank
    identical: int  # images left out because another has the same id, or the same vectors in both encoders
    id_conflicts: int  # of those, images with the id of another image but not its vectors
    above_clip_min: int  # pairs of the remaining images
    near_duplicates: int  # of those pairs, dino_sim >= 0.95
    blind: int  # of those pairs, dino_sim <= dino_max
    repeated: int
    capped: int
    similar_findings: int  # similar to a better pair; 0 unless `distinct` is on
    beyond_top: int
    not_ranked: int  # blind pairs that were not held; 0 unless there are more than most_candidates
    kept: int
    controls: int = 0  # beside the kept ones


@dataclass(frozen=True)
class CloserCounts:
    """The pairs that were looked at through their patch tokens, their images, and those that could not be read.

    `reason` says why none was, where `options.differences` asked for it and the encoder cannot be had.
    """

    pairs: int
    images: int
    unread: Mapping[str, int]  # failure code -> images
    reason: str = ""


@dataclass(frozen=True)
class Mined:
    """The pairs in rank order and then their controls, the counts, and advice if there are no pairs.

    `pairs` has the columns of pairs.parquet; `control_of` is null for the blind pairs.

    `dino_histogram` counts the pairs above clip_min by dino_sim: one number per step of 0.01 from -1 to 1, each for the
    cosines up to and including that step. `complete` is False if more than `most_candidates` blind pairs were found and
    those that were not held could have filled `top`. `options` are those asked for, with quantiles resolved to cosines.
    `quantile_pairs` is how many random pairs the quantiles are shares of. `maps` are those of the pairs that were
    looked at closely, by pair id, and `closer` is how many pairs and images that were.
    """

    pairs: pa.Table
    options: MiningOptions
    counts: MiningCounts
    dino_histogram: list[int]
    quantile_pairs: int
    complete: bool
    advice: str
    closer: CloserCounts
    maps: Mapping[str, DifferenceMap]


def mine(
    clip_vectors: Vectors,
    dino_vectors: Vectors,
    images: Images | None = None,
    options: MiningOptions | None = None,
    progress: Progress = silent,
    running: Running = LOCAL,
) -> Mined:
    """The blind pairs of two arrays of vectors, (N, D1) and (N, D2) float16 or float32, of any length.

    Without `images`, their ids are the row numbers, and no image is blank. The same input gives the same result,
    whatever the order of the images. `progress(done, total)` counts tasks of the join. Raises InputError for arrays of
    another shape or type, of different lengths, and for a vector without direction.
    """
    vectors = np.asanyarray(clip_vectors), np.asanyarray(dino_vectors)  # memory-mapped ones stay so
    images = images or Images.numbered(len(vectors[0]) if vectors[0].ndim else 0)
    search = Search.of(vectors, images, options or MiningOptions(), running)
    options = (options or MiningOptions()).resolved(search.random_sims)
    candidates = search.candidates(options, progress)
    ranked = search.ranked(candidates)
    look = CloserLook.none(len(ranked))
    if options.differences and running.patches is not None:
        places = places_to_look_at(ranked, candidates.groups, options)
        look = look_closer(
            ranked,
            places,
            ids=search.ids,
            dino=search.dino,
            source=running.patches,
            progress=running.patch_progress,
        )
    chosen = search.choose(ranked.take(look.order), candidates, look.cluster)
    counts = _counts(images, search, candidates, chosen, held=len(ranked))
    table = _table(chosen, images, search, look)
    names = table["pair_id"].to_pylist()
    maps = look.maps(chosen.places)
    if options.controls and len(chosen.pairs):
        controls = _controls(chosen, ranked, search, look, candidates)
        counts = replace(counts, controls=len(controls))
        table = pa.concat_tables([table, _control_table(controls, table, images, search)])
    return Mined(
        pairs=table,
        options=options,
        counts=counts,
        dino_histogram=candidates.dino_counts.tolist(),
        quantile_pairs=len(search.random_sims[0]),
        complete=counts.not_ranked == 0 or counts.kept == options.top,
        advice="" if counts.kept else advise(search, options, SearchSummary.of(candidates, 0)),
        closer=CloserCounts(
            look.pairs,
            look.images,
            look.unread,
            reason=running.no_patches if options.differences and running.patches is None else "",
        ),
        maps={name: maps[int(place)] for name, place in zip(names, chosen.places, strict=True) if int(place) in maps},
    )


def _counts(images: Images, search: Search, candidates: Candidates, chosen: Chosen, held: int) -> MiningCounts:
    return MiningCounts(
        images=len(images),
        low_information=search.low_information,
        identical=len(images) - search.low_information - len(search.ids),
        id_conflicts=search.id_conflicts,
        above_clip_min=candidates.above,
        near_duplicates=candidates.duplicates,
        blind=candidates.blind,
        repeated=chosen.repeated,
        capped=chosen.capped,
        similar_findings=chosen.similar,
        beyond_top=chosen.beyond_top,
        not_ranked=candidates.blind - held,
        kept=len(chosen.pairs),
    )


def _table(chosen: Chosen, images: Images, search: Search, look: CloserLook) -> pa.Table:
    """The columns of pairs.parquet for the kept blind pairs."""
    columns = _columns(chosen.pairs, images, search)
    difference, cluster = look.difference[chosen.places], look.cluster[chosen.places]
    columns["difference"] = pa.array(difference, mask=np.isnan(difference))
    columns["cluster"] = pa.array(cluster, mask=cluster < 0)
    columns["control_of"] = pa.nulls(len(chosen.pairs), pa.string())
    return pa.table(columns, schema=SCHEMA)


def _control_table(controls: Controls, blind: pa.Table, images: Images, search: Search) -> pa.Table:
    """The same columns for the controls of the pairs in `blind`; a control is of the cluster of its pair."""
    columns = _columns(controls.pairs, images, search)
    matched = blind.take(pa.array(controls.control_of))
    columns["difference"] = pa.nulls(len(controls), pa.float64())
    columns |= {"cluster": matched["cluster"], "control_of": matched["pair_id"]}
    return pa.table(columns, schema=SCHEMA)


def _columns(pairs: Pairs, images: Images, search: Search) -> dict[str, Any]:
    """What is known of any pair. Image a of a pair is the one with the smaller id."""
    rows = [
        sorted((int(i), int(j)), key=lambda row: images.ids[row])
        for i, j in zip(search.indices[pairs.i], search.indices[pairs.j], strict=True)
    ]
    columns: dict[str, Any] = {"pair_id": [pair_id(images.ids[a], images.ids[b]) for a, b in rows]}
    for side, name in enumerate("ab"):
        columns[f"image_id_{name}"] = [images.ids[row[side]] for row in rows]
        columns[f"uri_{name}"] = [images.uris[row[side]] for row in rows]
    columns |= {"clip_sim": pairs.clip_sim, "dino_sim": pairs.dino_sim, "gap": pairs.gap}
    for encoder, random_sims in zip(COLUMNS, search.random_sims, strict=True):
        columns[f"{encoder}_quantile"] = quantiles(columns[f"{encoder}_sim"], random_sims)
    return columns


def _controls(chosen: Chosen, ranked: Pairs, search: Search, look: CloserLook, candidates: Candidates) -> Controls:
    """Controls of the kept pairs, made of their images and others that are at hand."""
    wanted = chosen.pairs.take(np.arange(min(len(chosen.pairs), MOST_PAIRS)))
    # Those that were looked at come first, and all of their images have features.
    examples = ranked.take(look.order[: min(look.pairs or MOST_EXAMPLES, MOST_EXAMPLES)])
    at_hand = np.unique([examples.i, examples.j]).tolist() if look.found else range(len(search.ids))
    first = set(np.unique([wanted.i, wanted.j]).tolist())
    rows = sorted(at_hand, key=lambda row: (row not in first, search.ids[row]))[:MOST_IMAGES]
    features = look.found.comparison.coordinates([search.ids[row] for row in rows]) if look.found else None
    pool = Pool(np.array(rows, np.int64), features, examples)
    request = ControlRequest(candidates.options.clip_min - CONTROL_MARGIN, candidates.options.max_per_image)
    return find_controls((search.clip, search.dino), search.ids, wanted, pool, candidates.groups, request)
