"""From an embedding store to blind pairs: images that one encoder calls the same and another calls different.

Read in this order: `mining` (the steps), `images` and `pictures` (who takes part, and the search among them),
`candidates` (memory under a flood of pairs), `scores`, `ranking` and `distinct` (which pairs are kept), `advice` (when
none is), `files` (what is read and written), `running` and `memory` (what it runs on), `planning` (what it would take),
`approximate` (through an index; to be imported from there, because it loads FAISS).
"""

from blindpairs.mine.files import mine_store
from blindpairs.mine.images import Images
from blindpairs.mine.mining import Mined, mine
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.ranking import pair_id
from blindpairs.mine.running import ExactJoin, Running

__all__ = ["ExactJoin", "Images", "Mined", "MiningOptions", "Running", "mine", "mine_store", "pair_id"]
