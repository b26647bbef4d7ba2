"""From an embedding store to blind pairs: images that one encoder calls the same and another calls different.

Read in this order: `options` (what a blind pair is), `mining` (the steps), `images` (which take part), `search` (all
pairs of them above a threshold, and what the search runs on), `candidates` (counting all pairs, holding the best),
`ranking` (which are kept), `advice` (if none is), `files` (what is read and written), `planning` (what a run would
take). For `--differences`: `closer` (which candidates are looked at), `fields` (their patch tokens), `patches` (which a
store's encoder gives), `alignment`, `differences` (how much, which kind, where), `maps` (the file of where). `controls`
matches pairs that CLIP tells apart, and `patterns` names the nine visual patterns. The join through a FAISS index is
`blindpairs.index.approximate`.
"""

from blindpairs.mine.files import mine_store, read_pairs
from blindpairs.mine.images import Images
from blindpairs.mine.mining import Mined, mine
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.ranking import pair_id, rarity
from blindpairs.mine.search import ExactJoin, Running

__all__ = [
    "ExactJoin",
    "Images",
    "Mined",
    "MiningOptions",
    "Running",
    "mine",
    "mine_store",
    "pair_id",
    "rarity",
    "read_pairs",
]
