"""The store's files: what is written comes back, and what is not whole does not count."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_process import make_photos, run

from blindpairs.errors import ConfigError, InputError
from blindpairs.images import Item, image_id
from blindpairs.store import (
    Failure,
    Part,
    Store,
    count_items,
    finished,
    items_path,
    read_failures,
    read_ids,
    read_items,
    read_vectors,
    write_items,
    write_part,
)
from blindpairs.store.parts import arrow_to_vectors, vectors_to_arrow
from blindpairs.workspace import sha256_file


def unit(rows: int, dimension: int = 4) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    vectors = np.random.default_rng(0).normal(size=(rows, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float16)


def metadata(rows: int) -> dict[str, list[object]]:
    return {
        "image_id": [f"{row:032x}" for row in range(rows)],
        "uri": [f"/photos/{row}.png" for row in range(rows)],
        "uri_bytes": [None] * rows,
        "width": [64] * rows,
        "height": [48] * rows,
        "phash": [2**64 - 1 - row for row in range(rows)],
        "flags": [["frames>1"] if row % 2 else [] for row in range(rows)],
    }


def test_plan_comes_back_part_by_part(tmp_path: Path) -> None:
    items = [Item(f"/a/{n}", None if n else b"/a/\xff", "", n, n * 2, 0, "") for n in range(10)]
    written = write_items(tmp_path, iter(items), 4)
    assert written == {"items": 10, "parts": 3, "sha256": sha256_file(items_path(tmp_path))}
    assert count_items(tmp_path) == (10, 3)
    assert [read_items(tmp_path, part) for part in range(3)] == [items[:4], items[4:8], items[8:]]


def test_damaged_plan_is_named_by_whoever_reads_it(tmp_path: Path) -> None:
    write_items(tmp_path, iter([Item("/a/0", None, "", 0, 0, 0, "")]), 4)
    for content in (b"", b"PAR1", items_path(tmp_path).read_bytes()[:-9]):
        items_path(tmp_path).write_bytes(content)
        with pytest.raises(InputError, match=r"plan\.parquet is damaged"):
            read_items(tmp_path, 0)
        with pytest.raises(InputError, match=r"plan\.parquet is damaged"):
            count_items(tmp_path)
    items_path(tmp_path).unlink()
    with pytest.raises(InputError, match=r"plan\.parquet is missing"):
        read_items(tmp_path, 0)


def test_part_comes_back_as_it_was_written(tmp_path: Path) -> None:
    part, clip = Part(tmp_path, 7), unit(5)
    failure = Failure(2, "/photos/x.png", b"\xff", "truncated", "it ends early", None)
    marker = write_part(part, metadata(5), {"clip": clip}, [failure], {"clip": "digest"})
    assert part.data.name == "part-00007.parquet"
    assert finished(part) == marker
    assert (marker["rows"], marker["failed"], marker["flags"]) == (5, 1, {"frames>1": 2})
    assert read_failures(part) == [failure]
    table = pq.read_table(part.data)
    assert {name: table[name].to_pylist() for name in metadata(5)} == metadata(5)
    assert read_vectors(part, ["clip"])["clip"].tobytes() == clip.tobytes()
    assert read_ids(part) == dict(zip([0, 1, 3, 4, 5], metadata(5)["image_id"], strict=True))  # 2 failed


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_part(Part(tmp_path / name, 0), metadata(5), {"clip": unit(5)}, [], {"clip": "digest"})
    for file in ("part-00000.parquet", "part-00000.done.json", "failures/part-00000.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_vectors_that_are_not_unit_are_never_committed(tmp_path: Path) -> None:
    for broken in (unit(5) * np.float16(2), np.full((5, 4), np.nan, np.float16)):
        with pytest.raises(InputError, match="are not unit vectors"):
            write_part(Part(tmp_path, 0), metadata(5), {"clip": broken}, [], {"clip": "digest"})
    assert not Part(tmp_path, 0).data.exists()
    assert not Part(tmp_path, 0).marker.exists()


@pytest.mark.parametrize("chunks", [[3], [2, 1], []])
def test_vectors_survive_arrow_in_any_chunking(chunks: list[int]) -> None:
    parts = [unit(rows) for rows in chunks]
    column = pa.chunked_array([vectors_to_arrow(part) for part in parts], type=pa.list_(pa.float16(), 4))
    expected = np.concatenate([*parts, np.empty((0, 4), np.float16)])
    np.testing.assert_array_equal(arrow_to_vectors(column), expected)


def test_marker_that_is_no_marker_of_ours_does_not_count(tmp_path: Path) -> None:
    part = Part(tmp_path, 0)
    write_part(part, metadata(2), {"clip": unit(2)}, [], {"clip": "digest"})
    for text in ("", "{}", "[]", '{"bytes": 3, "sha256": 4}'):
        part.marker.write_text(text)
        assert finished(part) is None


def test_missing_store_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no embeddings at .*: run `blindpairs embed` first"):
        Store.open(tmp_path)


def test_unknown_encoder_is_told_with_those_there_are(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "store")
    with pytest.raises(ConfigError, match="no encoder 'siglip'; it has clip, dino"):
        Store.open(tmp_path / "store").column("siglip")


def test_fingerprint_changes_with_any_vector(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    run(tmp_path / "photos", tmp_path / "one", {"clip": "toy:a"})
    run(tmp_path / "photos", tmp_path / "same", {"clip": "toy:a"})
    run(tmp_path / "photos", tmp_path / "other", {"clip": "toy:b"})
    one, same, other = (Store.open(tmp_path / name).fingerprint() for name in ("one", "same", "other"))
    assert one == same != other


@pytest.mark.parametrize("damage", ["flipped", "short"])
def test_damaged_part_is_told_by_whoever_reads_it(tmp_path: Path, damage: str) -> None:
    make_photos(tmp_path / "photos", 16)
    run(tmp_path / "photos", tmp_path / "store")
    data = tmp_path / "store" / "part-00000.parquet"
    content = bytearray(data.read_bytes())
    start = content.find(Store.open(tmp_path / "store").column("clip").tobytes())
    assert start > 0
    content[start + 20] ^= 64
    data.write_bytes(content if damage == "flipped" else content[:500])
    with pytest.raises(InputError, match=r"part-00000\.parquet is damaged .*: run the same `blindpairs embed` again"):
        Store.open(tmp_path / "store").column("clip")


def test_manifest_without_its_keys_is_told_with_its_price(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json is damaged: `embed --overwrite` embeds everything again"):
        Store.open(tmp_path)


def test_columns_ids_and_failures_come_as_arrays_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    paths = make_photos(tmp_path / "photos", 20)
    paths[3].write_bytes(b"")
    paths[17].write_bytes(b"no image")
    run(tmp_path / "photos", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    kept = [path for path in paths if path not in (paths[3], paths[17])]
    assert store.rows == 18
    assert (store.column("clip").shape, store.column("clip").dtype) == ((18, 8), np.float16)
    np.testing.assert_allclose(np.linalg.norm(store.column("dino").astype(np.float64), axis=1), 1, atol=1e-3)
    ids = store.metadata(["image_id"])["image_id"].to_numpy()
    assert ids.tolist() == [image_id(path.read_bytes()) for path in kept]
    failures = store.failures()
    assert failures["uri"].to_pylist() == [str(paths[3]), str(paths[17])]
    assert failures["code"].to_pylist() == ["empty", "not_image"]
    assert failures["row"].to_pylist() == [3, 1]  # within their parts of 16
