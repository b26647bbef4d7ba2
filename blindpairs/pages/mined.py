"""The pairs of a store shown: the gallery of a mining run, and single pairs as pictures.

Pixels are read again from the corpus. Where an image is gone or changed, the reason
is shown in its place.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from blindpairs.errors import Undecodable
from blindpairs.images import read_many
from blindpairs.images.decode import Limits, decode, image_id
from blindpairs.mine import Mined, MiningOptions
from blindpairs.pages.gallery import write_gallery
from blindpairs.pages.pairs import GalleryPair, GallerySummary
from blindpairs.pages.picture import pair_picture
from blindpairs.store import Store

Images = Iterator[tuple[str, np.ndarray[Any, Any] | Undecodable]]  # image id, pixels or why there are none
PAIR_COLUMNS = {one.name for one in fields(GalleryPair)}
Differs = Callable[[str, str], tuple[str, ...]]  # two image ids -> what is known to differ between them


@dataclass(frozen=True)
class PageImages:
    """How many images a page should show, and how many of them could not be read, by failure code."""

    wanted: int
    unread: dict[str, int]


def write_mined_gallery(
    store: Store,
    mined: Mined,
    options: MiningOptions,
    output: Path,
    *,
    encoders: tuple[str, str] = ("clip", "dino"),
    differs: Differs = lambda *_: (),
) -> PageImages:
    """Write the gallery of `mined`, which came from `store` with `options`; returns what could not be read."""
    pairs = [
        GalleryPair(**row, differs=differs(row["image_id_a"], row["image_id_b"])) for row in mined.pairs.to_pylist()
    ]
    places = _places(store, pairs)
    settings = store.manifest["settings"]
    specs = [str(store.manifest["encoders"][name]["spec"]) for name in encoders]
    counts = mined.counts
    notes = (
        f"{counts.above_clip_min:,} pairs reach the CLIP threshold, {counts.near_duplicates:,} of them near-duplicates",
        f"{counts.low_information:,} blank and {counts.identical:,} identical images left out"
        + (
            f", {counts.unlike_twins:,} of which have an id of another image but not its vectors"
            * bool(counts.unlike_twins)
        ),
    )
    summary = GallerySummary(
        corpus=str(settings["corpus"]),
        images=counts.images,
        found=counts.blind,
        clip_encoder=specs[0],
        dino_encoder=specs[1],
        clip_min=options.clip_min,
        dino_max=options.dino_max,
        notes=notes,
        advice=mined.advice,
    )
    unread: Counter[str] = Counter()
    write_gallery(pairs, _counted(_pixels(places, _limits(store)), unread), output, summary=summary)
    return PageImages(len(places), dict(sorted(unread.items())))


def pair_pictures(store: Store, pairs: pa.Table, count: int = 5) -> list[Image.Image]:
    """The first `count` of mined pairs as RGB pictures, 1144 x 702 pixels, which a notebook shows inline.

    `pairs` has the columns of pairs.parquet, as `Mined.pairs` does, and came from `store`. An image that cannot be read
    again stands in its picture as the reason. InputError where the store is damaged.
    """
    columns = [name for name in pairs.column_names if name in PAIR_COLUMNS]
    shown = [GalleryPair(**row) for row in pairs.slice(0, count).select(columns).to_pylist()]
    images = dict(_pixels(_places(store, shown), _limits(store)))
    absent = Undecodable("missing", "the store has no such image")
    return [
        pair_picture(pair, images.get(pair.image_id_a, absent), images.get(pair.image_id_b, absent)) for pair in shown
    ]


def _limits(store: Store) -> Limits:
    return Limits(**store.manifest["settings"].get("limits", {}))  # embeddings imported by older releases have none


def _counted(images: Images, unread: Counter[str]) -> Images:
    for key, image in images:
        if isinstance(image, Undecodable):
            unread[image.code] += 1
        yield key, image


def _places(store: Store, pairs: Iterable[GalleryPair]) -> dict[str, tuple[str, bytes | None]]:
    """Where each image of the pairs is; of several copies the first."""
    wanted = {key for pair in pairs for key in (pair.image_id_a, pair.image_id_b)}
    places: dict[str, tuple[str, bytes | None]] = {}
    for row in store.metadata(["image_id", "uri", "uri_bytes"]).to_pylist():
        if row["image_id"] in wanted:
            places.setdefault(row["image_id"], (row["uri"], row["uri_bytes"]))
    return places


def _pixels(places: dict[str, tuple[str, bytes | None]], limits: Limits) -> Images:
    keys = list(places)
    for position, data in read_many(places.values()):
        try:
            if isinstance(data, Undecodable):
                raise data
            # Imported stores know only where an image lay, not what its bytes were.
            if not keys[position].startswith("uri:") and image_id(data) != keys[position]:
                raise Undecodable("changed", "the file is no longer the image that was embedded")
            yield keys[position], decode(data, limits).pixels
        except Undecodable as error:
            yield keys[position], error
