"""Drafts by a vision-language model that sees both images of a pair, and where they differ.

Promises: every pair ends in a draft or in a reason; the images are those that a person sees, upright, decoded as
everywhere; a reply that was paid for is in the cache before anything is made of it; memory holds the images of one
batch of pairs, scaled down.
"""

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from PIL import Image

from blindpairs.author.drafts import Draft, MinedPair, NotDrafted
from blindpairs.author.prompts import OVERLAY, SYSTEM, draft_schema, instructions, parse_draft
from blindpairs.errors import Undecodable
from blindpairs.images.samples import Pixels
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.heat import lay_heat
from blindpairs.vlm import Answerer, Ask, Budget, Cache, Failure, Part, Picture, Plan, ask_all, plan

PixelReader = Callable[[Collection[str]], Iterator[tuple[str, Pixels | Undecodable]]]  # as `store.pixels_of` reads
BATCH = 64  # pairs whose images are read in one pass over their containers
LONGEST_SIDE = 768  # of an image for the model: what common models see of an image before they cut it into tiles
SMALL_SIDE = 256  # up to here an image is sent without loss
MAX_TOKENS = 700  # of a reply: twice what the longest texts that `parse_draft` takes usually need


@dataclass(frozen=True)
class ModelDrafter:
    """Proposes drafts by asking a model, within a budget; what was asked before comes from the cache."""

    answerer: Answerer
    pixels: PixelReader
    cache: Cache
    patterns: Sequence[str]
    maps: Mapping[str, DifferenceMap] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)

    @property
    def name(self) -> str:
        """The model's."""
        return self.answerer.name

    def plan(self, pairs: Iterable[MinedPair], *, second: bool) -> Plan:
        """What drafting these pairs would cost if nothing is in the cache; reads no image."""
        blank = Picture(b"", "image/jpeg")
        return plan(self._ask(pair, [blank] * (4 if pair.pair_id in self.maps else 2), second) for pair in pairs)

    def draft(self, pairs: Iterable[MinedPair], *, second: bool) -> Iterator[tuple[str, Draft | NotDrafted]]:
        """See `Drafter`. Raises BudgetSpent and EndpointFailed after everything that was answered."""
        wanted = list(pairs)
        unread: dict[str, NotDrafted] = {}
        asks = self._asks(wanted, unread, second)
        for outcome in ask_all(self.answerer, asks, cache=self.cache, budget=self.budget, total=len(wanted)):
            if isinstance(outcome, Failure):
                yield outcome.key, NotDrafted(outcome.code, outcome.message)
            else:
                yield outcome.key, parse_draft(outcome.text, outcome.key, second=second)
        yield from unread.items()

    def _asks(self, pairs: Iterable[MinedPair], unread: dict[str, NotDrafted], second: bool) -> Iterator[Ask]:
        remaining = iter(pairs)
        while batch := list(islice(remaining, BATCH)):
            images = {
                key: data if isinstance(data, Undecodable) else _scaled_down(data)
                for key, data in self.pixels({key for pair in batch for key in (pair.image_id_a, pair.image_id_b)})
            }
            for pair in batch:
                shown = [images[pair.image_id_a], images[pair.image_id_b]]
                failed = next((one for one in shown if isinstance(one, Undecodable)), None)
                if failed is not None:
                    unread[pair.pair_id] = NotDrafted(failed.code, f"an image cannot be read: {failed.message}")
                else:
                    whole = [one for one in shown if isinstance(one, Image.Image)]
                    yield self._ask(pair, self._pictures(pair, whole), second)

    def _pictures(self, pair: MinedPair, images: Sequence[Image.Image]) -> list[Picture]:
        difference = self.maps.get(pair.pair_id)
        if difference is None:
            return [_encoded(image) for image in images]
        places = ((difference.a, difference.box_a), (difference.b, difference.box_b))
        red = [lay_heat(image, *place) for image, place in zip(images, places, strict=True)]
        return [_encoded(image) for image in (*images, *red)]

    def _ask(self, pair: MinedPair, pictures: Sequence[Picture], second: bool) -> Ask:
        parts: list[Part] = ["Image A:", pictures[0], "Image B:", pictures[1]]
        if len(pictures) > 2:
            parts += [OVERLAY, *pictures[2:]]
        return Ask(
            key=pair.pair_id,
            parts=(*parts, instructions(self.patterns, second=second)),
            system=SYSTEM,
            schema=draft_schema(self.patterns, second=second),
            max_tokens=MAX_TOKENS,
        )


def _scaled_down(pixels: Pixels) -> Image.Image:
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def _encoded(image: Image.Image) -> Picture:
    stored = io.BytesIO()
    if max(image.size) <= SMALL_SIDE:
        image.save(stored, "PNG")
        return Picture(stored.getvalue(), "image/png")
    image.save(stored, "JPEG", quality=90)
    return Picture(stored.getvalue(), "image/jpeg")
