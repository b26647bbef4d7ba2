"""Labelled pairs of the demo's scenes, for the readout of an encoder to be trained on.

The benchmark that ships has 16 blind pairs of a pattern, too few to train a readout on. These pairs have the same nine
attributes and answers, and other scenes: each differs in one attribute, and no encoder was trained on it.
"""

from collections.abc import Iterator

import numpy as np

from blindpairs.benchmark import HeldImages
from blindpairs.demo.corpus import SEED, encoded, nuisance_seed
from blindpairs.demo.draw import render
from blindpairs.demo.world import PATTERNS, Scene, altered, random_scene
from blindpairs.evaluate.readout import Labelled, ReadoutPair
from blindpairs.images import image_id
from blindpairs.mine import pair_id

PER_PATTERN = 100
LABELLED_SEED = SEED + 22  # other scenes than those of the corpus, the benchmark and the suites


def labelled_pairs(per_pattern: int = PER_PATTERN, seed: int = LABELLED_SEED) -> Labelled:
    """As many pairs of each pattern, with the answers to the benchmark's first questions."""
    images: dict[str, bytes] = {}
    pairs = []
    for number, (attribute, scenes) in enumerate(_scenes(per_pattern, seed)):
        data = [encoded(render(scene, nuisance_seed(seed, 2 * number + side))) for side, scene in enumerate(scenes)]
        a, b = (image_id(one) for one in data)
        images |= {a: data[0], b: data[1]}
        first, other = (scene.answer(attribute).casefold() for scene in scenes)
        pairs.append(ReadoutPair(pair_id(a, b), PATTERNS[attribute].name.value, (a, b), (first, other)))
    return Labelled(pairs, HeldImages(images))


def _scenes(per_pattern: int, seed: int) -> Iterator[tuple[str, tuple[Scene, Scene]]]:
    rng = np.random.default_rng(seed)
    for attribute in PATTERNS:
        for _ in range(per_pattern):
            scene = random_scene(rng)
            yield attribute, (scene, altered(scene, [attribute], rng))
