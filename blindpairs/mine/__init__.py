"""From an embedding store to blind pairs: images that one encoder calls the same and another calls different.

Read in this order: `options` (what a blind pair is), `mining` (the steps), `images` (which take part), `search` (all
pairs of them above a threshold, and what the search runs on), `candidates` (counting all pairs, holding the best),
`ranking` (which are kept), `advice` (if none is), `files` (what is written) and `reading` (what is read), `planning`
(what a run would take). For `--differences`: `closer` (which candidates are looked at), `fields` (their patch tokens),
`patches` (which a store's encoder gives), `alignment`, `differences` (how much, which kind, where), `maps` (the file of
where) and `adding_maps` (for pairs without). `controls` matches pairs that CLIP tells apart, and `patterns` names the
nine visual patterns. The join through a FAISS index is `blindpairs.index.approximate`.

The names below are loaded when they are first used: whoever only reads pairs or maps, as the page for authors does,
does without torch and its 0.8 GB.
"""

from typing import TYPE_CHECKING

from blindpairs.lazily import lazily

if TYPE_CHECKING:
    from blindpairs.mine.files import mine_store
    from blindpairs.mine.images import Images, pair_id
    from blindpairs.mine.mining import Mined, mine
    from blindpairs.mine.options import MiningOptions
    from blindpairs.mine.ranking import rarity
    from blindpairs.mine.reading import read_pairs
    from blindpairs.mine.search import ExactJoin, Running
else:
    __getattr__ = lazily(
        __name__,
        files="mine_store",
        images="Images pair_id",
        mining="Mined mine",
        options="MiningOptions",
        ranking="rarity",
        reading="read_pairs",
        search="ExactJoin Running",
    )


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
