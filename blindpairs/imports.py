"""Embeddings that another tool computed, as a store: so far those of clip-retrieval.

    img_emb/img_emb_0.npy             rows of float16 or float32, one file a partition
    metadata/metadata_0.parquet       the same rows: column image_path (captions and all others stay out)

Promises: nothing is unpickled; a partition is mapped, never loaded whole; the parts hold every row or say why not; a
killed run goes on where it stood. clip-retrieval keeps no image bytes: where an image can still be read from its
path it gets the id, size and flags that `blindpairs embed` gives it, else an id made from the path and the flag
`not_decoded`. `blindpairs embed` refuses to write into such a store, because its settings name another corpus.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blindpairs.corpus import Item
from blindpairs.corpus.item import printable_uri
from blindpairs.errors import ConfigError, InputError
from blindpairs.store import METADATA, Failure, Part, finished, read_manifest, summarise, write_part
from blindpairs.workers import DecodePool, Decoding, Failed, Image, Outcome
from blindpairs.workspace import (
    RunLock,
    canonical_json,
    digest,
    prepare_folder,
    sha256_file,
    stamp,
    write_json,
)

PART_ROWS = 16384
DECODERS = min(8, os.cpu_count() or 1)
IDS = "sha256 of the image's bytes; `uri:` and the sha256 of its path where the flags say not_decoded"

Progress = Callable[[int, int], None]
Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Imported:
    """What an import left in the store: rows, failed rows by code, and how many rows have which flag."""

    folder: Path
    rows: int
    failed: int
    failures_by_code: Mapping[str, int]
    flags: Mapping[str, int]


@dataclass(frozen=True)
class _Partition:
    """One pair of files of clip-retrieval."""

    number: int
    vectors: Path
    metadata: Path

    def open(self) -> Rows:
        """The rows, (n, D), mapped."""
        try:
            mapped = np.load(self.vectors, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"{self.vectors} is not an array of numbers ({error}); it was not unpickled") from error
        if not isinstance(mapped, np.ndarray) or mapped.ndim != 2 or mapped.dtype not in (np.float16, np.float32):
            shape = getattr(mapped, "shape", "an archive"), getattr(mapped, "dtype", "")
            raise InputError(f"{self.vectors} must hold (rows, dimension) of float16 or float32, not {shape}")
        return mapped

    def paths(self) -> pa.ChunkedArray:
        """The image_path of every row."""
        try:
            return pq.read_table(self.metadata, columns=["image_path"])["image_path"].cast(pa.string())
        except (pa.ArrowException, KeyError, OSError) as error:
            raise InputError(f"{self.metadata} has no readable column of text image_path: {error}") from error


def import_clip_retrieval(
    folder: Path,
    store_folder: Path,
    *,
    column: str = "clip",
    second: tuple[str, Path] | None = None,
    read_images: bool = True,
    progress: Progress | None = None,
) -> Imported:
    """Turn a folder that `clip-retrieval inference` wrote into a store with the vectors of `column`.

    `second` names another column and another such folder, of the same images in the same order: mining takes two.
    `read_images` looks for the images at their paths. `progress(done, total)` counts rows. Raises InputError where the
    files are not what they should be, ConfigError where `store_folder` holds other embeddings already.
    """
    folders = {column: folder} | ({second[0]: second[1]} if second else {})
    if second and len(folders) == 1:
        raise ConfigError(f"two columns cannot both be called {column!r}")
    columns = {name: _partitions(Path(source)) for name, source in folders.items()}
    prepare_folder(store_folder)
    lock = RunLock(store_folder)
    try:
        lock.claim_all()
        sizes = _check(columns)
        manifest = _agree(store_folder, folders, columns, sizes, read_images)
        markers = _write_parts(store_folder, manifest, columns, progress)
    finally:
        lock.release()
    return Imported(store_folder, **summarise(markers))


def _partitions(folder: Path) -> list[_Partition]:
    """The partitions in numeric order: 10 comes after 9, however many zeros the names have."""
    vectors = _numbered(folder / "img_emb", r"img_emb_(\d+)\.npy")
    metadata = _numbered(folder / "metadata", r"metadata_(\d+)\.parquet")
    if not vectors:
        raise InputError(
            f"{folder} holds no img_emb/img_emb_*.npy: name the output folder of `clip-retrieval inference`"
        )
    if vectors.keys() != metadata.keys():
        odd = sorted(vectors.keys() ^ metadata.keys())
        raise InputError(f"{folder}: img_emb and metadata do not match, partition {odd[0]} is in one of them only")
    return [_Partition(number, vectors[number], metadata[number]) for number in sorted(vectors)]


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = re.fullmatch(pattern, path.name)
        if match and int(match[1]) in found:
            raise InputError(f"{path} and {found[int(match[1])].name} are the same partition: remove the older run's")
        if match:
            found[int(match[1])] = path
    return found


def _check(columns: Mapping[str, Sequence[_Partition]]) -> list[int]:
    """The rows of each partition, the same in all columns and in the metadata; each column has one dimension."""
    sizes: list[int] = []
    for partitions in columns.values():
        opened = [partition.open() for partition in partitions]
        for partition, vectors in zip(partitions, opened, strict=True):
            paths = len(partition.paths())
            if len(vectors) != paths:
                raise InputError(
                    f"{partition.vectors} has {len(vectors):,} rows and {partition.metadata} has {paths:,}"
                )
            if vectors.shape[1] != opened[0].shape[1] or not vectors.shape[1]:
                raise InputError(f"{partition.vectors} has dimension {vectors.shape[1]}, others {opened[0].shape[1]}")
        here = [len(vectors) for vectors in opened]
        if sizes and here != sizes:
            raise InputError(f"the two columns' partitions have different rows: {sizes[:5]} and {here[:5]}")
        sizes = here
    first, *others = columns.values()
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            if not ours.paths().equals(theirs.paths()):
                raise InputError(f"{ours.metadata} and {theirs.metadata} do not name the same images in the same order")
    return sizes


def _agree(
    store_folder: Path,
    folders: Mapping[str, Path],
    columns: Mapping[str, Sequence[_Partition]],
    sizes: Sequence[int],
    read_images: bool,
) -> dict[str, Any]:
    """Write the manifest, or check that the one there is of the same import."""
    sources = " and ".join(str(Path(source).resolve()) for source in folders.values())
    manifest = {
        "settings": {
            "corpus": f"clip-retrieval output at {sources}",
            "part_rows": PART_ROWS,
            "read_images": read_images,
        },
        "fingerprint": digest([[sha256_file(one.metadata) for one in partitions] for partitions in columns.values()]),
        "plan": {
            "items": sum(sizes),
            "parts": sum(-(-size // PART_ROWS) for size in sizes),
            "notes": {"image_id": IDS},
        },
        "encoders": {
            name: {
                "spec": "clip-retrieval",
                "dimension": partitions[0].open().shape[1],
                "sha256": {one.vectors.name: sha256_file(one.vectors) for one in partitions},
            }
            for name, partitions in columns.items()
        },
    }
    path = store_folder / "manifest.json"
    if not path.exists():
        if any(store_folder.glob("part-*")):
            raise ConfigError(f"{store_folder} holds parts of other embeddings: choose another folder")
        write_json(path, stamp() | manifest)
    elif canonical_json({key: read_manifest(store_folder).get(key) for key in manifest}) != canonical_json(manifest):
        raise ConfigError(f"{store_folder} already holds other embeddings: choose another folder, or remove it")
    return manifest


def _write_parts(
    store_folder: Path,
    manifest: Mapping[str, Any],
    columns: Mapping[str, Sequence[_Partition]],
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Commit the parts that are not there yet; the markers of all."""
    digests = {name: digest(description) for name, description in manifest["encoders"].items()}
    markers, done = [], 0
    looking = manifest["settings"]["read_images"]
    with DecodePool(Decoding(()), DECODERS, ahead=256) if looking else nullcontext() as pool:
        for number, (paths, blocks) in enumerate(_batches(columns)):
            part = Part(store_folder, number)
            marker = finished(part)
            if marker is None:
                rows, vectors, failures = _part_of(paths.to_pylist(), blocks, pool)
                marker = write_part(part, rows, vectors, failures, digests)
            markers.append(marker)
            done += len(paths)
            if progress is not None:
                progress(done, manifest["plan"]["items"])
    return markers


