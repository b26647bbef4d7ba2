"""Whatever a Parquet file holds, its rows are images or named failures, and nothing it names is ever fetched."""

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_files as make
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blindpairs.errors import InputError, Undecodable
from blindpairs.images import CorpusOptions, Item, open_corpus, read_item, read_many

IMAGES = [b"image %d" % index * 50 for index in range(100)]


def write(path: Path, columns: dict[str, Any], rows_a_group: int = 7) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_a_group)
    return path


def items_of(path: Path, **options: Any) -> list[Item]:
    return list(open_corpus([str(path)], CorpusOptions(**options)).items())


def outcomes(items: list[Item]) -> list[bytes | str]:
    """The bytes or the code of the failure, one an item."""
    found: list[bytes | str] = []
    for item in items:
        try:
            found.append(read_item(item))
        except Undecodable as error:
            found.append(error.code)
    return found


@pytest.mark.parametrize("rows_a_group", [1, 7, 1000])
def test_rows_of_the_hubs_image_struct_are_read_in_any_order(tmp_path: Path, rows_a_group: int) -> None:
    cells = [{"bytes": data, "path": f"{index}.jpg"} for index, data in enumerate(IMAGES)]
    path = write(tmp_path / "a.parquet", {"label": list(range(100)), "image": cells}, rows_a_group)
    items = items_of(path)
    assert [item.uri for item in items] == [f"{path}#{row}" for row in range(100)]
    assert outcomes(items) == IMAGES
    order = [99, 3, 4, 40, 39, 0, 99]
    assert outcomes([items[row] for row in order]) == [IMAGES[row] for row in order]
    assert dict(read_many((items[row].uri, None) for row in order)) == {n: IMAGES[row] for n, row in enumerate(order)}
    assert pickle.loads(pickle.dumps(items)) == items


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()), pa.binary(8)]
)
def test_every_arrow_type_of_bytes_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([b"12345678", None, b"abcdefgh"]).cast(kind if not pa.types.is_dictionary(kind) else pa.binary())
    if pa.types.is_dictionary(kind):
        values = values.dictionary_encode()
    items = items_of(write(tmp_path / "a.parquet", {"picture": values, "caption": ["a", "b", "c"]}))
    assert [item.column for item in items] == ["picture"] * 3
    assert outcomes(items) == [b"12345678", "no_image", b"abcdefgh"]


def test_a_null_image_or_one_named_by_path_is_that_rows_failure(tmp_path: Path) -> None:
    cells = [{"bytes": b"a", "path": None}, None, {"bytes": None, "path": "x.jpg"}, {"bytes": None, "path": None}]
    items = items_of(write(tmp_path / "a.parquet", {"image": cells}))
    assert outcomes(items) == [b"a", "no_image", "path_not_read", "no_image"]


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        open_corpus([str(path)], CorpusOptions(**options))
    return str(caught.value)


def test_a_file_without_an_image_column_is_refused_with_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"url": ["http://x/a.jpg"], "width": [3]})
    assert refused(path).endswith("columns: url (string), width (int64)")
    assert "no column" in refused(path)
    path = write(tmp_path / "b.parquet", {"left": [b"a"], "right": [b"b"]})
    assert refused(path).endswith("columns: left (binary), right (binary)")
    path = write(tmp_path / "c.parquet", {"image": ["http://x/a.jpg"], "mask": [b"b"]})
    assert refused(path).endswith("columns: image (string), mask (binary)")


def test_a_named_column_is_read_and_found_again_by_its_uri(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"left": [b"a"], "right": [b"b"]})
    (item,) = items_of(path, column="right")
    assert (item.uri, read_item(item)) == (f"{path}#0:right", b"b")
    assert list(read_many([(item.uri, None)])) == [(0, b"b")]
    assert "has no column wrong; columns: left" in refused(path, column="wrong")
    assert "cannot hold image bytes" in refused(write(tmp_path / "b.parquet", {"n": [1]}), column="n")


def cut_footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def no_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(100))


