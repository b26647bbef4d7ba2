"""All pairs of vectors above a cosine, exactly: the self-join that mining stands on.

Read in this order: `cosine` (what decides, to the last bit), `bound` and `points` (why no pair is lost), `cells` (what
is skipped), `join` (how the work is cut), `plain` (a task in torch) and `compiled.c` (the same at the speed of the
processor), `verify` (who decides), `plan` (what makes it fast), `device` (whether a GPU does it), and the package `gpu`
(the same for GPUs).
"""

from blindpairs.selfjoin.device import Hardware
from blindpairs.selfjoin.join import similar_pairs
from blindpairs.selfjoin.plan import JoinPlan, plan_join, row_bytes
from blindpairs.selfjoin.rows import UnitRows
from blindpairs.selfjoin.task import PairBlock
from blindpairs.selfjoin.verify import pair_cosines

__all__ = ["Hardware", "JoinPlan", "PairBlock", "UnitRows", "pair_cosines", "plan_join", "row_bytes", "similar_pairs"]
