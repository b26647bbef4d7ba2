"""The demo world keeps its promises: every attribute shows, the corpus can be rebuilt, and its truth is right."""

import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from blindpairs.demo import corpus
from blindpairs.demo.draw import Nuisance, render
from blindpairs.demo.truth import codes, judge, judge_rows, judge_vectors, patterns_of, read_truth
from blindpairs.demo.world import (
    ATTRIBUTES,
    BACKGROUNDS,
    CATEGORIES,
    FIELDS,
    PATTERNS,
    Scene,
    altered,
    caption,
    differences,
    family,
    random_scene,
)
from blindpairs.images.decode import image_id
from blindpairs.mine import Images, MiningOptions, mine
from blindpairs.workspace import demo_folder

CAT = Scene("cat", "beach", "left", "yes", "on", "2", "left", "red", "striped", "A", "near")
STILL = Nuisance(shift=0, jitter=0, phase=0, brightness=0.0, noise=0.0)


def test_the_nine_hidden_attributes_are_the_papers_nine_patterns() -> None:
    assert [PATTERNS[name].name for name in ATTRIBUTES] == [
        "Orientation and Direction",
        "Presence of Specific Features",
        "State and Condition",
        "Quantity and Count",
        "Positional and Relational Context",
        "Color and Appearance",
        "Structural and Physical Characteristics",
        "Text",
        "Viewpoint and Perspective",
    ]


def test_every_value_has_an_answer_and_a_caption_and_no_two_answers_are_alike() -> None:
    for pattern in PATTERNS.values():
        assert set(pattern.answers) == set(pattern.captions)
        assert len(set(pattern.answers.values())) == len(pattern.answers) >= 2


def test_questions_are_plain_sentences_with_their_answer() -> None:
    assert CAT.question("facing") == "Which way does the cat face?"
    assert CAT.answer("facing") == "left"
    assert [CAT.answer(name) for name in ("count", "ball", "zoom")] == ["two", "on the left", "from near"]


def test_altered_changes_these_attributes_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    for attribute in ATTRIBUTES:
        assert differences(CAT, altered(CAT, [attribute], rng)) == (attribute,)


def test_a_family_shares_what_captions_name_and_varies_each_hidden_attribute_alone() -> None:
    rng = np.random.default_rng(1)
    alone: Counter[str] = Counter()
    for _ in range(60):
        first, *rest = family(rng, 7)
        assert len({first, *rest}) == 7
        changed = [differences(first, scene) for scene in rest]
        assert all(set(names) <= set(ATTRIBUTES) and 1 <= len(names) <= 3 for names in changed)
        alone.update(names[0] for names in changed if len(names) == 1)
    assert set(alone) == set(ATTRIBUTES)
    assert min(alone.values()) >= 10


def test_captions_name_the_category_half_of_them_the_background_and_few_a_hidden_attribute() -> None:
    rng = np.random.default_rng(2)
    captions = [caption(CAT, rng) for _ in range(4000)]
    assert all("cat" in words for words in captions)
    with_background = sum("beach" in words for words in captions) / len(captions)
    hidden = [words for pattern in PATTERNS.values() for words in pattern.captions.values()]
    given_away = sum(any(words in text for words in hidden) for text in captions) / len(captions)
    assert 0.46 < with_background < 0.54
    assert 0.015 < given_away < 0.05


def test_a_rendering_is_decided_by_its_scene_and_seed() -> None:
    pixels = render(CAT, 5)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, render(CAT, 5))
    assert not np.array_equal(pixels, render(CAT, 6))


