"""From a corpus to pixels: which images it has, their bytes, their pixels, and the input square of an encoder.

Read in this order: `sources` (from what the user named to files), `corpus` (from files to images, with `tar` and
`parquet` for those that hold many), `item` (one listed image), `header`, `decode` and `samples` (bytes to pixels),
`phash` (a hash of these), `preprocess` (pixels to the input of an encoder), `workers` (all of that in other processes),
`by_uri` (images of a store, read again).
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
