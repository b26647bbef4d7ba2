"""Examples: the pixels of the saved processor, text-only rows, cuts, and errors that name the row."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instruction_files import caption, picture, row, save_rows
from PIL import Image
from torch.utils.data import DataLoader
from trained_tokenizers import llama_like

from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.batches import Collator
from blindpairs.mof.examples import Examples, Sight
from blindpairs.mof.indexing import open_index
from blindpairs.mof.pixels import PixelRules, padded_to_square
from blindpairs.mof.templates import TurnTokenizer

SIZES = [(40, 24), (24, 40), (33, 64), (64, 64), (7, 200), (301, 97), (16, 16)]


def processor(size: int = 32, **options: Any) -> Any:
    from transformers import LlavaImageProcessor

    return LlavaImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **options)


@pytest.mark.parametrize("pad", [True, False], ids=["padded", "cropped"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_those_of_the_saved_processor(size: tuple[int, int], pad: bool, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", 1, size)
    images = processor(do_pad=pad)
    theirs = images(Image.open(path), return_tensors="pt")["pixel_values"][0]
    ours = Sight(tmp_path, PixelRules.of(images), 4).image("a.png")["pixel_values"]
    if max(size) > 16 * min(size) and not pad:  # only the part that is kept is resampled, by Pillow
        assert (ours - theirs).abs().max() < 0.1
    else:
        assert (ours - theirs).abs().max() < 1e-5


def test_processor_that_squashes_is_followed(tmp_path: Path) -> None:
    from transformers import SiglipImageProcessor

    images = SiglipImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    path = picture(tmp_path / "a.png", 1, (50, 80))
    theirs = images(Image.open(path), return_tensors="pt")["pixel_values"][0]
    assert (Sight(tmp_path, PixelRules.of(images), 4).image("a.png")["pixel_values"] - theirs).abs().max() < 1e-5
    with pytest.raises(ConfigError, match="to a square"):
        PixelRules.of(SiglipImageProcessor(size={"height": 32, "width": 16}))


def test_padding_is_that_of_llava() -> None:
    def expand2square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
        width, height = image.size
        side = max(width, height)
        square = Image.new("RGB", (side, side), colour)
        square.paste(image, (0, (width - height) // 2) if width > height else ((height - width) // 2, 0))
        return square

    for width, height in SIZES:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        theirs = np.asarray(expand2square(Image.fromarray(pixels), (122, 116, 104)))
        assert np.array_equal(padded_to_square(pixels, (122, 116, 104)), theirs)


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    rows = [
        caption("a", "sub/a.png"),
        row("b", None, "Hello", "Hi"),
        caption("missing", "absent.png"),
        row("long", "sub/a.png", "What?", "word " * 400),
        row("late", "sub/a.png", "word " * 400, "Yes.", "<image>", "Yes."),
    ]
    picture(tmp_path / "sub/a.png", 1)
    tokens = TurnTokenizer(llama_like(), "vicuna_v1")
    index = open_index(save_rows(tmp_path / "rows.json", rows), tokens, tmp_path / "index")
    return Examples(index, tokens, Sight(tmp_path, PixelRules.of(processor()), 16), max_length=500)


def test_lengths_are_known_without_opening_an_image(examples: Examples) -> None:
    assert examples.lengths.tolist()[:2] == [len(examples[number]["input_ids"]) for number in range(2)]
    assert examples.lengths.tolist()[3:] == [500, 500]
    assert examples.has_image.tolist() == [True, False, True, True, True]


def test_text_has_no_pixels_and_an_image_its_places(examples: Examples) -> None:
    assert set(examples[1]) == {"input_ids", "labels"}
    assert (examples[0]["input_ids"] == examples.tokens.image_id).sum() == 16
    assert examples[0]["pixel_values"].shape == (3, 32, 32)


def test_long_example_is_cut_and_one_that_would_lose_its_image_is_named(examples: Examples) -> None:
    assert len(examples[3]["input_ids"]) == len(examples[3]["labels"]) == 500
    with pytest.raises(InputError, match="row 'late': its image needs 16 places and lies beyond the first 500"):
        examples[4]


def test_image_that_cannot_be_used_is_named_with_its_row(examples: Examples) -> None:
    with pytest.raises(InputError, match=r"row 'missing': its image .*absent\.png cannot be used .missing"):
        examples[2]


def test_loader_processes_make_the_same_examples(examples: Examples) -> None:
    loader = DataLoader(
        torch.utils.data.Subset(examples, [0, 1, 3]),
        batch_size=3,
        num_workers=1,
        collate_fn=Collator(3, examples.dummy()),
    )
    (batch,) = loader
    again = pickle.loads(pickle.dumps(examples))
    expected = Collator(3, again.dummy())([again[number] for number in (0, 1, 3)])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[key], expected[key]) for key in expected)