def _changed_pixels(one: Scene, other: Scene) -> int:
    apart = np.abs(render(one, 0, STILL).astype(int) - render(other, 0, STILL).astype(int)).max(axis=-1)
    return int((apart > 40).sum())


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_each_hidden_attribute_is_plainly_visible_on_every_category_and_background(attribute: str) -> None:
    rng = np.random.default_rng(3)
    for i in range(80):
        scene = replace(random_scene(rng), category=CATEGORIES[i % 10], background=BACKGROUNDS[i // 10])
        assert _changed_pixels(scene, altered(scene, [attribute], rng)) >= 16, scene


def test_without_nuisance_a_rerendering_is_the_same_picture() -> None:
    assert np.array_equal(render(CAT, 1, STILL), render(CAT, 2, STILL))


def test_the_same_seed_builds_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        corpus.build_corpus(tmp_path / name, count=30, seed=seed)
    digests = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in "abc"}
    assert digests["a"] == digests["b"] != digests["c"]


def test_rerenderings_are_a_quarter_or_more_and_show_the_scene_they_name() -> None:
    planned = corpus.plan(200, 4)
    again = [(scene, first) for scene, first in planned if first is not None]
    assert len(again) >= 50
    assert all(planned[first] == (scene, None) for scene, first in again)


def _shipped(columns: list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(demo_folder() / "scenes.parquet", columns=columns).to_pylist()
    return rows


def test_the_shipped_corpus_is_what_the_generator_builds() -> None:
    rows = _shipped(["image", "scene_id", "rerender_of", *FIELDS])
    planned = corpus.plan(corpus.COUNT, corpus.SEED)
    assert len(rows) == corpus.COUNT
    assert [Scene(**{name: str(row[name]) for name in FIELDS}) for row in rows] == [scene for scene, _ in planned]
    for row, pixels in zip(rows[:20], corpus.pictures(20, corpus.SEED), strict=True):
        image = row["image"]
        assert isinstance(image, dict)
        shown = np.asarray(Image.open(io.BytesIO(image["bytes"])), dtype=int)
        assert np.abs(shown - pixels).mean() < 5.0  # what JPEG takes off the noise; another scene is ten times as far


def test_the_shipped_corpus_has_a_hugging_face_image_column_and_unique_images() -> None:
    schema = pq.read_schema(demo_folder() / "scenes.parquet")
    assert b'"image": {"_type": "Image"}' in schema.metadata[b"huggingface"]
    assert [field.name for field in schema.field("image").type] == ["bytes", "path"]
    assert len(read_truth(demo_folder() / "scenes.parquet")) == corpus.COUNT


def test_a_report_counts_each_pair_where_it_belongs() -> None:
    hatless = replace(CAT, hat="no")
    scenes = [CAT, CAT, hatless, replace(hatless, lamp="off")]
    alike = np.array([[0, 1], [0, 2], [0, 3], [2, 3]])
    report = judge_rows(alike, np.array([True, True, True, False]), codes(scenes))
    assert (report.alike, report.alike_differing, report.rerendered) == (4, 3, 1)
    assert (report.mined, report.mined_differing, report.mined_rerendered) == (3, 2, 1)
    assert report.differing == {**dict.fromkeys(ATTRIBUTES, 0), "hat": 2, "lamp": 1}
    assert report.alone == {**dict.fromkeys(ATTRIBUTES, 0), "hat": 1}
    assert (report.precision, report.recall, report.rerendered_share) == (2 / 3, 2 / 3, 1.0)


def test_judging_vectors_agrees_with_judging_the_pairs_by_id() -> None:
    rng = np.random.default_rng(5)
    scenes = [scene for scene, _ in corpus.plan(40, 6)]
    vectors = rng.standard_normal((2, 40, 3)).astype(np.float32)
    clip, dino = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    names = [image_id(bytes([i])) for i in range(40)]
    every = [(i, j) for i in range(40) for j in range(i) if clip[i] @ clip[j] >= 0.5]
    mined = [(names[i], names[j]) for i, j in every if dino[i] @ dino[j] <= 0.2]
    alike = [(names[i], names[j]) for i, j in every]
    by_id = judge(mined, dict(zip(names, scenes, strict=True)), alike)
    assert by_id == judge_vectors(clip, dino, scenes, clip_min=0.5, dino_max=0.2)
    assert 0 < by_id.mined < by_id.alike


def test_the_judge_counts_what_mining_counts_however_long_the_vectors_are() -> None:
    clip, dino = np.random.default_rng(7).standard_normal((2, 40, 3)).astype(np.float16)
    names = [image_id(bytes([i])) for i in range(40)]
    images = Images(names, names, np.zeros(40, dtype=bool))
    counts = mine(clip, dino, images, MiningOptions(clip_min=0.5, dino_max=0.2)).counts
    report = judge_vectors(clip, dino, [CAT] * 40, clip_min=0.5, dino_max=0.2)
    assert (report.alike, report.mined) == (counts.above_clip_min, counts.blind)
    assert 0 < report.mined < report.alike


def test_patterns_of_a_pair_are_named_as_the_paper_names_them() -> None:
    assert patterns_of(CAT, replace(CAT, letter="X", facing="right")) == ("Orientation and Direction", "Text")
