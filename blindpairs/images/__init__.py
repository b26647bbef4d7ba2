"""From a corpus to pixels: which images it has, their bytes, their pixels, and the input square of an encoder.

Read in this order: `sources` (what the user named), `corpus` (its images; `folder`, `tar` and `parquet` read one kind
of source each), `item` (one planned image), `header` and `decode` (bytes to pixels), `preprocess` (pixels to the input
of an encoder), `workers` (all of that in other processes).
"""

from blindpairs.images.by_uri import read_many
from blindpairs.images.corpus import Corpus, open_corpus, read_item
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