def _batches(columns: Mapping[str, Sequence[_Partition]]) -> Iterator[tuple[pa.ChunkedArray, dict[str, Rows]]]:
    """The image paths and the rows of every column, for one part after another: none crosses partitions."""
    for partitions in zip(*columns.values(), strict=True):
        paths = partitions[0].paths()
        opened = dict(zip(columns, (partition.open() for partition in partitions), strict=True))
        for start in range(0, len(paths), PART_ROWS):
            part = slice(start, start + PART_ROWS)
            yield paths[part], {name: vectors[part] for name, vectors in opened.items()}


def _part_of(
    paths: Sequence[str | None], blocks: Mapping[str, Rows], pool: DecodePool | None
) -> tuple[dict[str, list[Any]], dict[str, NDArray[np.float16]], list[Failure]]:
    """The METADATA columns, the unit vectors and the failures of some rows."""
    units = {name: _unit(block) for name, block in blocks.items()}
    pointing = np.all([np.isfinite(lengths) for _, lengths in units.values()], axis=0)
    changed = np.any([np.abs(lengths - 1) > 0.01 for _, lengths in units.values()], axis=0)
    items = [_item(path or "") for path in paths]
    metadata: dict[str, list[Any]] = {name: [] for name in METADATA.names}
    failures: list[Failure] = []
    kept: list[int] = []
    for row, (item, seen) in enumerate(zip(items, _looked_at(items, pool), strict=True)):
        outcome = seen if pointing[row] else Failed("non_finite", "its vector has no direction", seen.image_id)
        if not item.uri:
            outcome = Failed("no_path", "the metadata has no image_path for it")
        if isinstance(outcome, Failed):
            failures.append(Failure(row, item.uri, item.uri_bytes, outcome.code, outcome.message, outcome.image_id))
            continue
        kept.append(row)
        flags = [*outcome.flags, *(["renormalised"] if changed[row] else [])]
        values = {**vars(outcome), "uri": item.uri, "uri_bytes": item.uri_bytes, "flags": flags}
        for name, column in metadata.items():
            column.append(values[name])
    return metadata, {name: vectors[kept] for name, (vectors, _) in units.items()}, failures


