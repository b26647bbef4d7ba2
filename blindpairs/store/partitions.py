"""The output of `clip-retrieval inference`: pairs of files, found, opened and checked against each other.

Nothing is unpickled, and one file is open at a time: such folders hold thousands.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blindpairs.access import reading
from blindpairs.errors import InputError
from blindpairs.images.columns import is_bytes, is_text

PATH_COLUMN = "image_path"  # clip-retrieval's name of the column
NAMES_SHOWN = 6  # columns of a file, where a message lists them

Vectors = NDArray[np.floating[Any]]
Columns = Mapping[str, Sequence["Partition"]]


@dataclass(frozen=True)
class Partition:
    """One pair of files of clip-retrieval: row i of both is the same image."""

    number: int
    vectors: Path
    metadata: Path

    def open(self) -> Vectors:
        """The vectors, (n, D) float16 or float32, mapped from the file."""
        _try_to_open(self.vectors)
        try:
            mapped = np.load(self.vectors, mmap_mode="r", allow_pickle=False)  # an archive if the file is an .npz
        except (ValueError, EOFError, OSError, OverflowError, MemoryError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self.vectors} is not an array of numbers ({_reason(error)}); it was not unpickled"
            ) from error
        if not isinstance(mapped, np.ndarray) or mapped.ndim != 2 or mapped.dtype not in (np.float16, np.float32):
            shape = getattr(mapped, "shape", "an archive"), getattr(mapped, "dtype", "")
            raise InputError(f"{self.vectors} must hold (rows, dimension) of float16 or float32, not {shape}")
        return mapped

    def paths(self) -> pa.ChunkedArray:
        """The image_path of every row as bytes, because names need not be UTF-8; null where a row has none."""
        _try_to_open(self.metadata)
        try:
            with pq.ParquetFile(self.metadata) as file:
                kind = self._kind_of_paths(file.schema_arrow)  # of the values, where a dictionary encodes them
                column = file.read(columns=[PATH_COLUMN])[PATH_COLUMN].cast(kind)
                # Keys of a webdataset may be whole numbers: those become text first, as they would be written.
                text = pa.large_binary() if is_bytes(kind) else pa.large_string()
                return column.cast(text).cast(pa.large_binary())
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.metadata} cannot be read as Parquet: {_reason(error)}") from error

    def _kind_of_paths(self, schema: pa.Schema) -> pa.DataType:
        """The type of the values of image_path; InputError if there is no such column, or it cannot hold names."""
        found = schema.get_all_field_indices(PATH_COLUMN)
        if len(found) != 1:
            has = (
                f"{len(found)} columns {PATH_COLUMN}"
                if found
                else f"no column {PATH_COLUMN}, only {_shown(schema.names)}"
            )
            raise InputError(
                f"{self.metadata} has {has}: in all partitions, call the column with the images' paths or keys "
                f"{PATH_COLUMN}"
            )
        kind = schema.field(found[0]).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (is_bytes(kind) or is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise InputError(
                f"{self.metadata}: {PATH_COLUMN} holds {str(kind)[:60]}; it must hold text, bytes or whole numbers"
            )
        return kind


def find_partitions(folder: Path) -> list[Partition]:
    """The partitions in numeric order: 10 comes after 9, with or without leading zeros in the names."""
    vectors = _numbered(folder / "img_emb", r"img_emb_(\d+)\.npy")
    metadata = _numbered(folder / "metadata", r"metadata_(\d+)\.parquet")
    if not vectors:
        raise InputError(
            f"{folder} holds no img_emb/img_emb_*.npy: name the output folder of `clip-retrieval inference`"
        )
    if vectors.keys() != metadata.keys():
        unpaired = sorted(vectors.keys() ^ metadata.keys())
        raise InputError(f"{folder}: img_emb and metadata do not match: partition {unpaired[0]} is in only one of them")
    return [Partition(number, vectors[number], metadata[number]) for number in sorted(vectors)]


def _try_to_open(path: Path) -> None:
    """Raise Refused if the system refuses: numpy's and Arrow's errors would say that the content is wrong."""
    with reading(path), path.open("rb"):
        pass


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}") from error
    for path in paths:
        match = re.fullmatch(pattern, path.name)
        if match and int(match[1]) in found:  # 1 and 01: a later run with another number of partitions
            raise InputError(f"{path} and {found[int(match[1])].name} are the same partition: remove the older run's")
        if match:
            found[int(match[1])] = path
    return found


def check(columns: Columns) -> list[int]:
    """The number of rows of each partition; InputError if columns and metadata do not fit together.

    Every file is opened here, before anything is written, so that a folder that does not fit is refused at once.
    """
    sizes: list[int] = []
    for partitions in columns.values():
        here = [_rows(partition, partitions[0]) for partition in partitions]
        if sizes and here != sizes:
            raise InputError(f"the partitions of the two columns have different rows: {sizes[:5]} and {here[:5]}")
        sizes = here
    first, *others = columns.values()
    for other in others:
        # Equal numbers of rows do not prove equal images: vectors of two images would become one row.
        for one, same in zip(first, other, strict=True):
            if not one.paths().equals(same.paths()):
                raise InputError(f"{one.metadata} and {same.metadata} do not name the same images in the same order")
    if sum(sizes) and not any(_name_something(partition.paths()) for partition in first):
        raise InputError(
            f"{first[0].metadata.parent}: {PATH_COLUMN} is empty in all {sum(sizes):,} rows: it must name the images"
        )
    return sizes


def _rows(partition: Partition, first: Partition) -> int:
    """The number of rows of a partition; InputError if it does not fit its metadata or the first of its column."""
    vectors, paths, dimension = partition.open(), len(partition.paths()), first.open().shape[1]
    if len(vectors) != paths:
        raise InputError(f"{partition.vectors} has {len(vectors):,} rows and {partition.metadata} has {paths:,}")
    if vectors.shape[1] != dimension or not dimension:
        raise InputError(f"{partition.vectors} has dimension {vectors.shape[1]}, others {dimension}")
    return paths


def batches(columns: Columns, rows: int) -> Iterator[tuple[list[bytes | None], dict[str, Vectors]]]:
    """(image paths, column -> (n, D) vectors) of at most `rows` rows at a time; no block crosses two partitions."""
    for partitions in zip(*columns.values(), strict=True):
        paths = partitions[0].paths()
        # Mapped, so that slices cost no memory before their rows are used.
        opened = dict(zip(columns, (partition.open() for partition in partitions), strict=True))
        for start in range(0, len(paths), rows):
            part = slice(start, start + rows)
            yield paths[part].to_pylist(), {name: vectors[part] for name, vectors in opened.items()}


def _name_something(paths: pa.ChunkedArray) -> bool:
    return bool(pc.sum(pc.binary_length(paths)).as_py())  # the sum is null if all paths are


def _shown(names: Sequence[str]) -> str:
    listed = ", ".join(name[:40] for name in names[:NAMES_SHOWN])
    return listed + (f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else "")


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
