"""A corpus on its way to pixels: which images there are, their bytes, what those show, and the square an encoder takes.

Read in this order: `sources` (what the user named), `corpus` (what is in it: `folder`, `tar`, `parquet`), `item` (one
planned image), `header` and `decode` (bytes to pixels), `preprocess` (pixels to an encoder's square), `workers` (all of
that in other processes).
"""

from blindpairs.images.corpus import Corpus, open_corpus, read_item, read_many
from blindpairs.images.decode import Decoded, Limits, image_id
from blindpairs.images.item import CorpusOptions, Item

__all__ = [
    "Corpus",
    "CorpusOptions",
    "Decoded",
    "Item",
    "Limits",
    "image_id",
    "open_corpus",
    "read_item",
    "read_many",
]
