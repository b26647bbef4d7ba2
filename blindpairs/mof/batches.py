"""Batches for training: padding, grouping by modality and length, and exact packing.

Promises: the order of an epoch depends on the seed and the epoch alone, so that a resumed run skips what is done and
goes on with the same batches; every batch gives every tower and projector something to do, because a rank that leaves
one out hangs the others; packed examples do not see each other.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from blindpairs.errors import ConfigError
from blindpairs.mof.examples import Example, Examples
from blindpairs.mof.templates import IGNORE


@dataclass(frozen=True)
class Collator:
    """Examples, plain or packed, to a batch, padded on the right.

    The batch holds input_ids, labels (B, L), attention_mask (B, L) or, of packed examples, position_ids (B, L) and
    use_cache; and the images of all examples in order: pixel_values (I, 3, S, S), or features, (I, N, D) for each
    tower. A batch of texts alone has one image all the same, `dummy`, for which it has no place: in training the model
    lets that pass, with weight 0. LLaVA pays one for each text.
    """

    pad_id: int
    dummy: Example | None  # the image part of an example, see Examples.dummy; None: texts stay alone

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """One batch."""
        batch: dict[str, Any] = {
            "input_ids": _padded([each["input_ids"] for each in examples], self.pad_id),
            "labels": _padded([each["labels"] for each in examples], IGNORE),
        }
        if "position_ids" in examples[0]:
            # An attention mask, or a cache, would let packed examples see each other. Padding restarts at each place.
            batch["position_ids"] = _padded([each["position_ids"] for each in examples], 0)
            batch["use_cache"] = False
        else:
            batch["attention_mask"] = _padded([torch.ones_like(each["input_ids"]) for each in examples], 0)
        return batch | (_images(examples) or _images([self.dummy or {}]))


def _padded(rows: Sequence[Tensor], value: int) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_value=value)


def _images(examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """pixel_values (I, 3, S, S), or features (I, N, D) for each tower, of all that have an image; {} if none has."""
    pixels = [each["pixel_values"] for each in examples if "pixel_values" in each]
    features = [each["features"] for each in examples if "features" in each]
    if pixels:
        return {"pixel_values": torch.cat([_batched(each, 3) for each in pixels])}
    if features:
        return {
            "features": tuple(torch.cat([_batched(one, 2) for one in tower]) for tower in zip(*features, strict=True))
        }
    return {}


def _batched(image: Tensor, dimensions: int) -> Tensor:
    """One image as a batch of one; the images of a packed example are a batch already."""
    return image[None] if image.ndim == dimensions else image


class ModalityLengthSampler(Sampler[int]):
    """LLaVA's order: examples with images and text-only ones in batches of their own, each batch of similar lengths.

    As in LLaVA, an epoch is cut into mega-batches of `batch * parts` examples of one modality, which are shuffled; a
    mega-batch is spread over `parts` (ranks, times steps of accumulation) so that all have about as much to do. What is
    left of both modalities comes last. LLaVA tells 25 % faster training. Source: its `llava_trainer.py`.
    """

    def __init__(
        self, lengths: npt.ArrayLike, has_image: npt.ArrayLike, batch: int, parts: int = 1, seed: int = 0
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.has_image = np.asarray(has_image, dtype=bool)
        self.batch, self.parts, self.seed, self.epoch = batch, parts, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Another epoch has another order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # Both numbers, not their sum: epoch 1 of seed 0 would else be epoch 0 of seed 1.
        shuffle = np.random.default_rng([self.seed, self.epoch])
        kinds = [np.flatnonzero(self.has_image), np.flatnonzero(~self.has_image)]
        whole: list[list[int]] = []
        rest: list[int] = []
        for kind in kinds:
            groups = self._mega_batches(kind[shuffle.permutation(len(kind))])
            full = [group for group in groups if len(group) == self.batch * self.parts]
            whole += full
            rest += [number for group in groups[len(full) :] for number in group]
        for place in shuffle.permutation(len(whole)):
            yield from whole[place]
        yield from rest

    def _mega_batches(self, order: npt.NDArray[np.int64]) -> list[list[int]]:
        size = self.batch * self.parts
        return [self._spread(order[start : start + size]) for start in range(0, len(order), size)]

    def _spread(self, group: npt.NDArray[np.int64]) -> list[int]:
        """A mega-batch in the order of its parts, the longest first to the part that has least."""
        longest = group[np.argsort(-self.lengths[group], kind="stable")].tolist()
        if len(longest) % self.parts:  # the last of its kind: dealt out in turn, as LLaVA does
            return [number for part in range(self.parts) for number in longest[part :: self.parts]]
        parts: list[list[int]] = [[] for _ in range(self.parts)]
        sums, room = [0.0] * self.parts, len(longest) // self.parts
        for number in longest:
            least = sums.index(min(sums))
            parts[least].append(number)
            # A part that is full is never the least again.
            sums[least] += float(self.lengths[number]) if len(parts[least]) < room else float("inf")
        return [number for part in parts for number in part]


def packed(examples: Sequence[Example]) -> Example:
    """Several examples as one: positions restart at each, and the first id of each is no target of the one before."""
    # The loss shifts the labels of a whole row, past the seams between its examples.
    labels = [torch.cat([torch.tensor([IGNORE]), each["labels"][1:]]) for each in examples]
    return {
        "input_ids": torch.cat([each["input_ids"] for each in examples]),
        "labels": torch.cat(labels),
        "position_ids": torch.cat([torch.arange(len(each["input_ids"])) for each in examples]),
        **_images(examples),
    }


class PackedExamples(Dataset[Example]):
    """Examples in packs of at most `capacity` ids, the same in every epoch; the order of the packs is the sampler's.

    Packed anew, an epoch could have more packs than the Trainer has counted, which then go untrained, and a training
    that goes on within an epoch would not be told which one it is.
    """

    def __init__(self, examples: Examples, capacity: int, seed: int = 0) -> None:
        """ConfigError where an example is longer than a pack."""
        self.examples = examples
        self.packs = packs_of(examples.lengths, capacity, np.random.default_rng(seed))

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, number: int) -> Example:
        return packed([self.examples[each] for each in self.packs[number]])


WINDOW = 4096  # examples packed together: enough to fill packs, few enough that they come in random company


def packs_of(lengths: npt.NDArray[np.int64], capacity: int, shuffle: np.random.Generator) -> list[list[int]]:
    """Numbers of examples in packs, by best fit, the longest first within a window of the shuffled examples."""
    if len(lengths) and int(lengths.max()) > capacity:
        raise ConfigError(
            f"an example has {int(lengths.max()):,} ids and a pack {capacity:,}: give packs that many at least"
        )
    order = shuffle.permutation(len(lengths))
    packs: list[list[int]] = []
    for start in range(0, len(order), WINDOW):
        packs += _best_fit(order[start : start + WINDOW], lengths, capacity)
    return [packs[place] for place in shuffle.permutation(len(packs))]


def _best_fit(window: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], capacity: int) -> list[list[int]]:
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free ids, pack), in order
    for number in window[np.argsort(-lengths[window], kind="stable")].tolist():
        length = int(lengths[number])
        place = bisect.bisect_left(room, (length, -1))  # the fullest pack that has room; -1 is before all packs
        if place == len(room):
            packs.append([])
            free, pack = capacity, len(packs) - 1
        else:
            free, pack = room.pop(place)
        packs[pack].append(number)
        bisect.insort(room, (free - length, pack))
    return packs
