"""Archives joined end to end, padded and compressed in any way, give what each of them holds, or say what is left."""

import bz2
import gzip
import io
import lzma
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import bad_files as make
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindpairs.errors import Undecodable
from blindpairs.images import Item, open_corpus, read_item, read_many

Members = list[tuple[str, bytes]]


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}


def archive(members: Members, form: int = tarfile.GNU_FORMAT, comment: str = "") -> bytes:
    stream = io.BytesIO()
    headers = {"comment": comment} if comment else None
    with tarfile.open(fileobj=stream, mode="w", format=form, pax_headers=headers) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def images(*names: str, size: int = 700) -> Members:
    return [(name, random.Random(name).randbytes(size)) for name in names]


def content(path: Path) -> tuple[Members, list[str]]:
    """(what is read, the failures) of a corpus of one archive; reading again by uri gives the same."""
    items = list(open_corpus([str(path)]).items())
    found, failed = [], []
    for item in items:
        try:
            found.append((name_of(item, path), read_item(item)))
        except Undecodable as error:
            failed.append(f"{error.code}: {error.message}")
    again = dict(read_many((item.uri, item.uri_bytes) for item in items if item.offset >= 0))
    assert [again[number] for number in sorted(again)][: len(found)] == [data for _, data in found]
    return found, failed


def name_of(item: Item, path: Path) -> str:
    return item.uri.removeprefix(f"{path}#")


def obvious(parts: list[Members]) -> Members:
    """Every member of every part; a repeated name gets the next free number."""
    found: dict[str, bytes] = {}
    for name, data in (member for part in parts for member in part):
        numbers = range(2, len(found) + 3)
        free = next(each for each in (name, *(f"{name}#{n}" for n in numbers)) if each not in found)
        found[free] = data
    return list(found.items())


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("outside", [True, False], ids=["streams joined", "archives joined, then compressed"])
def test_joined_archives_give_the_members_of_each(tmp_path: Path, ending: str, outside: bool) -> None:
    parts = [images("a.jpg", "b.jpg"), images("c.jpg", "a.jpg"), [], images("a.jpg", "d/e.jpg")]
    pack = COMPRESSORS[ending]
    path = tmp_path / f"all.tar{ending}"
    path.write_bytes(
        b"".join(pack(archive(part)) for part in parts) if outside else pack(b"".join(map(archive, parts)))
    )
    found, failed = content(path)
    assert found == obvious(parts)
    assert [name for name, _ in found] == ["a.jpg", "b.jpg", "c.jpg", "a.jpg#2", "a.jpg#3", "d/e.jpg"]
    assert not failed


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_joined_archives_of_whole_blocks_are_what_tarfile_finds_when_it_ignores_zeros(
    tmp_path: Path, ending: str
) -> None:
    parts = [images(*(f"{part}/{number}.jpg" for number in range(part * 3))) for part in range(5)]
    path = tmp_path / f"all.tar{ending}"
    path.write_bytes(COMPRESSORS[ending](b"".join(map(archive, parts))))
    with tarfile.open(path, ignore_zeros=True) as tar:
        expected = [(member.name, (tar.extractfile(member) or io.BytesIO()).read()) for member in tar]
    assert content(path) == (expected, [])


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    zeros=st.lists(st.sampled_from([512, 513, 700, 1023, 1024, 1536, 10240, 70000, 131072]), min_size=4, max_size=4),
    ending=st.sampled_from(sorted(COMPRESSORS)),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_number_of_zeros_may_lie_between_archives(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], zeros: list[int], ending: str, form: int
) -> None:
    parts = [images(*(f"{'ü' * 60}{part}/{n}.jpg" for n in range(count))) for part, count in enumerate(counts)]
    if form == tarfile.USTAR_FORMAT:
        parts = [[(name.replace("ü", ""), data) for name, data in part] for part in parts]
    whole = [archive(part, form) for part in parts]
    # 700 bytes of random data fill two blocks, the second one not: the zeros that end it are no padding.
    joined = b"".join(data[: len(data) - trailing(data)] + bytes(z) for data, z in zip(whole, zeros, strict=False))
    path = tmp_path_factory.mktemp("zeros") / f"a.tar{ending}"
    path.write_bytes(COMPRESSORS[ending](joined))
    if not any(counts):
        return
    assert content(path) == (obvious(parts), [])


def trailing(data: bytes) -> int:
    """The zero blocks at the end of an archive, in bytes."""
    blocks = 0
    while not any(data[len(data) - (blocks + 1) * 512 : len(data) - blocks * 512]) and (blocks + 1) * 512 <= len(data):
        blocks += 1
    return blocks * 512


