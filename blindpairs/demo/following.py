"""How well a model follows instructions: answers in a form that was asked for, about scenes that nobody trained on.

The second axis beside pair accuracy. All that is asked for is named by captions, so a model whose CLIP is blind to the
rest can be perfect here. Promises: an answer is exact only to the letter, and a form is judged whatever is said in it;
a question without an answer counts as neither.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from blindpairs.demo.corpus import encoded, nuisance_seed
from blindpairs.demo.draw import render
from blindpairs.demo.exchanges import FORMS, Exchange, formed
from blindpairs.demo.instructions import INSTRUCTIONS_SEED, unseen_scenes
from blindpairs.demo.world import Scene
from blindpairs.evaluate.pope_files import SUFFIX
from blindpairs.statistics import wilson_interval
from blindpairs.vlm import Answerer, Ask, Failure, Picture

FOLLOWING_SEED = INSTRUCTIONS_SEED + 1
LONGEST = 48  # tokens of an answer
CATEGORY = "category"


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval: that of as many trials as there are images, whose answers may agree."""

    share: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Following:
    """Of answers in a form: right to the letter, and in the form. `category`: right names of what the image shows."""

    exact: Share
    form: Share
    category: Share
    images: int
    failures: int


def measure_following(model: Answerer, images: int = 100, seed: int = FOLLOWING_SEED) -> Following:
    """Ask for the category and for every form about each of `images` scenes."""
    asked: dict[str, Exchange] = {}
    outcomes = {one.key: one for one in model.ask(_asks(unseen_scenes(images, seed), seed, asked))}
    texts = {key: "" if isinstance(one, Failure) else one.text.strip() for key, one in outcomes.items()}
    forms = {key: one for key, one in asked.items() if one.about != CATEGORY}
    exact = [texts[key] == one.answer for key, one in forms.items()]
    kept = [FORMS[one.about].kept_by(texts[key]) for key, one in forms.items()]
    named = [texts[key].lower().rstrip(".") == one.answer for key, one in asked.items() if one.about == CATEGORY]
    failures = sum(isinstance(one, Failure) for one in outcomes.values())
    return Following(_share(exact, images), _share(kept, images), _share(named, images), images, failures)


def category_question(scene: Scene) -> Exchange:
    """What the image shows, in one word."""
    return Exchange(CATEGORY, f"What is in the picture?{SUFFIX}", scene.category)


def _asks(scenes: Iterable[Scene], seed: int, asked: dict[str, Exchange]) -> Iterator[Ask]:
    """The questions; `asked` gets each by its key."""
    for position, scene in enumerate(scenes):
        picture = Picture(encoded(render(scene, nuisance_seed(seed, position))), "image/jpeg")
        for one in (category_question(scene), *(formed(scene, name) for name in FORMS)):
            key = f"{position}-{one.about}"
            asked[key] = one
            yield Ask(key, (picture, one.question), max_tokens=LONGEST)


def _share(right: list[bool], images: int) -> Share:
    share = float(np.mean(right))
    low, high = wilson_interval(share, images)
    return Share(share, (low, high))
