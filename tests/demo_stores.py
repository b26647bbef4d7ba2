"""Stores of images, made by the demo's encoders."""

from pathlib import Path

import pyarrow.parquet as pq

from blindpairs.demo.corpus import build_corpus
from blindpairs.embed import EmbedOptions, embed
from blindpairs.encoders import DEMO_ENCODERS, load_encoder
from blindpairs.images import open_corpus
from blindpairs.store import Store


def demo_store(source: Path, folder: Path) -> Store:
    """The store in `folder` of the images of a folder or file."""
    embed(open_corpus([str(source)]), folder, DEMO_ENCODERS, load_encoder, EmbedOptions.suited_to("cpu"))
    return Store.open(folder)


def scene_files(folder: Path, count: int, seed: int = 5) -> Path:
    """A new folder with some of the demo's scenes as files."""
    folder.mkdir()
    build_corpus(folder.with_suffix(".parquet"), count=count, seed=seed)
    for row in pq.read_table(folder.with_suffix(".parquet"), columns=["image", "scene_id"]).to_pylist():
        (folder / f"{row['scene_id']}.jpg").write_bytes(row["image"]["bytes"])
    return folder
