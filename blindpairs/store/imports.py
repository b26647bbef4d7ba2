"""Import of embeddings that clip-retrieval computed.

    img_emb/img_emb_0.npy             rows of float16 or float32, one file a partition
    metadata/metadata_0.parquet       the same rows: column image_path (captions and other columns are not imported)

Promises: nothing is unpickled; a partition is mapped, never loaded whole; every row is in a part or in its
failures; a killed run resumes. clip-retrieval keeps no image bytes. If an image can still be read from its path, it
gets the id, size and flags that `blindpairs embed` gives it. Otherwise its id is a hash of its path and its vectors
(one path may name many images: webdataset counts its keys from 0 in every shard), and its flag is `not_decoded`.
`blindpairs embed` refuses to write into such a store, because it cannot know what the vectors were made from.
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

from blindpairs.cores import usable_cores
from blindpairs.errors import ConfigError
from blindpairs.images import Item
from blindpairs.images.decode import Limits
from blindpairs.images.item import Failed, Image, Outcome, changed_at, printable_uri
from blindpairs.images.workers import DecodePool, Decoding
from blindpairs.progress import Progress, silent
from blindpairs.store.manifest import (
    IMPORTED,
    has_manifest,
    is_imported,
    part_files,
    prepare_store,
    read_manifest,
    write_manifest,
)
from blindpairs.store.partitions import Columns, Vectors, batches, check, find_partitions
from blindpairs.store.parts import METADATA, Failure, Part, refuse_column_name, write_part
from blindpairs.store.verified import finished, summarise
from blindpairs.workspace import RunLock, canonical_json, digest, sha256_file, stamp

PART_ROWS = 16384
MOST_DECODERS = 8  # processes
SHORTEST = 1e-6  # a shorter vector has no direction: float16 has no smaller numbers
# Written into the manifest, and compared there: with other words, an import that was interrupted could not resume.
IDS = "sha256 of the image's bytes; where the flags say not_decoded, `uri:` and the sha256 of its path and its vectors"


@dataclass(frozen=True)
class Imported:
    """What the store holds after an import: its rows, its failures by code, and its rows by flag."""

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

    `second` names another column and its folder, which has the same images in the same order: mining needs two.
    `read_images` reads the images at their paths, if they exist. `progress(done, total)` counts rows. Raises InputError
    if the files are not what they should be, ConfigError if `store_folder` already holds other embeddings.
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
    """Write the manifest, or check that the existing one is of the same import; returns the one in force."""
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
        return _same_import(store_folder, read_manifest(store_folder), manifest)
    if part_files(store_folder):  # they would count as parts of this import as soon as the manifest is written
        raise ConfigError(f"{store_folder} holds parts of other embeddings: choose another folder")
    write_manifest(store_folder, stamp() | manifest)
    return manifest


def _same_import(store_folder: Path, existing: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The existing manifest, if it is of the same import; else ConfigError. Its base of relative paths stays."""
    if is_imported(existing) and existing["settings"].get("image_id") != IDS:
        raise ConfigError(
            f"{store_folder} was imported by another release, which made image ids by another rule; the two kinds of "
            "ids must not be mixed: import into another --work"
        )
    before, after = (_flat({name: manifest[name] for name in new}) for manifest in (existing, new))
    # Resuming from another folder is no other import: the first run has decided where relative paths start.
    before["relative paths are below"] = after["relative paths are below"]
    differing = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if differing:
        raise ConfigError(
            f"{store_folder} already holds other embeddings (they differ in {', '.join(differing[:3])}): "
            "choose another --work"
        )
    return existing


