"""Embeddings of clip-retrieval become a store that every reader of stores can use."""

import hashlib
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

import blindpairs.store.imports
from blindpairs.embed import EmbedOptions, embed
from blindpairs.errors import ConfigError, InputError
from blindpairs.images import open_corpus
from blindpairs.images.decode import decode, image_id
from blindpairs.store import Store
from blindpairs.store.imports import import_clip_retrieval
from blindpairs.workspace import read_json, write_json

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
    monkeypatch.setattr(blindpairs.store.imports, "PART_ROWS", 2)
    write_partition(tmp_path / "source", "0", unit(5))
    import_clip_retrieval(tmp_path / "source", tmp_path / "whole", read_images=False)

    def stop(done: int, total: int, failed: int = 0) -> None:
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
    corpus, options = open_corpus([str(tmp_path / "a.png")]), EmbedOptions.suited_to("cpu")
    with pytest.raises(ConfigError, match="holds imported embeddings"):
        embed(corpus, tmp_path / "store", {}, lambda *_: pytest.fail("it loads"), options)


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
    with pytest.raises(InputError, match="partition 1 is in only one of them"):
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


KINDS = {
    "text": pa.array(["a", "b", "c"]),
    "dictionary": pa.array(["a", "b", "c"]).dictionary_encode(),
    "large": pa.array(["a", "b", "c"], pa.large_string()),
    "view": pa.array(["a", "b", "c"], pa.string_view()),
    "bytes": pa.array([b"a", b"b", b"c"]),
    "bytes view": pa.array([b"a", b"b", b"c"], pa.binary_view()),
    "dictionary of bytes": pa.array([b"a", b"b", b"c"]).dictionary_encode(),
    "one of a size": pa.array([b"a", b"b", b"c"], pa.binary(1)),
}


def write_paths(source: Path, column: pa.Array | pa.Table) -> None:
    write_partition(source, "0", unit(len(column)))
    table = column if isinstance(column, pa.Table) else pa.table({"image_path": column})
    pq.write_table(table, source / "metadata" / "metadata_0.parquet")


def rows_of(source: Path, store: Path) -> list[dict[str, Any]]:
    import_clip_retrieval(source, store, read_images=False)
    rows: list[dict[str, Any]] = Store.open(store).metadata(["image_id", "uri", "uri_bytes"]).to_pylist()
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_paths_of_any_kind_of_text_are_the_same_images(tmp_path: Path, kind: str) -> None:
    write_paths(tmp_path / "plain", KINDS["text"])
    write_paths(tmp_path / "source", KINDS[kind])
    assert rows_of(tmp_path / "source", tmp_path / "store") == rows_of(tmp_path / "plain", tmp_path / "other")


