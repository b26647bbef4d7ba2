"""Embeddings on disk: parts of Parquet, each with a done marker and a table of failures.

    embeddings/manifest.json          what was asked: corpus, limits, encoders with preprocessing and weight hashes
    embeddings/plan.parquet           every image of the corpus, in order; row group k is part k
    embeddings/part-00000.parquet     one row an image, one column of float16 unit vectors an encoder
    embeddings/part-00000.done.json   written last: sizes, hashes, counts. A part without it does not exist
    embeddings/failures/part-00000.parquet   the images that could not be used, and why

This module alone reads and writes them. Promises: a part with a valid marker is complete and unchanged since it was
written; rows + failed rows = planned rows in every part; rows stand in the plan's order, and the same input gives the
same bytes.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.corpus import Item
from blindpairs.errors import ConfigError, InputError
from blindpairs.workspace import digest, put, read_json, sha256_file, stamp, write_json, written_atomically

IMPORTED = "clip-retrieval"  # the spec of encoders whose vectors were taken over: nobody here can add to them
MOVED = "moved"  # within a store: what is on its way to new places, the manifest of it first and last
READERS = 2  # parts of a column that are read at once, and held

METADATA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("phash", pa.uint64()),
        ("flags", pa.list_(pa.string())),
    ]
)
PLACE = ("uri", "uri_bytes")  # what a row says of where its image lies
# What a store consists of, in the order in which it is removed.
WRITTEN = ("manifest.json", "part-*.done.json", "part-*.parquet", "failures/part-*.parquet", "plan.parquet")
FAILURES = pa.schema(
    [
        ("row", pa.int32()),  # within the part's slice of the plan
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("image_id", pa.string()),  # null where the bytes could not be read
    ]
)
PLAN = pa.schema(
    [
        ("uri", pa.string()),
        ("uri_bytes", pa.binary()),
        ("container", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("offset", pa.int64()),
        ("column", pa.string()),
    ]
)


@dataclass(frozen=True)
class Failure:
    """One planned image that has no row in the store. `row` counts within the part's slice of the plan."""

    row: int
    uri: str
    uri_bytes: bytes | None
    code: str
    message: str
    image_id: str | None = None


@dataclass(frozen=True)
class Part:
    """The paths of one part."""

    folder: Path
    number: int

    @property
    def name(self) -> str:
        """The part's file name without a suffix."""
        return f"part-{self.number:05d}"

    @property
    def data(self) -> Path:
        """The rows."""
        return self.folder / f"{self.name}.parquet"

    @property
    def marker(self) -> Path:
        """Its existence means that rows and failures are complete."""
        return self.folder / f"{self.name}.done.json"

    @property
    def failures(self) -> Path:
        """The images without a row."""
        return self.folder / "failures" / f"{self.name}.parquet"


def refuse_column_name(name: str) -> None:
    """Raise ConfigError for what no column of vectors can be called: a table finds its columns by name."""
    if not name.isidentifier():
        raise ConfigError(f"a column of vectors cannot be called {name!r}: use letters, digits and _, such as clip")
    if name in METADATA.names:
        raise ConfigError(f"a column of vectors cannot be called {name!r}, which every store has: choose another name")


def vectors_to_arrow(vectors: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    """(N, D) float16 as one Arrow column."""
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def arrow_to_vectors(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """One Arrow column as (N, D) float16, without a copy where it has one chunk."""
    dimension = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dimension) for chunk in column.chunks]
    whole: np.ndarray[Any, Any] = np.empty((0, dimension), np.float16)
    if chunks:
        whole = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return whole


def write_plan(path: Path, items: Iterator[Item], part_rows: int) -> int:
    """Write every item of the corpus, one row group a part, holding one part at a time. Returns how many."""
    names = [field.name for field in fields(Item)]
    count = 0
    with written_atomically(path) as aside, pq.ParquetWriter(aside, PLAN, write_page_checksum=True) as writer:
        block: list[Item] = []
        for item in items:
            block.append(item)
            count += 1
            if len(block) == part_rows:
                writer.write_table(_item_table(block, names), row_group_size=part_rows)
                block = []
        if block:
            writer.write_table(_item_table(block, names), row_group_size=part_rows)
    return count


def _item_table(items: Sequence[Item], names: Sequence[str]) -> pa.Table:
    return pa.table({name: [getattr(item, name) for item in items] for name in names}, schema=PLAN)


