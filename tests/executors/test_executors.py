"""The same work as shards and on Ray: which shard a scheduler means, and what comes of lost actors and of errors.

One Ray of two CPUs serves all tests here; actors import this module by its name.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from embed_process import ToyEncoder, make_photos, run, tree
from executor_worker import Attempts, attempts
from torch import Tensor
from typer.testing import CliRunner

from blindpairs.cli import app
from blindpairs.embed import EmbedOptions, EmbedReport
from blindpairs.errors import BlindpairsError, ConfigError, InputError
from blindpairs.executors import RayMissing
from blindpairs.executors.actors import RETRIES, ActorPool, Actors, connect
from blindpairs.executors.embedding import Loading, embed_on_ray
from blindpairs.executors.joining import RayJoin
from blindpairs.executors.shard import choose_shard, parse_shard, shard_from_environment
from blindpairs.images import open_corpus
from blindpairs.selfjoin import JoinPlan, PairBlock, UnitRows, similar_pairs
from blindpairs.store import Store
from blindpairs.workspace import RunLock

TWO = Actors(count=2)
IMPORTABLE = os.pathsep.join(map(str, (Path(__file__).parent, *Path(__file__).parents[1:3])))  # tests, blindpairs
OPTIONS = EmbedOptions(part_rows=16, batch=8, workers=1)
ENCODERS = {"clip": "toy:a", "dino": "toy:b"}

# ----------------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize(
    ("environ", "shard"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "64"}, (3, 64)),
        ({"SLURM_ARRAY_TASK_ID": "64", "SLURM_ARRAY_TASK_COUNT": "64", "SLURM_ARRAY_TASK_MIN": "1"}, (63, 64)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "30",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "10",
            },
            (2, 4),
        ),
        (
            {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"},
            (1, 2),
        ),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "5"}, (0, 5)),
        ({"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "9", "BLINDPAIRS_SHARDS": "5"}, (4, 5)),
        ({"RANK": "7", "WORLD_SIZE": "8"}, (7, 8)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (2, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
        ({"SLURM_PROCID": "0"}, None),
    ],
)
def test_shard_is_what_the_scheduler_says(environ: dict[str, str], shard: tuple[int, int] | None) -> None:
    assert shard_from_environment(environ) == shard


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_COUNT is not set"),
        (
            {"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_TASK_COUNT": "4"},
            "SLURM_ARRAY_TASK_ID='x' is not a non-negative integer",
        ),
        (
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"},
            "SLURM_ARRAY_TASK_ID=7 is none of 3 ids from 1 in steps of 1: submit with --array=0-2",
        ),
        (
            {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_STEP": "2"},
            "SLURM_ARRAY_TASK_ID=3 is none of 4 ids from 0 in steps of 2",
        ),
        ({"JOB_COMPLETION_INDEX": "2"}, "set BLINDPAIRS_SHARDS to the job's completions"),
        ({"JOB_COMPLETION_INDEX": "5", "JOB_COMPLETIONS": "5"}, "JOB_COMPLETION_INDEX=5 is not less than JOB_COMPL"),
        ({"RANK": "0"}, "WORLD_SIZE is not set"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1' is not a non-negative integer"),
    ],
)
def test_scheduler_that_sets_only_some_variables_is_an_error_that_names_the_variable(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        shard_from_environment(environ)
    assert message in str(raised.value)


def test_shard_in_so_many_words_goes_before_the_environment() -> None:
    environ = {"RANK": "7", "WORLD_SIZE": "8"}
    assert choose_shard("3/64", environ) == (3, 64)
    assert choose_shard("", environ) == (0, 1)
    assert choose_shard("auto", environ) == (7, 8)
    with pytest.raises(ConfigError, match="--shard auto found no Slurm array"):
        choose_shard("auto", {})


@pytest.mark.parametrize("text", ["4/4", "3", "/4", "-1/4", "a/b", "1/0", "1/2/3", "²/4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not i/n with 0 <= i < n"):
        parse_shard(text)


# -------------------------------------------------------------------------------------------------------- without Ray


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may import what tests may import."""
    environ = os.environ | {"PYTHONPATH": IMPORTABLE}
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environ)