def test_numbers_are_keys_and_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    write_paths(tmp_path / "numbers", pa.array([1, 20, -3], pa.int32()))
    assert [row["uri"] for row in rows_of(tmp_path / "numbers", tmp_path / "one")] == ["1", "20", "-3"]
    write_paths(tmp_path / "bytes", pa.array([b"a", b"caf\xe9", "café".encode()]))
    rows = rows_of(tmp_path / "bytes", tmp_path / "two")
    assert [(row["uri"], row["uri_bytes"]) for row in rows] == [
        ("a", None),
        ("caf\\xe9", b"caf\xe9"),
        ("café", None),
    ]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.nulls(3), "image_path is empty in all 3 rows"),
        (pa.array(["", None, ""]), "image_path is empty in all 3 rows"),
        (pa.array([1.5, 2.5, 3.5]), "image_path holds double; it must hold text, bytes or whole numbers"),
        (pa.array([["a"], ["b"], ["c"]]), "image_path holds list<"),
        (pa.table({"url": ["a"] * 3, "key": ["1"] * 3}), "has no column image_path, only url, key: in all partitions"),
        (pa.table({f"c{n}": [1] * 3 for n in range(9)}), "only c0, c1, c2, c3, c4, c5 and 3 more: "),
        (pa.table([["a"] * 3] * 2, names=["image_path"] * 2), "has 2 columns image_path"),
    ],
)
def test_metadata_that_names_no_image_says_in_a_line_what_it_holds(
    tmp_path: Path, column: pa.Array | pa.Table, reason: str
) -> None:
    write_paths(tmp_path / "source", column)
    with pytest.raises(InputError) as refused:
        import_clip_retrieval(tmp_path / "source", tmp_path / "store")
    message = str(refused.value)
    assert reason in message
    assert "__" not in message.replace(str(tmp_path), "")
    assert len(message.replace(str(tmp_path), "")) < 200
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00\x06\x00{'a':", b"text"])
def test_files_that_are_no_arrays_or_no_parquet_are_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    write_partition(tmp_path / "source", "0", unit(2))
    (tmp_path / "source" / "img_emb" / "img_emb_0.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"img_emb_0\.npy is not an array of numbers"):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store")
    write_partition(tmp_path / "source", "0", unit(2))
    (tmp_path / "source" / "metadata" / "metadata_0.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"metadata_0\.parquet cannot be read as Parquet: [^\n]{1,160}$"):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store")


@pytest.mark.parametrize("file", ["img_emb/img_emb_0.npy", "metadata/metadata_0.parquet"])
@pytest.mark.parametrize(
    ("put", "message"),
    [(os.mkfifo, "is a pipe, socket or device where"), (os.mkdir, "is a folder where")],
)
def test_what_is_no_file_is_told_at_once(tmp_path: Path, file: str, put: Callable[[Path], None], message: str) -> None:
    write_partition(tmp_path / "source", "0", unit(2))
    path = tmp_path / "source" / file
    path.unlink()
    put(path)
    command = [sys.executable, "-m", "blindpairs", "import", "source", "--work", "work"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"{path.name} {message} a file should be" in done.stderr


def test_ids_are_equal_for_the_same_path_and_vectors_alone(tmp_path: Path) -> None:
    clip, dino = unit(6), unit(6, 5, seed=1)
    clip[1], dino[1] = clip[0], dino[0]  # the same row twice
    clip[2] = clip[0]  # of another vector in the second column
    dino[3] = dino[0]  # in the first
    clip[4], dino[4] = clip[0], dino[0]  # of another path
    for name, vectors in (("clip", clip), ("dino", dino)):
        write_partition(tmp_path / name, "0", vectors, ["k", "k", "k", "k", "other", "k"])
        write_partition(tmp_path / name, "1", vectors[:1], ["k"])  # the same row in another partition
    second = ("dino", tmp_path / "dino")
    import_clip_retrieval(tmp_path / "clip", tmp_path / "store", second=second, read_images=False)
    ids = Store.open(tmp_path / "store").metadata(["image_id"])["image_id"].to_pylist()
    assert ids[0] == ids[1] == ids[6]
    assert len(set(ids)) == 5
    assert {len(one) for one in ids} == {32}  # a pair's id is made from two of one length


def test_ids_do_not_depend_on_where_the_import_runs_or_how_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001").write_bytes(b"no image")
    write_partition(tmp_path / "source", "0", unit(5), [f"{row:04d}" for row in range(5)])
    monkeypatch.chdir(tmp_path)  # here one of the paths is a file
    here = rows_of(Path("source/"), Path("one"))
    monkeypatch.chdir("/")
    monkeypatch.setattr(blindpairs.store.imports, "PART_ROWS", 2)
    there = rows_of(tmp_path / "source", tmp_path / "two")
    assert [row["image_id"] for row in here] == [row["image_id"] for row in there]
    assert [row["uri"] for row in there] == [f"{row:04d}" for row in range(5)]


def test_relative_paths_stay_below_the_folder_where_the_import_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(odd / name)
    write_partition(tmp_path / "source", "0", unit(2), ["a.png", "b.png"])
    monkeypatch.setattr(blindpairs.store.imports, "PART_ROWS", 1)

    def stop(done: int, total: int, failed: int = 0) -> None:
        if done == 1:
            raise KeyboardInterrupt

    monkeypatch.chdir(odd)
    with pytest.raises(KeyboardInterrupt):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store", progress=stop)
    monkeypatch.chdir("/")
    assert import_clip_retrieval(tmp_path / "source", tmp_path / "store").flags == {}
    table = Store.open(tmp_path / "store").metadata(["uri_bytes"])
    assert table["uri_bytes"].to_pylist() == [os.fsencode(odd / name) for name in ("a.png", "b.png")]


@pytest.mark.parametrize("longest", [1e-40, 0.9e-6, 1.1e-6, 1.0, 6e4, 1e20, 3e38])
@pytest.mark.parametrize("first", [np.nan, -np.inf, np.inf, 0.0])
def test_every_vector_with_a_direction_is_kept_and_numpy_has_nothing_to_say(
    tmp_path: Path, longest: float, first: float
) -> None:
    vectors = np.eye(3, 768, dtype=np.float32) * np.float32(longest)
    vectors[1] = vectors[0]
    vectors[1, 700:] = np.float32(longest)  # long also as a whole
    vectors[2, 1:] = first
    write_partition(tmp_path / "source", "0", vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        done = import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    assert done.rows == {1e-40: 0, 0.9e-6: 1}.get(longest, 2)  # the second is the longer, the third has no direction
    assert done.failed == 3 - done.rows
    assert done.flags.get("renormalised", 0) == (done.rows if longest != 1.0 else 1)
    found = Store.open(tmp_path / "store").column("clip").astype(np.float32)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max(initial=0) < 1e-3


@pytest.mark.parametrize(("off", "flagged"), [(0.0099, 0), (0.0101, 1), (-0.0099, 0), (-0.0101, 1)])
def test_a_vector_is_called_renormalised_from_a_hundredth_on(tmp_path: Path, off: float, flagged: int) -> None:
    write_partition(tmp_path / "source", "0", np.array([[1 + off, 0]], np.float32))
    done = import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    assert done.flags.get("renormalised", 0) == flagged


def test_more_partitions_than_files_may_be_open_are_imported(tmp_path: Path) -> None:
    for number in range(60):
        write_partition(tmp_path / "source", str(number), unit(1, seed=number))
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom blindpairs.store.imports import import_clip_retrieval\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))\n"
        "print(import_clip_retrieval(*map(Path, sys.argv[1:]), read_images=False).rows)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "source"), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("60\n", "")


def test_numbers_without_a_partition_are_counted(tmp_path: Path) -> None:
    for name in ("0", "2", "5"):
        write_partition(tmp_path / "source", name, unit(1))
    assert import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False).missing_partitions == 3


