"""The work folder: a file under its final name is complete, and an error of the disk becomes a readable message."""

import errno
import os
from pathlib import Path

import pytest

from blindpairs.errors import InputError
from blindpairs.workspace import (
    RunLock,
    Workspace,
    canonical_json,
    digest,
    prepare_folder,
    read_json,
    write_json,
    written_atomically,
)


def test_file_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    with written_atomically(path) as aside:
        aside.write_text("new")
        assert aside.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with written_atomically(path) as aside:
            aside.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no room to write .*; free space, then run the same command to resume"),
        (errno.EDQUOT, "no room to write .*; free space, then run the same command to resume"),
        (errno.EIO, "cannot write .*; choose another place with --work or --output"),
        (errno.EROFS, "cannot write .*; choose another place with --work or --output"),
    ],
)
def test_full_or_read_only_disk_is_a_sentence_and_touches_no_final_name(
    tmp_path: Path, number: int, message: str
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with written_atomically(path) as aside:
            aside.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(InputError, match=message):
        fail()
    assert path.read_text() == "old"


def test_json_goes_out_and_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, "ü"], "a": None})
    assert read_json(tmp_path / "a.json") == {"b": [1, "ü"], "a": None}


@pytest.mark.parametrize(("text", "message"), [("{", "is damaged"), ("[1]", "was not written by blindpairs")])
def test_damaged_json_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json {message}"):
        read_json(tmp_path / "a.json")


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert canonical_json({"b": 1, "a": (1, 2)}) == '{"a":[1,2],"b":1}'


def test_preparing_a_folder_leaves_no_trace_in_it(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "deep" / "folder")
    assert list((tmp_path / "deep" / "folder").iterdir()) == []


@pytest.mark.parametrize("host", ["a/b", "x\udcff", "name with spaces", ""])
def test_files_are_written_and_locked_whatever_the_machine_is_called(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    write_json(tmp_path / "a.json", {"path": "x\udcff"})
    assert read_json(tmp_path / "a.json") == {"path": "x\udcff"}
    lock = RunLock(tmp_path)
    lock.claim_all()
    lock.release()
    prepare_folder(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "a.json"]


def test_sweeping_passes_over_names_that_only_look_like_ours(tmp_path: Path) -> None:
    from blindpairs.workspace import host_name, sweep

    names = [".x.tmp", f".x.{host_name()}.²³.00.tmp", f".x.{host_name()}.{10**30}.00.tmp", f".x.{host_name()}.0.00.tmp"]
    for name in names:
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_artefacts_have_their_places() -> None:
    space = Workspace(Path("work"))
    assert space.embeddings == Path("work/embeddings")
    assert space.index == Path("work/index")
    assert space.pairs_table == Path("work/pairs/pairs.parquet")
    assert space.gallery == Path("work/pairs/gallery.html")


def test_failures_are_where_the_store_writes_them() -> None:
    from blindpairs.store import Part

    space = Workspace(Path("work"))
    assert Part(space.embeddings, 0).failures.parent == space.failures


def test_file_system_without_locks_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    lock = RunLock(tmp_path)
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(InputError, match=r"is on a file system without file locks .*: choose another --work"):
        lock.claim_all()
    with pytest.raises(InputError, match="without file locks"), lock.planning():
        pass