def test_embedding_and_joining_here_never_import_ray(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    done = python(
        "import sys; from pathlib import Path\n"
        "import embed_process, blindpairs.executors.shard, blindpairs.selfjoin\n"
        "embed_process.run(Path(sys.argv[1]), Path(sys.argv[2])); sys.exit('ray' in sys.modules)",
        str(tmp_path / "photos"),
        str(tmp_path / "store"),
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["actors", "embedding", "joining"])
def test_ray_that_is_not_installed_is_said_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for loaded in [module for module in sys.modules if module.startswith("blindpairs.executors.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissing, match=r'pip install "blindpairs\[ray\]"') as raised:
        __import__(f"blindpairs.executors.{name}")
    assert raised.value.exit_code == 2


# ----------------------------------------------------------------------------------------------------------- on Ray


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """The Ray that `connect` starts where no address is given, for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", IMPORTABLE)  # actors have to find this module
        assert connect(TWO)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("one_ray")
def test_lost_actor_costs_its_task_one_more_attempt_and_the_others_none(tmp_path: Path) -> None:
    tasks = ["a", "b", "mortal", "c", "d", "e"]
    with ActorPool(TWO, partial(Attempts, tmp_path / "log")) as pool:
        assert pool.describe() == {"nature": "same"}
        results = dict(pool.run(tasks))
    assert results == dict(enumerate(["A", "B", "MORTAL", "C", "D", "E"]))
    assert attempts(tmp_path / "log") == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "mortal": 2}


@pytest.mark.usefixtures("one_ray")
def test_error_of_ours_is_not_tried_again_and_comes_as_its_own_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^the corpus is in another castle$") as raised,
        ActorPool(TWO, partial(Attempts, tmp_path / "log")) as pool,
    ):
        list(pool.run(["refuse"]))
    assert type(raised.value) is InputError
    assert attempts(tmp_path / "log") == {"refuse": 1}


@pytest.mark.usefixtures("one_ray")
def test_bug_in_an_actor_is_not_tried_again_and_shows_where_it_was(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError, match=r"executor_worker\.py"),
        ActorPool(TWO, partial(Attempts, tmp_path / "log")) as pool,
    ):
        list(pool.run(["bug"]))
    assert attempts(tmp_path / "log") == {"bug": 1}


@pytest.mark.usefixtures("one_ray")
def test_task_that_always_takes_its_actor_along_is_given_up_with_its_name(tmp_path: Path) -> None:
    one = Actors(count=1)
    with (
        pytest.raises(ConfigError, match=r"4 actors were lost at the same task \(fatal\)"),
        ActorPool(one, partial(Attempts, tmp_path / "log")) as pool,
    ):
        list(pool.run(["fatal"]))
    assert attempts(tmp_path / "log") == {"fatal": 1 + RETRIES}


@pytest.mark.usefixtures("one_ray")
def test_actors_that_differ_end_the_run(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"would not give the same results \(nature differs\)"),
        ActorPool(TWO, partial(Attempts, tmp_path / "log", unlike=True)) as pool,
    ):
        list(pool.run(["slow"] * 1000))  # until the second actor has arrived


def wait_for_the_end_of(folder: Path) -> None:
    """Wait until the processes that left their numbers in a folder are gone."""
    deadline = time.monotonic() + 60
    while any(Path("/proc", path.name).exists() for path in folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


class MortalEncoder(ToyEncoder):
    """Kills its process in the middle of the second part that it sees, once: the flag file says that it has."""

    def __init__(self, spec: str, flag: Path) -> None:
        super().__init__(spec)
        self._flag = flag

    def encode(self, batch: Tensor) -> Tensor:
        if len(self.batches) == 3:
            try:
                self._flag.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os._exit(1)
        return super().encode(batch)


def load_toy(name: str, spec: str, device: str) -> ToyEncoder:
    """A loader that works wherever it is sent."""
    assert device == "cpu"
    return ToyEncoder(spec)


def load_mortal(name: str, spec: str, device: str, *, flag: Path) -> ToyEncoder:
    """A loader of encoders that die once."""
    return MortalEncoder(spec, flag)


def load_noting(name: str, spec: str, device: str, *, folder: Path) -> ToyEncoder:
    """A loader that leaves its process's number in a folder."""
    (folder / str(os.getpid())).touch()
    return ToyEncoder(spec)


def load_nothing(name: str, spec: str, device: str) -> ToyEncoder:
    """A loader that cannot."""
    raise ConfigError(f"no such model: {spec}")


def on_ray(photos: Path, store: Path, loading: Loading) -> EmbedReport:
    """Embed as `embed_process.run` does, with two actors."""
    return embed_on_ray(open_corpus([str(photos)]), store, loading, OPTIONS, TWO)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten parts of images, two of which cannot be used."""
    folder = tmp_path_factory.mktemp("corpus") / "photos"
    for path in make_photos(folder, 150)[::100]:
        path.write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """What a run on one machine makes of them."""
    folder = tmp_path_factory.mktemp("local") / "store"
    run(photos, folder)
    return folder


@pytest.mark.usefixtures("one_ray")
def test_store_made_by_actors_is_that_of_one_machine_though_one_was_killed_and_the_run_interrupted(
    tmp_path: Path, photos: Path, whole: Path
) -> None:
    store, flag, alive = tmp_path / "store", tmp_path / "died", tmp_path / "alive"
    alive.mkdir()

    def interrupt(done: int, planned: int, failed: int = 0) -> None:
        assert planned == 150
        if done:
            raise KeyboardInterrupt

    loading = Loading(ENCODERS, load=partial(load_noting, folder=alive))
    with pytest.raises(KeyboardInterrupt):
        embed_on_ray(open_corpus([str(photos)]), store, loading, OPTIONS, TWO, interrupt)
    wait_for_the_end_of(alive)
    assert 1 <= len(list(store.glob("part-*.done.json"))) < 10
    lock = RunLock(store)
    lock.claim_all()
    lock.release()

    report = on_ray(photos, store, Loading(ENCODERS, load=partial(load_mortal, flag=flag)))
    assert flag.exists()
    assert (report.rows, report.failed, report.failures_by_code) == (148, 2, {"empty": 2})
    assert 0 < report.embedded < 148
    assert tree(store) == tree(whole)


@pytest.mark.usefixtures("one_ray")
def test_encoder_is_added_by_an_actor_as_by_one_machine(tmp_path: Path, photos: Path, whole: Path) -> None:
    run(photos, tmp_path / "store", {"clip": "toy:a"})
    loading = Loading({"dino": "toy:b"}, load=load_toy)
    report = embed_on_ray(open_corpus([str(photos)]), tmp_path / "store", loading, OPTIONS, Actors(count=1))
    assert tree(tmp_path / "store") == tree(whole)
    assert report.embedded == 148


@pytest.mark.usefixtures("one_ray")
def test_encoder_that_cannot_be_loaded_in_an_actor_is_the_same_error_as_here(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no such model: toy:a$"):
        on_ray(photos, tmp_path / "store", Loading({"clip": "toy:a"}, load=load_nothing))
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_shard_on_ray_is_refused(tmp_path: Path, photos: Path) -> None:
    options = EmbedOptions(batch=8, workers=1, shard=(0, 2))
    with pytest.raises(ConfigError, match="use one of them"):
        embed_on_ray(open_corpus([str(photos)]), tmp_path, Loading(ENCODERS, load=load_toy), options, TWO)


# ------------------------------------------------------------------------------------------------------- joining on Ray


def rows(folder: Path, name: str = "clip", chosen: Tensor | None = None) -> UnitRows:
    """A column as the join takes it."""
    return UnitRows(torch.from_numpy(Store.open(folder).column(name)), chosen)


def pairs(blocks: Iterator[PairBlock]) -> list[tuple[int, int, float]]:
    """The pairs of all blocks, in their order."""
    return [
        pair for block in blocks for pair in zip(*map(Tensor.tolist, (block.i, block.j, block.similarity)), strict=True)
    ]


@pytest.mark.usefixtures("one_ray")
def test_pairs_from_actors_are_those_of_one_machine_in_the_same_order(whole: Path) -> None:
    plan = JoinPlan(dimensions=3, cell_rows=2, span_rows=16)  # many tasks, so that they come back out of order
    chosen = torch.arange(0, 148, 2)
    one, other = rows(whole, "clip", chosen), rows(whole, "dino", chosen)
    local = list(similar_pairs(one, 0.3, other=other, plan=plan))
    steps: list[tuple[int, int]] = []
    join = RayJoin(TWO, whole, "clip", "dino", plan)
    remote = list(join(one, 0.3, other=other, progress=lambda *call: steps.append(call[:2])))
    assert len(local) == len(remote) > 3
    for a, b in zip(local, remote, strict=True):
        assert torch.equal(a.i, b.i)
        assert torch.equal(a.j, b.j)
        assert torch.equal(a.similarity, b.similarity)
        assert a.other is not None
        assert b.other is not None
        assert torch.equal(a.other, b.other)
    assert steps == [(done, steps[-1][1]) for done in range(len(steps))]
    assert not list(whole.glob(".join*"))


@pytest.mark.usefixtures("one_ray")
def test_join_that_is_left_early_leaves_no_file_and_no_actor(whole: Path) -> None:
    blocks = RayJoin(Actors(count=1), whole, "clip", plan=JoinPlan(dimensions=3, cell_rows=4, span_rows=16))(
        rows(whole), 0.3
    )
    assert len(next(blocks))
    assert list(whole.glob(".join*"))
    blocks.close()  # type: ignore[attr-defined]
    assert not list(whole.glob(".join*"))


@pytest.mark.usefixtures("one_ray")
def test_mining_by_differences_on_ray_writes_the_bytes_of_one_machine(tmp_path: Path, scenes: Path) -> None:
    written: list[dict[str, bytes]] = []
    records: list[dict[str, Any]] = []
    for name, options in (("here", []), ("on ray", ["--executor", "ray"])):
        work = tmp_path / name
        shutil.copytree(scenes / "embeddings", work / "embeddings")
        arguments = ["mine", "--differences", "--spread", "--controls", "--top", "20", "--work", str(work), *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        written.append(tree(work / "pairs"))
        records.append(json.loads(written[-1].pop("pairs.json")))
    assert [record.pop("join").get("executor") for record in records] == [None, "ray"]
    assert records[0] == records[1]
    assert written[0] == written[1]
    assert set(written[0]) == {"pairs.parquet", "differences.parquet", "gallery.html"}


def test_join_of_a_store_that_changed_is_refused(tmp_path: Path, whole: Path) -> None:
    import shutil

    from blindpairs.executors.joining import JoinActor

    shutil.copytree(whole, tmp_path / "store")
    (tmp_path / "preparation").touch()
    with pytest.raises(InputError, match="changed while they were mined"):
        JoinActor(tmp_path / "store", ("clip", ""), "another", tmp_path / "preparation", "cpu")
    with pytest.raises(InputError, match="cannot be read on"):
        JoinActor(tmp_path / "store", ("clip", ""), "another", tmp_path / "elsewhere", "cpu")


def test_cosine_that_is_none_is_refused_before_any_actor(whole: Path) -> None:
    with pytest.raises(BlindpairsError, match="a cosine lies between -1 and 1"):
        next(RayJoin(TWO, whole, "clip")(rows(whole), 1.5))
    assert list(RayJoin(TWO, whole, "clip")(UnitRows(torch.from_numpy(np.ones((1, 8), np.float16))), 0.5)) == []


def test_rows_that_are_not_the_stored_column_are_refused_before_any_actor(whole: Path) -> None:
    stored = rows(whole).vectors
    centred = stored.float() - stored.float().mean(0)
    for unlike in (centred, centred.half(), stored[1:], stored.flip(0), rows(whole, "dino").vectors):
        with pytest.raises(InputError, match="not the 'clip' vectors of"):
            next(RayJoin(TWO, whole, "clip")(UnitRows(unlike), 0.5))
    with pytest.raises(InputError, match="not the 'dino' vectors of"):
        next(RayJoin(TWO, whole, "clip", "dino")(rows(whole), 0.5, other=rows(whole)))
    chosen = torch.arange(1, len(stored))
    other = rows(whole, "dino", chosen - 1)
    with pytest.raises(InputError, match="choose other rows"):
        next(RayJoin(TWO, whole, "clip", "dino")(rows(whole, "clip", chosen), 0.5, other=other))
