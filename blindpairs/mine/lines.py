"""The lines through the origin along which signatures lie: pairs that differ in the same kind of thing share one.

Everything is computed in float64 by one thread, in the order of the vectors; a vector as near to two lines belongs to
the first. Few lines leave none for a rare kind, and many are several for a frequent one. So clusters are found as many
lines, of which the nearest are merged.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

PAIRS_PER_LINE = 25  # fewer lines for few pairs
ROUNDS, RESTARTS = 20, 3  # of k-means; with one start, one to two in a hundred pairs change with the seed


def lines_of(vectors: Tensor, most: int) -> Tensor:
    """(K, A): at most `most` unit vectors along which `vectors` (n, A) lie."""
    count = min(most, max(1, len(vectors) // PAIRS_PER_LINE))
    directions = normalize(vectors.double(), dim=1)
    runs = [k_means(directions, count, seed) for seed in range(RESTARTS)]
    return max(runs, key=lambda run: float((directions @ run[0].T).square().amax(1).sum()))[0]


def merged(lines: Tensor, most: int) -> Tensor:
    """(K,): the group of each of K lines, at most `most` groups.

    The two groups whose lines have the largest mean absolute cosine become one, again and again (average linkage).
    """
    cosines = (lines @ lines.T).abs().fill_diagonal_(-1.0)
    groups, sizes = torch.arange(len(lines)), torch.ones(len(lines), dtype=lines.dtype)
    for _ in range(len(lines) - most):
        one, other = divmod(int(cosines.argmax()), len(lines))
        together = (sizes[one] * cosines[one] + sizes[other] * cosines[other]) / (sizes[one] + sizes[other])
        cosines[one] = cosines[:, one] = together
        cosines[one, one] = cosines[other] = cosines[:, other] = -1.0
        sizes[one] += sizes[other]
        groups[groups == other] = one
    numbers: Tensor = groups.unique(return_inverse=True)[1]
    return numbers


def k_means(directions: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """K-means of unit vectors (n, A), whose sign does not count: K unit vectors, and for each of n the nearest one."""
    lines = _first_lines(directions, count, seed)
    for _ in range(ROUNDS):
        products = directions @ lines.T  # (n, K)
        nearest = products.abs().argmax(1)
        signs = products.gather(1, nearest[:, None]).sign()
        sums = torch.zeros_like(lines).index_add_(0, nearest, directions * signs)
        # A line that lost all its vectors stays where it was.
        lines = torch.where(sums.norm(dim=1, keepdim=True) > 0, normalize(sums, dim=1), lines)
    return lines, (directions @ lines.T).abs().argmax(1)


def _first_lines(directions: Tensor, count: int, seed: int) -> Tensor:
    """(K, A): vectors that lie far from each other's lines (k-means++, Arthur and Vassilvitskii 2007)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(directions), (1,), generator=generator))]
    farthest = torch.full((len(directions),), torch.inf, dtype=directions.dtype)
    for _ in range(count - 1):
        farthest = torch.minimum(farthest, 1 - (directions @ directions[chosen[-1]]).abs())
        chosen.append(int(torch.multinomial(farthest.clamp_min(1e-9), 1, generator=generator)))
    return directions[chosen].clone()
