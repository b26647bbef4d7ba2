"""Stores of images, made by the demo's encoders."""

from pathlib import Path

from blindpairs.embed import EmbedOptions, embed
from blindpairs.encoders import DEMO_ENCODERS, load_encoder
from blindpairs.images import open_corpus
from blindpairs.store import Store


def demo_store(source: Path, folder: Path) -> Store:
    """The store in `folder` of the images of a folder or file."""
    embed(open_corpus([str(source)]), folder, DEMO_ENCODERS, load_encoder, EmbedOptions.suited_to("cpu"))
    return Store.open(folder)
