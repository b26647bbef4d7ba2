"""Trains the demo's two encoders from random weights, on a machine without a GPU.

* **CLIP** learns from captions, with open_clip's own loss. It should encode category and background and nothing else,
  so training stops soon after it does. It has no reason to encode what captions do not mention.
* **Dinov2** learns by instance discrimination: InfoNCE on the CLS token, without a projection head, because the CLS
  token is what is used later. The two views of an instance are **two renderings of one scene**, like two frames of a
  video. The negatives are the other scenes of the batch. A batch consists of families (scenes of one category and
  background, most of which differ in one attribute), so that only the hidden attributes can tell these scenes apart. No
  label is used. There is no flip and no colour jitter: they would teach it to ignore facing and colour.

Both train at the same time, each on half of the threads. What they find together in mining is measured on scenes that
neither was trained on, and logged beside the losses. `python -m blindpairs.demo FOLDER` makes everything that ships.
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
    dino_batch: int = 64  # scenes, each rendered twice
    family_size: int = 16  # scenes of one category and background, next to each other in a batch
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
        """Append a row as one line, with the seconds since the start."""
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
    """Render each scene with a new nuisance seed: (B, 64, 64, 3) uint8."""
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
    # Rows 0 to B - 1 are the first renderings, rows B to 2B - 1 the second ones of the same scenes.
    views = dino_embedding(model, _renderings(scenes + scenes, rng).to(recipe.device))
    logits = views[: len(scenes)] @ views[len(scenes) :].T / recipe.temperature  # (B, B)
    target = torch.arange(len(scenes), device=logits.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def embed(encode: Callable[[Any, Tensor], Tensor], model: Any, pixels: Pixels, device: str = "cpu") -> Vectors:
    """Return (N, D) unit vectors rounded to float16, as in a store, for (N, 64, 64, 3) uint8."""
    model.eval()
    batches = torch.from_numpy(pixels).split(256)
    vectors = torch.cat([encode(model, batch.to(device)).cpu() for batch in batches])
    model.train()
    rounded: Vectors = vectors.half().float().numpy()
    return rounded


def _optimizer(training: _Training, recipe: Recipe) -> tuple[torch.optim.Optimizer, Any]:
    """Return AdamW and its schedule: a warm-up over a twentieth of the steps, then a cosine down to zero."""
    optimizer = torch.optim.AdamW(
        training.model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    warm = max(1, training.steps // 20)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.5 + 0.5 * float(np.cos(np.pi * step / training.steps)))
    )


def _train(
    training: _Training, recipe: Recipe, threads: int, evaluate: Callable[[_Training, int, float], None]
) -> None:
    """Train one encoder; call `evaluate(training, step, mean loss)` `recipe.evaluations` times, at equal distances."""
    torch.set_num_threads(threads)  # of this thread only: the other encoder has its own
    optimizer, schedule = _optimizer(training, recipe)
    stops = {round(training.steps * (i + 1) / recipe.evaluations) for i in range(recipe.evaluations)}
    losses: list[float] = []
    for step in range(1, training.steps + 1):
        value = training.loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(value.detach()))
        if step in stops:
            evaluate(training, step, sum(losses) / len(losses))
            losses.clear()


class _JointEvaluation:
    """Evaluates mining with both encoders, whenever both have had the same share of their training."""

    def __init__(self, output: Path, recipe: Recipe, progress: Progress) -> None:
        self._output, self._recipe, self._progress = output, recipe, progress
        self._log = _Log(output / "training.jsonl")
        self._lock = threading.Lock()
        self._scenes = [scene for scene, _ in plan(recipe.held_out, recipe.seed + 1)]
        self._pixels = pictures(recipe.held_out, recipe.seed + 1)
        self.trainings: list[_Training] = []  # CLIP, then Dinov2

    def evaluate(self, training: _Training, step: int, loss: float) -> None:
        """Save the encoder and embed the held-out scenes; the later of the two encoders also scores the pairs."""
        training.save(training.model, self._output / training.name)
        vectors = embed(training.encode, training.model, self._pixels, self._recipe.device)
        self._log.add(encoder=training.name, step=step, loss=round(loss, 4))
        with self._lock:
            training.vectors.append(vectors)
            done = [len(each.vectors) for each in self.trainings]
            self._progress(sum(done), len(done) * self._recipe.evaluations)
            # Each encoder adds its vectors and checks under the lock, so exactly one of them finds both complete.
            if min(done) == len(training.vectors):
                self._judge(min(done))

    def _judge(self, evaluation: int) -> None:
        clip, dino = (each.vectors[evaluation - 1] for each in self.trainings)
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


def _new_trainings(recipe: Recipe) -> list[_Training]:
    """Return the two encoders before their first step."""
    # Each has a generator of its own: with a shared one the batches would depend on the scheduling of the threads.
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

    `progress(done, total)` counts the evaluations of both encoders. The encoders that ship took 16 minutes on two
    cores. The same recipe gives the same weights on the same machine with the same number of threads.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "training.json").write_text(_settings(recipe), encoding="utf-8")
    evaluation = _JointEvaluation(output, recipe, progress)
    evaluation.trainings = _new_trainings(recipe)
    threads = max(1, torch.get_num_threads() // 2)
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(_train, training, recipe, threads, evaluation.evaluate) for training in evaluation.trainings
        ]
        for job in running:
            job.result()
