"""The same bits on any number of threads: each piece of work has one, and mining gives the same files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from demo_stores import demo_store, scene_files

from blindpairs.cores import Cores
from blindpairs.mine import MiningOptions, mine_store
from blindpairs.mine.maps import MAPS
from blindpairs.mine.reproducible import in_blocks, in_turn, on_cores, on_one_core
from blindpairs.store import Store
from blindpairs.workspace import PAIRS

OPTIONS = MiningOptions(top=100, differences=True, spread=True, controls=True)
# What a user who wants fewer threads sets; torch reads it when it is imported.
MINE = "import sys; from test_reproducible import mine; mine(*sys.argv[1:])"


def mine(embeddings: str, folder: str) -> None:
    """Mine with as many threads as torch has."""
    mine_store(Store.open(Path(embeddings)), Path(folder), OPTIONS)


def test_work_on_several_cores_comes_in_turn_and_does_not_run_ahead() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        time.sleep(0.01 * (number % 3))
        return number * number

    with Cores(torch.device("cpu")) as cores:
        results = in_turn(cores, work, range(20))
        assert next(results) == 0
        assert len(started) <= cores.count + 1
        assert list(results) == [number * number for number in range(1, 20)]
        with pytest.raises(ZeroDivisionError):
            list(in_turn(cores, lambda number: 1 // (number - 3), range(20)))


def test_each_piece_has_one_thread_and_results_come_in_order() -> None:
    assert list(on_cores(lambda number: (number, torch.get_num_threads()), range(5))) == [(n, 1) for n in range(5)]
    assert on_one_core(torch.get_num_threads) == 1
    assert [(part.start, part.stop) for part in in_blocks(lambda part: part, 7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(in_blocks(lambda part: part, 0, 3)) == []


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of so many scenes that products of their fields are split over threads."""
    folder = tmp_path_factory.mktemp("scenes")
    demo_store(scene_files(folder / "images", 200), folder / "embeddings")
    return folder / "embeddings"


def test_any_number_of_threads_gives_the_same_pairs_controls_and_maps(embeddings: Path, tmp_path: Path) -> None:
    folders = []
    for threads in ("1", "2"):
        folders.append(tmp_path / f"process of {threads}")
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *filter(None, sys.path)])
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": paths}
        subprocess.run([sys.executable, "-c", MINE, embeddings, folders[-1]], env=environment, check=True)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        folders.append(tmp_path / "3 here")
        mine(str(embeddings), str(folders[-1]))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    found = [{name: (folder / name).read_bytes() for name in (PAIRS, MAPS)} for folder in folders]
    assert pq.read_table(folders[0] / PAIRS).num_rows > 150
    assert all(each == found[0] for each in found)
