"""Shows the mined pairs of a store: the gallery of a mining run, and single pairs as pictures.

Pixels are read again from the corpus. If an image is missing or has changed, the reason is shown in its place.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pyarrow as pa
from PIL import Image

from blindpairs.defaults import COLUMNS
from blindpairs.errors import Undecodable
from blindpairs.images.samples import Pixels
from blindpairs.mine import Mined, rarity
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.gallery import write_gallery
from blindpairs.pages.heat import NO_MAPS
from blindpairs.pages.pairs import GalleryPair, GallerySummary
from blindpairs.pages.picture import pair_picture
from blindpairs.store import Store, pixels_of

PAIR_COLUMNS = {one.name for one in fields(GalleryPair)} - {"rarity", "differs"}  # of pairs.parquet
Differs = Callable[[str, str], tuple[str, ...]]  # two image ids -> what is known to differ between them


@dataclass(frozen=True)
class PageImages:
    """How many images a page should show, and how many of them could not be read, by failure code."""

    wanted: int
    unread: dict[str, int]


def write_mined_gallery(
    store: Store,
    mined: Mined,
    output: Path,
    *,
    encoders: tuple[str, str] = COLUMNS,
    differs: Differs = lambda *_: (),
    maps: Mapping[str, DifferenceMap] = NO_MAPS,
) -> PageImages:
    """Write the gallery of `mined`, which came from `store`; returns what could not be read.

    `maps` are by pair id, as `read_maps` returns them.
    """
    clip_quantiles, dino_quantiles = (mined.pairs[name].to_numpy() for name in ("clip_quantile", "dino_quantile"))
    rarities = rarity(clip_quantiles, dino_quantiles, mined.quantile_pairs).tolist()
    pairs = [
        GalleryPair(**row, rarity=score, differs=differs(row["image_id_a"], row["image_id_b"]))
        for row, score in zip(mined.pairs.to_pylist(), rarities, strict=True)
    ]
    wanted = {key for pair in pairs for key in (pair.image_id_a, pair.image_id_b)}
    specs = [str(store.manifest["encoders"][name]["spec"]) for name in encoders]
    counts = mined.counts
    notes = (
        f"{counts.above_clip_min:,} pairs reach the CLIP threshold, {counts.near_duplicates:,} of them near-duplicates",
        f"{counts.low_information:,} blank and {counts.identical:,} identical images left out"
        + (f", {counts.id_conflicts:,} of which share an id but not their vectors" if counts.id_conflicts else ""),
    )
    summary = GallerySummary(
        corpus=str(store.manifest["settings"]["corpus"]),
        images=counts.images,
        found=counts.blind,
        clip_encoder=specs[0],
        dino_encoder=specs[1],
        clip_min=mined.options.clip_min,
        dino_max=mined.options.dino_max,
        notes=notes,
        advice=mined.advice,
    )
    unread: Counter[str] = Counter()  # filled while write_gallery reads the images
    write_gallery(pairs, _counted(pixels_of(store, wanted), unread), output, summary=summary, maps=maps)
    return PageImages(len(wanted), dict(sorted(unread.items())))


def pair_pictures(
    store: Store, pairs: pa.Table, count: int = 5, maps: Mapping[str, DifferenceMap] = NO_MAPS
) -> list[Image.Image]:
    """The first `count` of mined pairs as RGB pictures, 1144 x 702 pixels, which a notebook shows inline.

    `pairs` has the columns of pairs.parquet, as `Mined.pairs` does, and came from `store`. A pair with a map in `maps`
    is shown with it. An image that cannot be read again is replaced by the reason. Raises InputError where the store is
    damaged.
    """
    columns = [name for name in pairs.column_names if name in PAIR_COLUMNS]
    shown = [GalleryPair(**row) for row in pairs.slice(0, count).select(columns).to_pylist()]
    images = dict(pixels_of(store, {key for pair in shown for key in (pair.image_id_a, pair.image_id_b)}))
    return [
        pair_picture(pair, images[pair.image_id_a], images[pair.image_id_b], maps.get(pair.pair_id)) for pair in shown
    ]


def _counted(
    images: Iterator[tuple[str, Pixels | Undecodable]], unread: Counter[str]
) -> Iterator[tuple[str, Pixels | Undecodable]]:
    """The same images; those that cannot be read are counted by failure code on the way."""
    for key, image in images:
        if isinstance(image, Undecodable):
            unread[image.code] += 1
        yield key, image
