"""What the demo's multimodal models learn from: scenes drawn afresh, with captions and conversations in LLaVA's JSON.

    captions.json       one caption an image, of category and background: for stage 1, which trains the projectors
    instructions.json   conversations: for stage 2, which trains projectors and language model
    images/             the scenes, as the demo's corpus encodes them

Promises: the same seed gives the same bytes (with the same version of Pillow); no scene is one that the corpus, the
benchmark, or the small POPE and LLaVA-Bench show; a conversation never asks for what an earlier turn of it has said.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blindpairs.access import remove, unwritable
from blindpairs.demo.benchmark import demo_benchmark, scene_of
from blindpairs.demo.corpus import SEED, encoded, nuisance_seed
from blindpairs.demo.draw import render
from blindpairs.demo.exchanges import Exchange, choice, plain, short, telling
from blindpairs.demo.small_suites import BENCH_QUESTIONS, suite_scenes
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import ATTRIBUTES, Scene, random_scene
from blindpairs.progress import Progress, silent
from blindpairs.workspace import demo_folder, prepare_folder, read_json, write_json, write_text

if TYPE_CHECKING:  # a recipe loads torch, and `eval` draws scenes without it
    from blindpairs.mof.recipe import Recipe, Stage

INSTRUCTIONS_SEED = SEED + 30
DEMO = "demo:"  # before the name of data in a recipe that the demo makes
CAPTIONS, INSTRUCTIONS, IMAGES, DONE = "captions.json", "instructions.json", "images", "done.json"


@dataclass(frozen=True)
class Amounts:
    """How much is made, and of what. The defaults are those of the demo, whose preset sees most of it once.

    Its 100 steps of 32 are 3,200 of the 5,000 captions, its 600 steps of 16 are 9,600 of the 10,000 conversations.
    """

    seed: int = INSTRUCTIONS_SEED
    images: int = 5000
    conversations: int = 2  # of each image
    looking: float = 0.75  # share of conversations about what is hidden; half of these begin with something else
    questions: int = 7  # about hidden attributes, in such a conversation
    letters: float = 0.85  # share of these with two options, to be answered by a letter


def write_instructions(folder: Path, progress: Progress = silent, amounts: Amounts = Amounts()) -> Path:
    """Fill `folder` and return it. One that is finished is left as it is; one that is not is filled from the start.

    So an image needs no flush of its own, and 5,000 of them take seconds. InputError where it cannot be written.
    """
    made = vars(amounts)
    if (folder / DONE).is_file() and read_json(folder / DONE) == made:
        return folder
    prepare_folder(folder)
    scenes = fresh_scenes(amounts.images, amounts.seed)
    remove(folder / DONE)  # before anything that it vouches for is replaced
    try:
        (folder / IMAGES).mkdir(exist_ok=True)
        for position, scene in enumerate(scenes):
            drawn = encoded(render(scene, nuisance_seed(amounts.seed, position)))
            (folder / IMAGES / _name(amounts.seed, position)).write_bytes(drawn)
            progress(position + 1, len(scenes))
    except OSError as error:
        raise unwritable(folder / IMAGES, error) from error
    write_text(folder / CAPTIONS, _json(_captions(scenes, amounts)))
    rng = np.random.default_rng([amounts.seed, 2])
    write_text(folder / INSTRUCTIONS, _json(_conversations(scenes, amounts, rng)))
    write_json(folder / DONE, made)
    return folder


def with_instructions(recipe: "Recipe", folder: Path) -> "Recipe":
    """The recipe with files of `folder` in the place of `demo:captions` and `demo:instructions`."""

    def filled(stage: "Stage") -> "Stage":
        """The stage with files, if its data are the demo's."""
        if not stage.data.startswith(DEMO):
            return stage
        file = folder / f"{stage.data.removeprefix(DEMO)}.json"
        return replace(stage, data=str(file), images=str(folder / IMAGES))

    return replace(recipe, stage1=filled(recipe.stage1), stage2=filled(recipe.stage2))


def unseen_scenes(count: int, seed: int) -> list[Scene]:
    """`count` random scenes that no model of the demo has been trained on, to measure on."""
    return fresh_scenes(count, seed, frozenset(fresh_scenes(Amounts().images, Amounts().seed)))


def fresh_scenes(count: int, seed: int, besides: frozenset[Scene] = frozenset()) -> list[Scene]:
    """`count` random scenes that nothing of the demo is measured on, and none of `besides`."""
    known = _known_scenes() | besides
    rng = np.random.default_rng(seed)
    found: list[Scene] = []
    while len(found) < count:
        scene = random_scene(rng)
        if scene not in known:
            found.append(scene)
    return found


def _known_scenes() -> set[Scene]:
    plans: dict[int, list[Scene]] = {}
    benchmark = {scene_of(uri, plans) for pair in demo_benchmark().pairs for uri in (pair.uri_a, pair.uri_b)}
    return benchmark | set(read_truth(demo_folder() / "scenes.parquet").values()) | set(suite_scenes())


def conversation(scene: Scene, amounts: Amounts, rng: np.random.Generator) -> list[Exchange]:
    """What is asked about one image: its hidden attributes, or a single thing that names what it shows."""
    if rng.random() >= amounts.looking:
        return [_telling(scene, rng)]
    # What names category or background comes first: a question about the cat would tell that it is one.
    first = [plain(scene, rng)] if rng.random() < 0.5 else []
    asked = rng.permutation(len(ATTRIBUTES))[: amounts.questions]
    return first + [_looking(scene, ATTRIBUTES[number], amounts, rng) for number in asked]


def _looking(scene: Scene, attribute: str, amounts: Amounts, rng: np.random.Generator) -> Exchange:
    return (choice if rng.random() < amounts.letters else short)(scene, attribute, rng)


def _telling(scene: Scene, rng: np.random.Generator) -> Exchange:
    if rng.random() < 0.5:
        return plain(scene, rng)
    return telling(scene, list(BENCH_QUESTIONS)[int(rng.integers(len(BENCH_QUESTIONS)))])


def _captions(scenes: list[Scene], amounts: Amounts) -> Iterator[dict[str, Any]]:
    for position, scene in enumerate(scenes):
        # As an answer, in words that the language model knows: it is frozen while the projectors learn from it. With
        # bare captions of the web, which it never says by itself, the loss was still 5 to 6 after 60 steps; it is 0.34.
        one = telling(scene, "conv")
        said = [("human", f"<image>\n{one.question}"), ("gpt", one.answer)]
        yield _row(f"caption-{position:05d}", _name(amounts.seed, position), said)


def _conversations(scenes: list[Scene], amounts: Amounts, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for position, scene in enumerate(scenes):
        for number in range(amounts.conversations):
            turns = conversation(scene, amounts, rng)
            said = [pair for one in turns for pair in (("human", one.question), ("gpt", one.answer))]
            said[0] = ("human", f"<image>\n{said[0][1]}")
            yield _row(f"conversation-{position:05d}-{number}", _name(amounts.seed, position), said)


def _row(name: str, image: str, said: list[tuple[str, str]]) -> dict[str, Any]:
    turns = [{"from": speaker, "value": text} for speaker, text in said]
    return {"id": name, "image": image, "conversations": turns}


def _name(seed: int, position: int) -> str:
    return f"scene-{seed}-{position:05d}.jpg"  # with the seed: in one folder a name always means one picture


def _json(rows: Iterator[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
