"""How much differs between the two images of a pair, in which kind of thing, and where: from their patch tokens.

Ranking pairs by how little differs must not count what is no difference: light, noise, a step to the side. What such
changes do to the tokens is learned from the corpus itself, from each image and its nearest neighbour for DINOv2:

    fields of tokens -> aligned (alignment.py) -> coordinates on the principal axes of whole fields
    -> scaled so that what differs between nearest neighbours counts little (within-class covariance normalisation,
       Hatch and Stolcke 2006) -> one signed vector a pair, its signature
    -> its coordinates on the few axes in which pairs differ most: on all of them a tenth lay along a line
    -> its squared length, and 1 - dino_sim: how much differs
    -> relative to what is usual for both images (local scaling, Zelnik-Manor and Perona 2004)

Signatures of pairs that differ in the same kind of thing lie along one line through the origin; which of the two images
comes first is their sign. Most of what lies along the nearest of a few lines (k-means on unit vectors, without sign) is
one difference, however large, so only a part of it counts: a second difference lies elsewhere. Clusters are more and
finer lines, of which the nearest are merged (lines.py).

In the demo world, of 300 kept pairs, those that differ in one attribute alone (tests/benchmarks/bench_ranks.py): 0 % by
gap, 31 % by cosine (`subtle`), 71 % so; 63 to 67 % on three other seeds, 41 and 44 % on scenes that stand up to a patch
apart, and 52 % of 20,000 scenes. An ALONG of 0.75 gives about two points less. With the clusters in turn (`--spread`)
it is 66 % of the shipped corpus, 57 to 65 % on four other seeds, and 49 % of 20,000 scenes. Of each of the nine
attributes at least 7 pairs of the shipped corpus differ in it alone, and at least 2, 2, 9, 2 and 2 of the others.

While this was built the shipped corpus gave 47 % by the sum of squared differences of tokens in place, 52 % with the
noise scaling, 58 % with local scaling, 63 % with the lines and 71 % on few axes. What did not help: counting unmatched
patches, Fisher's weights for single patches, non-negative factors of the maps, quantised tokens, leaving out pairs with
a third image in between, the cosine with the most similar pairs of other images, axes of the largest ratio to the
nearest neighbours' differences, 64 or 128 lines, lines found once more among the best pairs, and the angle to the line
instead of what lies off it. What did not help the rare kinds in turn (five corpora):
    48 or 64 lines as clusters, without merging: up to 12 points fewer pairs differ in one thing alone
    the angle to the line within a cluster: 9 to 21 points fewer, and next to none in facing or zoom alone
    lines of the 1,000 to 2,500 subtlest pairs: more in facing in 3,000 scenes, none in lamp in 20,000
    clusters, or lines found once more, for pairs that lie along no line: not more than without
    pairs that weigh less by their rank in k-means, or 96 lines to merge: as good or worse
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blindpairs.mine.candidates import Cosines
from blindpairs.mine.comparison import Comparison
from blindpairs.mine.fields import PatchFields
from blindpairs.mine.images import Indices
from blindpairs.mine.lines import lines_of, merged
from blindpairs.mine.reproducible import on_one_core

CLUSTERED = 6000  # the pairs of the smallest differences, from which the lines are found
LINES = 16  # of kinds of differences
ALONG = 0.9  # the share of what lies along the nearest line that does not count
FINE_LINES, CLUSTERS = 64, 12  # 8 to 14 clusters are about as good


@dataclass(frozen=True)
class Differences:
    """What was found for P pairs, in their order; the maps are made when they are asked for."""

    difference: Cosines  # (P,): 1 is usual, less is subtler
    cluster: NDArray[np.int32]  # (P,): 0 is the cluster with the most of the clustered pairs
    comparison: Comparison


def differences(
    fields: PatchFields, ids: Sequence[tuple[str, str]], dino_sim: Cosines, alike: Sequence[tuple[str, str]]
) -> Differences:
    """How P pairs of images differ; `ids` are in rank order, and the smaller id of a pair comes first.

    `alike` are pairs of images whose differences mean little: nearest neighbours of DINOv2. All images have a field.
    """
    comparison, axes = Comparison.of(fields, ids, alike).balanced()
    signatures = comparison.on_axes(axes)  # (P, A)
    scaled, cluster = on_one_core(lambda: _judged(signatures, 1 - dino_sim, comparison.pairs))
    return Differences(scaled / max(1e-12, float(np.median(scaled))), cluster, comparison)


def _judged(signatures: Tensor, unlike: Cosines, pairs: Indices) -> tuple[Cosines, NDArray[np.int32]]:
    """The difference and the cluster of P pairs; `unlike` is 1 - dino_sim."""
    signatures = signatures.double()
    energy: Cosines = signatures.square().sum(1).numpy()
    whole = energy + unlike / max(1e-12, float(unlike.mean()))  # the class token counts as one more block
    subtlest = np.argsort(_locally_scaled(whole, pairs), kind="stable")[:CLUSTERED]
    along: Cosines = (signatures @ lines_of(signatures[subtlest], LINES).T).square().amax(1).numpy()
    return _locally_scaled(whole - ALONG * along, pairs), _clusters(signatures, subtlest)


def _clusters(signatures: Tensor, clustered: Indices) -> NDArray[np.int32]:
    """The cluster of each pair: merged lines of the clustered ones, of which most are in 0."""
    lines = lines_of(signatures[clustered], FINE_LINES)
    cluster = merged(lines, CLUSTERS)[(signatures @ lines.T).abs().argmax(1)].numpy()
    largest = np.argsort(-np.bincount(cluster[clustered], minlength=CLUSTERS), kind="stable")
    numbers: NDArray[np.int32] = np.argsort(largest).astype(np.int32)[cluster]
    return numbers


def _locally_scaled(energy: NDArray[np.float64], pairs: Indices) -> Cosines:
    """Energies relative to the usual one of both images: divided by the root of the medians' geometric mean."""
    medians = _medians(pairs.ravel(), np.repeat(energy, 2))
    usual: Any = np.sqrt(medians[pairs[:, 0]] * medians[pairs[:, 1]])
    scaled: Cosines = energy / np.sqrt(usual).clip(1e-12)
    return scaled


def _medians(rows: Indices, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of the values of each row; 1 for a row without any."""
    count = int(rows.max(initial=-1)) + 1
    order = np.lexsort((values, rows))
    sizes = np.bincount(rows, minlength=count)
    middle = np.cumsum(sizes) - sizes + np.maximum(sizes - 1, 0) // 2
    medians = np.ones(count)
    medians[sizes > 0] = values[order][middle[sizes > 0]]
    return medians
