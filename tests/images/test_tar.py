"""A WebDataset tar, whole, hostile or cut, gives its images in place, and every loss in it is reported."""

import gzip
import io
import os
import random
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import bad_files as make
import pyarrow
import pytest

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import Item, by_uri, open_corpus, read_item, read_many
from blindpairs.images.sources import expand_braces

IMAGES = {f"{index:03d}.jpg": random.Random(index).randbytes(3000 + index) for index in range(8)}
# Each image with its sidecar, as img2dataset writes them.
SHARD = [member for name, data in IMAGES.items() for member in ((name, data), (name.replace("jpg", "json"), b"{}"))]


def compressed(path: Path, kind: str) -> Path:
    """A tar beside its gzip or zstd version, whose path is returned."""
    if kind == "tar":
        return path
    packed = path.with_name(f"{path.name}.{kind}")
    if kind == "gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    else:
        with pyarrow.CompressedOutputStream(str(packed), "zstd") as file:
            file.write(path.read_bytes())
    return packed


def verdicts(items: list[Item]) -> list[str]:
    """`ok` or the code of the failure, one an item."""
    found = []
    for item in items:
        try:
            read_item(item)
            found.append("ok")
        except Undecodable as error:
            found.append(error.code)
    return found


def members(path: Path) -> list[str]:
    return [item.uri.removeprefix(f"{path}#") for item in open_corpus([str(path)]).items()]


@pytest.mark.parametrize("kind", ["tar", "gz", "zst"])
def test_members_are_read_in_place_in_any_order_from_plain_and_compressed_tars(tmp_path: Path, kind: str) -> None:
    path = compressed(make.tar(tmp_path / "shard.tar", SHARD), kind)
    corpus = open_corpus([str(path)])
    items = list(corpus.items())
    assert [item.uri for item in items] == [f"{path}#{name}" for name in IMAGES]
    assert corpus.notes == {"files that are no images": 8}
    for order in (range(8), [5, 2, 7, 0]):
        assert [read_item(items[index]) for index in order] == [list(IMAGES.values())[index] for index in order]
    references = [(items[3].uri, None), (f"{path}#gone.jpg", None), (items[0].uri, None), (items[3].uri, None)]
    again = dict(read_many(references))
    assert [again[0], again[2], again[3]] == [IMAGES["003.jpg"], IMAGES["000.jpg"], IMAGES["003.jpg"]]
    assert isinstance(again[1], Undecodable)
    assert again[1].code == "missing"


def test_braces_name_shards_as_webdataset_does() -> None:
    assert list(expand_braces("s/{000008..000010}.tar")) == ["s/000008.tar", "s/000009.tar", "s/000010.tar"]
    assert list(expand_braces("{a,b{0..1}}-{2..0..2}")) == ["a-2", "a-0", "b0-2", "b0-0", "b1-2", "b1-0"]
    assert list(expand_braces("{plain}{x")) == ["{plain}{x"]
    assert list(expand_braces("{{1..2}}")) == ["{1}", "{2}"]


def test_a_brace_list_opens_every_shard_in_order_and_names_the_first_missing(tmp_path: Path) -> None:
    for index in range(3):
        make.tar(tmp_path / f"{index:02d}.tar", [("a.jpg", b"%d" % index)])
    items = list(open_corpus([f"{tmp_path}/{{00..02}}.tar"]).items())
    assert [read_item(item) for item in items] == [b"0", b"1", b"2"]
    assert list(open_corpus([f"{tmp_path}/*.tar"]).items()) == items
    assert list(open_corpus([str(tmp_path)]).items()) == items
    with pytest.raises(InputError, match=r"03\.tar does not exist \(and 1 more of 5\)"):
        open_corpus([f"{tmp_path}/{{00..04}}.tar"])
    with pytest.raises(InputError, match="names more than 1,000,000 files"):
        open_corpus([f"{tmp_path}/{{0..999999999999}}.tar"])


def test_a_folder_named_with_braces_is_taken_as_it_is(tmp_path: Path) -> None:
    make.tar(tmp_path / "{0..1}.tar", [("a.jpg", b"a")])
    assert members(tmp_path / "{0..1}.tar") == ["a.jpg"]


