"""Maps of differences for pairs that were mined without `--differences`: where their images differ.

The pairs stay what and where they are: only differences.parquet is written, and its hash in pairs.json.
"""

from pathlib import Path

import numpy as np

from blindpairs.access import present
from blindpairs.mine.comparison import Comparison
from blindpairs.mine.maps import MAPS, RECORD, DifferenceMap, write_maps
from blindpairs.mine.patches import open_patches
from blindpairs.mine.reading import read_pairs
from blindpairs.progress import Progress, silent
from blindpairs.store import Store
from blindpairs.workspace import read_json, sha256_file, write_json


def add_maps(store: Store, folder: Path, device: str = "auto", progress: Progress = silent) -> int:
    """Write the maps of all pairs in `folder` whose images can be read; returns how many. 0 where there are maps.

    Raises ConfigError where the store's second encoder gives no patches, or is another one now, and AssetMissing where
    its weights are missing.
    """
    if present(folder / MAPS):
        return 0
    pairs, record = read_pairs(folder), read_json(folder / RECORD)
    ids = pairs["pair_id"].to_pylist()
    both = list(zip(pairs["image_id_a"].to_pylist(), pairs["image_id_b"].to_pylist(), strict=True))
    source = open_patches(store, record["store"]["encoders"]["b"]["name"], folder, device)
    fields = source.fields({key for pair in both for key in pair}, progress)
    known = [place for place, pair in enumerate(both) if all(key in fields.rows for key in pair)]
    if not known:
        return 0
    comparison = Comparison.of(fields, [both[place] for place in known], [])
    made: dict[str, DifferenceMap] = dict(
        zip((ids[place] for place in known), comparison.maps(np.arange(len(known))), strict=True)
    )
    write_maps(folder, made)
    write_json(folder / RECORD, {**record, "maps_sha256": sha256_file(folder / MAPS)})
    return len(made)
