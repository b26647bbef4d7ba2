"""A folder of any files whatever becomes a fixed list of images, each of which reads as planned or fails by name."""

import os
import pickle
import socket
import time
import tracemalloc
from pathlib import Path

import bad_files as make
import pytest

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import Corpus, CorpusOptions, Item, open_corpus, read_item, read_many


def fill(root: Path, names: dict[str, bytes]) -> Path:
    for name, data in names.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def planned(corpus: Corpus, root: Path) -> list[str]:
    return [item.uri.removeprefix(f"{root}/") for item in corpus.items()]


def failure(item: Item) -> str:
    with pytest.raises(Undecodable) as caught:
        read_item(item)
    assert caught.value.message
    return caught.value.code


def test_a_missing_root_an_unknown_file_and_an_empty_folder_are_told_with_their_path_within_a_second(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    os.mkfifo(tmp_path / "fifo")
    start = time.monotonic()
    for name in ("missing", "empty", "notes.txt", "fifo"):
        with pytest.raises(InputError, match=str(tmp_path / name)):
            open_corpus([str(tmp_path / name)])
    with pytest.raises(InputError, match="no corpus given"):
        open_corpus([])
    assert time.monotonic() - start < 1


def test_a_folder_without_images_is_told_with_what_was_found_instead(tmp_path: Path) -> None:
    fill(tmp_path, {"a.txt": b"a", "b/c.json": b"{}", ".hidden.jpg": make.jpeg()})
    with pytest.raises(InputError, match=r"holds no images \(2 files that are no images, 1 hidden files and folders\)"):
        list(open_corpus([str(tmp_path)]).items())


def test_files_come_before_subfolders_both_in_name_order_and_read_back_whole(tmp_path: Path) -> None:
    names = ["b.jpg", "a.jpg", "z/1.jpg", "c/2.jpg", "c/1.jpg", "c/d/0.jpg"]
    fill(tmp_path, {name: name.encode() for name in names})
    corpus = open_corpus([str(tmp_path)])
    assert planned(corpus, tmp_path) == ["a.jpg", "b.jpg", "c/1.jpg", "c/2.jpg", "c/d/0.jpg", "z/1.jpg"]
    items = list(corpus.items())
    assert [read_item(item) for item in items] == [item.uri.removeprefix(f"{tmp_path}/").encode() for item in items]
    assert pickle.loads(pickle.dumps(items)) == items


def test_images_are_told_by_extension_in_any_case_or_by_content(tmp_path: Path) -> None:
    files = {"a.JPEG": b"broken", "b.jfif": b"", "c.JPE": b"x", "d": make.png(), "e.dat": make.jpeg(), "f.bmp": b"BM"}
    fill(tmp_path, files | {"g": b"text", "h.pdf": b"%PDF-1.7", "i.npy": b"\x93NUMPY", "j.txt": b"BM is no bitmap"})
    corpus = open_corpus([str(tmp_path)])
    assert planned(corpus, tmp_path) == sorted(files)
    assert corpus.notes == {"files that are no images": 4}


def test_an_unreadable_file_fails_as_io(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a.jpg": make.jpeg()})
    (item,) = open_corpus([str(tmp_path)]).items()

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no mode bits stop
    assert failure(item) == "io"


def test_a_folder_that_cannot_be_listed_is_one_failure_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.jpg": b"a", "closed/b.jpg": b"b", "d/c.jpg": b"c"})
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    corpus = open_corpus([str(tmp_path)])
    monkeypatch.setattr(os, "scandir", refuse)
    items = list(corpus.items())
    assert [Path(item.uri).name for item in items] == ["a.jpg", "closed", "c.jpg"]
    assert failure(items[1]) == "io"
    assert corpus.notes == {"folders that cannot be listed": 1}


def test_links_are_counted_and_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, {"in/a.jpg": b"a", "out/b.jpg": b"b", "out/sub/c.jpg": b"c"})
    (tmp_path / "in/file.jpg").symlink_to(tmp_path / "out/b.jpg")
    (tmp_path / "in/inner.jpg").symlink_to(tmp_path / "in/a.jpg")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    corpus = open_corpus([str(tmp_path / "in")])
    assert planned(corpus, tmp_path) == ["in/a.jpg"]
    assert corpus.notes == {"links not followed": 4}


def test_followed_links_lead_out_of_the_root_and_their_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, {"in/a.jpg": b"a", "out/b.jpg": b"b"})
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/ping").symlink_to(tmp_path / "in/pong")
    (tmp_path / "in/pong").symlink_to(tmp_path / "in/ping")
    (tmp_path / "in/nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    corpus = open_corpus([str(tmp_path / "in")], CorpusOptions(follow_symlinks=True))
    items = {Path(item.uri).name: item for item in corpus.items()}
    assert sorted(items) == ["a.jpg", "b.jpg", "nowhere.jpg"]
    assert read_item(items["b.jpg"]) == b"b"
    assert failure(items["nowhere.jpg"]) == "io"
    assert corpus.notes == {"links to a folder already visited": 1, "files that are no images": 2}


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, {"real/a.jpg": b"a"})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert planned(open_corpus([str(tmp_path / "link")]), tmp_path) == ["link/a.jpg"]