@pytest.mark.parametrize("name", ["image_id", "uri", "flags", "", "a.b", "a b"])
def test_a_column_that_no_table_could_tell_from_others_is_refused(tmp_path: Path, name: str) -> None:
    write_partition(tmp_path / "source", "0", unit(1))
    with pytest.raises(ConfigError, match="a column of vectors cannot be called"):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store", column=name)


def test_an_import_by_another_rule_for_ids_is_not_gone_on_with(tmp_path: Path) -> None:
    write_partition(tmp_path / "source", "0", unit(2))
    import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    (tmp_path / "store" / "part-00000.done.json").unlink()
    manifest = read_json(tmp_path / "store" / "manifest.json")
    manifest["settings"]["image_id"] = "`uri:` and the sha256 of its path"
    write_json(tmp_path / "store" / "manifest.json", manifest)
    with pytest.raises(ConfigError, match="by another rule; the two kinds of ids must not be mixed"):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    assert not (tmp_path / "store" / "part-00000.done.json").exists()


def test_what_differs_from_the_import_that_is_there_is_named(tmp_path: Path) -> None:
    write_partition(tmp_path / "source", "0", unit(2))
    import_clip_retrieval(tmp_path / "source", tmp_path / "store", read_images=False)
    with pytest.raises(ConfigError, match=r"\(they differ in read_images\): choose another --work"):
        import_clip_retrieval(tmp_path / "source", tmp_path / "store")
