"""The demo's training runs end to end, and the encoders that ship see what the demo needs them to see, and no more."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from blindpairs.demo.corpus import pictures
from blindpairs.demo.towers import clip_embedding, dino_embedding
from blindpairs.demo.train import Recipe, embed, train_demo
from blindpairs.demo.truth import Vectors, judge_vectors, read_truth
from blindpairs.demo.world import ATTRIBUTES, BACKGROUNDS, CATEGORIES, Scene, differences
from blindpairs.workspace import demo_folder

QUICK = Recipe(clip_steps=2, dino_steps=2, clip_batch=8, dino_batch=8, family_size=4, evaluations=2, held_out=30)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_demo(folder, QUICK)
    return folder


def _hashes(folder: Path) -> dict[str, str]:
    weights = sorted(folder.rglob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}


def test_training_writes_encoders_a_log_and_its_settings(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(row["encoder"], row["step"]) for row in rows if "encoder" in row} == {
        (name, step) for name in ("clip", "dino") for step in (1, 2)
    }
    judged = [row for row in rows if "evaluation" in row]
    assert [row["evaluation"] for row in judged] == [1, 2]
    assert {"precision", "recall", "rerendered_share", "alone", "seconds"} <= set(judged[0])
    assert json.loads((trained / "training.json").read_text(encoding="utf-8"))["seed"] == QUICK.seed


def test_the_same_recipe_trains_the_same_weights(trained: Path, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    train_demo(tmp_path, QUICK, progress=lambda done, total, failed=0: reported.append((done, total)))
    assert _hashes(tmp_path) == _hashes(trained)
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_libraries_load_what_training_saved_and_embed_as_training_did(trained: Path) -> None:
    pixels = pictures(6, 1)
    images = [Image.fromarray(image) for image in pixels]
    clip, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{trained / 'clip'}")
    clip.eval()
    dino = AutoModel.from_pretrained(trained / "dino").eval()
    processor = AutoImageProcessor.from_pretrained(trained / "dino")
    with torch.no_grad():
        by_clip = clip.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
        hidden = dino(**processor(images, return_tensors="pt")).last_hidden_state[:, 0]
    by_dino = torch.nn.functional.normalize(hidden, dim=-1)
    assert np.abs(by_clip.numpy() - embed(clip_embedding, clip, pixels)).max() < 1e-3
    assert np.abs(by_dino.numpy() - embed(dino_embedding, dino, pixels)).max() < 1e-3


@dataclass(frozen=True)
class Shipped:
    """The shipped corpus, as the shipped encoders see it."""

    scenes: list[Scene]
    clip: Vectors
    dino: Vectors
    names: Vectors  # (10, D): the text vectors of "a photo of a CATEGORY"


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    folder = demo_folder()
    stored = pq.read_table(folder / "scenes.parquet", columns=["image"]).column("image").to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in stored])
    clip = open_clip.create_model(f"local-dir:{folder / 'clip'}").eval()
    dino = AutoModel.from_pretrained(folder / "dino").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder / 'clip'}")([f"a photo of a {name}" for name in CATEGORIES])
    with torch.no_grad():
        names = clip.encode_text(tokens, normalize=True).numpy()
    scenes = list(read_truth(folder / "scenes.parquet").values())
    return Shipped(scenes, embed(clip_embedding, clip, pixels), embed(dino_embedding, dino, pixels), names)


def test_shipped_clip_knows_the_categories(shipped: Shipped) -> None:
    guessed = (shipped.clip @ shipped.names.T).argmax(axis=1)
    right = [CATEGORIES[guess] == scene.category for guess, scene in zip(guessed, shipped.scenes, strict=True)]
    assert np.mean(right) >= 0.9


def test_shipped_encoders_mine_what_differs_and_leave_what_was_only_rendered_again(shipped: Shipped) -> None:
    report = judge_vectors(shipped.clip, shipped.dino, shipped.scenes)
    assert report.rerendered >= 200
    assert report.rerendered_share <= 0.05
    assert report.recall >= 0.9
    assert report.precision >= 0.99
    assert report.mined >= 1000


def _kept(shipped: Shipped) -> list[tuple[int, int]]:
    """Mine with near-duplicates represented by their first image and two pairs an image at most, widest gap first."""
    clip, dino = shipped.clip @ shipped.clip.T, shipped.dino @ shipped.dino.T
    first = ~np.asarray(np.triu((clip >= 0.95) & (dino >= 0.95), k=1).any(axis=0))  # of its near-duplicates
    mined = np.triu((clip >= 0.95) & (dino <= 0.6), k=1) & np.outer(first, first)
    pairs = np.argwhere(mined)
    gaps = (clip - dino)[mined]
    used: dict[int, int] = {}
    kept = []
    for row in np.argsort(-gaps, kind="stable"):
        a, b = (int(side) for side in pairs[row])
        if used.get(a, 0) < 2 and used.get(b, 0) < 2:
            used[a], used[b] = used.get(a, 0) + 1, used.get(b, 0) + 1
            kept.append((a, b))
    return kept


def test_at_least_150_pairs_are_kept_and_ten_for_each_hidden_attribute(shipped: Shipped) -> None:
    changed = [differences(shipped.scenes[a], shipped.scenes[b]) for a, b in _kept(shipped)]
    assert len(changed) >= 150
    assert min(sum(name in names for names in changed) for name in ATTRIBUTES) >= 10


def test_pairs_that_differ_in_one_attribute_alone_are_mined_for_every_attribute(shipped: Shipped) -> None:
    report = judge_vectors(shipped.clip, shipped.dino, shipped.scenes)
    assert min(report.alone.values()) >= 10


def test_shipped_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in demo_folder().rglob("*") if path.is_file()) < 30_000_000


def test_scenes_span_all_categories_and_backgrounds(shipped: Shipped) -> None:
    assert {scene.category for scene in shipped.scenes} == set(CATEGORIES)
    assert {scene.background for scene in shipped.scenes} == set(BACKGROUNDS)