def _unit(block: Rows) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Rows divided by their length, NaN where there is no direction: (n, D) float16, and the lengths (n,)."""
    values = np.array(block, np.float32)
    lengths = np.linalg.norm(values, axis=1)
    lengths = np.where(np.isfinite(lengths) & (lengths > 1e-6), lengths, np.float32(np.nan))
    return (values / lengths[:, None]).astype(np.float16), lengths


def _item(path: str) -> Item:
    """The image at a path; one that is no file (a webdataset key, a moved folder) has size -1 and keeps its name."""
    whole = Path(path).absolute()  # clip-retrieval writes paths as they were given to it, often relative ones
    try:
        status = whole.stat()
    except (OSError, ValueError):  # ValueError: a NUL in it
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        return Item(*printable_uri(path), "", -1, 0, 0, "")
    return Item(*printable_uri(str(whole)), "", status.st_size, status.st_mtime_ns, 0, "")


def _looked_at(items: Sequence[Item], pool: DecodePool | None) -> Iterator[Outcome]:
    """What is known of each image: read from its file, or only its path."""
    there = pool.outcomes(item for item in items if item.size >= 0) if pool else iter(())
    for item in items:
        if pool and item.size >= 0:
            yield next(there)[1]
        else:
            name = f"uri:{hashlib.sha256(item.uri.encode()).hexdigest()[:28]}"
            yield Image(name, 0, 0, 0, ("not_decoded",))
