"""Vectors that are to a self-join what CLIP embeddings of a corpus are: unit rows in a cone, in classes, with doubles.

What is imitated, and how it can be checked on vectors of one's own:
* a cone: random pairs have a mean cosine of `1 - variance` (OpenAI's ViT-L/14 on photographs: about 0.5);
* a spectrum: the variance along principal axis n falls as 1/n, within classes and between them;
* classes of very different size, which make up `class_share` of the variance; 0 leaves one cloud without structure;
* near-duplicates: six rows in a hundred are doubles of others at a cosine between 0.88 and 1, so that about 1e-6 of
  50,000 x 49,999 / 2 pairs lie above 0.95, as in photographs from the web after exact duplicates were removed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 16384


@dataclass(frozen=True)
class Likeness:
    """What kind of corpus to imitate."""

    dimension: int = 768
    variance: float = 0.5
    class_share: float = 0.5
    classes: int = 1000
    doubles: float = 0.06
    seed: int = 0


def make_vectors(count: int, kind: Likeness | None = None) -> Tensor:
    """`count` unit rows, (count, dimension) float16, the same for the same arguments but for rounding."""
    kind = kind or Likeness()
    generator = torch.Generator().manual_seed(kind.seed)
    size = kind.dimension
    spectrum = 1.0 / torch.arange(1, size + 1)
    spectrum *= kind.variance / spectrum.sum()
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    mean = _unit(torch.randn(1, size, generator=generator)) * (1 - kind.variance) ** 0.5
    centres = torch.randn(kind.classes, size, generator=generator) * (spectrum * kind.class_share).sqrt()
    popularity = torch.arange(1, kind.classes + 1).pow(-0.5)
    labels = torch.multinomial(popularity, count, replacement=True, generator=generator)
    vectors = torch.empty(count, size, dtype=torch.float16)
    for start in range(0, count, BLOCK):
        of_block = labels[start : start + BLOCK]
        own = torch.randn(len(of_block), size, generator=generator) * (spectrum * (1 - kind.class_share)).sqrt()
        vectors[start : start + BLOCK] = _unit((centres[of_block] + own) @ axes.T + mean).half()
    _plant_doubles(vectors, int(count * kind.doubles), generator)
    return vectors


def _plant_doubles(vectors: Tensor, count: int, generator: torch.Generator) -> None:
    source, target = torch.randint(len(vectors), (2, count), generator=generator)
    cosine = 0.88 + 0.12 * torch.rand(count, 1, generator=generator)
    original = _unit(vectors[source].float())
    other = torch.randn(original.shape, generator=generator)
    across = _unit(other - (other * original).sum(1, keepdim=True) * original)
    vectors[target] = _unit(cosine * original + (1 - cosine.square()).sqrt() * across).half()


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)
