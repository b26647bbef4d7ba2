"""Pairs through FAISS indexes, for corpora that are too large even for the exact join. Some pairs are missed.

Read in this order: `build` (an index from vectors), `search` (pairs from an index), `recall` (the share of the pairs
that is found, and how hard to search), `files` (indexes kept in the work folder), `gpus` (which GPUs are used, and what
happens if one fails), `approximate` (all of it as a join for `mine`). No approximate result comes without its measured
recall.
"""

from blindpairs.index.approximate import ApproximateJoin
from blindpairs.index.files import BuildOptions, IndexFile, build_index, load_index
from blindpairs.index.gpus import Gpus

__all__ = ["ApproximateJoin", "BuildOptions", "Gpus", "IndexFile", "build_index", "load_index"]
