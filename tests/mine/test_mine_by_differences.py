"""`mine --differences` from scenes to files: any corpus order gives the same pairs; a missing image costs its own."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_stores import demo_store

from blindpairs.mine import MiningOptions, mine_store, patches
from blindpairs.mine.maps import read_maps
from blindpairs.store import Store

OPTIONS = MiningOptions(top=30, differences=True, spread=True, controls=True)
COLUMNS = ["pair_id", "image_id_a", "image_id_b", "cluster", "control_of", "difference"]


@pytest.fixture(scope="module")
def once(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a run on the scenes, in the order of their names."""
    folder = tmp_path_factory.mktemp("once")
    mine_store(Store.open(scenes / "embeddings"), folder, OPTIONS)
    return folder


def pairs_in(folder: Path) -> pa.Table:
    return pq.read_table(folder / "pairs.parquet")


def test_the_order_of_the_corpus_and_a_second_run_change_nothing(scenes: Path, once: Path, tmp_path: Path) -> None:
    (tmp_path / "reversed").mkdir()
    for number, file in enumerate(sorted((scenes / "images").iterdir(), reverse=True)):
        shutil.copy(file, tmp_path / "reversed" / f"{number:04d}.jpg")
    mine_store(demo_store(tmp_path / "reversed", tmp_path / "store"), tmp_path / "pairs", OPTIONS)
    assert pairs_in(tmp_path / "pairs").select(COLUMNS).to_pydict() == pairs_in(once).select(COLUMNS).to_pydict()
    assert list(read_maps(tmp_path / "pairs")) == list(read_maps(once)) != []
    first = (once / "pairs.parquet").read_bytes()
    mine_store(Store.open(scenes / "embeddings"), once, OPTIONS)
    assert (once / "pairs.parquet").read_bytes() == first


@pytest.mark.parametrize("batch", [7, 64])
def test_other_batches_of_the_encoder_give_the_same_pairs(
    scenes: Path, once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(patches, "BATCH", batch)
    mine_store(Store.open(scenes / "embeddings"), tmp_path, OPTIONS)
    found, expected = (pairs_in(folder).select(COLUMNS) for folder in (tmp_path, once))
    assert found.drop_columns("difference") == expected.drop_columns("difference")
    # Forward passes of another shape round differently.
    differences = [
        [value for value in each["difference"].to_pylist() if value is not None] for each in (found, expected)
    ]
    assert differences[0] == pytest.approx(differences[1], rel=1e-3)


def test_pairs_of_an_image_that_is_gone_are_ranked_by_cosine_and_it_is_counted(
    scenes: Path, once: Path, tmp_path: Path
) -> None:
    store, gone = Store.open(scenes / "embeddings"), pairs_in(once)["uri_a"][0].as_py()
    every = MiningOptions(top=None, max_per_image=60)
    by_cosine = mine_store(store, tmp_path / "pairs", every).pairs.to_pylist()
    Path(gone).rename(tmp_path / "elsewhere.jpg")
    try:
        mined = mine_store(store, tmp_path / "pairs", replace(every, differences=True))
    finally:
        (tmp_path / "elsewhere.jpg").rename(gone)
    assert dict(mined.closer.unread) == {"missing": 1}
    rows = mined.pairs.to_pylist()
    last = [row["pair_id"] for row in by_cosine if gone in (row["uri_a"], row["uri_b"])]
    assert [row["pair_id"] for row in rows[-len(last) :]] == last != []
    assert [row["difference"] is None for row in rows] == [False] * (len(rows) - len(last)) + [True] * len(last)
