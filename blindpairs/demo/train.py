"""Training of the demo's two encoders, from nothing, on a machine without a GPU.

* **CLIP** learns from captions with open_clip's own loss. It has to know categories and backgrounds and nothing else,
  so it stops soon after it does: what it has no words for it never learns to tell apart.
* **Dinov2** learns by instance discrimination (InfoNCE on the CLS token itself: no projection head stands between the
  loss and what is used). The two views of an instance are **two renderings of one scene**, as two frames of a video
  show one moment: their shifts, light, noise and background phase are all that a re-rendering changes. The negatives
  are the other scenes of the batch, and a batch is made of families: scenes of one category and background, most of
  which differ in one attribute, so that only the hidden attributes can tell them apart. No label is used. There is no
  flip and no colour jitter, which would teach it that facing and colour do not matter.

Both learn at the same time, on half of the threads each. What they can mine together is measured on scenes that neither
has seen, and written down beside the losses. `python -m blindpairs.demo FOLDER` makes all that ships.
"""

import json
import platform
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import transformers
from torch import Tensor

from blindpairs.demo.corpus import pictures, plan
from blindpairs.demo.draw import Pixels, render
from blindpairs.demo.towers import (
    CLIP_CONFIG,
    build_clip,
    build_dino,
    clip_embedding,
    dino_embedding,
    save_clip,
    save_dino,
)
from blindpairs.demo.truth import Vectors, judge_vectors
from blindpairs.demo.world import Scene, caption, family, random_scene
from blindpairs.progress import Progress, silent

_SEEDS = 2**63


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are those of the encoders that ship."""

    seed: int = 7
    clip_steps: int = 500
    dino_steps: int = 900
    clip_batch: int = 128  # scenes with a caption each
    dino_batch: int = 64  # scenes, each of them seen twice
    family_size: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    temperature: float = 0.1  # of Dinov2's loss; CLIP learns its own
    evaluations: int = 10
    held_out: int = 400  # scenes that are never trained on
    device: str = "cpu"


class _Log:
    """training.jsonl, written line by line from both threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._start = path, threading.Lock(), time.monotonic()
        path.write_text("", encoding="utf-8")

    def add(self, **row: Any) -> None:
        row["seconds"] = round(time.monotonic() - self._start, 1)
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@dataclass
class _Training:
    """The training of one encoder, with its vectors of the held-out scenes at each evaluation so far."""

    name: str
    model: Any
    steps: int
    loss: Callable[[], Tensor]
    encode: Callable[[Any, Tensor], Tensor]
    save: Callable[[Any, Path], None]
    vectors: list[Vectors] = field(default_factory=list)


def _renderings(scenes: list[Scene], rng: np.random.Generator) -> Tensor:
    """Render each scene under a fresh nuisance: (B, 64, 64, 3) uint8."""
    seeds = rng.integers(_SEEDS, size=len(scenes))
    return torch.from_numpy(np.stack([render(scene, int(seed)) for scene, seed in zip(scenes, seeds, strict=True)]))


def _clip_loss(model: Any, recipe: Recipe, rng: np.random.Generator, tokenizer: Any) -> Tensor:
    """Return open_clip's loss on one batch of pictures and captions."""
    scenes = [random_scene(rng) for _ in range(recipe.clip_batch)]
    captions = [caption(scene, rng) for scene in scenes]
    unique = {text: row for row, text in enumerate(dict.fromkeys(captions))}  # many captions repeat: encode them once
    texts = model.encode_text(tokenizer(list(unique)).to(recipe.device), normalize=True)
    texts = texts[[unique[text] for text in captions]]
    images = clip_embedding(model, _renderings(scenes, rng).to(recipe.device))
    loss: Tensor = open_clip.ClipLoss()(images, texts, model.logit_scale.exp())
    return loss


