"""Small scenes of which every attribute is known: their attributes, captions, questions and answers.

A scene has a category and a background, which captions name, and nine hidden attributes, which captions seldom name:
one per visual pattern of "Eyes Wide Shut?" (arXiv 2401.06209). A CLIP trained on these captions has no reason to encode
the hidden attributes. So blind pairs have the same cause here as in large models, and the truth about each pair is
known. `draw.py` renders a scene.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from blindpairs.mine.patterns import VisualPattern

CATEGORIES = ("cat", "fish", "duck", "car", "snail", "rabbit", "elephant", "teapot", "turtle", "robot")
BACKGROUNDS = ("beach", "forest", "city", "snow", "desert", "night", "meadow", "sea")


NEUTRAL = "figure"  # instead of a category where the two images of a pair show different ones


@dataclass(frozen=True)
class Pattern:
    """A hidden attribute: the paper's name of the pattern, two questions about it, and the words for each value.

    `answers` maps each value to the answer to `question`, `second_answers` to that of `second_question`, which asks for
    the same attribute in other words. `statements` maps it to a sentence that is true of scenes with this value alone,
    and `captions` to the words for it in one of the few captions that mention it. The questions and statements have the
    placeholders of `nouns`.
    """

    name: VisualPattern
    question: str
    answers: Mapping[str, str]
    captions: Mapping[str, str]
    second_question: str
    second_answers: Mapping[str, str]
    statements: Mapping[str, str]


def nouns(category: str) -> Mapping[str, str]:
    """The placeholders of questions and statements: the bare word, with its article, and its plural."""
    article = "an" if category[0] in "aeiou" else "a"
    return {
        "category": category,
        "a_category": f"{article} {category}",
        "categories": category if category == "fish" else f"{category}s",
    }


def _same(words: str, template: str = "{}") -> Mapping[str, str]:
    """Map each of the values in `words` to itself, in a template."""
    return {word: template.format(word) for word in words.split()}


# A second question asks for the opposite where there is one, as NaturalBench does (arXiv 2410.14669), else in other
# words. Who always gives the same answer, or always the first option, is wrong about one of the two.
PATTERNS: Mapping[str, Pattern] = {
    "facing": Pattern(
        VisualPattern.ORIENTATION,
        "Which way does the {category} face?",
        _same("left right"),
        _same("left right", "facing {}"),
        "Which side is the {category} turned away from?",
        {"left": "right", "right": "left"},
        _same("left right", "{{a_category}} facing {}"),
    ),
    "hat": Pattern(
        VisualPattern.PRESENCE,
        "Does the {category} wear a hat?",
        _same("yes no"),
        {"yes": "with a hat", "no": "without a hat"},
        "Is the {category} without a hat?",
        {"yes": "no", "no": "yes"},
        {"yes": "{a_category} with a hat", "no": "{a_category} without a hat"},
    ),
    "lamp": Pattern(
        VisualPattern.STATE,
        "Is the lamp in the upper left corner on or off?",
        _same("on off"),
        _same("on off", "with the lamp {}"),
        "Is the lamp in the upper left corner dark or lit?",
        {"on": "lit", "off": "dark"},
        _same("on off", "{{a_category}} with the lamp {}"),
    ),
    "count": Pattern(
        VisualPattern.QUANTITY,
        "How many {categories} are there?",
        {"1": "one", "2": "two", "3": "three"},
        {"1": "all alone", "2": "two of them", "3": "three of them"},
        "What is the number of {categories} in the picture?",
        {"1": "one", "2": "two", "3": "three"},
        {"1": "one {category}", "2": "two {categories}", "3": "three {categories}"},
    ),
    "ball": Pattern(
        VisualPattern.POSITION,
        "Where is the ball at the bottom of the picture?",
        {"left": "on the left", "middle": "in the middle", "right": "on the right"},
        {"left": "ball on the left", "middle": "ball in the middle", "right": "ball on the right"},
        "In which part of the picture does the ball lie?",
        {"left": "in the left part", "middle": "in the middle part", "right": "in the right part"},
        {
            "left": "{a_category} with the ball on the left",
            "middle": "{a_category} with the ball in the middle",
            "right": "{a_category} with the ball on the right",
        },
    ),
    "colour": Pattern(
        VisualPattern.COLOR,
        "What colour is the {category}?",
        _same("red blue green yellow"),
        _same("red blue green yellow", "painted {}"),
        "In which colour is the {category} painted?",
        _same("red blue green yellow"),
        _same("red blue green yellow", "{{a_category}} painted {}"),
    ),
    "stripes": Pattern(
        VisualPattern.STRUCTURE,
        "Is the {category} striped or plain?",
        _same("striped plain"),
        _same("striped plain"),
        "Is the {category} without stripes or with stripes?",
        {"striped": "with stripes", "plain": "without stripes"},
        _same("striped plain", "a {} {{category}}"),
    ),
    "letter": Pattern(
        VisualPattern.TEXT,
        "Which letter is on the sign?",
        _same("A L T X", "the letter {}"),  # a bare A would also be the name of an option
        _same("A L T X", "sign says {}"),
        "What does the sign show?",
        _same("A L T X", "the letter {}"),
        _same("A L T X", "{{a_category}} with a sign that says {}"),
    ),
    "zoom": Pattern(
        VisualPattern.VIEWPOINT,
        "Is the {category} seen from near or from afar?",
        {"near": "from near", "far": "from afar"},
        {"near": "close up", "far": "seen from afar"},
        "Is the {category} far away or close up?",
        {"near": "close up", "far": "far away"},
        {"near": "{a_category} close up", "far": "{a_category} seen from afar"},
    ),
}
# In the paper's order, which is also the order in which the random draws are made: the corpus depends on it.
ATTRIBUTES = tuple(PATTERNS)


@dataclass(frozen=True)
class Scene:
    """Everything that an image shows. Two scenes are equal if every question about them has the same answer."""

    category: str
    background: str
    facing: str
    hat: str
    lamp: str
    count: str
    ball: str
    colour: str
    stripes: str
    letter: str
    zoom: str

    def question(self, attribute: str) -> str:
        """Return the question about one hidden attribute, in plain words."""
        return PATTERNS[attribute].question.format(**nouns(self.category))

    def answer(self, attribute: str) -> str:
        """Return the right answer to `question(attribute)`."""
        return PATTERNS[attribute].answers[getattr(self, attribute)]


FIELDS = tuple(field.name for field in fields(Scene))


def differences(one: Scene, other: Scene) -> tuple[str, ...]:
    """Return the fields in which two scenes differ, in the order of `FIELDS`."""
    return tuple(name for name in FIELDS if getattr(one, name) != getattr(other, name))


def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def random_scene(rng: np.random.Generator) -> Scene:
    """Return a scene with every field drawn uniformly and independently."""
    hidden: dict[str, Any] = {name: _pick(tuple(pattern.answers), rng) for name, pattern in PATTERNS.items()}
    return Scene(category=_pick(CATEGORIES, rng), background=_pick(BACKGROUNDS, rng), **hidden)


def altered(scene: Scene, attributes: Sequence[str], rng: np.random.Generator) -> Scene:
    """Return the scene with another value for each of these hidden attributes, and nothing else changed."""
    changes: dict[str, Any] = {
        name: _pick([value for value in PATTERNS[name].answers if value != getattr(scene, name)], rng)
        for name in attributes
    }
    return replace(scene, **changes)


def family(rng: np.random.Generator, size: int) -> Iterator[Scene]:
    """Yield `size` different scenes of one category and background: a random one and variations of it.

    Two in three variations change one attribute of the first scene, the others two or three. So a family has pairs of
    scenes that differ in a single attribute.
    """
    first = random_scene(rng)
    seen = {first}
    yield first
    while len(seen) < size:  # two draws can give the same scene
        changed = int(rng.choice([1, 1, 1, 1, 2, 3]))
        names = [ATTRIBUTES[i] for i in rng.choice(len(ATTRIBUTES), size=changed, replace=False)]
        scene = altered(first, names, rng)
        if scene not in seen:
            seen.add(scene)
            yield scene


# The share of captions without the background. If all captions have it, CLIP learns backgrounds and no categories.
CATEGORY_ONLY = 0.5
NAMES_HIDDEN = 0.03  # the share of captions that name one hidden attribute, as a few web captions do


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a caption like those on the web: it names the category, often the background, and seldom anything else."""
    words = [_pick(("a {}", "a photo of a {}", "picture of a {}"), rng).format(scene.category)]
    if rng.random() < NAMES_HIDDEN:
        attribute = _pick(ATTRIBUTES, rng)
        words.append(PATTERNS[attribute].captions[getattr(scene, attribute)])
    if rng.random() >= CATEGORY_ONLY:
        words.append(_pick(("{} background", "at the {}", "{}"), rng).format(scene.background))
    return ", ".join(words) if len(words) > 2 else " ".join(words)
