"""All pairs of vectors above a cosine, exactly: the self-join that mining stands on.

Read in this order: `bound` (why no pair is lost), `cells` (what is skipped), `join` (how the work runs), `verify` (who
decides), `plan` (what makes it fast).
"""

from blindpairs.selfjoin.join import PairBlock, similar_pairs
from blindpairs.selfjoin.plan import JoinPlan, plan_join
from blindpairs.selfjoin.rows import UnitRows
from blindpairs.selfjoin.verify import pair_cosines

__all__ = ["JoinPlan", "PairBlock", "UnitRows", "pair_cosines", "plan_join", "similar_pairs"]
