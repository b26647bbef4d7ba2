"""`mine --differences` from scenes to files: any corpus order gives the same pairs; a missing image costs its own."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from demo_stores import demo_store

from blindpairs.demo.corpus import build_corpus
from blindpairs.mine import MiningOptions, mine_store
from blindpairs.mine.maps import read_maps
from blindpairs.store import Store

OPTIONS = MiningOptions(top=30, differences=True, spread=True, controls=True)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 scenes as files of a folder."""
    folder = tmp_path_factory.mktemp("scenes")
    build_corpus(folder / "scenes.parquet", count=200, seed=5)
    files = folder / "files"
    files.mkdir()
    for row in pq.read_table(folder / "scenes.parquet", columns=["image", "scene_id"]).to_pylist():
        (files / f"{row['scene_id']}.jpg").write_bytes(row["image"]["bytes"])
    return folder


def test_the_order_of_the_corpus_and_a_second_run_change_nothing(scenes: Path, tmp_path: Path) -> None:
    table = pq.read_table(scenes / "scenes.parquet")
    pq.write_table(table.take(list(range(len(table)))[::-1]), tmp_path / "reversed.parquet")
    runs = {}
    for name, corpus in (("once", scenes / "scenes.parquet"), ("reversed", tmp_path / "reversed.parquet")):
        store = demo_store(corpus, tmp_path / name)
        mine_store(store, tmp_path / f"{name}-pairs", OPTIONS)
        runs[name] = (
            pq.read_table(tmp_path / f"{name}-pairs" / "pairs.parquet"),
            read_maps(tmp_path / f"{name}-pairs"),
        )
    columns = ["pair_id", "image_id_a", "image_id_b", "cluster", "control_of", "difference"]
    assert runs["once"][0].select(columns).to_pydict() == runs["reversed"][0].select(columns).to_pydict()
    assert list(runs["once"][1]) == list(runs["reversed"][1]) != []
    first = (tmp_path / "once-pairs" / "pairs.parquet").read_bytes()
    mine_store(Store.open(tmp_path / "once"), tmp_path / "once-pairs", OPTIONS)
    assert (tmp_path / "once-pairs" / "pairs.parquet").read_bytes() == first


def test_pairs_of_an_image_that_is_gone_are_ranked_by_cosine_and_it_is_counted(scenes: Path, tmp_path: Path) -> None:
    store = demo_store(scenes / "files", tmp_path / "store")
    gone = mine_store(store, tmp_path / "pairs", OPTIONS).pairs["uri_a"][0].as_py()
    Path(gone).rename(tmp_path / "elsewhere.jpg")
    try:
        mined = mine_store(store, tmp_path / "pairs", OPTIONS)
    finally:
        (tmp_path / "elsewhere.jpg").rename(gone)
    assert dict(mined.closer.unread) == {"missing": 1}
    rows = [row for row in mined.pairs.to_pylist() if row["control_of"] is None]
    known = [gone not in (row["uri_a"], row["uri_b"]) for row in rows]
    assert [row["difference"] is not None for row in rows] == known
