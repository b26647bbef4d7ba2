"""Whatever the schema of a Parquet file, its image column is found, or the message says what to do."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import CorpusOptions, open_corpus, read_item, read_many

CELL = {"bytes": b"image", "path": None}


def write(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def outcomes(path: Path, **options: Any) -> list[bytes | str]:
    found: list[bytes | str] = []
    items = list(open_corpus([str(path)], CorpusOptions(**options)).items())
    for item in items:
        try:
            found.append(read_item(item))
        except Undecodable as error:
            found.append(error.code)
    again = dict(read_many((item.uri, item.uri_bytes) for item in items if item.offset >= 0))
    assert [outcome if isinstance(outcome, bytes) else outcome.code for _, outcome in sorted(again.items())] == found
    return found


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_corpus([str(path)], CorpusOptions(**options))
    return str(caught.value).removeprefix(f"{path} ")


@pytest.mark.parametrize("kinds", [[pa.int64(), pa.binary()], [pa.binary(), pa.binary()], [pa.binary(), pa.string()]])
@pytest.mark.parametrize("name", ["image", "photo"])
def test_a_column_name_that_stands_twice_is_refused_whether_or_not_it_was_asked_for(
    kinds: list[pa.DataType], name: str, tmp_path: Path
) -> None:
    columns = [pa.array([None, None], kind) for kind in kinds]
    path = write(tmp_path / "a.parquet", pa.table(columns, names=[name, name]))
    assert refused(path).startswith(f"has 2 columns named {name}: rename all but one")
    assert refused(path, column=name).startswith(f"has 2 columns named {name}: rename all but one")


def test_a_repeated_name_of_other_columns_costs_nothing(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([b"image"]), pa.array([2])], names=["label", "image", "label"])
    assert outcomes(write(tmp_path / "a.parquet", table)) == [b"image"]


def test_columns_whose_names_begin_like_the_image_columns_are_not_taken_for_it(tmp_path: Path) -> None:
    columns = {"image.width": [3], "image.raw": pa.array([1.5]), "image": [CELL], "image.": [4]}
    assert outcomes(write(tmp_path / "a.parquet", columns)) == [b"image"]
    path = write(tmp_path / "b.parquet", {"a": [{"b": b"inside"}], "a.b": [b"beside"]})
    assert outcomes(path, column="a.b") == [b"beside"]


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (pa.array([{"image": CELL}, {"image": None}, None]), "sample.image"),
        (pa.array([{"image": b"image"}, {"image": None}, None]), "sample.image"),
        (pa.array([{"deep": {"er": b"image"}}, {"deep": None}, None]), "sample.deep.er"),
    ],
)
def test_images_inside_a_struct_are_read_by_the_name_that_the_refusal_gives(
    column: pa.Array, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.parquet", {"sample": column, "id": [1, 2, 3]})
    advice = f"holds its images inside a column: read them with --column {name}"
    assert refused(path).startswith(advice)
    assert refused(path, column="sample").startswith(advice)
    assert outcomes(path, column=name) == [b"image", "no_image", "no_image"]
    assert refused(path, column="sample.wrong").startswith("has no column sample.wrong")
    assert refused(path, column="id.wrong").startswith("has no column id.wrong")


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.binary()),
        pa.large_list(pa.large_binary()),
        pa.list_(pa.binary(), 2),
        pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.list_(pa.list_(pa.binary())),
        pa.map_(pa.string(), pa.binary()),
        pa.map_(pa.string(), pa.struct([("bytes", pa.binary())])),
        pa.list_(pa.struct([("image", pa.binary()), ("label", pa.int64())])),
        pa.struct([("frames", pa.list_(pa.binary()))]),
    ],
    ids=str,
)
def test_several_images_a_row_are_told_with_what_to_do(kind: pa.DataType, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"clip": pa.array([None, None], kind)})
    for options in ({}, {"column": "clip"}):
        message = refused(path, **options)
        assert message.startswith("holds several images a row in clip")
        assert "write one image a row" in message


@pytest.mark.parametrize("kind", [pa.list_(pa.uint8()), pa.int64(), pa.string(), pa.map_(pa.string(), pa.int64())])
def test_what_holds_no_bytes_holds_no_images(kind: pa.DataType, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"clip": pa.array([None], kind)})
    assert refused(path).startswith("has no column that holds image bytes")
    assert refused(path, column="clip").startswith("cannot hold image bytes in clip")


@pytest.mark.parametrize("column", ["\udcff", "image.\udcff"])
def test_a_column_name_that_is_no_text_is_refused_whatever_the_corpus_is(tmp_path: Path, column: str) -> None:
    write(tmp_path / "a.parquet", {"image": [b"image"]})
    for source in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(InputError, match="is not UTF-8 text in this locale"):
            open_corpus([str(source)], CorpusOptions(column))


def test_several_columns_that_fit_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"left": [b"l"], "right": [b"r"], "inner": [{"mask": b"m"}]})
    assert "name one with --column (left, right, inner.mask)" in refused(path)
    assert [outcomes(path, column=name) for name in ("left", "right", "inner.mask")] == [[b"l"], [b"r"], [b"m"]]


@pytest.mark.parametrize("index", [False, True], ids=["plain", "with page indexes"])
@pytest.mark.parametrize(("first", "second"), [(1, 1), (5, 5), (1, 20), (20, 1), (3, 0)])
def test_parquet_files_joined_with_cat_are_refused_and_never_read_as_each_others_rows(
    index: bool, first: int, second: int, tmp_path: Path
) -> None:
    for name, count in (("a", first), ("b", second)):
        data = [random.Random(f"{name}{row}").randbytes(900) for row in range(count)]
        path = write(tmp_path / f"{name}.parquet", {"image": pa.array(data, pa.binary())}, write_page_index=index)
        corpus = open_corpus([str(path)])
        assert outcomes(path) == data if count else corpus.paths
    joined = tmp_path / "ab.parquet"
    joined.write_bytes((tmp_path / "a.parquet").read_bytes() + (tmp_path / "b.parquet").read_bytes())
    assert refused(joined).endswith("it is several files joined; name each by itself")
    assert "parquet_corrupt" in outcomes_of_all(tmp_path)


def outcomes_of_all(folder: Path) -> set[str]:
    found = set()
    for item in open_corpus([f"{folder}/*.parquet"]).items():
        try:
            read_item(item)
        except Undecodable as error:
            found.add(error.code)
    return found


@pytest.mark.parametrize("end", [b"x", bytes(8), b"PAR1"])
def test_what_follows_a_parquet_file_is_told(end: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [b"image"]})
    path.write_bytes(path.read_bytes() + end)
    assert "cannot be read as Parquet" in refused(path)


def test_damaged_pages_do_not_end_a_run_that_looks_for_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [random.Random(row).randbytes(2000) for row in range(4)]
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    write(path, {"image": rows}, row_group_size=2, **plain)
    data = bytearray(path.read_bytes())
    data[data.index(rows[1]) + 5] ^= 1
    path.write_bytes(data)
    assert outcomes(path, allow_paths=True) == ["parquet_corrupt"] * 2 + rows[2:]
