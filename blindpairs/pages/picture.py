"""One pair as a picture: for a notebook, a slide or the README."""

import functools
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blindpairs.errors import Undecodable
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.heat import lay_heat
from blindpairs.pages.pairs import GalleryPair
from blindpairs.pages.thumbnails import SMALL_SIDE
from blindpairs.selfjoin.shown import rounded

COLOURS = {
    "clip": "#1f64a5",
    "dino": "#b54d12",
    "ink": "#1d1e20",
    "quiet": "#5f6368",
    "line": "#d8d7d2",
    "frame": "#f1f0ec",
}


def pair_picture(
    pair: GalleryPair,
    image_a: np.ndarray | Undecodable,
    image_b: np.ndarray | Undecodable,
    difference: DifferenceMap | None = None,
) -> Image.Image:
    """One pair as an RGB picture of 1144 x 702 pixels: both images, and below them both cosines on one axis.

    An image is uint8 (H, W, 3) of any size, or the reason why it cannot be read, which is then shown in its place.
    `difference` is drawn over the images: red where they differ most.
    """
    side, margin = 512, 40  # 512 is a whole multiple of the usual small sizes
    sheet = Image.new("RGB", (2 * side + 3 * margin, side + 190), "white")
    heats = [(difference.a, difference.box_a), (difference.b, difference.box_b)] if difference else [None, None]
    for column, (image, heat) in enumerate(zip((image_a, image_b), heats, strict=True)):
        if isinstance(image, Undecodable):
            tile = _reason(image, side)
        else:
            tile = lay_heat(_fitted(image, side), *heat) if heat else _fitted(image, side)
        corner = margin + column * (side + margin)
        sheet.paste(COLOURS["frame"], (corner, margin, corner + side, margin + side))
        sheet.paste(tile, (corner + (side - tile.width) // 2, margin + (side - tile.height) // 2))
    draw, line = ImageDraw.Draw(sheet), side + 118
    low = min(0.0, pair.dino_sim)  # the axis runs from here to 1
    span = sheet.width - 2 * margin
    clip, dino = (margin + span * (value - low) / (1 - low) for value in (pair.clip_sim, pair.dino_sim))
    draw.line((margin, line, margin + span, line), COLOURS["line"], 3)
    draw.line((dino, line, clip, line), COLOURS["ink"], 4)
    # Labels are kept within the picture, and apart from each other if the dots are close.
    over_clip = min(max(clip, margin + 255), margin + span - 75)
    over_dino = min(max(dino, margin + 75), over_clip - 180)
    for at, over, name, value in ((dino, over_dino, "dino", pair.dino_sim), (clip, over_clip, "clip", pair.clip_sim)):
        draw.ellipse((at - 11, line - 11, at + 11, line + 11), COLOURS[name])
        draw.text((over, line - 20), f"{name.upper()} {rounded(value, 3)}", COLOURS[name], _font(28), anchor="md")
    draw.text((margin, line + 28), f"gap {rounded(pair.gap, 3)}", COLOURS["ink"], _font(22))
    differs = "differs: " + ", ".join(pair.differs) if pair.differs else f"pair {pair.pair_id}"
    draw.text((margin + span, line + 28), differs, COLOURS["quiet"], _font(22), anchor="ra")
    return sheet


def _reason(error: Undecodable, side: int) -> Image.Image:
    tile = Image.new("RGB", (side, side), COLOURS["frame"])
    # Pillow's built-in font has few characters besides ASCII.
    words = textwrap.fill(f"{error.message} ({error.code})".encode("ascii", "backslashreplace").decode(), 40)
    ImageDraw.Draw(tile).text((side / 2, side / 2), words, COLOURS["quiet"], _font(22), anchor="mm", align="center")
    return tile


def _fitted(pixels: np.ndarray, side: int) -> Image.Image:
    """The image, scaled to fit side x side. Small images are enlarged by an integer factor without interpolation."""
    image = Image.fromarray(pixels)
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    if max(image.size) > SMALL_SIDE:
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image.resize((image.width * int(factor), image.height * int(factor)), Image.Resampling.NEAREST)


@functools.cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
