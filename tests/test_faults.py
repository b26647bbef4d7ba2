"""Faults while a run is on: killed, out of disk, locked out, not allowed to write.

Real processes, real signals; each promise is about what is on the disk afterwards.
"""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import embed_process
import mine_process
import pytest
import torch
from embed_process import make_photos, run, toy, tree

from blindpairs.embed import EmbedOptions, embed
from blindpairs.errors import InputError, Locked
from blindpairs.images import open_corpus
from blindpairs.store import Part, Store, finished
from blindpairs.workspace import GALLERY, RunLock

KILLS = 20
DINO = ("auto.modeling_auto", "bit.image_processing_bit", "dinov2.modeling_dinov2")
Whole = tuple[list[str], dict[str, bytes]]
WIDE = {f"encoder{number}": f"toy:{number}" for number in range(30)}  # parts larger than the plan


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Fresh processes in a few milliseconds: forked from a server that has imported the libraries and run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["embed_process", "mine_process", *(f"transformers.models.{one}" for one in DINO)])
    return context


def start(server: ForkServerContext, photos: Path, store: Path) -> ForkServerProcess:
    process = server.Process(target=embed_process.run, args=(photos, store))
    process.start()
    return process


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.002)


def test_run_killed_at_twenty_random_moments_resumes_to_the_same_bytes(
    tmp_path: Path, server: ForkServerContext
) -> None:
    photos = tmp_path / "photos"
    for path in make_photos(photos, 160)[::40]:
        path.write_bytes(b"")
    start(server, photos, tmp_path / "warm").join()
    began = time.monotonic()
    start(server, photos, tmp_path / "whole").join()
    seconds = time.monotonic() - began
    moments = random.Random(20260101)
    survived = 0
    for _ in range(KILLS):
        # Each run gets up to a third of the whole time, so that kills fall all over the work and not only at its end.
        process = start(server, photos, tmp_path / "killed")
        time.sleep(moments.uniform(0, seconds / 3))
        assert process.pid is not None
        with suppress(ProcessLookupError):  # it has just finished
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        survived += process.exitcode == 0
        if survived > 1:  # it finished: start over, so that all twenty kills hit running work
            survived = 0
            for path in sorted((tmp_path / "killed").rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        for path in (tmp_path / "killed").glob("part-*.done.json"):
            assert finished(Part(tmp_path / "killed", int(path.name[5:10]))), (
                f"{path.name} marks a part that is not whole"
            )
    process = start(server, photos, tmp_path / "killed")
    process.join()
    assert process.exitcode == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert Store.open(tmp_path / "killed").rows == 156


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For 60 small images a second thread is mostly waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_mining_by_differences_killed_at_any_step_leaves_whole_files_and_a_rerun_gives_the_same_bytes(
    tmp_path: Path, server: ForkServerContext, scenes: Path
) -> None:
    folder, log, embeddings = tmp_path / "pairs", tmp_path / "steps.json", scenes / "embeddings"
    mine_process.mine(embeddings, tmp_path / "older", replace(mine_process.OPTIONS, top=3))

    def mine_to(step: int | None) -> ForkServerProcess:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "older", folder)
        process = server.Process(target=mine_process.mine_to, args=(step, embeddings, folder, log))
        process.start()
        process.join()
        return process

    assert mine_to(None).exitcode == 0
    older, whole = tree(tmp_path / "older"), tree(folder)
    assert set(older) == set(whole) == set(mine_process.FILES)
    assert not any(older[name] == whole[name] for name in whole)
    steps = json.loads(log.read_text())
    assert set(steps) >= {"tokens", "os.remove pairs.json", *(f"os.rename {name}" for name in whole)}
    for step in range(len(steps)):
        assert mine_to(step).exitcode == -signal.SIGKILL
        left = {name: content for name, content in tree(folder).items() if not name.startswith(".")}
        assert all(content in (older[name], whole[name]) for name, content in left.items())
        if mine_process.RECORD in left:  # it says that the others are complete, and its own
            run = older if left[mine_process.RECORD] == older[mine_process.RECORD] else whole
            assert left.items() >= {name: run[name] for name in run if name != GALLERY}.items()
        mine_process.mine(embeddings, folder)
        assert tree(folder) == whole


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A command that embeds some photos, and what it writes when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("whole")
    make_photos(folder / "photos", 1500)
    command = [sys.executable, "-m", "blindpairs", "embed", str(folder / "photos"), "--encoder", "clip=demo:clip"]
    subprocess.run([*command, "--work", str(folder / "work")], check=True, capture_output=True)
    return command, tree(folder / "work")


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_command_saves_its_state_and_resumes_to_the_same_bytes(
    tmp_path: Path, sent: signal.Signals, status: int, whole: Whole
) -> None:
    command, expected = whole
    command = [*command, "--work", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "embeddings" / "part-00000.done.json")
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "run it again; embed, import, draft, eval and train-mof resume, the others start over" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob(".*.tmp"))
    subprocess.run(command, check=True, capture_output=True)
    assert tree(tmp_path) == expected


