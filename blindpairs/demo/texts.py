"""The text that the demo's language model learns from: scenes told in words, then questions about them.

A document has a telling in the place where a multimodal model has an image. So the language model learns to look up
what it is asked for before it has seen anything, which is what a large one brings along. The words are those of the
demo's world alone: statements, captions, questions, options and answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from blindpairs.demo.exchanges import (
    FORMS,
    MOVED,
    Exchange,
    choice,
    formed,
    naming,
    option_and_letter,
    plain,
    presence,
    short,
    telling,
)
from blindpairs.demo.small_suites import BENCH_QUESTIONS, described
from blindpairs.demo.world import ATTRIBUTES, PATTERNS, Scene, caption, nouns, random_scene


@dataclass(frozen=True)
class Document:
    """What is told of a scene, and what is asked about it."""

    told: str
    exchanges: tuple[Exchange, ...]


def drill(rng: np.random.Generator, most: int, questions: int) -> Document:
    """One to `most` hidden attributes told, and `questions` about them, some of them twice."""
    scene = random_scene(rng)
    kept = _some(rng, most)
    asked = [kept[number] for number in rng.integers(len(kept), size=questions)]
    return Document(told(scene, kept, rng), tuple(_question(scene, name, rng) for name in asked))


def document(rng: np.random.Generator, most: int = len(ATTRIBUTES), questions: int = 6) -> Document:
    """As a conversation of the instructions: something that captions name, then hidden attributes, or a description."""
    scene = random_scene(rng)
    kept = _some(rng, most)
    if rng.random() < 0.25:
        return Document(told(scene, kept, rng), (_description(scene, kept, rng),))
    first = [plain(scene, rng)] if rng.random() < 0.7 else []
    asked = [kept[number] for number in rng.integers(len(kept), size=questions)]
    return Document(told(scene, kept, rng), (*first, *(_question(scene, name, rng) for name in asked)))


def told(scene: Scene, attributes: Sequence[str], rng: np.random.Generator) -> str:
    """Category, background and these attributes in words: sentences, or one caption; half of each."""
    if rng.random() < 0.5:
        words = [f"{nouns(scene.category)['a_category']} at the {scene.background}"]
        return ", ".join(words + [PATTERNS[name].captions[getattr(scene, name)] for name in attributes])
    return " ".join(_sentences(scene, attributes))


def vocabulary_texts(count: int, rng: np.random.Generator) -> Iterator[str]:
    """Texts in which each kind of question is as frequent as the others, to make a vocabulary of."""
    for _ in range(count):
        scene = random_scene(rng)
        yield caption(scene, rng)
        yield from (told(scene, ATTRIBUTES, rng), *described(scene))
        asked = [one(scene, name, rng) for name in ATTRIBUTES for one in (choice, choice, short, option_and_letter)]
        asked += [one(scene, rng) for one in (presence, naming) for _ in range(6)]
        asked += [formed(scene, name) for name in FORMS for _ in range(3)]
        asked += [telling(scene, name) for name in BENCH_QUESTIONS]
        # An answer begins after a space, see the template of `language_model`.
        yield from (text for one in asked for text in (one.question, f" {one.answer}"))


def _question(scene: Scene, attribute: str, rng: np.random.Generator) -> Exchange:
    chance = rng.random()
    kind = choice if chance < 0.4 else option_and_letter if chance < 0.7 else short
    return kind(scene, attribute, rng)


def _description(scene: Scene, kept: Sequence[str], rng: np.random.Generator) -> Exchange:
    """A question of the demo's LLaVA-Bench, answered from what was told."""
    kind = list(BENCH_QUESTIONS)[int(rng.integers(len(BENCH_QUESTIONS)))]
    if kind == "detail":
        return Exchange(
            kind, BENCH_QUESTIONS[kind], " ".join(_sentences(scene, [one for one in ATTRIBUTES if one in kept]))
        )
    return telling(scene, kind if kind == "conv" or set(MOVED) <= set(kept) else "conv")


def _sentences(scene: Scene, attributes: Sequence[str]) -> list[str]:
    sentences = described(scene)
    return [sentences[0], *(sentences[1 + ATTRIBUTES.index(name)] for name in attributes)]


def _some(rng: np.random.Generator, most: int) -> list[str]:
    count = 1 + int(rng.integers(most))
    return [ATTRIBUTES[number] for number in rng.choice(len(ATTRIBUTES), size=count, replace=False)]
