"""Where the images of a pair differ: differences.parquet, beside pairs.parquet.

One row a pair that was looked at closely. A map covers what the encoder saw of its image, which is often only the
centre: its box says which part. Values are 0 to 1, kept in 8 bits.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blindpairs.access import present, reading
from blindpairs.errors import InputError
from blindpairs.workspace import read_json, written_atomically

MAPS, RECORD = "differences.parquet", "pairs.json"
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        *((f"map_{side}", pa.list_(pa.uint8())) for side in "ab"),
        *((f"box_{side}", pa.list_(pa.float32(), 4)) for side in "ab"),
    ]
)


@dataclass(frozen=True)
class DifferenceMap:
    """Where the two images of a pair differ, as DINOv2's patches see it."""

    a: NDArray[np.float32]  # (rows, columns), 0 to 1, on image a
    b: NDArray[np.float32]  # (rows, columns), 0 to 1, on image b
    box_a: Box = WHOLE  # left, top, right, bottom of the grid, as shares of the upright image's width and height
    box_b: Box = WHOLE


def write_maps(folder: Path, maps: Mapping[str, DifferenceMap]) -> None:
    """Write the maps by pair id to `folder`/differences.parquet, in their order."""
    rows = [
        {
            "pair_id": pair_id,
            "rows": one.a.shape[0],
            "columns": one.a.shape[1],
            "map_a": _bytes(one.a),
            "map_b": _bytes(one.b),
            "box_a": list(one.box_a),
            "box_b": list(one.box_b),
        }
        for pair_id, one in maps.items()
    ]
    with written_atomically(folder / MAPS) as aside:
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), aside, compression="zstd", write_page_checksum=True)


def read_maps(folder: Path) -> dict[str, DifferenceMap]:
    """The maps that `mine --differences` wrote, by pair id; empty where it did not look closer.

    InputError for a damaged file and for one of another run than pairs.json, Refused for one that may not be read.
    """
    path, record = folder / MAPS, folder / RECORD
    if not present(path):
        return {}
    with reading(path):
        content = path.read_bytes()
    if present(record) and read_json(record).get("maps_sha256") != hashlib.sha256(content).hexdigest():
        raise InputError(f"{path} is not the file that {RECORD} describes: run `blindpairs mine --differences` again")
    try:
        rows = pq.read_table(pa.BufferReader(content), schema=_SCHEMA, page_checksum_verification=True).to_pylist()
        return {row["pair_id"]: _map(row) for row in rows}
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:  # OSError: how Arrow reports bad checksums
        raise InputError(f"{path} is damaged: run `blindpairs mine --differences` again") from error


def _map(row: Mapping[str, list[float]]) -> DifferenceMap:
    shape = (row["rows"], row["columns"])
    a, b = (np.array(row[f"map_{side}"], np.float32).reshape(shape) / 255 for side in "ab")  # type: ignore[arg-type]
    box_a, box_b = (tuple(row[f"box_{side}"]) for side in "ab")
    return DifferenceMap(a, b, box_a, box_b)  # type: ignore[arg-type]


def _bytes(values: NDArray[np.float32]) -> list[int]:
    scaled: list[int] = np.rint(values.clip(0, 1) * 255).astype(np.uint8).ravel().tolist()
    return scaled
