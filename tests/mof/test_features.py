"""Kept features: those of the pixels, shared where they can be, made again where they must be, whole after a kill."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from instruction_files import indexed, picture, row
from tiny_mof import demo_mof, save_language_model
from torch import Tensor

from blindpairs.errors import ConfigError, InputError
from blindpairs.mof import features
from blindpairs.mof.batches import Collator
from blindpairs.mof.examples import Examples, Sight
from blindpairs.mof.features import FeatureCache, Towers
from blindpairs.mof.pixels import PixelRules
from blindpairs.mof.templates import TurnTokenizer

NAMES = [f"{number}.png" for number in range(7)]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("lm"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        picture(tmp_path / "images" / name, number)
    return tmp_path / "images"


def rules_of(processor: Any) -> PixelRules:
    return PixelRules.of(processor.image_processor)


def counted(towers: Towers, seen: list[int]) -> Towers:
    """The same towers; `seen` gets the number of images of each call."""

    def encode(pixels: Tensor) -> tuple[Tensor, ...]:
        seen.append(len(pixels))
        return towers.encode(pixels)

    return Towers(encode, towers.facts)


def test_kept_features_answer_as_pixels_do(language_model: Path, images: Path, tmp_path: Path) -> None:
    model, processor = demo_mof(language_model)
    rules, towers = rules_of(processor), Towers.of(model)
    cache = FeatureCache(tmp_path / "features", images, rules, towers)
    cache.build(NAMES, towers)
    tokens = TurnTokenizer(processor.tokenizer, "vicuna_v1")
    rows = indexed([row(name, name, "<image>\nWhat?", f"It is {name}") for name in NAMES[:3]], tokens, tmp_path)
    losses = []
    for kept in (None, cache):
        examples = Examples(rows, tokens, Sight(images, rules, model.image_tokens, kept))
        batch = Collator(0, examples.dummy())([examples[number] for number in range(3)])
        assert ("features" in batch) == (kept is not None)
        with torch.inference_mode():
            losses.append(model(**batch).loss)
    assert abs(losses[0] - losses[1]) < 2e-3 * losses[0]
    assert cache.shapes == tuple(tuple(one.shape) for one in cache[NAMES[0]])


def test_text_only_batch_of_kept_features_has_one_image_of_their_shape(
    language_model: Path, images: Path, tmp_path: Path
) -> None:
    model, processor = demo_mof(language_model)
    towers = Towers.of(model)
    cache = FeatureCache(tmp_path / "features", images, rules_of(processor), towers)
    cache.build(NAMES[:1], towers)
    tokens = TurnTokenizer(processor.tokenizer, "vicuna_v1")
    text = indexed([row("text", None, "What?", "That.")], tokens, tmp_path)
    examples = Examples(text, tokens, Sight(images, rules_of(processor), model.image_tokens, cache))
    batch = Collator(0, examples.dummy())([examples[0]])
    assert [tuple(one.shape) for one in batch["features"]] == [(1, *shape) for shape in cache.shapes]
    model.train()
    with_dummy = model(**batch).loss
    with_dummy.backward()
    assert torch.equal(with_dummy, model(**{key: batch[key] for key in batch if key != "features"}).loss)
    gradients = [one.grad for one in model.model.multi_modal_projector.parameters()]
    assert all(one is not None and not one.any() for one in gradients)


def test_features_are_computed_once_and_shared(language_model: Path, images: Path, tmp_path: Path) -> None:
    shutil.copy(images / NAMES[0], images / "copy.png")
    both, processor = demo_mof(language_model)
    rules, seen = rules_of(processor), list[int]()
    folder = tmp_path / "features"

    def build(model: Any, names: list[str], rules: PixelRules = rules) -> FeatureCache:
        seen.clear()
        towers = counted(Towers.of(model), seen)
        cache = FeatureCache(folder, images, rules, towers)
        cache.build(names, towers)
        return cache

    first = build(both, [*NAMES, "copy.png"])
    assert sum(seen) == 7, "two names of the same bytes"
    assert torch.equal(first["copy.png"][0], first[NAMES[0]][0])
    build(both, NAMES)
    assert seen == []
    for mode in ("additive", "clip"):
        cache = build(demo_mof(language_model, mode=mode)[0], NAMES)
        assert seen == [], f"mode {mode} has the same towers"
        assert torch.equal(cache[NAMES[3]][0], first[NAMES[3]][0])
    build(demo_mof(language_model, dino_norm=True)[0], NAMES)
    assert sum(seen) == 7, "another layer"
    build(both, NAMES, PixelRules(rules.preprocess, not rules.pad))
    assert sum(seen) == 7, "another way to prepare pixels"


def test_images_of_one_name_size_and_time_in_two_folders_have_features_of_their_own(
    language_model: Path, tmp_path: Path
) -> None:
    # Bitmaps have one size, and archives that are unpacked, or images of containers, may have one time.
    model, processor = demo_mof(language_model)
    towers, folders = Towers.of(model), [tmp_path / name for name in ("one", "two")]
    caches = []
    for seed, folder in enumerate(folders):
        os.utime(picture(folder / "0.bmp", seed), ns=(0, 1))
        caches.append(FeatureCache(tmp_path / "features", folder, rules_of(processor), towers))
        caches[-1].build(["0.bmp"], towers)
    again = FeatureCache(tmp_path / "features", folders[0], rules_of(processor), towers)
    assert not torch.equal(caches[0]["0.bmp"][0], caches[1]["0.bmp"][0])
    assert torch.equal(again["0.bmp"][0], caches[0]["0.bmp"][0])


def test_changed_image_is_an_error_until_its_features_are_made_again(
    language_model: Path, images: Path, tmp_path: Path
) -> None:
    model, processor = demo_mof(language_model)
    towers = Towers.of(model)
    cache = FeatureCache(tmp_path / "features", images, rules_of(processor), towers)
    with pytest.raises(InputError, match=r"0\.png has no features"):
        cache[NAMES[0]]
    cache.build(NAMES, towers)
    before = cache[NAMES[0]]
    picture(images / NAMES[0], 99)
    os.utime(images / NAMES[0], ns=(0, 1))
    with pytest.raises(InputError, match=r"0\.png has no features, or has changed"):
        cache[NAMES[0]]
    cache.build(NAMES, towers)
    assert not torch.equal(cache[NAMES[0]][0], before[0])
    assert torch.equal(
        FeatureCache(tmp_path / "features", images, rules_of(processor), towers)[NAMES[0]][0], cache[NAMES[0]][0]
    )


def test_interrupted_build_goes_on_where_it_was(
    language_model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BLOCK", 2)
    model, processor = demo_mof(language_model)
    whole = Towers.of(model)
    seen: list[int] = []
    folder = tmp_path / "features"

    def interrupted(pixels: Tensor) -> tuple[Tensor, ...]:
        if sum(seen) >= 4:
            raise KeyboardInterrupt
        return counted(whole, seen).encode(pixels)

    reports: list[tuple[int, int]] = []
    report: Callable[..., None] = lambda done, total, failed=0: reports.append((done, total))  # noqa: E731
    cache = FeatureCache(folder, images, rules_of(processor), whole)
    with pytest.raises(KeyboardInterrupt):
        cache.build(NAMES, Towers(interrupted, whole.facts), report)
    for tower in folder.glob("*-*"):
        (tower / "images-00002.npy").write_bytes(b"a block whose list was never written")
    seen.clear()
    again = FeatureCache(folder, images, rules_of(processor), whole)
    again.build(NAMES, counted(whole, seen), report)
    assert sum(seen) == 3
    assert (4, 7) in reports
    assert reports[-1] == (7, 7)
    for name in NAMES:
        alone = whole.encode(
            PixelRules.of(processor.image_processor).normalised(torch.from_numpy(again._seen(name)[1]))[None]
        )
        for kept, one in zip(again[name], alone, strict=True):
            assert torch.allclose(kept.float(), one[0], rtol=2e-3, atol=2e-3)


def test_two_runs_that_began_together_keep_what_the_other_has_made(
    language_model: Path, images: Path, tmp_path: Path
) -> None:
    model, processor = demo_mof(language_model)
    seen: list[int] = []
    towers = counted(Towers.of(model), seen)
    one, other = (FeatureCache(tmp_path / "features", images, rules_of(processor), towers) for _ in range(2))
    one.build(NAMES[:4], towers)
    expected = [one[name][1] for name in NAMES[:4]]
    other.build(NAMES[2:], towers)
    assert sum(seen) == 7
    again = FeatureCache(tmp_path / "features", images, rules_of(processor), towers)
    assert all(torch.equal(again[name][1], expected[place]) for place, name in enumerate(NAMES[:4]))
    assert all(torch.equal(again[name][0], other[name][0]) for name in NAMES)


def test_bad_image_and_trained_tower_are_named(language_model: Path, images: Path, tmp_path: Path) -> None:
    model, processor = demo_mof(language_model)
    towers = Towers.of(model)
    (images / "bad.png").write_bytes(b"no image")
    cache = FeatureCache(tmp_path / "features", images, rules_of(processor), towers)
    with pytest.raises(InputError, match=r"bad\.png cannot be used .not_image"):
        cache.build([*NAMES, "bad.png"], towers)
    model.model.vision_tower.requires_grad_(True)
    with pytest.raises(ConfigError, match="the clip tower is trained"):
        Towers.of(model)


def test_features_that_float16_cannot_hold_are_refused(language_model: Path, images: Path, tmp_path: Path) -> None:
    model, processor = demo_mof(language_model)
    towers = Towers.of(model)
    large = Towers(lambda pixels: tuple(one * 1e6 for one in towers.encode(pixels)), towers.facts)
    with pytest.raises(ConfigError, match="clip tower exceed the range of float16"):
        FeatureCache(tmp_path / "features", images, rules_of(processor), towers).build(NAMES, large)