def _flat(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Each setting, each encoder and the rest of a manifest as JSON under its name, ready to be compared."""
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
    decoding = Decoding(())  # no encoder's square of pixels: what is wanted is the id, the size and the flags
    processes, read_images = min(MOST_DECODERS, usable_cores()), manifest["settings"]["read_images"]
    with DecodePool(decoding, processes, ahead=256) if read_images else nullcontext() as pool:
        # A part is a block of one partition, so that part k is the same rows in every run.
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
    """The folder of a file: URI. The manifest has a URI because JSON text cannot hold names that are not UTF-8."""
    return Path(os.fsdecode(urllib.parse.unquote_to_bytes(uri.removeprefix("file://"))))


def _part_of(
    paths: Sequence[bytes | None], blocks: Mapping[str, Vectors], base: Path, pool: DecodePool | None
) -> tuple[dict[str, list[Any]], dict[str, NDArray[np.float16]], list[Failure]]:
    """The METADATA columns, the unit vectors and the failures of some rows."""
    units = {name: _unit(block) for name, block in blocks.items()}  # ((n, D) unit vectors, (n,) lengths) a column
    # (n,) both: a row counts only if every column has a direction, and is flagged if any column was not unit.
    has_direction = np.all([lengths > SHORTEST for _, lengths in units.values()], axis=0)
    renormalised = np.any([np.abs(lengths - 1) > 0.01 for _, lengths in units.values()], axis=0)
    items = [_item(os.fsdecode(path or b""), base) for path in paths]
    metadata: dict[str, list[Any]] = {name: [] for name in METADATA.names}
    failures: list[Failure] = []
    kept: list[int] = []
    for row, (item, outcome_read) in enumerate(zip(items, _outcomes(items, pool), strict=True)):
        known = outcome_read or Image(_unread_id(paths[row] or b"", blocks, row), 0, 0, 0, ("not_decoded",))
        outcome = known if has_direction[row] else Failed("non_finite", "its vector has no direction", known.image_id)
        if not item.uri:
            outcome = Failed("no_path", "the metadata has no image_path for it")
        if isinstance(outcome, Failed):
            failures.append(Failure(row, item.uri, item.uri_bytes, outcome.code, outcome.message, outcome.image_id))
            continue
        kept.append(row)
        flags = [*outcome.flags, *(["renormalised"] if renormalised[row] else [])]
        values = {**vars(outcome), "uri": item.uri, "uri_bytes": item.uri_bytes, "flags": flags}
        for name, column in metadata.items():
            column.append(values[name])
    return metadata, {name: vectors[kept] for name, (vectors, _) in units.items()}, failures


def _unread_id(path: bytes, blocks: Mapping[str, Vectors], row: int) -> str:
    """The id of an image that was not read: the same only for the same path with the same vectors.

    The vectors are those of the file, before they are normalised.
    """
    # The length of the path comes first, so that no path can run over into the bytes of a vector.
    sha256 = hashlib.sha256(b"%d:%b" % (len(path), path))
    for block in blocks.values():
        sha256.update(block[row].tobytes())
    return f"uri:{sha256.hexdigest()[:28]}"


def _unit(block: Vectors) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """(n, D) -> the vectors divided by their length, (n, D) float16, and the lengths, (n,) float64.

    A row that is not finite becomes zeros, with length 0.
    """
    values = np.array(block, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))  # a square may be beyond float32
    not_finite = ~np.isfinite(lengths)
    values[not_finite], lengths[not_finite] = 0, 0
    np.divide(values, np.where(lengths > 0, lengths, 1)[:, None], out=values, casting="same_kind")
    return values.astype(np.float16), lengths


def _item(path: str, base: Path) -> Item:
    """The image at a path; its size is -1 if there is no such file (a webdataset key, a folder that was moved)."""
    absolute = base / path  # clip-retrieval writes paths as they were given to it, often relative ones
    try:
        status = absolute.stat()
    except (OSError, ValueError):  # ValueError: a NUL in it
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        return Item(*printable_uri(path), "", -1, 0, 0, "")
    return Item(*printable_uri(str(absolute)), "", status.st_size, changed_at(status), 0, "")


def _outcomes(items: Sequence[Item], pool: DecodePool | None) -> Iterator[Outcome | None]:
    """The outcome of reading each image; None if there is no file, or images are not to be read."""
    outcomes = pool.outcomes(item for item in items if item.size >= 0) if pool else iter(())
    for item in items:  # the pool keeps the order, so that the next outcome is that of the next existing file
        yield next(outcomes)[1] if pool and item.size >= 0 else None