def read_plan(path: Path, part: int) -> list[Item]:
    """The items of one part."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return [Item(**row) for row in file.read_row_group(part).to_pylist()]


def _table(rows: Mapping[str, Sequence[Any]], vectors: Mapping[str, np.ndarray[Any, Any]]) -> pa.Table:
    table = pa.table(dict(rows), schema=METADATA)
    for name, matrix in vectors.items():
        table = table.append_column(name, vectors_to_arrow(matrix))
    return table


def read_ids(part: Part, marker: Mapping[str, Any]) -> dict[int, str]:
    """Row within the part's slice of the plan -> image_id, of a finished part's images whose bytes could be read."""
    failures = read_failures(part)
    failed = {failure.row for failure in failures}
    rows = (row for row in range(marker["rows"] + marker["failed"]) if row not in failed)
    ids = dict(zip(rows, _read(part.data, ["image_id"])["image_id"].to_pylist(), strict=True))
    return ids | {failure.row: failure.image_id for failure in failures if failure.image_id}


def read_failures(part: Part) -> list[Failure]:
    """The images without a row, and why."""
    return [Failure(**row) for row in _read(part.failures).to_pylist()]


def write_part(
    part: Part,
    rows: Mapping[str, Sequence[Any]],
    vectors: Mapping[str, np.ndarray[Any, Any]],
    failures: Sequence[Failure],
    columns: Mapping[str, str],
) -> dict[str, Any]:
    """Commit one part: failures, then rows, each read back before its rename, then the marker.

    `rows` holds the METADATA columns, `vectors` one (rows, D) unit matrix an encoder, `columns` the digest of each
    encoder's description. Returns the marker's content.
    """
    _write_verified(part.failures, _failure_table(failures), ())
    _write_verified(part.data, _table(rows, vectors), tuple(vectors))
    codes = sorted({failure.code for failure in failures})
    marker = stamp() | {
        "rows": len(rows["image_id"]),
        "failed": len(failures),
        "failures_by_code": {code: sum(failure.code == code for failure in failures) for code in codes},
        "flags": _count_flags(rows["flags"]),
        "columns": dict(columns),
        **_fingerprints(part),
    }
    write_json(part.marker, marker)
    return marker


def _failure_table(failures: Sequence[Failure]) -> pa.Table:
    return pa.table({name: [getattr(row, name) for row in failures] for name in FAILURES.names}, schema=FAILURES)


def _fingerprints(part: Part) -> dict[str, dict[str, Any]]:
    return {
        "sha256": {"data": sha256_file(part.data), "failures": sha256_file(part.failures)},
        "bytes": {"data": part.data.stat().st_size, "failures": part.failures.stat().st_size},
    }


def _count_flags(flags: Sequence[Sequence[str]]) -> dict[str, int]:
    names = sorted({flag for image in flags for flag in image})
    return {name: sum(name in image for image in flags) for name in names}


def _write_verified(path: Path, table: pa.Table, vectors: tuple[str, ...]) -> None:
    """Write a table and read it back before it gets its name: a writer that wrote bad bytes must not commit them."""
    plain = [name for name in table.column_names if name not in vectors]
    with written_atomically(path) as aside:
        # Vectors are noise to a compressor and to a dictionary: both only cost time on them.
        pq.write_table(
            table,
            aside,
            use_dictionary=[name for name in plain if name in ("code", "message")],
            compression={**dict.fromkeys(plain, "zstd"), **{f"{name}.list.element": "none" for name in vectors}},
            write_page_checksum=True,
            row_group_size=max(1, len(table)),
        )
        back = pq.read_table(aside, page_checksum_verification=True)
        if back.num_rows != table.num_rows or back.schema != table.schema:
            raise InputError(f"{path} could not be read back as it was written: check the disk, then run again")
        for name in vectors:
            _check_unit(path, name, arrow_to_vectors(back[name]))


def _check_unit(path: Path, name: str, vectors: np.ndarray[Any, Any]) -> None:
    sample = vectors[:: max(1, len(vectors) // 64)].astype(np.float32)
    norms = np.linalg.norm(sample, axis=1)
    if not np.all(np.abs(norms - 1) < 0.01):  # also catches NaN
        raise InputError(f"the {name} vectors written to {path} are not unit vectors: check the disk, then run again")


def remove_store(folder: Path) -> None:
    """Remove what this module wrote. The manifest goes first: without it nothing else counts, wherever this stops."""
    for place in (folder, folder / MOVED):
        for pattern in WRITTEN:
            for path in place.glob(pattern):
                path.unlink()


def is_moving(folder: Path) -> bool:
    """Whether a killed run has left the store between two places of its corpus; `finish_move` ends that."""
    return (folder / "manifest.json").exists() and (folder / MOVED / "manifest.json").exists()


def finish_move(folder: Path) -> dict[str, Any]:
    """Give rows and failures of every finished part the places of the plan in `moved/`, and its manifest to the store.

    Vectors stay byte for byte. A part is written aside whole, its marker last, before it takes the old one's place, so
    that wherever a run is killed the next one goes on here. The manifest comes in last. Returns it.
    """
    aside = folder / MOVED
    manifest = read_manifest(aside)
    plan = next(path for path in (aside / "plan.parquet", folder / "plan.parquet") if path.exists())
    for number in range(manifest["plan"]["parts"]):
        staged, part = Part(aside, number), Part(folder, number)
        marker = finished(part)
        if marker and not staged.marker.exists():
            _stage_part(part, staged, marker, read_plan(plan, number))
        if staged.marker.exists():
            _take([(staged.data, part.data), (staged.failures, part.failures), (staged.marker, part.marker)])
    _take([(aside / name, folder / name) for name in ("plan.parquet", "manifest.json")])
    tidy_move(folder)
    return manifest


def tidy_move(folder: Path) -> None:
    """Remove the folders of a move where nothing is left in them."""
    for empty in (folder / MOVED / "failures", folder / MOVED):
        with suppress(OSError):  # not empty, or not there
            empty.rmdir()


def _take(files: Sequence[tuple[Path, Path]]) -> None:
    for aside, path in files:
        if aside.exists():  # else it was taken before a kill
            put(aside, path)


def _stage_part(part: Part, staged: Part, marker: Mapping[str, Any], items: Sequence[Item]) -> None:
    """Write a part aside with other places, where it has not got them yet."""
    table, failures = _read(part.data), read_failures(part)
    failed = {failure.row for failure in failures}
    kept = [item for row, item in enumerate(items) if row not in failed]
    moved = [_failed_at(failure, items[failure.row]) for failure in failures]
    rows = {name: table[name].to_pylist() for name in METADATA.names}
    places = {name: [getattr(item, name) for item in kept] for name in PLACE}
    if moved == failures and places == {name: rows[name] for name in PLACE}:
        return
    # The metadata is built anew, as embedding builds it, so that a moved store has the bytes of a fresh one.
    vectors = {name: arrow_to_vectors(table[name]) for name in marker["columns"]}
    _write_verified(staged.failures, _failure_table(moved), ())
    _write_verified(staged.data, _table(rows | places, vectors), tuple(vectors))
    write_json(staged.marker, dict(marker) | _fingerprints(staged))


def _failed_at(failure: Failure, item: Item) -> Failure:
    """The failure at its new place, which its message may name."""
    old = failure.uri.removesuffix(item.uri.removeprefix(item.container)) if item.container else failure.uri
    message = failure.message.replace(old, item.container or item.uri)
    return replace(failure, uri=item.uri, uri_bytes=item.uri_bytes, message=message)


def finished(part: Part) -> dict[str, Any] | None:
    """The marker of a part that is complete and unchanged; None where it has to be (re)done."""
    if not part.marker.exists():
        return None
    try:
        marker = read_json(part.marker)
        intact = all(
            path.exists()
            and path.stat().st_size == marker["bytes"][kind]
            and sha256_file(path) == marker["sha256"][kind]
            for kind, path in (("data", part.data), ("failures", part.failures))
        )
    except (InputError, KeyError, TypeError):
        return None
    return marker if intact else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the store was asked to hold, or InputError with what it costs to go on without it."""
    manifest = read_json(folder / "manifest.json")
    if not {"settings", "plan", "encoders", "fingerprint"} <= manifest.keys():
        raise InputError(f"{folder / 'manifest.json'} is damaged: `embed --overwrite` embeds everything again")
    return manifest


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of one of our tables, every page checked; InputError where it is damaged."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        said = str(error).splitlines()[0][:120]
        raise InputError(f"{path} is damaged ({said}): run the same `blindpairs embed` again to mend it") from error


