"""Import of embeddings that clip-retrieval computed.

    img_emb/img_emb_0.npy             rows of float16 or float32, one file a partition
    metadata/metadata_0.parquet       the same rows: column image_path (captions and other columns are not imported)

Promises: nothing is unpickled; a partition is mapped, never loaded whole; every row is in a part or in its
failures; a killed run resumes. clip-retrieval keeps no image bytes: where an image can still be read from its
path it gets the id, size and flags that `blindpairs embed` gives it. Otherwise the id is a hash of its path and its
vectors (one path may name many images: webdataset counts its keys from 0 in every shard) and the flag is `not_decoded`.
`blindpairs embed` refuses to write into such a store, because it cannot tell what the vectors were made from.
"""

import hashlib
import os
import stat
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError
from blindpairs.images import Item
from blindpairs.images.decode import Limits
from blindpairs.images.item import changed_at, printable_uri
from blindpairs.images.workers import DecodePool, Decoding, Failed, Image, Outcome
from blindpairs.progress import Progress, silent
from blindpairs.store.manifest import IMPORTED, has_manifest, is_imported, read_manifest, write_manifest
from blindpairs.store.partitions import Columns, Vectors, batches, check, find_partitions
from blindpairs.store.parts import (
    METADATA,
    Failure,
    Part,
    finished,
    part_files,
    prepare_store,
    refuse_column_name,
    summarise,
    write_part,
)
from blindpairs.workspace import RunLock, canonical_json, digest, sha256_file, stamp

PART_ROWS = 16384
DECODERS = min(8, os.cpu_count() or 1)
SHORTEST = 1e-6  # a shorter vector has no direction: float16 has no smaller numbers
IDS = "sha256 of the image's bytes; where the flags say not_decoded, `uri:` and the sha256 of its path and its vectors"


@dataclass(frozen=True)
class Imported:
    """What the store holds after an import: rows, failures by code, rows by flag."""

    folder: Path
    rows: int
    failed: int
    failures_by_code: Mapping[str, int]
    flags: Mapping[str, int]
    missing_partitions: int  # numbers below the highest for which there are no files


def import_clip_retrieval(
    folder: Path,
    store_folder: Path,
    *,
    column: str = "clip",
    second: tuple[str, Path] | None = None,
    read_images: bool = True,
    progress: Progress = silent,
) -> Imported:
    """Turn a folder that `clip-retrieval inference` wrote into a store with the vectors of `column`.

    `second` names another column and another such folder, of the same images in the same order: mining takes two.
    `read_images` looks for the images at their paths. `progress(done, total)` counts rows. Raises InputError where the
    files are not what they should be, ConfigError where `store_folder` holds other embeddings already.
    """
    folders = {column: folder} | ({second[0]: second[1]} if second else {})
    if second and len(folders) == 1:
        raise ConfigError(f"two columns cannot both be called {column!r}")
    for name in folders:
        refuse_column_name(name)
    columns = {name: find_partitions(Path(source)) for name, source in folders.items()}
    prepare_store(store_folder)
    lock = RunLock(store_folder)
    try:
        lock.claim_all()
        sizes = check(columns)
        manifest = _agree(store_folder, folders, columns, sizes, read_images)
        markers = _write_parts(store_folder, manifest, columns, progress)
    finally:
        lock.release()
    numbers = [partition.number for partition in columns[column]]
    return Imported(store_folder, **summarise(markers), missing_partitions=max(numbers) + 1 - len(numbers))


