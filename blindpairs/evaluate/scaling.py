"""Whether larger CLIP-style models, and those of higher resolution, are right about more pairs.

The paper finds that both help only a little (arXiv 2401.06209, Table 1). A trend over models says how much goes with
each doubling; it is no effect, because models of other sizes also differ in their training. Promises: a model of
unknown size is in no trend; a trend has its interval, its number of models and its rank correlation beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blindpairs.evaluate.correlation import Coefficient, correlate, shown_coefficient
from blindpairs.evaluate.table import ModelScores
from blindpairs.statistics import Rate, student_quantile


@dataclass(frozen=True)
class Trend:
    """How pair accuracy goes with the logarithm of a size, over several models."""

    against: str  # "parameters" or "resolution"
    models: int
    gain: float  # of the share, for each doubling, by least squares
    interval: (
        tuple[float, float] | None
    )  # 95 %, of the gain, by Student's t over models; None below three, and without scatter
    rank: Coefficient | None  # Spearman's; None below three models

    @property
    def sentence(self) -> str:
        """The same in plain words, in points."""
        reach = " ({:+.1f} to {:+.1f})".format(*(100 * end for end in self.interval)) if self.interval else ""
        trend = f"a doubling of {self.against} goes with {100 * self.gain:+.1f} points{reach} over {self.models} models"
        return trend if self.rank is None else f"{trend}; Spearman rho = {shown_coefficient(self.rank)}"


def scaling_trends(models: Sequence[ModelScores]) -> list[Trend]:
    """The trends against parameters and resolution; one that is the same for all models has none."""
    sizes: dict[str, list[tuple[float | None, Rate]]] = {
        "parameters": [(one.parameters, one.overall) for one in models],
        "resolution": [(one.resolution, one.overall) for one in models],
    }
    found = []
    for against, points in sizes.items():
        known = [(math.log2(size), rate.share) for size, rate in points if size and rate.count]
        if len({size for size, _ in known}) > 1:
            found.append(_trend(against, *(np.array(column) for column in zip(*known, strict=True))))
    return found


def _trend(against: str, sizes: NDArray[np.float64], shares: NDArray[np.float64]) -> Trend:
    """Of (n,) logarithms to base 2, and (n,) shares."""
    count = len(sizes)
    centred = sizes - sizes.mean()  # (n,)
    spread = float(centred @ centred)
    gain = float(centred @ shares) / spread
    if count < 3:
        return Trend(against, count, gain, None, None)
    left = shares - shares.mean() - gain * centred  # (n,): the residuals
    reach = math.sqrt(float(left @ left) / (count - 2) / spread) * student_quantile(0.05, count - 2)
    by_size, by_share = ({str(place): float(one) for place, one in enumerate(some)} for some in (sizes, shares))
    rank = correlate(by_size, by_share, (against, "accuracy")).spearman
    # Models that all score the same have no scatter, and say nothing about how sure that is.
    interval = (gain - reach, gain + reach) if reach > 1e-9 else None
    return Trend(against, count, gain, interval, rank)
