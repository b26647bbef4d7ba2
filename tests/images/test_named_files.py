"""One bad file among several that were named is a failure of its own; a corpus of nothing else is an error."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import bad_files as make
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_process import make_photos
from typer.testing import CliRunner

from blindpairs.cli.app import app
from blindpairs.errors import InputError, Undecodable
from blindpairs.images import Corpus, CorpusOptions, open_corpus, read_item, read_many
from blindpairs.images.decode import decode


def write_table(path: Path, columns: dict[str, object]) -> None:
    pq.write_table(pa.table(columns), path)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", make.png())


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def write_cut_table(path: Path) -> None:
    write_table(path, {"image": [make.png()]})
    cut(path, -20)


def write_cut_tar(path: Path) -> None:
    make.tar(path, [("a.png", make.png())])
    cut(path, 300)


# How a bad file is made, its name, and the code of its failure.
BAD: list[tuple[Callable[[Path], object], str, str]] = [
    (lambda path: path.write_bytes(b""), "0.jpg", "empty"),
    (lambda path: path.write_bytes(b""), "0.tar", "tar_corrupt"),
    (lambda path: path.write_bytes(b""), "0.parquet", "parquet_corrupt"),
    (lambda path: path.write_bytes(make.ERROR_PAGE), "0.jpg", "not_image"),
    (lambda path: path.write_bytes(make.ERROR_PAGE), "0.tar.gz", "tar_truncated"),
    (lambda path: path.write_bytes(make.ERROR_PAGE * 20), "0.tar", "tar_corrupt"),
    (lambda path: path.write_bytes(make.ERROR_PAGE), "0.parquet", "parquet_corrupt"),
    (lambda path: path.write_bytes(bytes(2048)), "0.jpg", "not_image"),
    (lambda path: path.write_text("a photo"), "notes.txt", "not_image"),
    (write_cut_tar, "0.tar", "tar_truncated"),
    (write_cut_table, "0.parquet", "parquet_corrupt"),
    (write_zip, "0.zip", "not_image"),
    (write_zip, "0.dat", "not_image"),
    (write_zip, "0.tar", "not_image"),
    (lambda path: write_table(path, {"url": ["http://x/a.jpg"]}), "0.parquet", "no_image_column"),
    (lambda path: write_table(path, {"left": [b"a"], "right": [b"b"]}), "0.parquet", "no_image_column"),
    (lambda path: write_table(path, {"images": [[b"a"]]}), "0.parquet", "no_image_column"),
    (os.mkfifo, "0.jpg", "io"),
    (os.mkfifo, "0.tar", "io"),
    (lambda path: path.symlink_to("nowhere"), "0.jpg", "io"),
]


def verdict(corpus: Corpus) -> list[str]:
    """`ok` or the code of the failure, one an item, as embedding tells them."""
    found = []
    for item in corpus.items():
        try:
            decode(read_item(item))
            found.append("ok")
        except Undecodable as error:
            found.append(error.code if error.message else "without a word")
    return found


def good_files(folder: Path) -> None:
    (folder / "1.png").write_bytes(make.png())
    make.tar(folder / "2.tar", [("a.png", make.png())])
    write_table(folder / "3.parquet", {"image": [make.png()]})


@pytest.mark.parametrize(("write", "name", "code"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_one_bad_file_among_named_ones_is_one_failure(
    write: Callable[[Path], object], name: str, code: str, tmp_path: Path
) -> None:
    good_files(tmp_path)
    write(tmp_path / name)
    paths = sorted(str(path) for path in tmp_path.iterdir())
    for sources in (paths, [f"{tmp_path}/*"], [*paths[1:], paths[0]], [f"{tmp_path}/{{{name},1.png,2.tar,3.parquet}}"]):
        corpus = open_corpus(sources)
        before = corpus.fingerprint()
        assert sorted(verdict(corpus)) == sorted(["ok", "ok", "ok", code])
        assert corpus.fingerprint() == before


@pytest.mark.parametrize(("write", "name"), [bad[:2] for bad in BAD])
def test_bad_files_alone_are_an_error_that_names_one(
    write: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for path in (tmp_path / name, tmp_path / "other" / name):
        write(path)
    with pytest.raises(InputError) as caught:
        open_corpus([str(tmp_path / name)])
    assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(InputError, match=r"\(1 more of 2 cannot be used either\)"):
        open_corpus([str(tmp_path / name), str(tmp_path / "other" / name)])


def test_a_file_that_goes_or_breaks_after_it_was_named_fails_by_name(tmp_path: Path) -> None:
    good_files(tmp_path)
    corpus = open_corpus([f"{tmp_path}/*"])
    before = corpus.fingerprint()
    for path in tmp_path.iterdir():
        path.unlink()
    assert verdict(corpus) == ["missing"] * 3
    assert corpus.fingerprint() != before


def test_an_empty_name_is_an_error_that_asks_for_the_variable() -> None:
    with pytest.raises(InputError, match="a source is an empty name: is a variable unset"):
        open_corpus([""])


def test_what_does_not_exist_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    good_files(tmp_path)
    with pytest.raises(InputError, match=r"4\.png does not exist: check its name, and that its disk is mounted"):
        open_corpus([f"{tmp_path}/1.png", f"{tmp_path}/4.png"])
    with pytest.raises(InputError, match=r"3\.tar does not exist \(and 1 more of 3\)"):
        open_corpus([f"{tmp_path}/{{2..4}}.tar"])


def test_a_column_that_no_parquet_file_has_is_an_error_and_one_that_some_lack_is_their_failure(tmp_path: Path) -> None:
    good_files(tmp_path)
    with pytest.raises(InputError, match="has no column wrong; columns: image"):
        open_corpus([f"{tmp_path}/*"], CorpusOptions(column="wrong"))
    write_table(tmp_path / "0.parquet", {"photo": [make.png()]})
    assert verdict(open_corpus([f"{tmp_path}/*"])) == ["ok"] * 4
    for source in (f"{tmp_path}/*", str(tmp_path)):
        corpus = open_corpus([source], CorpusOptions(column="image"))
        assert verdict(corpus) == ["no_image_column", "ok", "ok", "ok"]


def test_images_in_a_column_that_cannot_be_told_are_a_failure_in_a_folder_too(tmp_path: Path) -> None:
    good_files(tmp_path)
    write_table(tmp_path / "4.parquet", {"left": [b"a"], "right": [b"b"]})
    write_table(tmp_path / "5.parquet", {"url": ["http://x/a.jpg"]})
    corpus = open_corpus([str(tmp_path)])
    assert verdict(corpus) == ["ok", "ok", "ok", "no_image_column"]
    assert corpus.notes == {"unreadable containers": 1, "Parquet files without images": 1}


def test_an_empty_folder_among_sources_is_counted(tmp_path: Path) -> None:
    good_files(tmp_path)
    (tmp_path / "empty").mkdir()
    corpus = open_corpus([f"{tmp_path}/*"])
    assert verdict(corpus) == ["ok"] * 3
    assert corpus.notes == {"folders with nothing to read": 1}


def test_archives_that_are_not_read_are_counted_in_a_folder_by_what_they_are(tmp_path: Path) -> None:
    good_files(tmp_path)
    for name in ("a.zip", "b.ZIP", "c.7z", "d.rar", "e.tar.lz4", "f.arrow", "g.h5", "h.txt"):
        (tmp_path / name).write_bytes(b"anything")
    corpus = open_corpus([str(tmp_path)])
    assert verdict(corpus) == ["ok"] * 3
    assert corpus.notes == {
        "zip archives not read": 2,
        "7z archives not read": 1,
        "rar archives not read": 1,
        "lz4 archives not read": 1,
        "Arrow files not read": 1,
        "HDF5 files not read": 1,
        "files that are no images": 1,
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.zip", "(zip archive): unpack it into a folder, or make a tar of it"),
        ("a.tar.lz4", "(lz4 archive): unpack it"),
        ("a.tfrecord", "(TFRecord file): export it to tar or Parquet"),
    ],
)
def test_an_archive_that_is_not_read_is_answered_with_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError) as caught:
        open_corpus([str(tmp_path / name)])
    assert f"{tmp_path / name} cannot be read {message}" in str(caught.value)


def test_a_path_that_goes_up_behind_a_link_is_the_file_that_the_system_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far" / "in").mkdir(parents=True)
    (tmp_path / "far" / "a.png").write_bytes(make.png())
    (tmp_path / "near").symlink_to(tmp_path / "far" / "in")
    (tmp_path / "a.png").write_bytes(b"another")
    monkeypatch.chdir(tmp_path)
    (item,) = open_corpus(["near/../a.png"]).items()
    assert (item.uri, read_item(item)) == (f"{tmp_path}/far/a.png", make.png())
    (item,) = open_corpus(["./far/in/../a.png"]).items()
    assert item.uri == f"{tmp_path}/far/a.png"
    (item,) = open_corpus(["near/.."]).items()
    assert item.uri == f"{tmp_path}/far/a.png"


def test_a_file_given_twice_and_a_file_in_a_given_folder_count_once(tmp_path: Path) -> None:
    good_files(tmp_path)
    tar = str(tmp_path / "2.tar")
    assert verdict(open_corpus([tar, tar, f"{tmp_path}/./2.tar", f"{tmp_path}/2*"])) == ["ok"]
    assert verdict(open_corpus([tar, str(tmp_path)])) == ["ok"] * 3


def test_items_read_again_by_uri_are_the_same_beside_bad_files(tmp_path: Path) -> None:
    good_files(tmp_path)
    write_cut_table(tmp_path / "0.parquet")
    items = [item for item in open_corpus([f"{tmp_path}/*"]).items() if item.uri != f"{tmp_path}/0.parquet"]
    assert dict(read_many((item.uri, item.uri_bytes) for item in items)) == dict.fromkeys(range(3), make.png())


def test_a_run_over_named_files_ends_with_rows_of_failures_and_resumes(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "empty.jpg").write_bytes(b"")
    (tmp_path / "photos" / "shard.tar").write_bytes(b"")
    paths = sorted(str(path) for path in (tmp_path / "photos").iterdir())
    arguments = ["embed", *paths, "--work", str(tmp_path / "work"), "--max-failure-rate", "1"]
    arguments += ["--encoder", "clip=demo:clip", "--encoder", "dino=demo:dino", "--workers", "1"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "failed: 1 empty, 1 tar_corrupt" in first.stdout
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, again.output
    assert "3 were there already" in again.stdout
    assert "has changed" not in again.output


@pytest.mark.skipif(sys.platform != "linux", reason="setpriv")
def test_files_without_permission_are_failures_among_others_and_an_error_alone(tmp_path: Path) -> None:
    good_files(tmp_path)
    for name in ("0.jpg", "0.tar", "0.parquet"):
        (tmp_path / name).write_bytes(make.png())
        (tmp_path / name).chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    script = (
        "import sys\n"
        "from blindpairs.images import open_corpus, read_item\n"
        "from blindpairs.errors import InputError, Undecodable\n"
        "try:\n    items = list(open_corpus(sys.argv[1:]).items())\n"
        "except InputError as error:\n    sys.exit(str(error))\n"
        "for item in items:\n"
        "    try:\n        read_item(item); print('ok')\n"
        "    except Undecodable as error:\n        print(error.code)\n"
    )
    # Root may read everything, unless it gives up that right.
    plain = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []

    def read(*sources: Path) -> subprocess.CompletedProcess[str]:
        command = [*plain, sys.executable, "-c", script, *map(str, sources)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = read(*sorted(tmp_path.iterdir()))
    assert sorted(done.stdout.split()) == ["io"] * 4 + ["ok"] * 3, done.stderr
    for name in ("0.jpg", "0.tar", "closed"):
        alone = read(tmp_path / name)
        assert f"{tmp_path / name} cannot be read: Permission denied" in alone.stderr
