"""All pairs of vectors above a cosine, exactly: the self-join that mining is built on.

Read in this order: `join` (how the work is split), `cosine` (what decides, to the last bit), `rows` (the vectors, and
deciding), `bound` and `points` (why no pair is lost), `cells` (what is skipped), `compiled` and `compiled.c` (a task in
C) or `plain` (a task in torch). Beside them: `tuning` (the numbers that make it fast), `device` (the choice of engine),
`compiler` (building the C code), and the package `gpu` (the join on GPUs).
"""

from blindpairs.selfjoin.device import Hardware
from blindpairs.selfjoin.join import Join, similar_pairs
from blindpairs.selfjoin.rows import PairBlock, UnitRows, pair_cosines
from blindpairs.selfjoin.tuning import JoinPlan, plan_join, row_bytes

__all__ = [
    "Hardware",
    "Join",
    "JoinPlan",
    "PairBlock",
    "UnitRows",
    "pair_cosines",
    "plan_join",
    "row_bytes",
    "similar_pairs",
]