def test_pipes_and_sockets_are_skipped_without_hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a.jpg": b"a"})
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's name may have only 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        corpus = open_corpus([str(tmp_path)])
        assert planned(corpus, tmp_path) == ["a.jpg"]
    assert corpus.notes == {"pipes, sockets and devices": 2}


STRANGE = [
    "café.jpg",
    "cafe\u0301.jpg",
    "🐈.jpg",
    "\u202eright to left.jpg",
    "new\nline.jpg",
    "tab\t.jpg",
    '"quote\'s".jpg',
    "100%25.jpg",
    "-rf.jpg",
    "a#b#c.jpg",
    "n" * 251 + ".jpg",
]


def test_strange_names_come_back_as_they_are(tmp_path: Path) -> None:
    fill(tmp_path, {name: str(index).encode() for index, name in enumerate(STRANGE)})
    items = list(open_corpus([str(tmp_path)]).items())
    assert sorted(item.uri for item in items) == sorted(f"{tmp_path}/{name}" for name in STRANGE)
    assert all(item.uri_bytes is None for item in items)
    assert [read_item(item) for item in items] == [str(STRANGE.index(Path(item.uri).name)).encode() for item in items]
    again = dict(read_many((item.uri, item.uri_bytes) for item in items))
    assert again == {position: read_item(item) for position, item in enumerate(items)}


def test_a_name_that_is_not_utf_8_is_escaped_and_its_bytes_go_along(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(b"latin")
    (item,) = open_corpus([str(tmp_path)]).items()
    assert (item.uri, item.uri_bytes) == (f"{tmp_path}/caf\\xe9.jpg", name)
    assert read_item(item) == b"latin"
    assert list(read_many([(item.uri, item.uri_bytes)])) == [(0, b"latin")]


def test_a_folder_of_20000_files_streams_in_bounded_memory(tmp_path: Path) -> None:
    for index in range(20_000):
        os.close(os.open(f"{tmp_path}/{index:05d}.jpg", os.O_CREAT))
    corpus = open_corpus([str(tmp_path)])
    tracemalloc.start()
    try:
        count = sum(1 for _ in corpus.items())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 200 * 20_000  # the names of one folder, and nothing else


def test_a_file_that_changes_or_goes_between_plan_and_read_fails_by_name(tmp_path: Path) -> None:
    fill(tmp_path, {"gone.jpg": b"gone", "grown.jpg": b"grown", "pipe.jpg": b"pipe", "touched.jpg": b"touched"})
    gone, grown, pipe, touched = open_corpus([str(tmp_path)]).items()
    (tmp_path / "gone.jpg").unlink()
    (tmp_path / "grown.jpg").write_bytes(b"grown up")
    os.utime(tmp_path / "touched.jpg", ns=(1, 1))
    (tmp_path / "pipe.jpg").unlink()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert [failure(item) for item in (gone, grown, pipe, touched)] == ["missing", "changed", "changed", "changed"]


def test_a_file_beyond_256_mib_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate((256 << 20) + 1)  # sparse: no byte of it exists
    (item,) = open_corpus([str(tmp_path)]).items()
    assert failure(item) == "too_large"


def test_excluded_and_hidden_folders_are_not_entered(tmp_path: Path) -> None:
    names = ["a.jpg", "work/b.jpg", "deep/work/c.jpg", ".git/d.jpg", "__MACOSX/e.jpg", "._a.jpg"]
    fill(tmp_path, dict.fromkeys(names, b"x"))
    corpus = open_corpus([str(tmp_path)], CorpusOptions(exclude=(str(tmp_path / "work"),)))
    assert planned(corpus, tmp_path) == ["a.jpg", "deep/work/c.jpg"]
    assert corpus.notes == {"hidden files and folders": 3}


@pytest.mark.parametrize(
    ("root", "exclude"),
    [
        ("real", "real/work"),
        ("link", "real/work"),
        ("real", "link/work"),
        ("link", "link/work"),
        ("up/../real", "real/deep/../work"),
        ("real", "towork"),
        ("link", "towork"),
        ("real", "link/deep/../work/"),
    ],
)
def test_an_excluded_folder_is_known_by_what_it_is_and_not_by_its_name(tmp_path: Path, root: str, exclude: str) -> None:
    fill(tmp_path / "real", {"a.jpg": b"x", "work/b.jpg": b"x", "deep/c.jpg": b"x"})
    (tmp_path / "up").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "towork").symlink_to("real/work")
    (tmp_path / "real" / "other").symlink_to("work")
    options = CorpusOptions(exclude=(f"{tmp_path}/{exclude}",), follow_symlinks=True)
    corpus = open_corpus([f"{tmp_path}/{root}"], options)
    assert planned(corpus, Path(corpus.paths[0])) == ["a.jpg", "deep/c.jpg"]


