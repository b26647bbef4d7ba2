"""All pairs of vectors above a cosine, exactly: the self-join that mining is built on.

Read in this order: `join` (how the work is split), `cosine` (the definition that decides, to the last bit), `rows` (the
vectors, and deciding pairs), `bound` (why no pair is lost), `cells` (which rows are skipped), `compiled` with
`c_interface` and `compiled.c` (a task in C) or `plain` (a task in torch). Then `tuning` (the numbers that change the
speed), `device` (the choice of engine), `compiler` (builds the C code), `shown` (how cosines are printed) and the
package `gpu` (the join on GPUs).
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