def _dino_loss(model: Any, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Return InfoNCE between two renderings of each scene of a batch of families."""
    families = recipe.dino_batch // recipe.family_size
    scenes = [scene for _ in range(families) for scene in family(rng, recipe.family_size)]
    views = dino_embedding(model, _renderings(scenes + scenes, rng).to(recipe.device))
    logits = views[: len(scenes)] @ views[len(scenes) :].T / recipe.temperature  # (B, B)
    target = torch.arange(len(scenes), device=logits.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def embed(encode: Callable[[Any, Tensor], Tensor], model: Any, pixels: Pixels, device: str = "cpu") -> Vectors:
    """Return (N, D) unit vectors rounded to float16, as a store keeps them, for (N, 64, 64, 3) uint8."""
    model.eval()
    batches = torch.from_numpy(pixels).split(256)
    vectors = torch.cat([encode(model, batch.to(device)).cpu() for batch in batches])
    model.train()
    rounded: Vectors = vectors.half().float().numpy()
    return rounded


def _optimiser(course: _Training, recipe: Recipe) -> tuple[torch.optim.Optimizer, Any]:
    """Return AdamW and its schedule: a warm-up over a twentieth of the steps, then a cosine down to zero."""
    optimizer = torch.optim.AdamW(
        course.model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    warm = max(1, course.steps // 20)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.5 + 0.5 * float(np.cos(np.pi * step / course.steps)))
    )


def _descend(
    course: _Training, recipe: Recipe, threads: int, evaluate: Callable[[_Training, int, float], None]
) -> None:
    """Train one encoder; `evaluate(course, step, mean loss)` is called at `recipe.evaluations` even distances."""
    torch.set_num_threads(threads)  # holds for this thread alone
    optimizer, schedule = _optimiser(course, recipe)
    stops = {round(course.steps * (i + 1) / recipe.evaluations) for i in range(recipe.evaluations)}
    losses: list[float] = []
    for step in range(1, course.steps + 1):
        value = course.loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(course.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(value.detach()))
        if step in stops:
            evaluate(course, step, sum(losses) / len(losses))
            losses.clear()


class _JointEvaluation:
    """Evaluates what the two encoders mine together, after equal shares of their training."""

    def __init__(self, output: Path, recipe: Recipe, progress: Progress) -> None:
        self._output, self._recipe, self._progress = output, recipe, progress
        self._log = _Log(output / "training.jsonl")
        self._lock = threading.Lock()
        self._scenes = [scene for scene, _ in plan(recipe.held_out, recipe.seed + 1)]
        self._pixels = pictures(recipe.held_out, recipe.seed + 1)
        self.courses: list[_Training] = []  # CLIP, then Dinov2

    def evaluate(self, course: _Training, step: int, loss: float) -> None:
        """Save the encoder, embed the held-out scenes, and judge as soon as the other encoder is as far."""
        course.save(course.model, self._output / course.name)
        vectors = embed(course.encode, course.model, self._pixels, self._recipe.device)
        self._log.add(encoder=course.name, step=step, loss=round(loss, 4))
        with self._lock:
            course.vectors.append(vectors)
            done = [len(each.vectors) for each in self.courses]
            self._progress(sum(done), len(done) * self._recipe.evaluations)
            if min(done) == len(course.vectors):  # the later of the two
                self._judge(min(done))

    def _judge(self, evaluation: int) -> None:
        clip, dino = (each.vectors[evaluation - 1] for each in self.courses)
        report = judge_vectors(clip, dino, self._scenes)
        shares = {name: round(getattr(report, name), 4) for name in ("precision", "recall", "rerendered_share")}
        self._log.add(evaluation=evaluation, **shares, **asdict(report))


def _settings(recipe: Recipe) -> str:
    versions = {
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "transformers": transformers.__version__,
    }
    return json.dumps({**asdict(recipe), "python": platform.python_version(), **versions}, indent=1) + "\n"


def _courses(recipe: Recipe) -> list[_Training]:
    """Return the two encoders before their first step; each draws its batches from a generator of its own."""
    clip, dino = build_clip(recipe.seed).to(recipe.device), build_dino(recipe.seed + 1).to(recipe.device)
    tokenizer = open_clip.SimpleTokenizer(context_length=CLIP_CONFIG["text_cfg"]["context_length"])
    clip_rng, dino_rng = (np.random.default_rng([recipe.seed, n]) for n in (recipe.clip_steps, recipe.dino_steps))
    return [
        _Training(
            "clip",
            clip,
            recipe.clip_steps,
            lambda: _clip_loss(clip, recipe, clip_rng, tokenizer),
            clip_embedding,
            save_clip,
        ),
        _Training(
            "dino", dino, recipe.dino_steps, lambda: _dino_loss(dino, recipe, dino_rng), dino_embedding, save_dino
        ),
    ]


def train_demo(output: Path, recipe: Recipe = Recipe(), progress: Progress = silent) -> None:
    """Train both encoders and write clip/, dino/, training.jsonl and training.json under `output`.

    `progress(done, total)` counts evaluations of either encoder. The encoders that ship took 16 minutes on two cores.
    The same recipe gives the same weights on the same machine with as many threads.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "training.json").write_text(_settings(recipe), encoding="utf-8")
    together = _JointEvaluation(output, recipe, progress)
    together.courses = _courses(recipe)
    threads = max(1, torch.get_num_threads() // 2)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(_descend, course, recipe, threads, together.evaluate) for course in together.courses]
        for job in running:
            job.result()
