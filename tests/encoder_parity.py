"""What the encoder tests share: the images they look at, and what counts as the same vectors."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from blindpairs.encoders import Encoder

ModelType = TypeVar("ModelType", bound=nn.Module)

AWKWARD = [(333, 500), (227, 224), (1, 60)]


def some_images(photos: Path) -> list[Image.Image]:
    """A few real photographs, and generated ones of sizes where roundings go different ways."""
    paths = sorted(photos.rglob("*.jpg"))
    real = [Image.open(path).convert("RGB") for path in paths[:: len(paths) // 2]]
    return real + [generated(*size) for size in AWKWARD]


def generated(height: int, width: int) -> Image.Image:
    """Waves of colour under noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(rows / 9), np.cos(columns / 13), np.sin((rows - columns) / 6)], axis=2)
    noise = np.random.default_rng(height + 1000 * width).normal(0, 15, (height, width, 3))
    return Image.fromarray(np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8))


def batch_of(encoder: Encoder, images: list[Image.Image]) -> Tensor:
    """What the decode workers would hand over: (B, 3, S, S) uint8."""
    return torch.stack([torch.from_numpy(encoder.preprocess.apply(np.asarray(image))) for image in images])


def assert_same_vectors(encoder: Encoder, images: list[Image.Image], theirs: Tensor) -> None:
    """Cosine >= 0.9999 each; and, as random towers see most images alike, far closer than any two images are."""
    ours = encoder.encode(batch_of(encoder, images))
    theirs = torch.nn.functional.normalize(theirs.detach().float(), dim=1)
    assert (ours.dtype, ours.shape) == (torch.float32, (len(images), encoder.dimension))
    assert torch.allclose(ours.norm(dim=1), torch.ones(len(images)), atol=1e-6)
    assert (ours * theirs).sum(dim=1).min() >= 0.9999
    distances = torch.cdist(theirs, theirs) + torch.eye(len(images)) * 9
    assert ((ours - theirs).norm(dim=1) < 0.2 * distances.min(dim=1).values).all()


def randomised(model: ModelType) -> ModelType:
    """Weights large enough that the image shows in the vector; the libraries' initial ones are near zero."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            spread = parameter[0].numel() ** -0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return model.eval()


class Hostile:
    """Pickled, it asks whoever loads it to make a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._path,))