def test_an_excluded_root_is_read_all_the_same(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jpg": b"x", "embeddings/b.jpg": b"x"})
    options = CorpusOptions(exclude=(str(tmp_path), f"{tmp_path}/embeddings", f"{tmp_path}/missing"))
    assert planned(open_corpus([str(tmp_path)], options), tmp_path) == ["a.jpg"]


def test_sources_inside_another_or_given_twice_count_once(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jpg": make.jpeg(), "b/c.jpg": make.jpeg()})
    sources = [str(tmp_path / "b"), str(tmp_path / "a.jpg"), str(tmp_path), f"{tmp_path}/"]
    assert planned(open_corpus(sources), tmp_path) == ["a.jpg", "b/c.jpg"]
    assert planned(open_corpus(sources[:2]), tmp_path) == ["b/c.jpg", "a.jpg"]


def test_the_fingerprint_moves_with_names_sizes_and_times_and_not_with_the_place(tmp_path: Path) -> None:
    root = fill(tmp_path / "one", {"a.jpg": b"a", "b/c.jpg": b"c", "notes.txt": b"n"})
    for path in root.rglob("*.*"):
        os.utime(path, ns=(5, 5))
    before = open_corpus([str(root)]).fingerprint()
    (root / "notes.txt").write_bytes(b"other notes")
    root = root.rename(tmp_path / "two")
    assert open_corpus([str(root)]).fingerprint() == before
    os.utime(root / "a.jpg", ns=(6, 6))
    assert open_corpus([str(root)]).fingerprint() != before
    os.utime(root / "a.jpg", ns=(5, 5))
    assert open_corpus([str(root)]).fingerprint() == before
    (root / "b/c.jpg").rename(root / "b/d.jpg")
    assert open_corpus([str(root)]).fingerprint() != before


def test_a_corpus_says_what_it_is_in_a_few_words(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jpg": make.jpeg(), "b.jpg": make.jpeg()})
    assert open_corpus([str(tmp_path)]).describe() == str(tmp_path)
    assert open_corpus([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]).describe() == f"{tmp_path}/a.jpg and 1 more"


@pytest.mark.parametrize(
    "source", ["https://example.org/a.tar", "s3://bucket/{00..09}.tar", "pipe:cat a.tar", "hf://x/y"]
)
def test_an_address_or_a_command_is_refused_and_never_opened(source: str) -> None:
    with pytest.raises(InputError, match="is not a local path"):
        open_corpus([source])


def test_reading_again_what_is_gone_names_it_missing(tmp_path: Path) -> None:
    ((position, outcome),) = read_many([(f"{tmp_path}/gone.jpg", None)])
    assert position == 0
    assert isinstance(outcome, Undecodable)
    assert outcome.code == "missing"
