"""The suite `following` of the demo's scenes: instructions that ask for a form, about scenes that nobody trained on.

The second axis beside pair accuracy. All that is asked for is named by captions, so a model whose CLIP is blind to the
rest can be perfect here. Promises: the same seed gives the same questions and images; a folder that is whole is read as
it is, and nothing is drawn.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from blindpairs.access import present
from blindpairs.demo.corpus import encoded, nuisance_seed
from blindpairs.demo.draw import render
from blindpairs.demo.exchanges import FORMS, Exchange, formed
from blindpairs.demo.instructions import INSTRUCTIONS_SEED, unseen_scenes
from blindpairs.demo.world import Scene
from blindpairs.evaluate.following import CATEGORY, IMAGES, QUESTIONS, FollowingQuestion, read_following
from blindpairs.evaluate.pope_files import SUFFIX
from blindpairs.evaluate.suites import absent_images
from blindpairs.workspace import write_text, written_atomically

FOLLOWING_SEED = INSTRUCTIONS_SEED + 1
FOLLOWING_IMAGES = 30  # seven questions each: two runs of the demo take 3 s more of a core than without them
WORD = r"[A-Za-z]+\.?"


def demo_following(
    folder: Path, *, images: int = FOLLOWING_IMAGES, seed: int = FOLLOWING_SEED
) -> list[FollowingQuestion]:
    """The questions in `folder`: the category and every form, of each of `images` scenes. Written where they lack."""
    if present(folder / QUESTIONS):
        found = read_following(folder)
        if not absent_images({one.image: Path(one.uri) for one in found}):
            return found
    lines = []
    for position, scene in enumerate(unseen_scenes(images, seed)):
        name = f"scene-{position:05d}.jpg"
        with written_atomically(folder / IMAGES / name) as aside:
            aside.write_bytes(encoded(render(scene, nuisance_seed(seed, position))))
        for one, form in _instructions(scene):
            line = {"question_id": f"{position}-{one.about}", "image": name, "about": one.about}
            lines.append(json.dumps({**line, "text": one.question, "answer": one.answer, "form": form}))
    write_text(folder / QUESTIONS, "\n".join(lines) + "\n")
    return read_following(folder)


def category_question(scene: Scene) -> Exchange:
    """What the image shows, in one word."""
    return Exchange(CATEGORY, f"What is in the picture?{SUFFIX}", scene.category)


def _instructions(scene: Scene) -> Iterator[tuple[Exchange, str]]:
    """Each instruction, with the form that it asks for."""
    yield category_question(scene), WORD
    for name, form in FORMS.items():
        yield formed(scene, name), form.pattern
