"""The page of a mining run: its pairs, their pixels read again from the corpus, and what the page's head says."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blindpairs.errors import Undecodable
from blindpairs.mine import Mined, MiningOptions, rarity
from blindpairs.pages.gallery import GalleryPair, GallerySummary, write_gallery
from blindpairs.store import Store, pixels_of

Images = Iterator[tuple[str, np.ndarray[Any, Any] | Undecodable]]  # image id, pixels or why there are none
Differs = Callable[[str, str], tuple[str, ...]]  # two image ids -> what is known to differ between them


@dataclass(frozen=True)
class PageImages:
    """How many images a page was to show, and how many of them could not be read, by the code of their failure."""

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
    """Write the page of `mined`, which came from `store` with `options`, to `output`; tells which images it lacks."""
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
        + (
            f", {counts.unlike_twins:,} of which have an id of another image but not its vectors"
            * bool(counts.unlike_twins)
        ),
    )
    summary = GallerySummary(
        corpus=str(store.manifest["settings"]["corpus"]),
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
    write_gallery(pairs, _counted(pixels_of(store, wanted), unread), output, summary=summary)
    return PageImages(len(wanted), dict(sorted(unread.items())))


def _counted(images: Images, unread: Counter[str]) -> Images:
    for key, image in images:
        if isinstance(image, Undecodable):
            unread[image.code] += 1
        yield key, image
