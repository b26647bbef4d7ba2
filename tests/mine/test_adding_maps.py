"""Maps for pairs that were mined without them: the same places as mining with them finds, and the pairs untouched."""

from pathlib import Path

import numpy as np

from blindpairs.mine import MiningOptions, mine_store, read_pairs
from blindpairs.mine.adding_maps import add_maps
from blindpairs.mine.maps import read_maps
from blindpairs.store import Store

LOOSE = {"clip_min": 0.3, "dino_max": 0.9, "max_per_image": 10, "top": 40}


def test_added_maps_show_what_mining_with_them_shows_and_leave_the_pairs(scenes: Path, tmp_path: Path) -> None:
    store = Store.open(scenes / "embeddings")
    plain, closer = tmp_path / "plain", tmp_path / "closer"
    mine_store(store, plain, MiningOptions(**LOOSE))  # type: ignore[arg-type]
    mine_store(store, closer, MiningOptions(**LOOSE, differences=True))  # type: ignore[arg-type]
    before = (plain / "pairs.parquet").read_bytes()
    assert add_maps(store, plain, "cpu") == 40
    assert (plain / "pairs.parquet").read_bytes() == before
    ids = read_pairs(plain)["pair_id"].to_pylist()
    added, mined = read_maps(plain), read_maps(closer)
    assert sorted(added) == sorted(ids)
    shared = added.keys() & mined.keys()
    assert len(shared) > 5
    assert all((added[key].box_a, added[key].box_b) == (mined[key].box_a, mined[key].box_b) for key in shared)
    # Not the same numbers: mining also subtracts what differs between images that are alike.
    alike = [np.corrcoef(added[key].a.ravel(), mined[key].a.ravel())[0, 1] for key in shared]
    assert np.mean(alike) > 0.85
    assert min(alike) > 0.6
    assert add_maps(store, plain, "cpu") == 0