def hostile(path: Path) -> Path:
    """Paths that lead out, links, a device, a folder, a resource fork, a PAX name, and bytes that are not UTF-8."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for name, kind in [
            ("../../out.jpg", tarfile.REGTYPE),
            ("/etc/absolute.jpg", tarfile.REGTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("null.jpg", tarfile.CHRTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
            ("folder.jpg", tarfile.DIRTYPE),
            ("__MACOSX/a.jpg", tarfile.REGTYPE),
            ("x/._a.jpg", tarfile.REGTYPE),
            ("d/" * 60 + "ü#.v1.jpg", tarfile.REGTYPE),
            ("caf\udce9.jpg", tarfile.REGTYPE),
            ("no extension", tarfile.REGTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            data = make.png() if name == "no extension" else name.encode("utf-8", "surrogateescape")
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_member_name_is_opaque_text_and_only_regular_members_are_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = hostile(tmp_path / "in" / "x.tar")
    corpus = open_corpus([str(path)])
    items = list(corpus.items())
    names = ["../../out.jpg", "/etc/absolute.jpg", "d/" * 60 + "ü#.v1.jpg", "caf\\xe9.jpg", "no extension"]
    assert [item.uri for item in items] == [f"{path}#{name}" for name in names]
    assert items[3].uri_bytes == os.fsencode(path) + b"#caf\xe9.jpg"
    assert [read_item(item) for item in items[:3]] == [name.encode() for name in names[:3]]
    assert corpus.notes == {"links and devices in archives": 4, "hidden files and folders": 2}
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["in", "x.tar"]
    again = dict(read_many((item.uri, item.uri_bytes) for item in items))
    assert again == {position: read_item(item) for position, item in enumerate(items)}


def test_a_tar_whose_own_name_is_not_utf_8_reads_and_its_items_hold_only_text(tmp_path: Path) -> None:
    path = make.tar(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9#.tar")), [("a.jpg", b"a"), ("b.jpg", b"b")])
    items = list(open_corpus([str(path)]).items())
    assert [(item.container, item.uri) for item in items] == [
        (f"{tmp_path}/\\xe9#.tar", f"{tmp_path}/\\xe9#.tar#{name}") for name in ("a.jpg", "b.jpg")
    ]
    assert [read_item(item) for item in items] == [b"a", b"b"]
    assert list(read_many([(items[1].uri, items[1].uri_bytes)])) == [(0, b"b")]


@pytest.mark.parametrize("kind", ["tar", "gz", "zst"])
def test_wherever_a_tar_is_cut_the_loss_is_told_exactly_once(tmp_path: Path, kind: str) -> None:
    whole = compressed(make.tar(tmp_path / "whole.tar", SHARD), kind).read_bytes()
    path = tmp_path / f"cut.tar.{kind}".removesuffix(".tar")
    member = 512 + 3072 + 512 + 512  # header and padded data of the first image, then of its sidecar
    cuts = {700, 512 + 3000, 512 + 3072, 512 + 3072 + 100, 512 + 3072 + 513, member, member + 100, member + 512}
    for cut in sorted(cuts if kind == "tar" else range(600, len(whole) - 300, 97)):
        path.write_bytes(whole[:cut])
        corpus = open_corpus([str(path)])
        items = list(corpus.items())
        found = verdicts(items)
        assert found[-1] == "tar_truncated", cut
        assert set(found[:-1]) <= {"ok"}, cut
        assert corpus.notes["damaged archives"] == 1
        assert list(open_corpus([str(path)]).items()) == items


def test_a_tar_cut_between_two_members_keeps_what_came_before(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", IMAGES.items())
    path.write_bytes(path.read_bytes()[: 2 * (512 + 3072)])
    items = list(open_corpus([str(path)]).items())
    assert [item.uri for item in items] == [f"{path}#000.jpg", f"{path}#001.jpg", str(path)]
    assert verdicts(items) == ["ok", "ok", "tar_truncated"]


def test_a_damaged_header_ends_the_archive_with_a_failure_of_its_own(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", IMAGES.items())
    data = bytearray(path.read_bytes())
    data[2 * (512 + 3072) + 5] ^= 1
    path.write_bytes(data)
    assert verdicts(list(open_corpus([str(path)]).items())) == ["ok", "ok", "tar_corrupt"]


def test_one_lone_zero_block_ends_an_archive_as_well_as_two(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", IMAGES.items())
    end = max(item.offset + 3072 for item in open_corpus([str(path)]).items())
    path.write_bytes(path.read_bytes()[: end + 512])
    corpus = open_corpus([str(path)])
    assert verdicts(list(corpus.items())) == ["ok"] * 8
    assert not corpus.notes


def test_a_repeated_member_name_is_counted_and_told_apart_by_its_order(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", [("a.jpg", b"1"), ("a.jpg", b"2"), ("a.jpg#2", make.png()), ("a.jpg", b"3")])
    corpus = open_corpus([str(path)])
    items = list(corpus.items())
    assert [item.uri.removeprefix(f"{path}#") for item in items] == ["a.jpg", "a.jpg#2", "a.jpg#2#2", "a.jpg#3"]
    assert corpus.notes == {"repeated member names": 3}
    assert dict(read_many((item.uri, None) for item in items)) == {0: b"1", 1: b"2", 2: make.png(), 3: b"3"}


def test_very_many_members_of_one_name_are_planned_in_one_pass(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "x.tar", [("a.jpg", b"x")] * 20_000)
    corpus = open_corpus([str(path)])
    items = list(corpus.items())  # 200 million comparisons, were each counted from the first
    assert [item.uri.partition("#")[2] for item in items] == ["a.jpg", *(f"a.jpg#{n}" for n in range(2, 20_001))]
    assert corpus.notes == {"repeated member names": 19_999}


@pytest.mark.skipif(not shutil.which("tar"), reason="tar is not installed")
def test_what_gnu_tar_adds_of_its_own_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.tar.gz", "c.zip", "d.parquet", "e.txt"):
        (tmp_path / "in" / name).write_bytes(b"x" * 30_000)
    tar = ("tar", "-C", str(tmp_path))
    incremental = ("--listed-incremental", str(tmp_path / "snar"))
    subprocess.run([*tar, "-cf", tmp_path / "x.tar", "--label=volume", *incremental, "in"], check=True)
    corpus = open_corpus([str(tmp_path / "x.tar")])
    assert len(list(corpus.items())) == 1
    assert corpus.notes == {"archives and tables in archives not read": 3, "files that are no images": 1}
    volumes = [f"--file={tmp_path / name}" for name in ("1.tar", "2.tar", "3.tar", "4.tar")]
    subprocess.run([*tar, "-cM", "--tape-length=60", *volumes, "in/a.jpg", "in/e.txt", "in/c.zip"], check=False)
    later = open_corpus([str(tmp_path / "2.tar")])
    list(later.items())
    assert later.notes["files continued from another volume"] == 1


def test_a_sample_without_an_image_or_with_several_gives_each_image_it_has(tmp_path: Path) -> None:
    path = make.tar(
        tmp_path / "a.tar", [("1.json", b"{}"), ("2.left.png", b"l"), ("2.right.png", b"r"), ("2.cls", b"7")]
    )
    assert members(path) == ["2.left.png", "2.right.png"]


def test_a_member_that_claims_8_gb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("bomb.jpg")
    member.size = 8 << 30
    path = tmp_path / "a.tar"
    path.write_bytes(make.tar(tmp_path / "b.tar", [("a.jpg", b"a")]).read_bytes()[:1024] + member.tobuf() + b"data")
    assert verdicts(list(open_corpus([str(path)]).items())) == ["ok", "too_large", "tar_truncated"]


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_a_header_that_claims_8_gb_of_metadata_is_not_read_into_memory(tmp_path: Path, kind: str) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    path = tmp_path / "a.tar"
    path.write_bytes(make.tar(tmp_path / "b.tar", [("a.jpg", b"a")]).read_bytes()[:1024] + header.tobuf() + bytes(4096))
    start = time.monotonic()
    assert verdicts(list(open_corpus([str(compressed(path, kind))]).items())) == ["ok", "tar_corrupt"]
    assert time.monotonic() - start < 2


def test_a_tar_that_changes_after_planning_fails_as_changed(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "a.tar", [("a.jpg", b"a")])
    items = list(open_corpus([str(path)]).items())
    os.utime(path, ns=(1, 1))
    assert verdicts(items) == ["changed"]
    path.unlink()
    assert verdicts(items) == ["missing"]


def test_a_compressed_file_that_holds_no_tar_is_one_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(b"no archive" * 200))
    assert verdicts(list(open_corpus([str(path)]).items())) == ["tar_corrupt"]


def test_the_kind_of_a_shard_is_told_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    path = make.tar(tmp_path / "shard.parquet", [("a.jpg", b"a")])
    assert members(path) == ["a.jpg"]
    (tmp_path / "shard.tar").write_bytes(b"PAR1 and then nothing of the kind")
    with pytest.raises(InputError, match=r"shard\.tar cannot be read as Parquet"):
        open_corpus([f"{tmp_path}/shard.tar"])


def test_damaged_bytes_anywhere_in_a_tar_never_raise_anything_but_a_verdict(tmp_path: Path) -> None:
    whole = hostile(tmp_path / "whole.tar").read_bytes()
    chance = random.Random(0)
    path = tmp_path / "a.tar"
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(512, len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(600, len(data))])])
        items = list(open_corpus([str(path)]).items())
        assert len(verdicts(items)) == len(items) <= 40


def test_image_that_is_asked_for_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several questions of a benchmark are about one image: a compressed archive is not read up to it for each."""
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as file:
        for name in ("one.jpg", "two.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 5
            file.addfile(member, io.BytesIO(b"bytes"))
    read: list[str] = []

    def read_and_note(item: Item) -> bytes:
        read.append(item.uri)
        return item.uri.encode()

    monkeypatch.setattr(by_uri, "read_item", read_and_note)
    names = [f"{archive}#{name}" for name in ("one.jpg", "two.jpg", "one.jpg", "one.jpg")]
    assert dict(read_many((name, None) for name in names)) == {n: name.encode() for n, name in enumerate(names)}
    assert sorted(read) == sorted(set(names))