def _agree(
    store_folder: Path, folders: Mapping[str, Path], columns: Columns, sizes: Sequence[int], read_images: bool
) -> dict[str, Any]:
    """Write the manifest, or check that the existing one is of the same import; returns the one that is valid."""
    sources = " and ".join(printable_uri(str(Path(source).resolve()))[0] for source in folders.values())
    manifest = {
        "settings": {
            "corpus": f"clip-retrieval output at {sources}",
            "part_rows": PART_ROWS,
            "limits": asdict(Limits()),
            "read_images": read_images,
            "image_id": IDS,
            "relative paths are below": Path.cwd().as_uri(),
        },
        "fingerprint": digest([[sha256_file(one.metadata) for one in partitions] for partitions in columns.values()]),
        "plan": {"items": sum(sizes), "parts": sum(-(-size // PART_ROWS) for size in sizes), "notes": {}},
        "encoders": {
            name: {
                "spec": IMPORTED,
                "dimension": partitions[0].open().shape[1],
                "sha256": {one.vectors.name: sha256_file(one.vectors) for one in partitions},
            }
            for name, partitions in columns.items()
        },
    }
    if has_manifest(store_folder):
        return _agreed(store_folder, read_manifest(store_folder), manifest)
    if part_files(store_folder):
        raise ConfigError(f"{store_folder} holds parts of other embeddings: choose another folder")
    write_manifest(store_folder, stamp() | manifest)
    return manifest


def _agreed(store_folder: Path, there: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The existing manifest, if it is of the same import. Its base of relative paths stays."""
    if is_imported(there) and there["settings"].get("image_id") != IDS:
        raise ConfigError(
            f"{store_folder} was imported by another release, which made image ids by another rule; the two must not "
            "mix: import into another --work"
        )
    before, after = (_flat({name: side[name] for name in now}) for side in (there, now))
    before["relative paths are below"] = after["relative paths are below"]
    differing = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if differing:
        raise ConfigError(
            f"{store_folder} already holds other embeddings (they differ in {', '.join(differing[:3])}): "
            "choose another --work"
        )
    return there


def _flat(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The settings, the encoders and all else of a manifest under one name each, ready to be compared."""
    flat = {"corpus files": canonical_json([manifest["fingerprint"], manifest["plan"]])}
    for group in ("settings", "encoders"):
        flat |= {name: canonical_json(value) for name, value in manifest[group].items()}
    return flat


def _write_parts(
    store_folder: Path, manifest: Mapping[str, Any], columns: Columns, progress: Progress
) -> list[dict[str, Any]]:
    """Commit the missing parts; returns the markers of all parts."""
    digests = {name: digest(description) for name, description in manifest["encoders"].items()}
    base = _folder_of(manifest["settings"]["relative paths are below"])
    markers, done = [], 0
    looking = manifest["settings"]["read_images"]
    with DecodePool(Decoding(()), DECODERS, ahead=256) if looking else nullcontext() as pool:
        for number, (paths, blocks) in enumerate(batches(columns, PART_ROWS)):
            part = Part(store_folder, number)
            marker = finished(part)
            if marker is None:
                rows, vectors, failures = _part_of(paths, blocks, base, pool)
                marker = write_part(part, rows, vectors, failures, digests)
            markers.append(marker)
            done += len(paths)
            progress(done, manifest["plan"]["items"])
    return markers


def _folder_of(uri: str) -> Path:
    """A folder from its file: URI, which keeps names that are not UTF-8."""
    return Path(os.fsdecode(urllib.parse.unquote_to_bytes(uri.removeprefix("file://"))))


def _part_of(
    paths: Sequence[bytes | None], blocks: Mapping[str, Vectors], base: Path, pool: DecodePool | None
) -> tuple[dict[str, list[Any]], dict[str, NDArray[np.float16]], list[Failure]]:
    """The METADATA columns, the unit vectors and the failures of some rows."""
    units = {name: _unit(block) for name, block in blocks.items()}
    pointing = np.all([lengths > SHORTEST for _, lengths in units.values()], axis=0)
    changed = np.any([np.abs(lengths - 1) > 0.01 for _, lengths in units.values()], axis=0)
    items = [_item(os.fsdecode(path or b""), base) for path in paths]
    metadata: dict[str, list[Any]] = {name: [] for name in METADATA.names}
    failures: list[Failure] = []
    kept: list[int] = []
    for row, (item, read) in enumerate(zip(items, _looked_at(items, pool), strict=True)):
        seen = read or Image(_unread_id(paths[row] or b"", blocks, row), 0, 0, 0, ("not_decoded",))
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


def _unread_id(path: bytes, blocks: Mapping[str, Vectors], row: int) -> str:
    """The id of an image that was not read: the same only for the same path with the same vectors, as they came."""
    whole = hashlib.sha256(b"%d:%b" % (len(path), path))
    for block in blocks.values():
        whole.update(block[row].tobytes())
    return f"uri:{whole.hexdigest()[:28]}"


def _unit(block: Vectors) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Vectors divided by their length, (n, D) float16, and the lengths (n,): 0 with a row of zeros where there is none.

    Lengths are float64: the square of a float32 may be beyond float32.
    """
    values = np.array(block, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
    endless = ~np.isfinite(lengths)
    values[endless], lengths[endless] = 0, 0
    np.divide(values, np.where(lengths > 0, lengths, 1)[:, None], out=values, casting="same_kind")
    return values.astype(np.float16), lengths


def _item(path: str, base: Path) -> Item:
    """The image at a path; size -1 where there is no such file (a webdataset key, a moved folder)."""
    whole = base / path  # clip-retrieval writes paths as they were given to it, often relative ones
    try:
        status = whole.stat()
    except (OSError, ValueError):  # ValueError: a NUL in it
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        return Item(*printable_uri(path), "", -1, 0, 0, "")
    return Item(*printable_uri(str(whole)), "", status.st_size, changed_at(status), 0, "")


def _looked_at(items: Sequence[Item], pool: DecodePool | None) -> Iterator[Outcome | None]:
    """The outcome of reading each image; None where there is no file, or images are not to be read."""
    there = pool.outcomes(item for item in items if item.size >= 0) if pool else iter(())
    for item in items:
        yield next(there)[1] if pool and item.size >= 0 else None
