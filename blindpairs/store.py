"""Embeddings on disk: parts of Parquet, each with a done marker and a table of failures.

    embeddings/manifest.json          what was asked: corpus, limits, encoders with preprocessing and weight hashes
    embeddings/plan.parquet           every image of the corpus, in order; row group k is part k
    embeddings/part-00000.parquet     one row an image, one column of float16 unit vectors an encoder
    embeddings/part-00000.done.json   written last: sizes, hashes, counts. A part without it does not exist
    embeddings/failures/part-00000.parquet   the images that could not be used, and why

This module alone reads and writes them. Promises: a part with a valid marker is complete and unchanged since it was
written; what is read is proven to be what the marker vouches for, or the file and the command that remakes it are
named; rows + failed rows = planned rows in every part; rows stand in the plan's order, and the same input gives the
same bytes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import listed, present, removed
from blindpairs.corpus import Item
from blindpairs.errors import ConfigError, InputError, Refused
from blindpairs.proof import check_hashes, check_sizes, column_names, read_columns, read_marker, read_rows
from blindpairs.workspace import digest, read_json, sha256_file, stamp, write_json, written_atomically

READERS = 2  # parts of a column that are read at once, and held

Read = TypeVar("Read")

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

    @property
    def files(self) -> dict[str, Path]:
        """Both by the words that the marker has for them."""
        return {"data": self.data, "failures": self.failures}


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


def write_plan(path: Path, items: Iterator[Item], part_rows: int, sha256: str = "") -> int:
    """Write every item of the corpus, one row group a part, holding one part at a time. Returns how many.

    ConfigError, and nothing written, where the file does not have the `sha256` that is asked for.
    """
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
        writer.close()
        if sha256 and sha256_file(aside) != sha256:
            raise ConfigError(
                f"{path} is missing or damaged: --overwrite embeds everything again, and the corpus as it is now does "
                "not give that plan"
            )
    return count


def _item_table(items: Sequence[Item], names: Sequence[str]) -> pa.Table:
    return pa.table({name: [getattr(item, name) for item in items] for name in names}, schema=PLAN)


def read_plan(path: Path, part: int) -> list[Item]:
    """The items of one part."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return [Item(**row) for row in file.read_row_group(part).to_pylist()]


def plan_size(path: Path) -> tuple[int, int]:
    """How many items a plan holds, and for how many parts."""
    metadata = pq.read_metadata(path)
    return metadata.num_rows, metadata.num_row_groups


def _table(rows: Mapping[str, Sequence[Any]], vectors: Mapping[str, np.ndarray[Any, Any]]) -> pa.Table:
    table = pa.table(dict(rows), schema=METADATA)
    for name, matrix in vectors.items():
        table = table.append_column(name, vectors_to_arrow(matrix))
    return table


def read_failures(part: Part) -> list[Failure]:
    """The images without a row, and why."""
    return [Failure(**row) for row in read_columns(part.failures, FAILURES.names).to_pylist()]


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
    failed = pa.table({name: [getattr(row, name) for row in failures] for name in FAILURES.names}, schema=FAILURES)
    _write_verified(part.failures, failed, ())
    _write_verified(part.data, _table(rows, vectors), tuple(vectors))
    marker = stamp() | {
        **_counts(rows["flags"], failures),
        "columns": dict(columns),
        "sha256": {"data": sha256_file(part.data), "failures": sha256_file(part.failures)},
        "bytes": {"data": part.data.stat().st_size, "failures": part.failures.stat().st_size},
    }
    write_json(part.marker, marker)
    return marker


def _counts(flags: Sequence[Sequence[str]], failures: Sequence[Failure]) -> dict[str, Any]:
    """What a marker counts of a part: the flags of every row, and its failures."""
    codes = sorted({failure.code for failure in failures})
    names = sorted({flag for image in flags for flag in image})
    return {
        "rows": len(flags),
        "failed": len(failures),
        "failures_by_code": {code: sum(failure.code == code for failure in failures) for code in codes},
        "flags": {name: sum(name in image for image in flags) for name in names},
    }


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
    removed(folder / "manifest.json")
    for suffix in (".done.json", ".parquet"):
        for path in listed(folder):
            if path.name.startswith("part-") and path.name.endswith(suffix):
                removed(path)
    for path in (*listed(folder / "failures"), folder / "plan.parquet"):
        if path.match("part-*.parquet") or path.name == "plan.parquet":
            removed(path)


