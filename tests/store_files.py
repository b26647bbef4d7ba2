"""Stores of vectors that no encoder made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.images.decode import image_id
from blindpairs.store import METADATA, Part, Store, write_part
from blindpairs.workspace import stamp, write_json

Vectors = NDArray[np.float16]


def write_store(
    folder: Path, columns: dict[str, Vectors], parts: int = 3, blank: int | None = None, files: Sequence[Path] = ()
) -> Store:
    """A store of these vectors; `blank` is the number of an image that shows nothing, `files` are their images."""
    count = len(next(iter(columns.values())))
    for number, rows in enumerate(np.array_split(np.arange(count), parts)):
        ids = [image_id(files[row].read_bytes()) if files else f"{row:032x}" for row in rows]
        uris = [str(files[row]) for row in rows] if files else ids
        metadata: dict[str, list[Any]] = {name: [0] * len(rows) for name in METADATA.names}
        flags = [["low_information"] if row == blank else [] for row in rows]
        metadata |= {"image_id": ids, "uri": uris, "uri_bytes": [None] * len(rows), "flags": flags}
        write_part(
            Part(folder, number), metadata, {k: v[rows] for k, v in columns.items()}, [], dict.fromkeys(columns, "")
        )
    encoders = {name: {"spec": f"test:{name}", "dimension": vectors.shape[1]} for name, vectors in columns.items()}
    manifest = {"settings": {"corpus": "test"}, "fingerprint": "", "plan": {"parts": parts}, "encoders": encoders}
    write_json(folder / "manifest.json", stamp() | manifest)
    return Store.open(folder)
