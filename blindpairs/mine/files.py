"""The files of a mining run: pairs.parquet, pairs.json (how they were found), and with --differences the maps.

pairs.json is written last and holds the sha256 of the others. So a run is complete exactly where they agree.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import remove
from blindpairs.defaults import COLUMNS
from blindpairs.errors import AssetMissing, ConfigError
from blindpairs.mine.images import Images
from blindpairs.mine.maps import MAPS, RECORD, write_maps
from blindpairs.mine.mining import Mined, mine
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.patches import open_patches
from blindpairs.mine.search import LOCAL, Running
from blindpairs.progress import Progress, silent
from blindpairs.store import Store
from blindpairs.store.memory import Float16, VectorPlacement
from blindpairs.workspace import (
    GALLERY,
    PAIRS,
    prepare_folder,
    sha256_file,
    stamp,
    sweep,
    write_json,
    written_atomically,
)


def mine_store(
    store: Store,
    folder: Path,
    options: MiningOptions | None = None,
    *,
    encoders: tuple[str, str] = COLUMNS,
    progress: Progress = silent,
    running: Running = LOCAL,
) -> Mined:
    """Mine a store and write `folder`/pairs.parquet, then pairs.json, which marks it complete.

    `encoders` are the columns for the roles `clip` and `dino`. With `options.differences`, the patch tokens are those
    of the store's own images and encoder, unless `running` gives others, and differences.parquet holds the maps. Where
    the encoder is not available, `Mined.closer.reason` says why, and the cosines rank the pairs. Pages and maps of
    older pairs are removed. The same store and options give the same bytes.
    """
    options = options or MiningOptions()
    images, (clip, dino) = read_store(store, encoders, running)
    prepare_folder(folder)
    if options.differences and running.patches is None:
        try:
            running = replace(running, patches=open_patches(store, encoders[1], folder, running.patch_device))
        except (ConfigError, AssetMissing) as error:
            running = replace(running, no_patches=str(error))
    mined = mine(clip, dino, images, options, progress, running)
    remove(folder / RECORD)  # from here on it would describe other pairs
    remove(folder / GALLERY)
    remove(folder / MAPS)
    if mined.maps:
        write_maps(folder, mined.maps)
    with written_atomically(folder / PAIRS) as aside:
        pq.write_table(mined.pairs, aside, compression="zstd")
    origin = {"fingerprint": store.fingerprint(), "encoders": _specs(store.manifest, encoders)}
    record = provenance(mined, origin, running.join.describe(), sha256_file(folder / PAIRS))
    write_json(folder / RECORD, record | ({"maps_sha256": sha256_file(folder / MAPS)} if mined.maps else {}))
    return mined


def read_store(store: Store, encoders: tuple[str, str], running: Running) -> tuple[Images, tuple[Float16, Float16]]:
    """The images of a store and their vectors in both encoders, mapped from disk beyond the memory budget."""
    for name in encoders:
        store.require_encoder(name)
    if running.memory is not None:
        sweep(running.memory.folder)
    images = read_images(store.metadata(["image_id", "uri", "flags"]))
    placement = VectorPlacement(running.memory, len(images))
    clip, dino = (
        placement.place(name, store.iter_column(name), (len(images), store.manifest["encoders"][name]["dimension"]))
        for name in encoders
    )
    return images, (clip, dino)


def read_images(metadata: pa.Table) -> Images:
    """Images from the metadata columns image_id, uri and flags."""
    blank = ["low_information" in (flags or ()) for flags in metadata["flags"].to_pylist()]
    return Images(metadata["image_id"].to_pylist(), metadata["uri"].to_pylist(), np.array(blank, dtype=bool))


def provenance(mined: Mined, origin: Mapping[str, Any], join: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """The content of pairs.json. `complete` is True only if no pair can have been missed."""
    return {
        **stamp(),
        "options": asdict(mined.options),
        "store": dict(origin),
        "counts": asdict(mined.counts),
        "closer": asdict(mined.closer),
        "join": dict(join),
        "complete": mined.complete and join["exact"],
        "quantile_pairs": mined.quantile_pairs,
        "dino_histogram": {"first_edge": -1.0, "step": 0.01, "counts": mined.dino_histogram},
        "advice": mined.advice,
        "pairs_sha256": sha256,
    }


def _specs(manifest: Mapping[str, Any], encoders: tuple[str, str]) -> dict[str, Any]:
    return {role: {"name": name, **manifest["encoders"][name]} for role, name in zip(("a", "b"), encoders, strict=True)}
