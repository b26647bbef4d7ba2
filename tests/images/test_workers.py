"""Decode workers: order, and that a crash, a hang or a bug costs what it should."""

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from embed_process import SIZE, make_photos

from blindpairs.images import Item, open_corpus, read_item
from blindpairs.images.item import Failed, Image
from blindpairs.images.preprocess import Preprocess
from blindpairs.images.workers import CHUNK, POSITION, DecodePool, Decoding, _Chunk, _step, _Worker

GEOMETRY = Preprocess(SIZE, "shortest", SIZE, "bicubic", "round", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# What a worker does to a file whose name says so, in place of a decoder with a bug in native code.
SABOTAGE = """
import os, signal, sys, time
from blindpairs.images import workers
decode = workers.read_item

def read_item(item, alive):
    name = os.path.basename(item.uri)
    if "segfault" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "endless" in name:
        time.sleep(3600)
    if "once" in name and not os.path.exists(item.uri + ".seen"):
        open(item.uri + ".seen", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if "bug" in name:
        raise ZeroDivisionError("planted")
    return decode(item, alive)

workers.read_item = read_item
workers.main(sys.argv[1:])
"""


@pytest.fixture
def sabotaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start with the sabotage."""
    monkeypatch.setattr("blindpairs.images.workers.START", SABOTAGE)


def named(folder: Path, count: int, special: dict[int, str]) -> list[Item]:
    for number, path in enumerate(make_photos(folder, count)):
        if number in special:
            path.rename(path.with_name(f"image-{number:04d}-{special[number]}.png"))
    return list(open_corpus([str(folder)]).items())


def decode_all(items: list[Item], processes: int = 2, timeout: float = 60.0) -> list[Image | Failed]:
    with DecodePool(Decoding((GEOMETRY,), timeout=timeout), processes, ahead=64) as pool:
        outcomes = list(pool.outcomes(items))
    assert [item for item, _ in outcomes] == items
    return [outcome for _, outcome in outcomes]


def test_outcomes_come_in_order_with_the_right_pixels(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image as PillowImage

    items = named(tmp_path / "photos", 5 * CHUNK + 3, {})
    with DecodePool(Decoding((GEOMETRY,)), 2, ahead=2 * CHUNK) as pool:
        for item, outcome in pool.outcomes(items):
            assert isinstance(outcome, Image)
            np.testing.assert_array_equal(outcome.pixels[0].transpose(1, 2, 0), np.asarray(PillowImage.open(item.uri)))


def test_native_crash_costs_one_image_which_is_named(tmp_path: Path, sabotaged: None) -> None:
    items = named(tmp_path / "photos", 3 * CHUNK, {5: "segfault", CHUNK + 1: "segfault"})
    outcomes = decode_all(items)
    failed = {index: outcome for index, outcome in enumerate(outcomes) if isinstance(outcome, Failed)}
    assert {index: outcome.code for index, outcome in failed.items()} == {
        5: "decoder_crash",
        CHUNK + 1: "decoder_crash",
    }
    assert failed[5].message == "the decoder died on it twice (SIGSEGV)"


def test_worker_killed_by_the_system_once_loses_no_image(tmp_path: Path, sabotaged: None) -> None:
    outcomes = decode_all(named(tmp_path / "photos", 2 * CHUNK, {7: "once"}))
    assert all(isinstance(outcome, Image) for outcome in outcomes)


def test_endless_decoder_is_a_timeout_and_the_rest_goes_on(tmp_path: Path, sabotaged: None) -> None:
    outcomes = decode_all(named(tmp_path / "photos", 2 * CHUNK, {3: "endless"}), timeout=1.0)
    assert [(index, outcome.code) for index, outcome in enumerate(outcomes) if isinstance(outcome, Failed)] == [
        (3, "timeout")
    ]


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_what_lies_before_an_image_in_a_compressed_archive_is_not_its_time(tmp_path: Path, kind: str) -> None:
    [photo] = make_photos(tmp_path / "photos", 1)
    movie = tmp_path / "movie.bin"
    with movie.open("wb") as file:
        file.truncate(64 << 20)
    with tarfile.open(tmp_path / "a.tar", f"w:{kind}") as archive:  # type: ignore[call-overload]
        archive.add(movie, "movie.bin")
        archive.add(photo, "photo.png")
    [item] = open_corpus([str(tmp_path / "a.tar")]).items()
    steps: list[None] = []
    assert read_item(item, lambda: steps.append(None)) == photo.read_bytes()
    assert len(steps) >= 64
    worker = _Worker(Decoding((GEOMETRY,)), 1)
    try:
        worker.chunks.append(_Chunk(0, [item]))
        POSITION.pack_into(worker.block, 0, 0, 0, 0)
        assert not worker.stuck(0.0, 60.0)
        assert worker.stuck(61.0, 60.0)
        _step(worker.block)
        assert not worker.stuck(61.0, 60.0)
    finally:
        worker.kill()


def test_bug_of_ours_ends_the_run_with_its_traceback(tmp_path: Path, sabotaged: None) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)a bug in blindpairs.*ZeroDivisionError: planted"):
        decode_all(named(tmp_path / "photos", 4, {1: "bug"}))


def test_worker_that_cannot_start_ends_the_run_instead_of_hanging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blindpairs.images.workers.START", "raise SystemExit('no library')")
    with pytest.raises(RuntimeError, match=r"could not start \(exit status 1\)\nno library"):
        decode_all(named(tmp_path / "photos", 4, {}))


def test_a_limit_on_file_sizes_is_named_where_it_leaves_no_memory_for_pixels(tmp_path: Path) -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from blindpairs.errors import InputError\nfrom blindpairs.images.workers import _memory_file\n"
        "try: _memory_file(1 << 20)\nexcept InputError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "1,048,576 bytes" in done.stdout
    assert "ulimit -f" in done.stdout


def test_no_worker_outlives_the_pool(tmp_path: Path) -> None:
    items = named(tmp_path / "photos", 2 * CHUNK, {})
    with DecodePool(Decoding((GEOMETRY,)), 2, ahead=CHUNK) as pool:
        outcomes: Iterator[object] = pool.outcomes(items)
        next(outcomes)
        processes = [worker.process for worker in pool._workers]
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2


def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time, os\n"
        "from blindpairs.images.preprocess import Preprocess\n"
        "from blindpairs.images.workers import DecodePool, Decoding\n"
        "pool = DecodePool(Decoding((Preprocess(8, 'shortest', 8, 'bicubic', 'round', (0,0,0), (1,1,1)),)), 2, 32)\n"
        "print(*[worker.process.pid for worker in pool._workers], flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    time.sleep(1)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() and alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
