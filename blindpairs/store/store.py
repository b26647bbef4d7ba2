"""A store as those see it who read it: its manifest, and every column over all parts."""

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
from blindpairs.store.parts import FAILURES, IMPORTED, METADATA, MOVED, Part, arrow_to_vectors
from blindpairs.store.proof import check_hashes, check_sizes, read_columns, read_marker, read_rows
from blindpairs.workspace import digest, read_json

READERS = 2  # parts of a column that are read at once, and held

Read = TypeVar("Read")


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


def is_moving(folder: Path) -> bool:
    """Whether a killed run has left the store between two places of its corpus; `finish_move` ends that."""
    return present(folder / "manifest.json") and present(folder / MOVED / "manifest.json")


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
        foreign = any(each.get("spec") == IMPORTED for each in self.manifest["encoders"].values())
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
        nothing = pa.schema([METADATA.field(name) for name in columns]).empty_table()
        return pa.concat_tables([nothing, *self._each(lambda part, rows: read_rows(part.data, columns, rows))])

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
        tables = self._each(lambda part, _: read_columns(part.failures, FAILURES.names))
        return pa.concat_tables([FAILURES.empty_table(), *tables])

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
