"""The two files of a mining run: what they record, and that pairs are read only where both agree."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from store_files import write_store
from test_access import bound
from test_mine import spread

from blindpairs.errors import ConfigError, InputError
from blindpairs.executors.actors import Actors
from blindpairs.executors.joining import RayJoin
from blindpairs.mine import ExactJoin, MiningOptions, Running, mine_store, read_pairs
from blindpairs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    columns = {"clip": spread(120, 16, 4, 0.1, 2), "dino": spread(120, 16, 30, 0.05, 3)}
    return write_store(tmp_path / "embeddings", columns, blank=4)


LOOSE = MiningOptions(clip_min=0.8, dino_max=0.5)


def test_files_hold_the_pairs_in_rank_order_and_how_they_were_found(store: Store, tmp_path: Path) -> None:
    mined = mine_store(store, tmp_path / "pairs", LOOSE)
    record = json.loads((tmp_path / "pairs" / "pairs.json").read_text())
    assert pq.read_table(tmp_path / "pairs" / "pairs.parquet") == mined.pairs == read_pairs(tmp_path / "pairs")
    assert record["options"]["clip_min"] == 0.8
    assert record["store"]["encoders"]["b"] == {"name": "dino", "spec": "test:dino", "dimension": 16}
    assert record["store"]["fingerprint"] == store.fingerprint()
    assert record["counts"]["kept"] == len(mined.pairs) > 0
    assert record["counts"]["low_information"] == 1
    assert record["pairs_sha256"] == hashlib.sha256((tmp_path / "pairs" / "pairs.parquet").read_bytes()).hexdigest()


def test_same_store_and_options_give_the_same_bytes(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        mine_store(store, tmp_path / name, LOOSE)
    for file in ("pairs.parquet", "pairs.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_encoder_that_the_store_lacks_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoder 'siglip'; it has clip, dino"):
        mine_store(store, tmp_path / "pairs", encoders=("siglip", "dino"))


def test_page_of_older_pairs_is_removed_by_the_library(store: Store, tmp_path: Path) -> None:
    mine_store(store, tmp_path / "pairs", LOOSE)
    (tmp_path / "pairs" / "gallery.html").write_text("older pairs")
    mine_store(store, tmp_path / "pairs", LOOSE)
    assert sorted(path.name for path in (tmp_path / "pairs").iterdir()) == ["pairs.json", "pairs.parquet"]


def test_any_join_describes_itself_in_the_record(store: Store, tmp_path: Path) -> None:
    class Other(ExactJoin):
        def describe(self) -> dict[str, Any]:
            return {"method": "other", "exact": False}

    mine_store(store, tmp_path / "pairs", LOOSE, running=Running(Other()))
    record = json.loads((tmp_path / "pairs" / "pairs.json").read_text())
    assert (record["join"], record["complete"]) == ({"method": "other", "exact": False}, False)


def test_ray_join_describes_itself() -> None:
    join = RayJoin(Actors(), Path("embeddings"), "clip", "dino")
    assert join.describe() == {"method": "exact", "exact": True, "executor": "ray", "device": "cpu"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("file", ["pairs.parquet", "pairs.json"])
@pytest.mark.parametrize("damage", [Path.unlink, cut, flip, replace_by_a_folder, lambda path: path.write_bytes(b"{}")])
def test_pairs_whose_files_do_not_agree_are_refused(
    store: Store, tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    folder = tmp_path / "pairs"
    mine_store(store, folder, LOOSE)
    before = json.loads((folder / "pairs.json").read_text())["pairs_sha256"]
    damage(folder / file)
    if damage is flip and file == "pairs.json":  # a bit of the record that vouches for nothing
        record = (folder / "pairs.json").read_text(errors="replace")
        (folder / "pairs.json").write_text(record.replace(before, "0" * 64))
    with pytest.raises(InputError, match=r"pairs\.(parquet|json)") as refused:
        read_pairs(folder)
    assert len(str(refused.value).splitlines()) == 1


def test_pairs_that_were_never_mined_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no pairs at .*: run `blindpairs mine`"):
        read_pairs(tmp_path / "pairs")


def test_pairs_of_another_run_than_their_record_are_refused(store: Store, tmp_path: Path) -> None:
    mine_store(store, tmp_path / "one", LOOSE)
    mine_store(store, tmp_path / "two", MiningOptions(clip_min=0.8, dino_max=0.5, top=5))
    (tmp_path / "one" / "pairs.parquet").replace(tmp_path / "two" / "pairs.parquet")
    with pytest.raises(InputError, match=r"is not the file that pairs\.json describes: run `blindpairs mine` again"):
        read_pairs(tmp_path / "two")


READ = """
import sys
from pathlib import Path
from blindpairs.errors import Refused
from blindpairs.mine import read_pairs
try:
    read_pairs(Path(sys.argv[1]))
except Refused as error:
    print(error)
"""


@pytest.mark.parametrize("file", ["pairs.parquet", "pairs.json"])
def test_pairs_that_may_not_be_read_are_not_called_damaged(store: Store, tmp_path: Path, file: str) -> None:
    mine_store(store, tmp_path / "pairs", LOOSE)
    (tmp_path / "pairs" / file).chmod(0)
    said = bound(READ, tmp_path / "pairs")
    assert said.startswith(f"cannot read {tmp_path / 'pairs' / file}: Permission denied")
    assert "run `blindpairs mine`" not in said
