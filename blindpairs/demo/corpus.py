"""The demo corpus: one Parquet file of scenes with their truth beside them.

It promises that the same seed gives the same bytes (with the same versions of Pillow and pyarrow), that three in ten
images are re-renderings of another scene of the file, and that every family of scenes holds twins that differ in one
hidden attribute alone. The images are a Hugging Face `Image` column, so that `datasets` and `blindpairs embed` read it.
"""

import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from blindpairs.demo.draw import Pixels, render
from blindpairs.demo.world import FIELDS, Scene, caption, family

COUNT = 3000
SEED = 20240111
_FAMILY = 7  # different scenes of one category and background
_AGAIN = 3  # of which so many are rendered a second time
_JPEG_QUALITY = 93


def plan(count: int, seed: int) -> list[tuple[Scene, int | None]]:
    """Return `count` scenes, each with the position of the scene that it re-renders, or None for a first rendering."""
    rng = np.random.default_rng(seed)
    planned: list[tuple[Scene, int | None]] = []
    while len(planned) < count:
        start = len(planned)
        planned += [(scene, None) for scene in family(rng, _FAMILY)]
        again = sorted(rng.choice(_FAMILY, size=_AGAIN, replace=False).tolist())
        planned += [(planned[start + member][0], start + member) for member in again]
    return planned[:count]


def nuisance_seed(seed: int, position: int) -> int:
    """Return the seed with which the scene at this position of `plan(..., seed)` is rendered."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)[0])


def pictures(count: int, seed: int) -> Pixels:
    """Return the renderings of `plan(count, seed)` as (count, 64, 64, 3) uint8, before any compression."""
    return np.stack([render(scene, nuisance_seed(seed, i)) for i, (scene, _) in enumerate(plan(count, seed))])


def _jpeg(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _schema() -> pa.Schema:
    texts = ["scene_id", "rerender_of", "caption", *FIELDS]
    features = {"image": {"_type": "Image"}, **{name: {"dtype": "string", "_type": "Value"} for name in texts}}
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([image, *(pa.field(name, pa.string()) for name in texts)], metadata=metadata)


def build_corpus(path: Path, *, count: int = COUNT, seed: int = SEED) -> None:
    """Write the corpus of `plan(count, seed)` as one Parquet file."""
    words = np.random.default_rng([seed, 1])
    rows = []
    for position, (scene, first) in enumerate(plan(count, seed)):
        name = f"scene-{position:05d}"
        image = {"bytes": _jpeg(render(scene, nuisance_seed(seed, position))), "path": f"{name}.jpg"}
        again = None if first is None else f"scene-{first:05d}"
        rows.append(
            {"image": image, "scene_id": name, "rerender_of": again, "caption": caption(scene, words), **asdict(scene)}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, _schema()), path, row_group_size=500, compression="zstd")