def test_global_headers_of_one_archive_do_not_reach_into_the_next(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "all.jpg"}) as tar:
        member = tarfile.TarInfo("ignored.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"one"))
    path = tmp_path / "a.tar"
    path.write_bytes(stream.getvalue() + archive([("two.jpg", b"two")], tarfile.PAX_FORMAT, comment="made by hand"))
    assert content(path) == ([("all.jpg", b"one"), ("two.jpg", b"two")], [])


@pytest.mark.parametrize("ending", COMPRESSORS)
@pytest.mark.parametrize("garbage", [b"x", b"no archive" * 100, b"\x1f\x8b\x08\0"], ids=["byte", "text", "gzip"])
def test_what_follows_an_archive_and_is_none_is_one_failure(tmp_path: Path, ending: str, garbage: bytes) -> None:
    path = tmp_path / f"a.tar{ending}"
    whole = archive(images("a.jpg"))
    message = (
        f"tar_corrupt: the archive cannot be read further: what follows the archive's end, at byte {len(whole):,}, is"
    )
    for data, start in (
        (COMPRESSORS[ending](whole + garbage), message),
        (COMPRESSORS[ending](whole) + garbage, message if not ending else "tar_"),  # the decompressor's own words
    ):
        path.write_bytes(data)
        found, failed = content(path)
        assert found == images("a.jpg")
        assert len(failed) == 1
        assert failed[0].startswith(start)


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_a_joined_archive_that_is_cut_keeps_the_whole_one_and_tells_the_loss_once(tmp_path: Path, ending: str) -> None:
    first, second = archive(images("a.jpg")), archive(images("b.jpg", "c.jpg"))
    path = tmp_path / f"a.tar{ending}"
    for cut in (100, 512, 800, 512 + 1024 + 100, 512 + 1024 + 512 + 20):
        data = first + second[:cut]
        path.write_bytes(COMPRESSORS[ending](data))
        found, failed = content(path)
        assert found == images("a.jpg", "b.jpg")[: 1 if cut < 512 + 700 else 2]
        assert len(failed) == 1, cut


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_zeros_behind_and_between_compressed_streams_are_padding(tmp_path: Path, ending: str) -> None:
    pack = COMPRESSORS[ending]
    path = tmp_path / f"a.tar{ending}"
    path.write_bytes(pack(archive(images("a.jpg"))) + bytes(1024) + pack(archive(images("b.jpg"))) + bytes(4096))
    assert content(path) == (images("a.jpg", "b.jpg"), [])


@pytest.mark.parametrize("ending", [".bz2", ".xz"])
def test_wherever_a_compressed_archive_is_cut_the_loss_is_told_exactly_once(tmp_path: Path, ending: str) -> None:
    whole = COMPRESSORS[ending](archive(images("a.jpg", "b.jpg", "c.jpg", size=3000)))
    path = tmp_path / f"a.tar{ending}"
    for cut in range(20, len(whole), 331):
        path.write_bytes(whole[:cut])
        found, failed = content(path)
        assert found == images("a.jpg", "b.jpg", "c.jpg", size=3000)[: len(found)]
        assert len(failed) == 1, cut


@pytest.mark.parametrize("tool", ["gzip", "bzip2", "xz", "zstd"])
def test_what_the_command_line_tools_join_is_read(tmp_path: Path, tool: str) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    parts = [images("a.jpg"), images("b.jpg")]
    path = tmp_path / "a.tar.packed"  # recognised by its first bytes
    path.write_bytes(
        b"".join(
            subprocess.run([tool, "-c"], input=archive(part), capture_output=True, check=True).stdout for part in parts
        )
    )
    assert content(path) == (obvious(parts), [])


def test_a_compressed_archive_in_a_folder_is_known_by_its_name(tmp_path: Path) -> None:
    kinds = {".tar": "", ".tar.gz": ".gz", ".tgz": ".gz", ".tar.zst": ".zst", ".tzst": ".zst"}
    kinds |= {".tar.xz": ".xz", ".txz": ".xz", ".tar.bz2": ".bz2", ".tbz2": ".bz2", ".TBZ": ".bz2"}
    for number, (ending, kind) in enumerate(kinds.items()):
        (tmp_path / f"{number}{ending}").write_bytes(COMPRESSORS[kind](archive([("a.jpg", b"%d" % number)])))
    items = list(open_corpus([str(tmp_path)]).items())
    assert [read_item(item) for item in items] == [b"%d" % number for number in range(len(kinds))]


def test_an_archive_without_members_and_sparse_ones_are_counted(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    member = tarfile.TarInfo("sparse.jpg")
    member.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "full.tar").write_bytes(member.tobuf() + archive([("a.jpg", b"a")]))
    make.tar(tmp_path / "other.tar", [("notes.txt", b"n")])
    corpus = open_corpus([str(tmp_path)])
    assert [read_item(item) for item in corpus.items()] == [b"a"]
    assert corpus.notes == {
        "archives without members": 1,
        "sparse files in archives": 1,
        "files that are no images": 1,
    }
