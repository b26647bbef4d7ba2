"""Zero-shot classification with a CLIP-style model: whether its images and texts still fit together.

    labelled = labelled_images(Path("photos"))         photos/tabby cat/*.jpg, photos/teapot/*.jpg, ...
    evaluate_zero_shot(labelled, "open_clip:ViT-L-14/openai").top1

An image is given to the class whose name, in "a photo of a {}", is most similar to it (arXiv 2103.00020, section 3.1).
Tuning the vision side alone can move the images away from the texts. A pair score compares two images and two texts
that are much alike, and may hide that; many classes do not.

Promises: each image and each class is encoded once, in float32; an image that cannot be read is an error that names it,
never a smaller denominator; a tie counts as wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blindpairs.encoders import Encoder, choose_device, load_encoder, load_text_encoder
from blindpairs.errors import InputError, Undecodable
from blindpairs.images import Item, Limits, open_corpus, read_item
from blindpairs.images.decode import decode_pixels
from blindpairs.progress import Progress, silent
from blindpairs.statistics import Rate, rate_of

TEMPLATE = "a photo of a {}"
BATCH = 64  # images


@dataclass(frozen=True)
class LabelledImages:
    """The images of a folder with a sub-folder a class, and the place of each one's class."""

    classes: tuple[str, ...]
    images: tuple[tuple[Item, int], ...]


@dataclass(frozen=True)
class ZeroShot:
    """What a model makes of labelled images, in their order."""

    spec: str
    weights_hash: str  # of the image tower
    right: NDArray[np.bool_]  # (N,)

    @property
    def top1(self) -> Rate:
        """Images whose own class is the most similar, with the Wilson interval."""
        return rate_of(self.right)


def labelled_images(folder: Path) -> LabelledImages:
    """List the images of each class; `_` in a class's name stands for a space.

    InputError for fewer than two classes, for one without a name, and for two of one name.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name one with a sub-folder of images for each class")
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = tuple(" ".join(path.name.replace("_", " ").split()) for path in folders)
    if unusable := [path.name for path, name in zip(folders, names, strict=True) if not name or names.count(name) > 1]:
        raise InputError(f"{folder} has classes without a name of their own: {', '.join(map(repr, unusable[:3]))}")
    if len(names) < 2:
        raise InputError(
            f"{folder} has {len(folders):,} sub-folders: it needs two or more, each with the images of one class and "
            "named by it"
        )
    images = [(item, place) for place, path in enumerate(folders) for item in open_corpus([str(path)]).items()]
    return LabelledImages(names, tuple(images))


def evaluate_zero_shot(
    labelled: LabelledImages, spec: str, device: str = "auto", progress: Progress = silent
) -> ZeroShot:
    """Classify the images. ConfigError for a model without a text side; InputError for an image that cannot be read."""
    place = choose_device(device)
    texts = load_text_encoder(spec, device=place)  # the first, because many encoders have no text side
    encoder = load_encoder("clip", spec, device=place, exact=True)
    class_vectors = texts.encode([TEMPLATE.replace("{}", name) for name in labelled.classes]).numpy()  # (C, D)
    right = []
    for start in range(0, len(labelled.images), BATCH):
        batch = labelled.images[start : start + BATCH]
        cosines = _encoded(encoder, [item for item, _ in batch]) @ class_vectors.T  # (B, C)
        right += list(_right(cosines, np.array([label for _, label in batch])))
        progress(len(right), len(labelled.images))
    return ZeroShot(spec, encoder.weights_hash, np.array(right, np.bool_))


def _right(cosines: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(B, C), (B,) -> (B,): whether the own class is above every other."""
    own = cosines[np.arange(len(labels)), labels]
    return np.asarray((cosines >= own[:, None]).sum(1) == 1, np.bool_)


def _encoded(encoder: Encoder, items: list[Item]) -> NDArray[np.float32]:
    """(B, D) of unit length."""
    import torch

    squares = torch.from_numpy(np.stack(list(_squares(encoder, items))))
    vectors: NDArray[np.float32] = encoder.encode(squares.to(encoder.device)).cpu().numpy()
    for item, vector in zip(items, vectors, strict=True):
        if not np.isfinite(vector).all():
            raise InputError(f"{item.uri} cannot be classified (its vector has no direction): take it out")
    return vectors


def _squares(encoder: Encoder, items: list[Item]) -> Iterator[NDArray[np.uint8]]:
    for item in items:
        try:
            yield encoder.preprocess.apply(decode_pixels(read_item(item), Limits())[0])
        except Undecodable as error:
            raise InputError(
                f"{item.uri} cannot be classified ({error.message}): restore it, or take it out"
            ) from error
