"""A small run: pictures of noise with questions about them, the demo's towers, and a language model of two layers.

As a script it has several lives, a process each: `small_run.py FOLDER 1:5 2:3 end` is killed after step 5 of stage 1,
goes on and is killed after step 3 of stage 2, and goes on to its end. `small_run.py FOLDER together` trains in the
process itself, which may be one of several.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from tiny_mof import save_language_model

from blindpairs.mof.building import Fusion
from blindpairs.mof.recipe import Rates, Recipe, Stage
from blindpairs.mof.training import Report, Watching, train
from blindpairs.progress import Progress

IMAGES = 12
UNWATCHED = Watching()


def small_recipe(folder: Path) -> Recipe:
    """Two stages of 8 steps of 4 samples, in micro-batches of 2; a checkpoint every 3 steps."""
    if not (folder / "data.json").exists():
        write_data(folder)
    stage = Stage(
        data=str(folder / "data.json"),
        images=str(folder / "images"),
        template="plain",
        batch=4,
        micro_batch=2,
        steps=8,
        save_every=3,
        rates=Rates(projectors=1e-2),
    )
    second = replace(stage, template="vicuna_v1", group_by_length=True, rates=Rates(1e-3, 1e-3))
    return Recipe("demo:clip", "demo:dino", str(folder / "lm"), 3, False, "nothing", Fusion(), stage, second)


def write_data(folder: Path) -> None:
    """A language model, images, and conversations; some are text only."""
    save_language_model(folder / "lm")
    (folder / "images").mkdir()
    rng, rows = np.random.default_rng(0), []
    for number in range(IMAGES):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nwhich?"}, {"from": "gpt", "value": f"number {number}"}]
        rows.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    for number in range(6):
        turns = [{"from": "human", "value": f"say {number}"}, {"from": "gpt", "value": f"{number}"}]
        rows.append({"id": f"text {number}", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(rows))


def dying_at(place: str) -> Watching:
    """A watcher that kills the process after a step: `2:5` is step 5 of stage 2."""

    def bars(label: str, unit: str) -> Progress:
        def show(done: int, total: int, failed: int = 0, /) -> None:
            if unit == "steps" and place == f"{label[-1]}:{done}":
                os.kill(os.getpid(), signal.SIGKILL)

        return show

    return Watching(bars)


def run_small(folder: Path, recipe: Recipe, name: str = "run", watching: Watching = UNWATCHED) -> Report:
    """Train it."""
    return train(recipe, folder / "runs" / name, watching)


def live(folder: Path, place: str) -> int:
    """Train in a process of its own until `place`: how it ended, as `subprocess` has it."""
    child = os.fork()  # of a process that has only imported things: no thread is lost
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    import torch

    torch.set_num_threads(1)
    run_small(folder, small_recipe(folder), watching=dying_at(place))
    os._exit(0)


if __name__ == "__main__":
    import accelerate  # noqa: F401
    import transformers.trainer  # noqa: F401

    if sys.argv[2:] == ["together"]:
        run_small(Path(sys.argv[1]), small_recipe(Path(sys.argv[1])))
        sys.exit()
    sys.stdout.write(" ".join(str(live(Path(sys.argv[1]), place)) for place in sys.argv[2:]))
