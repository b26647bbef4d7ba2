"""POPE and LLaVA-Bench in small, of the demo's scenes, so that both can be asked and scored offline.

They have the files of the real ones. Their images are of scenes that the corpus does not hold. A rule replaces the
judge of LLaVA-Bench: it knows nothing but the prompt that a model would get.

Promises: the same seed gives the same files; of each image and split one question has the answer yes and one no.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from blindpairs.demo.corpus import SEED, encoded, nuisance_seed
from blindpairs.demo.draw import render
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, BACKGROUNDS, CATEGORIES, PATTERNS, Scene, nouns, random_scene
from blindpairs.evaluate.llava_bench_files import BenchQuestion, read_llava_bench
from blindpairs.evaluate.pope_files import IMAGES, SPLITS, PopeQuestion, read_pope
from blindpairs.vlm import Ask, Reply
from blindpairs.vlm.asking import Keep, keep_nothing
from blindpairs.workspace import demo_folder, write_text, written_atomically

POPE_SEED = SEED + 20  # other scenes than those of the corpus and of the benchmark
BENCH_SEED = SEED + 21
POPE_IMAGES, BENCH_IMAGES = 40, 24
POPULAR = 3  # categories that count as popular
BENCH_QUESTIONS: Mapping[str, str] = {
    "conv": "What is in the picture, and where is it?",
    "detail": "Describe the picture in detail.",
    "complex": "What could have happened just before this picture, and which details suggest it?",
}


def demo_pope(folder: Path, *, images: int = POPE_IMAGES, seed: int = POPE_SEED) -> list[PopeQuestion]:
    """Write a POPE of `images` scenes to `folder`, and read it.

    The absent category of a question is drawn from all (random), from those that the corpus shows most often (popular),
    or is the one that the corpus shows most often before the image's background (adversarial).
    """
    scenes = _write_scenes(folder / IMAGES, images, seed)
    corpus = list(read_truth(demo_folder() / "scenes.parquet").values())
    rng = np.random.default_rng([seed, 2])
    for split in SPLITS:
        lines = [line for name, scene in scenes.items() for line in _pope_lines(name, scene, split, corpus, rng)]
        numbered = [{"question_id": number, **line} for number, line in enumerate(lines, 1)]
        _write_lines(folder / f"coco_pope_{split}.json", numbered)
    return read_pope(folder)


def demo_llava_bench(folder: Path, *, images: int = BENCH_IMAGES, seed: int = BENCH_SEED) -> list[BenchQuestion]:
    """Write a LLaVA-Bench (in the wild) of `images` scenes to `folder`, three questions each, and read it."""
    scenes = _write_scenes(folder / "images", images, seed)
    contexts = [{"id": name, "image": name, "caption": described(scene)} for name, scene in scenes.items()]
    asked, references = [], []
    for number, (name, category) in enumerate(product(scenes, BENCH_QUESTIONS)):
        text = BENCH_QUESTIONS[category]
        asked.append({"question_id": number, "image": name, "category": category, "text": text})
        references.append({"question_id": number, "text": _reference(scenes[name], category)})
    for name, lines in (("questions", asked), ("context", contexts), ("answers_gpt4", references)):
        _write_lines(folder / f"{name}.jsonl", lines)
    return read_llava_bench(folder)


def described(scene: Scene) -> list[str]:
    """What a scene shows, a sentence for each attribute."""
    words = nouns(scene.category)
    first = f"The picture shows {words['a_category']} at the {scene.background}."
    rest = [PATTERNS[name].statements[getattr(scene, name)].format(**words) for name in ATTRIBUTES]
    return [first, *(f"It shows {text}." for text in rest)]


@dataclass(frozen=True)
class RuleJudge:
    """Stands in for the judge of LLaVA-Bench: scores an answer by the facts of the context that it has.

    A fact is a phrase of the demo's descriptions. One that the context has, too, is right, another is wrong; the score
    is 1 + 9 * F1 of the facts, rounded.
    """

    name: str = "demo-rule"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The version of the rule."""
        return {"kind": "demo-rule", "version": 1}

    def ask(self, asks: Iterable[Ask], *, keep: Keep = keep_nothing) -> Iterator[Reply]:
        """See `vlm.Answerer`. Asks are prompts of `judge_prompt`."""
        for ask in asks:
            parts = re.split(r"\[(?:End of )?(?:Context|Question|Assistant \d|System)\]\n", "".join(ask.texts))
            _, context, _, first, _, second, *_ = parts
            scores = [_score(context, answer) for answer in (first, second)]
            text = f"{scores[0]} {scores[1]}\nBy the facts of the description that the answers have."
            reply = Reply(ask.key, text, 0.0, None, None, "stop")
            keep(reply)
            yield reply


def _score(context: str, answer: str) -> int:
    known, said = _facts(context), _facts(answer)
    shared = len(known & said)
    return round(1 + 9 * 2 * shared / (len(known) + len(said))) if shared else 1


def _facts(text: str) -> set[str]:
    plain = " ".join(re.findall(r"\w+", text.lower()))
    return {phrase for phrase in _PHRASES if f" {phrase} " in f" {plain} "}


def _phrases() -> set[str]:
    """What can be said of a scene: its category, its background, and `facing left` or `with a hat` for each value."""
    statements = [text for one in PATTERNS.values() for text in one.statements.values()]
    values = {re.sub(r"\{\w+\}", "", text).strip().removeprefix("a ").lower() for text in statements}
    return values | set(CATEGORIES) | set(BACKGROUNDS)


_PHRASES = _phrases()


def _reference(scene: Scene, category: str) -> str:
    """A good answer, not a perfect one: two sentences of the description for `conv`, and five for the others."""
    sentences = described(scene)
    return " ".join(sentences[:2] if category == "conv" else sentences[:5])


def suite_scenes() -> list[Scene]:
    """The scenes of both suites, in their usual sizes."""
    return [
        scene
        for seed, count in ((POPE_SEED, POPE_IMAGES), (BENCH_SEED, BENCH_IMAGES))
        for scene in _scenes(count, seed)
    ]


def _scenes(count: int, seed: int) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]  # not `plan`, in whose families ten share category and background


def _write_scenes(folder: Path, count: int, seed: int) -> dict[str, Scene]:
    scenes = {}
    for position, scene in enumerate(_scenes(count, seed)):
        name = f"scene-{position:05d}.jpg"
        scenes[name] = scene
        with written_atomically(folder / name) as aside:
            aside.write_bytes(encoded(render(scene, nuisance_seed(seed, position))))
    return scenes


def _pope_lines(
    name: str, scene: Scene, split: str, corpus: Sequence[Scene], rng: np.random.Generator
) -> list[dict[str, Any]]:
    categories = {"yes": scene.category, "no": _absent(scene, split, corpus, rng)}
    return [
        {"image": name, "text": f"Is there {nouns(category)['a_category']} in the image?", "label": label}
        for label, category in categories.items()
    ]


def _absent(scene: Scene, split: str, corpus: Sequence[Scene], rng: np.random.Generator) -> str:
    if split == "random":
        chosen = [category for category in CATEGORIES if category != scene.category]
    elif split == "popular":
        counts = Counter(one.category for one in corpus if one.category != scene.category)
        chosen = [category for category, _ in counts.most_common(POPULAR)]
    else:
        beside = (one.category for one in corpus if one.background == scene.background)
        counts = Counter(category for category in beside if category != scene.category)
        chosen = [category for category, _ in counts.most_common(1)]
    return chosen[int(rng.integers(len(chosen)))]


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
