"""Zero-shot classification: batches say what single images say, and what cannot be read is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictured_pairs import picture

from blindpairs.encoders import load_encoder, load_text_encoder
from blindpairs.errors import InputError
from blindpairs.evaluate import zero_shot
from blindpairs.evaluate.zero_shot import evaluate_zero_shot, labelled_images
from blindpairs.images import Limits
from blindpairs.images.decode import decode_pixels
from blindpairs.statistics import wilson_interval


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of four pictures each."""
    for number, name in enumerate(["red_square", "blue circle", "cat"]):
        (tmp_path / name).mkdir()
        for seed in range(4):
            (tmp_path / name / f"{seed}.jpg").write_bytes(picture(10 * number + seed))
    return tmp_path


def test_batches_say_what_single_images_say(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "BATCH", 5)
    found = evaluate_zero_shot(labelled_images(photos), "demo:clip", "cpu")
    encoder, texts = load_encoder("clip", "demo:clip", exact=True), load_text_encoder("demo:clip")
    names = ("blue circle", "cat", "red_square")
    said = [texts.encode([f"a photo of a {name.replace('_', ' ')}"])[0] for name in names]
    right = []
    for place, name in enumerate(names):
        for seed in range(4):
            pixels = decode_pixels((photos / name / f"{seed}.jpg").read_bytes(), Limits())[0]
            image = encoder.encode(torch.from_numpy(encoder.preprocess.apply(pixels))[None])[0]
            right.append(int(np.argmax([float(image @ one) for one in said])) == place)
    assert found.right.tolist() == right
    assert (found.top1.hits, found.top1.count) == (sum(right), 12)
    assert found.top1.interval == wilson_interval(sum(right) / 12, 12)
    assert found.weights_hash == encoder.weights_hash


def test_tie_is_wrong() -> None:
    cosines = np.array([[0.2, 0.1], [0.2, 0.2], [0.1, 0.2]], np.float32)
    assert zero_shot._right(cosines, np.array([0, 0, 0])).tolist() == [True, False, False]


def test_image_that_cannot_be_read_is_named(photos: Path) -> None:
    (photos / "cat" / "9.jpg").write_bytes(b"\xff\xd8\xff nothing")
    with pytest.raises(InputError, match=r"cat/9\.jpg cannot be classified \("):
        evaluate_zero_shot(labelled_images(photos), "demo:clip", "cpu")


def test_folder_without_classes_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        labelled_images(tmp_path / "nowhere")
    (tmp_path / "a_b").mkdir()
    with pytest.raises(InputError, match="has 1 sub-folders: it needs two or more"):
        labelled_images(tmp_path)
    (tmp_path / "a b").mkdir()
    with pytest.raises(InputError, match="has classes without a name of their own: 'a b', 'a_b'"):
        labelled_images(tmp_path)
    (tmp_path / "a b").rename(tmp_path / "___")
    with pytest.raises(InputError, match="has classes without a name of their own: '___'"):
        labelled_images(tmp_path)
