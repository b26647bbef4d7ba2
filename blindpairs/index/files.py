"""Indexes of a store, kept in the work folder: a cache that can always be rebuilt.

    index/clip-ivf.faiss    the index, as FAISS writes it
    index/clip-ivf.json     written after it: what it indexes, how it was built, and the sha256 of the .faiss file

FAISS does not validate what it reads, so a file is opened only if the record matches its bytes and the store. That
catches stale, truncated and swapped files. It does not protect against an attacker who wrote both files: rebuild an
index that came with a work folder from a source that you do not trust.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import torch

from blindpairs.access import present
from blindpairs.errors import ConfigError, InputError, Refused
from blindpairs.index.build import CPU_ALONE, Built, Source, Vectors, build
from blindpairs.index.gpus import Gpus
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import UnitRows
from blindpairs.store import Store
from blindpairs.workspace import RunLock, prepare_folder, read_json, sha256_file, stamp, write_json, written_atomically


@dataclass(frozen=True)
class IndexFile:
    """An index on disk. `reason` says why it was built now; it is empty if an existing index was reused."""

    path: Path
    record: Mapping[str, Any]
    reason: str

    @property
    def reused(self) -> bool:
        """Whether the index existed already."""
        return not self.reason


@dataclass(frozen=True)
class BuildOptions:
    """How an index is built. Only the seed changes the index."""

    seed: int = 0
    gpus: Gpus = CPU_ALONE


DEFAULT_OPTIONS = BuildOptions()


def build_index(
    store: Store,
    column: str,
    folder: Path,
    *,
    kind: str = "ivf",
    options: BuildOptions = DEFAULT_OPTIONS,
    progress: Progress = silent,
) -> IndexFile:
    """Make sure that `folder` holds an index of `kind` over one encoder's vectors; build it if it does not.

    Raises ConfigError for a column that the store lacks or a kind that FAISS lacks; InputError for a store without
    rows, a store whose parts do not match their markers, or a folder that cannot be written; Locked where another run
    is building.
    """
    wanted = {"store": store.fingerprint(), "column": column, "kind": kind, "seed": options.seed}
    path = index_path(folder, column, kind)
    reason = _rebuild_reason(path, wanted)
    if not reason:
        store.verify()  # the fingerprint is of the parts' markers; the parts themselves may have changed since
        return IndexFile(path, read_json(record_path(path)), "")
    source = _source(store, column)
    prepare_folder(folder)
    lock = RunLock(folder)
    try:
        lock.claim_all()
        # The index first, its record last: a run that is killed in between leaves a record that does not match.
        record = wanted | _write(path, build(source, kind, options.seed, progress, options.gpus), source)
        write_json(record_path(path), stamp() | record)
    finally:
        lock.release()
    return IndexFile(path, stamp() | record, reason)


def load_index(path: Path, store: Store) -> Any:
    """The FAISS index in a file of `build_index`.

    Raises ConfigError where it indexes another store, InputError where the file does not match its record.
    """
    record = read_json(record_path(path))
    if record.get("store") != store.fingerprint():
        raise ConfigError(f"{path} indexes another store than {store.folder}, or an older state of it: build it again")
    if not present(path) or record.get("sha256") != sha256_file(path):
        raise InputError(
            f"{path} is not the file that {record_path(path).name} describes, and was not opened: build it again"
        )
    return faiss.read_index(str(path))


def index_path(folder: Path, column: str, kind: str) -> Path:
    """The path of the index of a column and kind; characters that do not suit a file name become hyphens."""
    column, kind = (re.sub(r"[^\w.]+", "-", name).strip("-.") for name in (column, kind))
    return folder / f"{column}-{kind}.faiss"


def record_path(index: Path) -> Path:
    """The record beside an index."""
    return index.with_name(index.name.removesuffix(".faiss") + ".json")


def _rebuild_reason(path: Path, wanted: Mapping[str, Any]) -> str:
    """Why the existing file cannot be reused; empty if it can."""
    if not present(path) or not present(record_path(path)):
        return f"there was no {path.name} yet"
    try:
        record = read_json(record_path(path))
    except Refused:  # it may be intact, so it must not be replaced
        raise
    except InputError:
        return f"the record of {path.name} was damaged"
    if record.get("store") != wanted["store"]:
        return f"{path.name} indexed another store, or an older state of this one"
    if any(record.get(name) != value for name, value in wanted.items()):
        return f"{path.name} was built with other options"
    # Callers print these. `type is`: True is an int to isinstance, and no count.
    printed_fields = {"factory": str, "rows": int, "dimension": int, "bytes": int, "training_rows": int}
    if not all(type(record.get(name)) is expected for name, expected in printed_fields.items()):
        return f"the record of {path.name} was damaged"
    if (record.get("sha256"), record["bytes"]) != (sha256_file(path), path.stat().st_size):
        return f"{path.name} was not what its record says, and was not opened"
    return ""


def _source(store: Store, column: str) -> Source:
    store.require_encoder(column)

    def blocks() -> Iterator[Vectors]:
        for part in store.iter_column(column):
            rows = UnitRows(torch.from_numpy(part.copy()))  # Arrow's memory is read-only, which torch warns of
            if rows.count:
                yield rows.block(0, rows.count).numpy()

    return Source(store.rows, store.manifest["encoders"][column]["dimension"], blocks)


def _write(path: Path, built: Built, source: Source) -> dict[str, Any]:
    with written_atomically(path) as aside:
        try:
            faiss.write_index(built.index, str(aside))
        except RuntimeError as error:
            why = str(error).rpartition("Error: ")[2].splitlines()[0][-160:] if str(error) else "FAISS does not say why"
            raise InputError(
                f"cannot write {path} ({why}): free some space, or choose another folder with --work"
            ) from error
    return {
        "factory": built.factory,
        "metric": "inner product of rows normalised in float32",
        "rows": source.rows,
        "dimension": source.dimension,
        "training_rows": built.training_rows,
        "faiss": faiss.__version__,
        "sha256": sha256_file(path),
        "bytes": path.stat().st_size,
    }