def _read_vectors(path: Path, name: str) -> np.ndarray[Any, Any]:
    return arrow_to_vectors(_read(path, [name])[name])


class Store:
    """A finished store, for those who read it."""

    def __init__(self, folder: Path, manifest: dict[str, Any], parts: list[Part]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._parts = parts

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a store whose every part is there; InputError says what is missing otherwise."""
        if not (folder / "manifest.json").exists():
            raise InputError(f"no embeddings at {folder}: run `blindpairs embed` first")
        if is_moving(folder):
            raise ConfigError(
                f"the embeddings at {folder} are being moved to where their corpus is now: run the same "
                "`blindpairs embed` again to finish it"
            )
        manifest = read_manifest(folder)
        parts = [Part(folder, number) for number in range(manifest["plan"]["parts"])]
        missing = [part for part in parts if not (part.marker.exists() and part.data.exists())]
        if missing:
            raise ConfigError(
                f"the embeddings at {folder} are incomplete: {len(missing)} of {len(parts)} parts are missing; "
                "run the same `blindpairs embed` again to finish them"
            )
        return cls(folder, manifest, parts)

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the columns of vectors."""
        return tuple(self.manifest["encoders"])

    @property
    def parts(self) -> list[Path]:
        """The files of rows, in row order."""
        return [part.data for part in self._parts]

    @cached_property
    def _markers(self) -> list[dict[str, Any]]:
        return [read_json(part.marker) for part in self._parts]

    @property
    def rows(self) -> int:
        """How many images have vectors."""
        return sum(marker["rows"] for marker in self._markers)

    def fingerprint(self) -> str:
        """A digest of everything in the store: the hashes that its markers hold."""
        return digest([marker["sha256"] for marker in self._markers])

    def metadata(self, columns: Sequence[str] = METADATA.names) -> pa.Table:
        """The rows without vectors, in order."""
        nothing = pa.schema([METADATA.field(name) for name in columns]).empty_table()
        return pa.concat_tables([nothing, *(_read(path, list(columns)) for path in self.parts)])

    def iter_column(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """One encoder's vectors part by part: (rows, D) float16; the next parts are read meanwhile."""
        if name not in self.encoders:
            raise ConfigError(f"the store at {self.folder} has no encoder {name!r}; it has {', '.join(self.encoders)}")
        for part, marker in zip(self._parts, self._markers, strict=True):
            if name not in marker["columns"]:
                raise ConfigError(
                    f"{part.data} has no {name!r} vectors yet: run the `blindpairs embed` that adds them to the end"
                )
        ahead: deque[Future[np.ndarray[Any, Any]]] = deque()
        with ThreadPoolExecutor(READERS) as readers:  # Parquet decodes a column on one core, at some 200 MB/s
            for part in self._parts:
                ahead.append(readers.submit(_read_vectors, part.data, name))
                if len(ahead) > READERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        pa.default_memory_pool().release_unused()  # Arrow keeps it for its next reading: 500 MB, once seen

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """One encoder's vectors: (N, D) float16, read straight into one array."""
        blocks = self.iter_column(name)
        dimension = self.manifest["encoders"][name]["dimension"] if name in self.encoders else 0
        vectors = np.empty((self.rows, dimension), np.float16)
        start = 0
        for block in blocks:
            vectors[start : start + len(block)] = block
            start += len(block)
        if start != len(vectors):
            raise InputError(f"{self.folder} holds {start:,} {name} vectors, not {len(vectors):,}: run `embed` again")
        return vectors

    def failures(self) -> pa.Table:
        """The images that could not be used, and why."""
        return pa.concat_tables([FAILURES.empty_table(), *(_read(part.failures) for part in self._parts)])

    def summary(self) -> dict[str, Any]:
        """Counts over all parts."""
        return summarise(self._markers)


def summarise(markers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up what the markers count."""
    total: dict[str, Any] = {"rows": 0, "failed": 0, "failures_by_code": {}, "flags": {}}
    for marker in markers:
        total["rows"] += marker["rows"]
        total["failed"] += marker["failed"]
        for kind in ("failures_by_code", "flags"):
            for name, count in marker[kind].items():
                total[kind][name] = total[kind].get(name, 0) + count
    return total