def finished(part: Part) -> dict[str, Any] | None:
    """The marker of a part that is complete and unchanged; None where it has to be (re)done.

    Raises Refused where that cannot be told: a file that may not be read is no reason to make it again.
    """
    if not present(part.marker):
        return None
    try:
        marker = read_marker(part.marker)
        check_sizes(part.files, marker)
        check_hashes(part.files, marker)
        counted = _counts(read_columns(part.data, ["flags"])["flags"].to_pylist(), read_failures(part))
        columns = set(column_names(part.data)) - set(METADATA.names)
    except Refused:
        raise
    except InputError:
        return None
    return marker if marker == marker | counted and columns == marker["columns"].keys() else None


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the store was asked to hold, or InputError with what it costs to go on without it."""
    path = folder / "manifest.json"
    if path.is_dir():
        raise InputError(f"{path} is a folder where a file should be (move it away)")
    try:
        manifest = read_json(path)
        plan, encoders = manifest["plan"], manifest["encoders"]
        numbers = [plan["parts"], plan.get("items", 0), *(each["dimension"] for each in encoders.values())]
        sound = all(type(number) is int and number >= 0 for number in numbers)
        sound &= isinstance(manifest["settings"], dict) and isinstance(manifest["fingerprint"], str)
    except Refused:
        raise
    except (InputError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{path} is damaged: `embed --overwrite` embeds everything again; `import` takes another --work"
        )
    return manifest


def _vectors_of(path: Path, name: str, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    column = read_rows(path, [name], shape[0])[name]
    if column.type != pa.list_(pa.float16(), shape[1]) or column.null_count:
        raise InputError(f"{path} is damaged ({name} is {column.type}, not float16 vectors of {shape[1]} values)")
    return arrow_to_vectors(column)


class Store:
    """A finished store, for those who read it."""

    def __init__(self, folder: Path, manifest: dict[str, Any], parts: list[Part]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._parts = parts
        self._verified: set[int] = set()  # parts

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a store whose every part is there; InputError says what is missing otherwise."""
        if not present(folder / "manifest.json"):
            raise InputError(f"no embeddings at {folder}: run `blindpairs embed` first")
        manifest = read_manifest(folder)
        store = cls(folder, manifest, [Part(folder, number) for number in range(manifest["plan"]["parts"])])
        parts = store._parts
        missing = [part for part in parts if not (present(part.marker) and present(part.data))]
        if missing:
            raise ConfigError(
                f"the embeddings at {folder} are incomplete: {len(missing)} of {len(parts)} parts are missing; "
                f"run the same `blindpairs {store._maker}` again to finish them"
            )
        counted = sum(marker["rows"] + marker["failed"] for marker in store._markers)
        if counted != manifest["plan"].get("items", counted):
            raise InputError(
                f"{folder} accounts for {counted:,} images, its manifest for {manifest['plan']['items']:,}: run the "
                f"same `blindpairs {store._maker}` again"
            )
        return store

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
        markers = []
        with self._remedied():
            for part in self._parts:
                markers.append(read_marker(part.marker))
                check_sizes(part.files, markers[-1])
        return markers

    @property
    def _maker(self) -> str:
        """The command that made the store, which mends it."""
        foreign = any(each.get("spec") == "clip-retrieval" for each in self.manifest["encoders"].values())
        return "import" if foreign else "embed"

    @contextmanager
    def _remedied(self) -> Iterator[None]:
        """Whatever is found to be damaged, the same command mends it."""
        try:
            yield
        except Refused:
            raise
        except InputError as error:
            raise InputError(f"{error}: run the same `blindpairs {self._maker}` again to mend it") from error

    @property
    def rows(self) -> int:
        """How many images have vectors."""
        return sum(marker["rows"] for marker in self._markers)

    def fingerprint(self) -> str:
        """A digest of everything in the store: the hashes that its markers hold."""
        return digest([marker["sha256"] for marker in self._markers])

    def metadata(self, columns: Sequence[str] = METADATA.names) -> pa.Table:
        """The rows without vectors, in order."""
        return pa.concat_tables(list(self._each(lambda part, rows: read_rows(part.data, columns, rows))))

    def iter_column(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """One encoder's vectors part by part: (rows, D) float16; the next parts are read meanwhile."""
        if name not in self.encoders:
            raise ConfigError(f"the store at {self.folder} has no encoder {name!r}; it has {', '.join(self.encoders)}")
        for part, marker in zip(self._parts, self._markers, strict=True):
            if name not in marker["columns"]:
                raise ConfigError(
                    f"{part.data} has no {name!r} vectors yet: run the `blindpairs embed` that adds them to the end"
                )
        dimension = self.manifest["encoders"][name]["dimension"]
        yield from self._each(lambda part, rows: _vectors_of(part.data, name, (rows, dimension)))
        pa.default_memory_pool().release_unused()  # Arrow keeps it for its next reading: 500 MB, once seen

    def verify(self) -> None:
        """InputError where a part is no longer the one that its marker vouches for; each is looked at once."""
        for _ in self._each(lambda *_: None):
            pass

    def _each(self, read: Callable[[Part, int], Read]) -> Iterator[Read]:
        """What `read` makes of each part and the number of its rows, in order; the next parts are read meanwhile."""
        ahead: deque[Future[Read]] = deque()
        with self._remedied(), ThreadPoolExecutor(READERS) as readers:  # Parquet decodes a column at some 200 MB/s
            for part, marker in zip(self._parts, self._markers, strict=True):
                ahead.append(readers.submit(self._proven, part, marker, read))
                if len(ahead) > READERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _proven(self, part: Part, marker: Mapping[str, Any], read: Callable[[Part, int], Read]) -> Read:
        # Before Parquet's footer is believed, which has no checksum. 2 GB/s here: a tenth of what reading costs.
        if part.number not in self._verified:
            check_hashes(part.files, marker)
            self._verified.add(part.number)
        return read(part, marker["rows"])

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
        return pa.concat_tables(list(self._each(lambda part, _: read_columns(part.failures, FAILURES.names))))

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
