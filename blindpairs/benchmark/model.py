"""A benchmark as values: pairs of images, each with one plain question whose answer differs between its two images.

The shape is that of MMVP ("Eyes Wide Shut?", arXiv 2401.06209): a question with two options; of MMVP-VLM: a statement
for each image; and, with a second question whose answers are exchanged, of NaturalBench (arXiv 2410.14669). A foreign
benchmark may have only one of the two, so a pair has a question, statements, or both.

Promises: nothing is matched by position. A pair is found by its id, which is derived from the ids of its images, which
are hashes of their content. A pair's revision changes with everything that can change a score, and with nothing else;
the fingerprint of a benchmark with the revision of any of its pairs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from blindpairs.errors import ConfigError, InputError, Undecodable
from blindpairs.workspace import digest

ORIGINAL = "original"  # the ground truth that a benchmark was written with
Answers = tuple[int, int]  # the right option, 0 or 1, of image a and of image b
# Reads the encoded bytes of images by id, each id once and in any order, or says why an image cannot be read.
ImageReader = Callable[[Collection[str]], Iterator[tuple[str, bytes | Undecodable]]]


class HeldImages:
    """Gives images that are in memory, by id; a class, so that a benchmark that holds it can be pickled."""

    def __init__(self, images: Mapping[str, bytes]) -> None:
        self.images = dict(images)

    def __call__(self, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
        """(id, bytes) for each id, as an ImageReader."""
        for key in image_ids:
            yield key, self.images.get(key, Undecodable("missing", "no image with this id"))


@dataclass(frozen=True)
class Question:
    """A question about each of the two images of a pair, with the same two options for both."""

    text: str
    options: tuple[str, str]
    answers: Answers


@dataclass(frozen=True)
class BenchmarkPair:
    """Two images, and what is asked of them."""

    pair_id: str
    image_id_a: str
    image_id_b: str
    uri_a: str = ""  # where the images came from; "" where that is not known
    uri_b: str = ""
    question: Question | None = None  # None in benchmarks of statements alone, such as MMVP-VLM
    second: Question | None = None  # about the same images, with exchanged answers: NaturalBench's group accuracy
    patterns: tuple[str, ...] = ()
    statement_a: str = ""  # true of image a and false of image b; "" in benchmarks of questions alone
    statement_b: str = ""
    clip_sim: float | None = None  # None where no miner found the pair
    dino_sim: float | None = None
    annotators: tuple[str, ...] = ()  # who accepted it
    source: str = ""  # who wrote it: a person, or the model whose draft a person accepted
    control_of: str | None = None  # the blind pair that this one, which CLIP tells apart, is a control of
    license: str = ""  # of the images
    source_id_a: str = ""  # the ids of both sides in the benchmark that the pair was imported from
    source_id_b: str = ""

    @property
    def image_ids(self) -> tuple[str, str]:
        """Of image a and of image b."""
        return self.image_id_a, self.image_id_b

    @property
    def uris(self) -> tuple[str, str]:
        """Of image a and of image b."""
        return self.uri_a, self.uri_b

    @property
    def is_control(self) -> bool:
        """Whether it is a control of a blind pair; else it is a blind pair itself."""
        return self.control_of is not None

    @property
    def revision(self) -> str:
        """12 hexadecimal digits that change with everything that can change a score."""
        asked = [[one.text, one.options, one.answers] if one else None for one in (self.question, self.second)]
        statements = [self.statement_a, self.statement_b]
        return digest([*self.image_ids, asked, statements, self.patterns, self.control_of])[:12]


def unreadable_images(pairs: Iterable[BenchmarkPair], failed: Mapping[str, Undecodable], advice: str) -> InputError:
    """The error for images of `pairs` that cannot be read, by id; it names the first pair that needs one of them."""
    pair = next(pair for pair in pairs if failed.keys() & set(pair.image_ids))
    key, uri = next((key, uri) for key, uri in zip(pair.image_ids, pair.uris, strict=True) if key in failed)
    return InputError(
        f"{len(failed):,} images cannot be read, such as that of pair {pair.pair_id} at {uri} "
        f"({failed[key].message}): {advice}"
    )


@dataclass(frozen=True)
class Benchmark:
    """Pairs in rank order, the best first, with a way to their images.

    `patterns` is the taxonomy, in its order. `corrections` are other ground truths by name: pair id -> answers of the
    first question. `provenance` says how the benchmark was made; it is kept and shown, and decides nothing.
    """

    name: str
    pairs: tuple[BenchmarkPair, ...]
    images: ImageReader
    patterns: tuple[str, ...] = ()
    ground_truth: str = ORIGINAL
    corrections: Mapping[str, Mapping[str, Answers]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the revisions of all pairs, whatever their order."""
        return digest(sorted([pair.pair_id, pair.revision] for pair in self.pairs))[:16]

    @property
    def image_ids(self) -> list[str]:
        """Every image once, in the order of the pairs."""
        return list(dict.fromkeys(key for pair in self.pairs for key in pair.image_ids))

    @property
    def image_of_side(self) -> dict[tuple[str, str], str]:
        """(pair id, side "a" or "b") -> the id of its image."""
        return {
            (pair.pair_id, side): key for pair in self.pairs for side, key in zip("ab", pair.image_ids, strict=True)
        }

    def with_ground_truth(self, name: str) -> "Benchmark":
        """The benchmark with the answers of another ground truth; ConfigError for a name that it does not have."""
        if name == self.ground_truth:
            return self
        if name not in self.corrections:
            known = ", ".join(dict.fromkeys([self.ground_truth, *self.corrections]))
            raise ConfigError(f"{self.name} has no ground truth {name!r}: choose one of {known}")
        answers = self.corrections[name]
        before = {
            pair.pair_id: pair.question.answers for pair in self.pairs if pair.question and pair.pair_id in answers
        }
        pairs = tuple(
            replace(pair, question=replace(pair.question, answers=answers[pair.pair_id]))
            if pair.question and pair.pair_id in answers
            else pair
            for pair in self.pairs
        )
        others = {key: value for key, value in self.corrections.items() if key != name}
        return replace(self, pairs=pairs, ground_truth=name, corrections=others | {self.ground_truth: before})
