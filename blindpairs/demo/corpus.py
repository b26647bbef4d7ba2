"""The demo corpus: one Parquet file of images, with the scene that each image shows in columns beside it.

Promises: the same seed gives the same bytes (with the same versions of Pillow and pyarrow); three in ten images show a
scene that another image shows already; every family of scenes has pairs of scenes that differ in exactly one hidden
attribute. The images are a Hugging Face `Image` column, which `datasets` and `blindpairs embed` can read.
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
from blindpairs.images import image_id
from blindpairs.workspace import written_atomically

COUNT = 3000
SEED = 20240111
_FAMILY_SIZE = 7  # different scenes of one category and background
_RERENDERED = 3  # of each family: how many of its scenes are rendered a second time
_JPEG_QUALITY = 93  # high, because a scene of 64 pixels has details of one pixel


def plan(count: int, seed: int) -> list[tuple[Scene, int | None]]:
    """Return `count` scenes, each with the position of its first rendering, or with None where this is the first."""
    rng = np.random.default_rng(seed)
    planned: list[tuple[Scene, int | None]] = []
    while len(planned) < count:
        start = len(planned)
        planned += [(scene, None) for scene in family(rng, _FAMILY_SIZE)]
        rerendered = sorted(rng.choice(_FAMILY_SIZE, size=_RERENDERED, replace=False).tolist())
        planned += [(planned[start + member][0], start + member) for member in rerendered]
    return planned[:count]  # the last family may be cut


def nuisance_seed(seed: int, position: int) -> int:
    """Return the seed with which the scene at this position of `plan(..., seed)` is rendered."""
    # SeedSequence, because the sum of a seed and a position would repeat the renderings of a nearby seed.
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)[0])


def pictures(count: int, seed: int) -> Pixels:
    """Return the renderings of `plan(count, seed)` as (count, 64, 64, 3) uint8, before any compression."""
    return np.stack([render(scene, nuisance_seed(seed, i)) for i, (scene, _) in enumerate(plan(count, seed))])


def encoded(pixels: Pixels) -> bytes:
    """The JPEG of a rendering, as the corpus holds it."""
    # No chroma subsampling: at half the resolution the colours of small parts would run together.
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _schema() -> pa.Schema:
    texts = ["scene_id", "rerender_of", "caption", *FIELDS]
    features = {"image": {"_type": "Image"}, **{name: {"dtype": "string", "_type": "Value"} for name in texts}}
    image = pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    # `datasets` reads the type of a column from here; without it the images would be plain structs.
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([image, *(pa.field(name, pa.string()) for name in texts)], metadata=metadata)


def build_corpus(path: Path, *, count: int = COUNT, seed: int = SEED) -> None:
    """Write the corpus of `plan(count, seed)` as one Parquet file."""
    # Captions have a generator of their own, so that a change of their wording leaves the scenes as they are.
    words = np.random.default_rng([seed, 1])
    rows = []
    for position, (scene, first) in enumerate(plan(count, seed)):
        name = f"scene-{position:05d}"
        image = {"bytes": encoded(render(scene, nuisance_seed(seed, position))), "path": f"{name}.jpg"}
        rerender_of = None if first is None else f"scene-{first:05d}"
        rows.append(
            {
                "image": image,
                "scene_id": name,
                "rerender_of": rerender_of,
                "caption": caption(scene, words),
                **asdict(scene),
            }
        )
    with written_atomically(path) as aside:
        pq.write_table(pa.Table.from_pylist(rows, _schema()), aside, row_group_size=500, compression="zstd")


def read_images(path: Path) -> dict[str, bytes]:
    """The encoded images of a corpus by image id, in the order of its rows."""
    return {image_id(row["bytes"]): row["bytes"] for row in pq.read_table(path, columns=["image"])["image"].to_pylist()}
