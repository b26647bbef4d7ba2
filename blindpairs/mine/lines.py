"""The lines through the origin along which signatures lie: pairs that differ in the same kind of thing share one.

Everything is computed in float64 by one thread, in the order of the vectors; a vector as near to two lines belongs to
the first.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

CLUSTERS, PAIRS_PER_CLUSTER = 16, 25  # fewer clusters for few pairs
ROUNDS, RESTARTS = 20, 3  # of k-means; with one start, one to two in a hundred pairs change with the seed


def lines_of(vectors: Tensor) -> Tensor:
    """(K, A): unit vectors along which `vectors` (n, A) lie; the line of most of them comes first."""
    count = min(CLUSTERS, max(1, len(vectors) // PAIRS_PER_CLUSTER))
    directions = normalize(vectors.double(), dim=1)
    runs = [k_means(directions, count, seed) for seed in range(RESTARTS)]
    lines, nearest = max(runs, key=lambda run: float((directions @ run[0].T).square().amax(1).sum()))
    sizes = torch.bincount(nearest, minlength=count)
    return lines[torch.argsort(sizes, descending=True, stable=True)]


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