def test_second_run_on_the_same_store_is_locked_out_with_exit_7(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    make_photos(photos, 4)
    (tmp_path / "work" / "embeddings").mkdir(parents=True)
    lock = RunLock(tmp_path / "work" / "embeddings")
    lock.claim_all()
    command = [sys.executable, "-m", "blindpairs", "embed", str(photos), "--encoder", "clip=demo:clip"]
    second = subprocess.run([*command, "--work", str(tmp_path / "work")], capture_output=True, text=True, check=False)
    lock.release()
    assert second.returncode == 7
    assert f"is being written by another run (process {os.getpid()} on " in second.stderr
    assert second.stderr.endswith("); wait for it, or give this one another --work\n")


def test_shards_do_not_lock_each_other_out_but_the_same_shard_does(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    first.claim([0, 2, 4])
    script = (
        "import sys; from pathlib import Path; from blindpairs.workspace import RunLock\n"
        "RunLock(Path(sys.argv[1])).claim(int(part) for part in sys.argv[2:])"
    )
    other = subprocess.run([sys.executable, "-c", script, str(tmp_path), "1", "3"], check=False)
    same = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "4"], capture_output=True, text=True, check=False
    )
    assert other.returncode == 0
    assert "Locked" in same.stderr


def test_lock_of_a_dead_run_is_no_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from blindpairs.workspace import RunLock\n"
        "RunLock(Path(sys.argv[1])).claim_all(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert (tmp_path / ".lock").read_text().startswith("process ")
    lock = RunLock(tmp_path)
    lock.claim_all()
    lock.release()


def _starved(photos: Path, store: Path, bytes_a_file: int) -> None:
    """Embed, with files limited from the first batch on (the limit would hit the workers' memory, too)."""

    def limit(*_: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))

    options = EmbedOptions(part_rows=16, batch=8, workers=1)
    with pytest.raises(InputError, match="no room to write"):
        embed(open_corpus([str(photos)]), store, WIDE, toy, options, limit)
    sys.exit(33)


def test_full_disk_leaves_the_final_names_untouched_and_the_run_resumable(
    tmp_path: Path, server: ForkServerContext
) -> None:
    photos = tmp_path / "photos"
    make_photos(photos, 40)
    run(photos, tmp_path / "whole", WIDE)
    limit = (tmp_path / "whole" / "part-00000.parquet").stat().st_size - 1
    assert limit > (tmp_path / "whole" / "plan.parquet").stat().st_size
    process = server.Process(target=_starved, args=(photos, tmp_path / "full", limit))
    process.start()
    process.join()
    assert process.exitcode == 33
    assert not list((tmp_path / "full").glob("part-*"))
    assert not list((tmp_path / "full").rglob(".*.tmp"))
    run(photos, tmp_path / "full", WIDE)
    assert tree(tmp_path / "full") == tree(tmp_path / "whole")


def test_folder_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    make_photos(photos, 4)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*; choose another place with --work or --output"):
        run(photos, tmp_path / "file" / "store")


def test_leavings_of_dead_runs_are_swept_and_those_of_live_ones_kept(tmp_path: Path) -> None:
    import socket

    from blindpairs.workspace import prepare_folder

    host = socket.gethostname()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = [tmp_path / f".a.{host}.{os.getppid()}.00.tmp", tmp_path / ".a.other.host.1.00.tmp"]
    swept = [tmp_path / f".a.{host}.{dead.pid}.00.tmp", tmp_path / "failures" / f".b.{host}.{os.getpid()}.00.tmp"]
    (tmp_path / "failures").mkdir()
    for path in (*kept, *swept):
        path.write_text("")
    prepare_folder(tmp_path)
    assert [path.exists() for path in kept] == [True, True]
    assert [path.exists() for path in swept] == [False, False]


def test_locked_says_who_holds_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from blindpairs.workspace import RunLock\n"
        "lock = RunLock(Path(sys.argv[1])); lock.claim_all(); print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    lock = RunLock(tmp_path)
    with pytest.raises(Locked, match=f"another run \\(process {holder.pid} on "):
        lock.claim_all()
    lock.release()
    holder.kill()
    holder.wait()
