"""What is wrong with the data of a run, found before it starts: rows, images, lengths, and images of a benchmark.

Promises: every row that cannot be used is a finding with its number and its id, and so is every row that is used
otherwise than it stands; nothing is left out unless the user says so. Images are decoded by the workers of `images/`,
so that one that crashes a decoder is a finding, too.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from blindpairs.cores import usable_cores
from blindpairs.errors import InputError, Undecodable
from blindpairs.images.decode import decode, image_id
from blindpairs.images.item import Image, Outcome
from blindpairs.images.workers import DecodePool, Decoding
from blindpairs.mof.conversations import Oddity
from blindpairs.mof.indexing import InstructionIndex
from blindpairs.mof.pixels import Pictures, item_of, place_of, shown
from blindpairs.mof.templates import IGNORE, TurnTokenizer
from blindpairs.progress import Progress, silent

# Of 64 bits. 200 photographs, halved in size and saved again as JPEG of quality 60, differ from themselves by at most
# 4, and no two of them by less than 8. Of 3,000 small drawn scenes, 1 in 250 is as near as that to one of 300 others.
NEAR_BITS = 4
SHOWN = 10
AHEAD = 256  # images decoded before they are asked for
# What a file holds by its name; other names say nothing.
KIND_OF_NAME = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".gif": "gif",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".avif": "avif",
}
FLAGS = {
    "frames>1": Oddity("animated", "its image has several frames", "with the first frame"),
    "low_information": Oddity("blank", "its image is one colour, or nearly", "as it is"),
}

Skip = Literal["nothing", "unusable", "odd"]


@dataclass(frozen=True)
class Finding:
    """One thing about one row of the input. `use` says how the row is used all the same; "" if it cannot be used."""

    number: int
    id: str
    code: str
    message: str
    use: str = ""

    def line(self) -> str:
        """For people."""
        return f"row {self.number} {self.id!r}: {self.message}" + (f" (used {self.use})" if self.use else "")


@dataclass(frozen=True)
class Known:
    """The images of a benchmark, by the ids and the perceptual hashes that `images/` gives them."""

    ids: frozenset[str] = frozenset()
    hashes: tuple[int, ...] = ()

    @classmethod
    def of(cls, images: Iterable[bytes]) -> "Known":
        """Of the files of a benchmark; one that cannot be decoded is known by its id alone."""
        ids, hashes = set(), []
        for data in images:
            ids.add(image_id(data))
            with suppress(Undecodable):
                hashes.append(decode(data).phash)
        return cls(frozenset(ids), tuple(hashes))

    def nearest(self, phash: int) -> int:
        """By how many of 64 bits the nearest image differs; 64 if there is none."""
        if not self.hashes:
            return 64
        return int(np.bitwise_count(self._array ^ np.uint64(phash)).min())

    @cached_property
    def _array(self) -> npt.NDArray[np.uint64]:
        return np.array(self.hashes, dtype=np.uint64)


@dataclass(frozen=True)
class Check:
    """What is checked. Without pictures, images are not opened."""

    pictures: Pictures | None
    places: int  # ids that an image has in the text
    max_length: int = 2048
    known: Known = Known()
    processes: int = field(default_factory=usable_cores)
    # What is wrong with each image, by its place; filled here. An image that stages or runs share is decoded once.
    looked: dict[str, tuple[Oddity, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """All that was found, in the order of the rows. `images` is the number of files that were decoded."""

    rows: int
    images: int
    found: tuple[Finding, ...]

    @property
    def unusable(self) -> tuple[Finding, ...]:
        """Those of rows that cannot be used."""
        return tuple(each for each in self.found if not each.use)

    def numbers(self, skip: Skip) -> set[int]:
        """The rows that such a choice leaves out."""
        found = {"nothing": (), "unusable": self.unusable, "odd": self.found}[skip]
        return {each.number for each in found}

    def counts(self) -> dict[str, int]:
        """How often each code occurs, the most frequent first."""
        return dict(Counter(each.code for each in self.found).most_common())

    def lines(self, shown: int = SHOWN) -> list[str]:
        """For people: what there is of each kind, and the first of them; those that cannot be used come first."""
        if not self.found:
            return [f"{self.rows:,} rows and {self.images:,} images: nothing is wrong with them"]
        first = [*self.unusable, *(each for each in self.found if each.use)]
        kinds = ", ".join(f"{count:,} {code}" for code, count in self.counts().items())
        more = [f"... and {len(first) - shown:,} more"] if len(first) > shown else []
        return [
            f"{self.rows:,} rows and {self.images:,} images: {kinds}",
            *(each.line() for each in first[:shown]),
            *more,
        ]

    def kept(self, index: InstructionIndex, skip: Skip = "nothing") -> InstructionIndex:
        """The rows to train on. InputError if some cannot be used and the user has not chosen to skip them."""
        bad = {each.number: each for each in self.unusable}
        if bad and skip == "nothing":
            first = next(iter(bad.values()))
            raise InputError(
                f"{len(bad):,} of {self.rows:,} rows cannot be used, the first: {first.line()}\n"
                "mend them (--check lists them all), or leave them out with --skip unusable"
            )
        rest = index.without(self.numbers(skip))  # numbers that never were in the index do no harm
        if not len(rest):
            raise InputError(f"none of {self.rows:,} rows is left: {self.found[0].line()}")
        return rest

    def describe(self, skip: Skip) -> dict[str, object]:
        """What was left out, and why, ready for JSON: a run keeps it beside its configuration."""
        out = self.numbers(skip)
        return {
            "rows": self.rows,
            "images": self.images,
            "counts": self.counts(),
            "skip": skip,
            "left_out": [asdict(each) for each in self.found if each.number in out],
        }


def check_instructions(
    index: InstructionIndex, tokens: TurnTokenizer, check: Check, progress: Progress = silent
) -> Findings:
    """Look at every row of an index, at those of its input that are not in it, and at every image."""
    found = [Finding(number, name, odd.code, odd.message, odd.use) for number, name, odd in index.oddities]
    bad = {each.number for each in found if not each.use}  # not in the index; one row may have several findings
    found += _too_long(index, tokens, check)
    images = index.images()
    if check.pictures is not None:
        names = index.ids()
        for name, oddity in _of_images(sorted(images), check.pictures, check, progress):
            found += [
                Finding(number, names[number], oddity.code, oddity.message, oddity.use) for number in images[name]
            ]
    found.sort(key=lambda each: each.number)
    return Findings(len(index) + len(bad), len(images) if check.pictures is not None else 0, tuple(found))


def _too_long(index: InstructionIndex, tokens: TurnTokenizer, check: Check) -> Iterator[Finding]:
    lengths = index.tokens + check.places * index.has_image
    for place in np.flatnonzero(lengths > check.max_length):
        ids, labels = tokens.spread(index.encoded(int(place)), check.places)
        # A part of its places would leave an image without room for the rest of its features.
        whole = tokens.image_id not in ids[check.max_length :]
        learned = (labels[: check.max_length] != IGNORE).any()
        kept = f"cut to {check.max_length:,}" if whole and learned else ""
        lost = "" if kept else ", and its image or all of its answers lie beyond them"
        message = f"it has {lengths[place]:,} ids; {check.max_length:,} are taken{lost}"
        yield Finding(int(index.numbers[place]), index.image(int(place))[0], "too_long", message, kept)


def _of_images(names: list[str], pictures: Pictures, check: Check, progress: Progress) -> Iterator[tuple[str, Oddity]]:
    """What is wrong with each image. Those that another stage or run has looked at are not decoded again."""
    places = {name: place_of(pictures, name) for name in names}
    new = [name for name in names if places[name] not in check.looked]
    if new:
        decoding, failed = Decoding(()), 0  # without preprocesses, workers send facts and no pixels
        progress(0, len(new), 0)
        with DecodePool(decoding, max(1, min(check.processes, len(new))), AHEAD) as pool:
            items = (item_of(pictures, name) for name in new)
            for done, (name, (_, outcome)) in enumerate(zip(new, pool.outcomes(items), strict=True), 1):
                failed += not isinstance(outcome, Image)
                check.looked[places[name]] = tuple(_oddities(outcome, check.known, shown(pictures, name)))
                progress(done - failed, len(new), failed)
    yield from ((name, oddity) for name in names for oddity in check.looked[places[name]])


def _oddities(outcome: Outcome, known: Known, name: str) -> Iterator[Oddity]:
    if not isinstance(outcome, Image):
        yield Oddity(outcome.code, f"its image {name} cannot be used: {outcome.message}")
        return
    yield from (FLAGS[flag] for flag in outcome.flags if flag in FLAGS)
    if outcome.image_id in known.ids:
        yield Oddity("in_benchmark", f"its image {name} stands in the benchmark")
    elif (bits := known.nearest(outcome.phash)) <= NEAR_BITS:
        message = f"its image {name} is a near-duplicate of one in the benchmark ({bits} of 64 bits differ)"
        yield Oddity("near_benchmark", message, "as it is")
    if KIND_OF_NAME.get(PurePosixPath(name).suffix.lower(), outcome.kind) != outcome.kind:
        yield Oddity("other_kind", f"its image {name} holds {outcome.kind}", "as what it holds")
