"""What an encoder gets to see: the library's own pixels, at any size, in bounded memory."""

import resource
import subprocess
import sys
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms.v2 import functional as v2

from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Interpolation, Preprocess

Pixels = npt.NDArray[np.uint8]
CLIP = Preprocess(
    size=224,
    resize="shortest",
    short_side=224,
    interpolation="bicubic",
    crop_rounding="round",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
DINO = replace(CLIP, short_side=256, crop_rounding="floor", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SIZES = [(500, 375), (333, 500), (640, 427), (227, 224), (224, 227), (301, 225), (1, 1), (7, 5), (1200, 900)]


def scene(height: int, width: int) -> Pixels:
    """Smooth waves with noise on top, the same for the same size: antialiasing and phase both show."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(rows / 7), np.cos(columns / 11), np.sin((rows + columns) / 5)], axis=2)
    noise = np.random.default_rng(height * 10_000 + width).normal(0, 20, (height, width, 3))
    return np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)


def as_torchvision_does(pixels: Pixels, rules: Preprocess) -> Pixels:
    """Pillow's resize and torchvision's centre crop: what open_clip and timm run."""
    mode = transforms.InterpolationMode(rules.interpolation)
    side = rules.short_side if rules.resize == "shortest" else (rules.short_side, rules.short_side)
    steps = transforms.Compose([transforms.Resize(side, mode), transforms.CenterCrop(rules.size)])
    return np.asarray(steps(Image.fromarray(pixels))).transpose(2, 0, 1)


def worst(ours: Pixels, theirs: Pixels) -> int:
    """The largest difference of any byte."""
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rules", [CLIP, replace(CLIP, resize="squash"), replace(CLIP, interpolation="bilinear")])
def test_every_size_gives_the_pixels_of_pillow_within_rounding(size: tuple[int, int], rules: Preprocess) -> None:
    pixels = scene(*size)
    ours = rules.apply(pixels)
    assert ours.dtype == np.uint8
    assert ours.shape == (3, 224, 224)
    assert ours.flags.c_contiguous
    theirs = as_torchvision_does(pixels, rules)
    # worst where the scale is close to one (225 -> 224) and the picture is noisy; photographs stay within 1 or 2
    assert worst(ours, theirs) <= 8
    assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 0.3


@pytest.mark.parametrize("spare", range(1, 9))
def test_crop_is_cut_at_the_very_pixel_where_each_library_cuts_it(spare: int) -> None:
    from transformers import BitImageProcessor

    wide, tall = scene(224, 224 + spare), scene(224 + spare, 224)  # nothing to resize: equality is exact
    processor = BitImageProcessor(size={"shortest_edge": 224}, do_rescale=False, do_normalize=False)
    for pixels in (wide, tall):
        assert np.array_equal(CLIP.apply(pixels), as_torchvision_does(pixels, CLIP))
        (theirs,) = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
        assert np.array_equal(replace(CLIP, crop_rounding="floor").apply(pixels), theirs)


def test_the_two_roundings_differ_by_a_pixel_where_three_are_spare() -> None:
    pixels = scene(224, 227)
    rounded, floored = CLIP.apply(pixels), replace(CLIP, crop_rounding="floor").apply(pixels)
    assert np.array_equal(rounded[:, :, :-1], floored[:, :, 1:])
    assert not np.array_equal(rounded, floored)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (427, 640)])
def test_uint8_resampling_equals_torchvision_bit_for_bit(size: tuple[int, int]) -> None:
    pixels = scene(*size)
    image = v2.resize(torch.from_numpy(pixels).permute(2, 0, 1), [256], transforms.InterpolationMode.BICUBIC)
    top, left = (image.shape[1] - 224) // 2, (image.shape[2] - 224) // 2
    assert np.array_equal(DINO.apply(pixels), image[:, top : top + 224, left : left + 224].numpy())


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2000), (40, 9000), (9000, 40), (900, 20)])
@pytest.mark.parametrize("rounding", ["round", "floor"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_extreme_aspect_ratio_gives_what_resizing_the_whole_would(
    size: tuple[int, int], rounding: Literal["round", "floor"], interpolation: Interpolation
) -> None:
    rules = replace(CLIP, size=24, short_side=32, crop_rounding=rounding, interpolation=interpolation)
    pixels = scene(*size)
    whole = Image.fromarray(pixels).resize(
        (int(32 * size[1] / min(size)), int(32 * size[0] / min(size))),
        Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR,
    )
    spare = [side - 24 for side in (whole.height, whole.width)]
    top, left = (round(one / 2) if rounding == "round" else one // 2 for one in spare)
    theirs = np.asarray(whole)[top : top + 24, left : left + 24].transpose(2, 0, 1)
    assert worst(rules.apply(pixels), theirs) <= 1


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (2, 100_000)])
def test_extreme_aspect_ratio_takes_no_memory_for_what_the_crop_leaves_out(size: tuple[int, int]) -> None:
    pixels = scene(*size)
    CLIP.apply(scene(300, 400))  # what torch takes once is not the image's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert CLIP.apply(pixels).shape == (3, 224, 224)  # the whole would be 9 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    resize=st.sampled_from(["shortest", "squash"]),
    colour=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_an_image_of_one_colour_stays_that_colour(
    height: int, width: int, resize: Literal["shortest", "squash"], colour: tuple[int, int, int]
) -> None:
    rules = replace(CLIP, size=16, short_side=20, resize=resize)
    square = rules.apply(np.full((height, width, 3), colour, dtype=np.uint8))
    assert np.array_equal(square, np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, 16, 16)))


def test_read_only_and_turned_views_give_what_a_copy_gives() -> None:
    pixels = scene(300, 400)
    turned = pixels[::-1].transpose(1, 0, 2)  # as an EXIF rotation leaves it
    frozen = pixels.copy()
    frozen.setflags(write=False)
    assert np.array_equal(CLIP.apply(turned), CLIP.apply(np.ascontiguousarray(turned)))
    assert np.array_equal(CLIP.apply(frozen), CLIP.apply(pixels))


def test_image_of_the_right_size_passes_without_loading_torch() -> None:
    code = (
        "import sys, numpy as np; from blindpairs.images.preprocess import Preprocess;"
        "rules = Preprocess(64, 'shortest', 64, 'bicubic', 'round', (0, 0, 0), (1, 1, 1));"
        "pixels = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3);"
        "assert np.array_equal(rules.apply(pixels), pixels.transpose(2, 0, 1));"
        "assert rules.apply(np.zeros((1, 4000, 3), np.uint8)).shape == (3, 64, 64);"
        "assert not {'torch', 'torchvision', 'open_clip', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_encoders_with_the_same_geometry_share_one_result() -> None:
    assert CLIP.geometry == replace(CLIP, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).geometry
    changes: list[dict[str, Any]] = [
        {"size": 200},
        {"resize": "squash"},
        {"short_side": 225},
        {"interpolation": "bilinear"},
    ]
    others = [replace(CLIP, **change) for change in changes] + [replace(CLIP, crop_rounding="floor")]
    assert len({CLIP.geometry, *(other.geometry for other in others)}) == 6


def test_description_names_every_rule_between_file_and_encoder() -> None:
    assert DINO.describe() == {
        "size": 224,
        "resize": "shortest",
        "short_side": 256,
        "interpolation": "bicubic",
        "crop_rounding": "floor",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "antialias": True,
        "exif": "applied once, at decode",
        "alpha": "composited on white",
    }


def test_crop_larger_than_the_resized_image_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        replace(CLIP, short_side=200)
    assert str(refused.value) == "the preprocessing resizes to 200 and crops 224; the crop must be the smaller"
