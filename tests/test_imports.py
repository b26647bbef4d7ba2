"""Embeddings of clip-retrieval become a store that every reader of stores can use."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import blindpairs.imports
from blindpairs.corpus import open_corpus
from blindpairs.decode import decode, image_id
from blindpairs.embed import embed
from blindpairs.errors import ConfigError, InputError
from blindpairs.imports import import_clip_retrieval
from blindpairs.store import Store

Vectors = NDArray[np.floating[Any]]


def unit(rows: int, dimension: int = 8, seed: int = 0) -> Vectors:
    """Unit rows, float16, as clip-retrieval keeps them."""
    values = np.random.default_rng(seed).standard_normal((rows, dimension))
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float16)


def write_partition(folder: Path, name: str, vectors: Vectors, paths: list[str] | None = None) -> list[str]:
    """One partition as clip-retrieval writes it, with a caption beside each path. Returns the paths."""
    paths = [f"{name}/{row:04d}" for row in range(len(vectors))] if paths is None else paths
    for kind in ("img_emb", "metadata"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / f"img_emb_{name}.npy", vectors)
    table = pa.table({"image_path": paths, "caption": ["a photo"] * len(paths)})
    pq.write_table(table, folder / "metadata" / f"metadata_{name}.parquet")
    return paths


def stored_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a store but the lock."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix}


def test_partitions_become_parts_in_numeric_order(tmp_path: Path) -> None:
    parts = {name: unit(3, seed=int(name)) for name in ("2", "10", "9")}
    paths = {name: write_partition(tmp_path / "source", name, vectors) for name, vectors in parts.items()}
    calls: list[tuple[int, int]] = []
    done = import_clip_retrieval(
        tmp_path / "source", tmp_path / "store", read_images=False, progress=lambda *count: calls.append(count)
    )
    store = Store.open(tmp_path / "store")
    assert (done.rows, done.failed, done.flags) == (9, 0, {"not_decoded": 9})
    assert calls == [(3, 9), (6, 9), (9, 9)]
    assert store.encoders == ("clip",)
    assert store.metadata(["uri"])["uri"].to_pylist() == paths["2"] + paths["9"] + paths["10"]
    wanted = np.concatenate([parts["2"], parts["9"], parts["10"]]).astype(np.float32)
    assert np.abs(store.column("clip").astype(np.float32) - wanted).max() <= 2**-11
    assert store.manifest["encoders"]["clip"]["dimension"] == 8
    source = tmp_path / "source" / "img_emb" / "img_emb_10.npy"
    assert (
        store.manifest["encoders"]["clip"]["sha256"]["img_emb_10.npy"]
        == hashlib.sha256(source.read_bytes()).hexdigest()
    )


def test_an_image_that_is_there_is_described_as_embed_describes_it(tmp_path: Path) -> None:
    picture = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(picture)
    (tmp_path / "broken.png").write_bytes(picture.read_bytes()[:200])
    paths = [str(picture), "shard/000000012", str(tmp_path / "broken.png")]
    write_partition(tmp_path / "source", "0", unit(3), paths)
    done = import_clip_retrieval(tmp_path / "source", tmp_path / "store")
    first, second = Store.open(tmp_path / "store").metadata().to_pylist()
    data = picture.read_bytes()
    assert first == {
        "image_id": image_id(data),
        "uri": str(picture),
        "uri_bytes": None,
        "width": 60,
        "height": 40,
        "phash": decode(data).phash,
        "flags": [],
    }
    assert second == {
        "image_id": "uri:" + hashlib.sha256(b"15:shard/000000012" + unit(3)[1].tobytes()).hexdigest()[:28],
        "uri": "shard/000000012",
        "uri_bytes": None,
        "width": 0,
        "height": 0,
        "phash": 0,
        "flags": ["not_decoded"],
    }
    assert done.failures_by_code == {"truncated": 1}


def test_rows_without_direction_fail_and_others_are_made_unit(tmp_path: Path) -> None:
    vectors = unit(6).astype(np.float32)
    vectors[1, 0], vectors[2, 0], vectors[3] = np.nan, np.inf, 0
    vectors[4] *= 7
    write_partition(tmp_path / "source", "0", vectors, ["a", "b", "c", "d", "e", ""])
    done = import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    store = Store.open(tmp_path / "store")
    assert (done.rows, done.failed) == (2, 4)
    assert done.failures_by_code == {"no_path": 1, "non_finite": 3}
    assert done.flags == {"not_decoded": 2, "renormalised": 1}
    assert store.metadata(["uri", "flags"]).to_pylist() == [
        {"uri": "a", "flags": ["not_decoded"]},
        {"uri": "e", "flags": ["not_decoded", "renormalised"]},
    ]
    assert store.failures()["row"].to_pylist() == [1, 2, 3, 5]
    assert np.abs(np.linalg.norm(store.column("clip").astype(np.float32), axis=1) - 1).max() < 1e-3


def test_a_partition_of_nothing_but_nan_is_an_empty_part(tmp_path: Path) -> None:
    write_partition(tmp_path / "source", "0", np.full((2, 8), np.nan, np.float16))
    write_partition(tmp_path / "source", "1", unit(2))
    import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    assert Store.open(tmp_path / "store").column("clip").shape == (2, 8)


def test_a_second_column_is_taken_where_it_is_of_the_same_images(tmp_path: Path) -> None:
    clip, dino, other = unit(4), unit(4, 5, seed=1), unit(4, 5, seed=2)
    write_partition(tmp_path / "clip", "0", clip)
    write_partition(tmp_path / "dino", "0", dino)
    write_partition(tmp_path / "other", "0", other, ["b", "a", "c", "d"])
    import_clip_retrieval(tmp_path / "clip", tmp_path / "store", second=("dino", tmp_path / "dino"), read_images=False)
    store = Store.open(tmp_path / "store")
    assert store.encoders == ("clip", "dino")
    assert np.abs(store.column("dino").astype(np.float32) - dino.astype(np.float32)).max() <= 2**-11
    with pytest.raises(InputError, match="do not name the same images in the same order"):
        import_clip_retrieval(tmp_path / "clip", tmp_path / "new", second=("dino", tmp_path / "other"))


def test_an_import_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blindpairs.imports, "PART_ROWS", 2)
    write_partition(tmp_path / "source", "0", unit(5))
    import_clip_retrieval(tmp_path / "source", tmp_path / "whole", read_images=False)

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False, progress=stop)
    with pytest.raises(ConfigError, match="incomplete"):
        Store.open(tmp_path / "store")
    (tmp_path / "store" / "part-00001.parquet").write_bytes(b"damaged")
    done = import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    assert done.rows == 5
    assert stored_bytes(tmp_path / "store") == stored_bytes(tmp_path / "whole")


def test_other_embeddings_are_neither_overwritten_nor_mixed(tmp_path: Path) -> None:
    write_partition(tmp_path / "source", "0", unit(2))
    write_partition(tmp_path / "other", "0", unit(2, seed=9))
    import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    with pytest.raises(ConfigError, match="already holds other embeddings"):
        import_clip_retrieval(tmp_path / "other", tmp_path / "store", read_images=False)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="holds imported embeddings"):
        embed(open_corpus([str(tmp_path / "a.png")]), tmp_path / "store", {}, lambda *_: pytest.fail("it loads"))


def test_pickled_and_odd_arrays_are_refused_unopened(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_partition(source, "0", unit(2))
    target = source / "img_emb" / "img_emb_0.npy"
    np.save(target, np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(InputError, match=r"img_emb_0\.npy is not an array of numbers .*it was not unpickled"):
        import_clip_retrieval(source, tmp_path / "store")
    target.write_bytes(pickle.dumps([1.0, 2.0]))
    with pytest.raises(InputError, match="it was not unpickled"):
        import_clip_retrieval(source, tmp_path / "store")
    for odd in (unit(2).astype(np.float64), unit(2).astype(">f4"), np.ones(2, np.float16)):
        np.save(target, odd)
        with pytest.raises(InputError, match=r"must hold \(rows, dimension\) of float16 or float32"):
            import_clip_retrieval(source, tmp_path / "store")
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    with pytest.raises(InputError, match=r"holds no img_emb/img_emb_\*\.npy"):
        import_clip_retrieval(source, store)
    write_partition(source, "0", unit(3), ["a", "b"])
    with pytest.raises(InputError, match=r"img_emb_0\.npy has 3 rows and .*metadata_0\.parquet has 2"):
        import_clip_retrieval(source, store)
    write_partition(source, "0", unit(2))
    write_partition(source, "1", unit(2, 9))
    with pytest.raises(InputError, match=r"img_emb_1\.npy has dimension 9, others 8"):
        import_clip_retrieval(source, store)
    (source / "metadata" / "metadata_1.parquet").unlink()
    with pytest.raises(InputError, match="partition 1 is in one of them only"):
        import_clip_retrieval(source, store)
    write_partition(source, "01", unit(2))
    with pytest.raises(InputError, match="are the same partition"):
        import_clip_retrieval(source, store)
    with pytest.raises(ConfigError, match="two columns cannot both be called 'clip'"):
        import_clip_retrieval(source, store, second=("clip", source))


def test_metadata_without_paths_is_refused(tmp_path: Path) -> None:
    write_partition(tmp_path / "source", "0", unit(2))
    pq.write_table(pa.table({"caption": ["a", "b"]}), tmp_path / "source" / "metadata" / "metadata_0.parquet")
    with pytest.raises(InputError, match="has no column image_path, only caption: in all partitions, call the column"):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store")