@pytest.mark.parametrize("damage", [cut_footer, no_parquet])
def test_a_cut_footer_ends_the_run_if_it_is_the_corpus_and_is_one_failure_among_many_shards(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.parquet", {"image": [name.encode()]})
    damage(tmp_path / "b.parquet")
    assert "b.parquet cannot be read as Parquet" in refused(tmp_path / "b.parquet")
    for source in (f"{tmp_path}/*.parquet", f"{tmp_path}/{{a,b,c}}.parquet", str(tmp_path)):
        corpus = open_corpus([source])
        assert outcomes(list(corpus.items())) == [b"a", "parquet_corrupt", b"c"]
        assert corpus.notes == {"unreadable containers": 1}


def test_damaged_pages_are_failures_of_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image": [os.urandom(2000) for _ in range(4)]})
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, path, row_group_size=2, write_page_checksum=True, **options)
    data = bytearray(path.read_bytes())
    data[data.index(table["image"][1].as_py())] ^= 1
    path.write_bytes(data)
    found = outcomes(items_of(path))
    assert found[:2] == ["parquet_corrupt"] * 2
    assert found[2:] == table["image"].to_pylist()[2:]


def test_shards_of_different_schemas_are_each_read_by_their_own(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [{"bytes": b"a", "path": ""}]})
    write(tmp_path / "b.parquet", {"id": [1], "jpg": [b"b"]})
    assert outcomes(items_of(tmp_path)) == [b"a", b"b"]


def test_files_without_rows_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": pa.array([], pa.binary())})
    write(tmp_path / "b.parquet", {"image": [b"b"]})
    corpus = open_corpus([str(tmp_path)])
    assert outcomes(list(corpus.items())) == [b"b"]
    assert corpus.notes == {"Parquet files without rows": 1}


def test_the_metadata_beside_a_tar_is_counted_and_left_alone(tmp_path: Path) -> None:
    make.tar(tmp_path / "00000.tar", [("a.jpg", b"a")])
    write(tmp_path / "00000.parquet", {"url": ["http://x/a.jpg"], "caption": ["a"]})
    corpus = open_corpus([str(tmp_path)])
    assert outcomes(list(corpus.items())) == [b"a"]
    assert corpus.notes == {"Parquet files without images": 1}


def test_paths_are_read_only_on_request_only_below_the_file_and_addresses_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket, "socket", refuse)
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set/images/a.jpg").write_bytes(b"a")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "set/link.jpg").symlink_to(tmp_path / "secret.jpg")
    named = ["images/a.jpg", "../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg", "gone.jpg", "nul\0.jpg"]
    named += ["http://127.0.0.1/a.jpg", "file:///etc/passwd"]
    path = write(tmp_path / "set/a.parquet", {"image": [{"bytes": None, "path": name} for name in named]})
    assert outcomes(items_of(path)) == ["path_not_read"] * 8
    items = items_of(path, allow_paths=True)
    assert outcomes(items) == [b"a"] + ["path_not_read"] * 7
    assert items[0].uri == f"{tmp_path}/set/images/a.jpg"
    strings = write(tmp_path / "set/b.parquet", {"image": named})
    assert "paths and addresses are not followed" in refused(strings)
    assert outcomes(items_of(strings, allow_paths=True)) == [b"a"] + ["path_not_read"] * 7


def test_a_row_that_is_no_longer_there_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [b"a"]})
    found = [outcome for _, outcome in read_many([(f"{path}#1", None), (f"{path}#x", None), (f"{path}#0:no", None)])]
    assert [outcome.code for outcome in found if isinstance(outcome, Undecodable)] == ["missing"] * 3


def test_a_large_row_group_is_read_through_a_small_buffer(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    path = write(tmp_path / "a.parquet", {"image": [data] * 64}, rows_a_group=64)
    items = items_of(path)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    assert read_item(items[0]) == data
    assert pool.bytes_allocated() - before < 48 << 20


def test_path_that_is_no_text_beside_good_bytes_costs_nothing(tmp_path: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "PNG")
    paths = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"caf\xe9.jpg"], pa.binary()).buffers()[1:]])
    image = pa.StructArray.from_arrays([pa.array([stream.getvalue()], pa.binary()), paths], ["bytes", "path"])
    pq.write_table(pa.table({"image": image}), tmp_path / "a.parquet")
    (item,) = open_corpus([str(tmp_path / "a.parquet")]).items()
    assert read_item(item) == stream.getvalue()
