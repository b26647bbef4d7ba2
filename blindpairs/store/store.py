"""Reading a finished store: its manifest, and every column over all parts.

    store = Store.open(Path("work/embeddings"))
    clip = store.column("clip")                                  # (N, D) float16 unit vectors
    ids = store.metadata(["image_id"])["image_id"].to_numpy()    # (N,), the same order
    failed = store.failures()                                    # Arrow: uri, code, message, ...

Promises: rows have the same order in every column and in the metadata, that of the corpus; the hash of a part is
checked before anything of it is returned; reading part by part holds at most three parts in memory.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from blindpairs.access import present
from blindpairs.errors import ConfigError, InputError, Refused
from blindpairs.store.manifest import has_manifest, is_imported, is_moving, read_manifest
from blindpairs.store.parts import FAILURES, METADATA, Part, arrow_to_vectors
from blindpairs.store.verified import check_hashes, check_sizes, read_columns, read_marker, read_rows
from blindpairs.workspace import digest

READERS = 2  # parts that are read at the same time; with the one that the caller has, three are in memory

Read = TypeVar("Read")


def _vectors_of(path: Path, name: str, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """One column of a part, of `shape` (rows, D) as marker and manifest have it; InputError if it is not that."""
    column = read_rows(path, [name], shape[0])[name]
    if column.type != pa.list_(pa.float16(), shape[1]) or column.null_count:
        raise InputError(f"{path} is damaged ({name} is {column.type}, not float16 vectors of {shape[1]} values)")
    return arrow_to_vectors(column)


class Store:
    """A finished store, opened for reading: N images with a vector in every encoder's column, and the failures.

    `manifest` is the content of manifest.json. Every method that reads raises InputError if a file is damaged
    (with the command that repairs it), and Refused if this process may not read it.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], parts: list[Part]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._parts = parts
        self._verified: set[int] = set()  # numbers of the parts whose hashes were checked

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open the store in a folder such as `blindpairs-work/embeddings`.

        InputError if there is no store or a file is damaged; ConfigError if the store is incomplete, or is being moved
        to the new place of its corpus. Each says which command to run.
        """
        if not has_manifest(folder):
            raise InputError(f"no embeddings at {folder}: run `blindpairs embed` first")
        if is_moving(folder):
            raise ConfigError(
                f"the embeddings at {folder} are being moved to where their corpus is now: run the same "
                "`blindpairs embed` again to finish it"
            )
        manifest = read_manifest(folder)
        store = cls(folder, manifest, [Part(folder, number) for number in range(manifest["plan"]["parts"])])
        parts = store._parts
        missing = [part for part in parts if not (present(part.marker) and present(part.data))]
        if missing:
            raise ConfigError(
                f"the embeddings at {folder} are incomplete: {len(missing)} of {len(parts)} parts are missing; "
                f"run the same `blindpairs {store._maker}` again to finish them"
            )
        # rows + failures = items: not so where parts of another store were copied in.
        counted = sum(marker["rows"] + marker["failed"] for marker in store._markers)
        if counted != manifest["plan"].get("items", counted):
            raise InputError(
                f"{folder} accounts for {counted:,} images, its manifest for {manifest['plan']['items']:,}: run the "
                f"same `blindpairs {store._maker}` again"
            )
        return store

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the columns of vectors, such as `clip` and `dino`."""
        return tuple(self.manifest["encoders"])

    def require_encoder(self, name: str) -> None:
        """ConfigError if the store has no vectors of an encoder of this name."""
        if name not in self.encoders:
            have = ", ".join(self.encoders)
            raise ConfigError(
                f"the store at {self.folder} has no encoder {name!r}; it has {have}: embed with it, or name another"
            )

    @cached_property
    def _markers(self) -> list[dict[str, Any]]:
        """The markers of all parts, with sizes checked. Hashes are checked part by part, when a part is read."""
        markers = []
        with self._remedied():
            for part in self._parts:
                markers.append(read_marker(part.marker))
                check_sizes(part.files, markers[-1])
        return markers

    @property
    def _maker(self) -> str:
        """The command that made the store, which also repairs it."""
        return "import" if is_imported(self.manifest) else "embed"

    @contextmanager
    def _remedied(self) -> Iterator[None]:
        """Add to every error about damage the command that repairs it."""
        try:
            yield
        except Refused:
            raise
        except InputError as error:
            raise InputError(f"{error}: run the same `blindpairs {self._maker}` again to repair it") from error

    @property
    def rows(self) -> int:
        """N: how many images have vectors."""
        return sum(marker["rows"] for marker in self._markers)

    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with any vector, row or failure: a digest of the hashes in the markers."""
        return digest([marker["sha256"] for marker in self._markers])

    def metadata(self, columns: Sequence[str] = METADATA.names) -> pa.Table:
        """The N rows without vectors, as one Arrow table.

        Columns: `image_id` (32 hexadecimal digits of the SHA-256 of the bytes; `uri:...` for imported images that
        were not read), `uri` (path, `shard.tar#member` or `file.parquet#row`), `uri_bytes` (only where the path is
        not UTF-8, else null), `width` and `height` in pixels, `phash` (64 bits), `flags` (list of strings).
        """
        # With an empty table first, a store without parts has the same columns.
        nothing = pa.schema([METADATA.field(name) for name in columns]).empty_table()
        return pa.concat_tables([nothing, *self._each(lambda part, rows: read_rows(part.data, columns, rows))])

    def iter_column(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The vectors of one encoder part by part, each (rows, D) float16. The next parts are read in the background.

        ConfigError if the store has no such encoder, or a part has no vectors of it yet.
        """
        self.require_encoder(name)
        for part, marker in zip(self._parts, self._markers, strict=True):
            if name not in marker["columns"]:
                raise ConfigError(
                    f"{part.data} has no {name!r} vectors yet: run the `blindpairs embed` that adds {name!r} again to "
                    "finish it"
                )
        dimension = self.manifest["encoders"][name]["dimension"]
        yield from self._each(lambda part, rows: _vectors_of(part.data, name, (rows, dimension)))
        pa.default_memory_pool().release_unused()  # Arrow keeps freed memory, 500 MB of it in one case

    def verify(self) -> None:
        """InputError if a part has another hash than its marker says. A Store hashes each part once."""
        for _ in self._each(lambda *_: None):
            pass

    def _each(self, read: Callable[[Part, int], Read]) -> Iterator[Read]:
        """`read(part, number of its rows)` for each part, in order. The next parts are read in the background."""
        ahead: deque[Future[Read]] = deque()  # results in the order of the parts, at most READERS of them
        with self._remedied(), ThreadPoolExecutor(READERS) as readers:  # one thread decodes some 200 MB/s
            for part, marker in zip(self._parts, self._markers, strict=True):
                ahead.append(readers.submit(self._checked, part, marker, read))
                if len(ahead) > READERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _checked(self, part: Part, marker: Mapping[str, Any], read: Callable[[Part, int], Read]) -> Read:
        # Before Parquet's footer is read, which has no checksum. At 2 GB/s, a tenth of the cost of reading.
        if part.number not in self._verified:
            check_hashes(part.files, marker)
            self._verified.add(part.number)
        return read(part, marker["rows"])

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """The vectors of one encoder: (N, D) float16, of length 1 up to rounding, in the order of `metadata`.

        Takes 2 * N * D bytes of memory; `iter_column` takes those of three parts. ConfigError as in `iter_column`.
        """
        blocks = self.iter_column(name)  # nothing runs yet: its ConfigErrors come with the first block
        dimension = self.manifest["encoders"][name]["dimension"] if name in self.encoders else 0
        vectors = np.empty((self.rows, dimension), np.float16)  # filled part by part: concatenating would take twice
        start = 0
        for block in blocks:
            vectors[start : start + len(block)] = block
            start += len(block)
        if start != len(vectors):
            raise InputError(f"{self.folder} holds {start:,} {name} vectors, not {len(vectors):,}: run `embed` again")
        return vectors

    def failures(self) -> pa.Table:
        """The images without vectors, as one Arrow table in the order of the corpus.

        Columns: `row` (index among the items of its part, with or without a vector), `uri`, `uri_bytes`, `code` (a
        stable word such as `truncated`), `message` (a sentence), `image_id` (null where the bytes could not be read).
        """
        tables = self._each(lambda part, _: read_columns(part.failures, FAILURES.names))
        return pa.concat_tables([FAILURES.empty_table(), *tables])
