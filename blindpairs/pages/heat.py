"""Maps of differences in colour: over an image of the page, and over an image of a picture.

Where a map is low nothing is drawn. Values in between go from transparent amber to red that hides most of the image.
"""

import base64
import io
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from blindpairs.mine.maps import WHOLE, Box, DifferenceMap

NO_MAPS: Mapping[str, DifferenceMap] = MappingProxyType({})
LEVELS = 16  # 4 bits a cell: a map of 37 x 37 cells takes 0.7 kB, and the eye sees no steps after smooth scaling
FIRST_VISIBLE = 0.2  # lower values are noise of the encoder
LOW, HIGH, OPACITY = (255, 190, 0), (225, 0, 60), 200
# What an image keeps of its colours under a map, because red is not seen on red; the page does the same.
SATURATION = 0.2


def heat_image(values: NDArray[np.float32]) -> Image.Image:
    """(rows, columns), 0 to 1 -> a picture with one pixel a cell and a palette of LEVELS colours and opacities."""
    image = Image.fromarray(np.rint(np.clip(values, 0, 1) * (LEVELS - 1)).astype(np.uint8))
    strength = np.clip((np.linspace(0, 1, LEVELS) - FIRST_VISIBLE) / (1 - FIRST_VISIBLE), 0, 1)[:, None]
    image.putpalette(np.rint(LOW + strength * np.subtract(HIGH, LOW)).astype(np.uint8).tobytes())
    # More opaque than in proportion, so that a weak difference is seen on a bright photograph too.
    image.info["transparency"] = np.rint(strength[:, 0] ** 0.7 * OPACITY).astype(np.uint8).tobytes()
    return image


def heat_svg(values: NDArray[np.float32], box: Box) -> str:
    """A map as an element that covers its image: the page's style stretches it over the image's whole area.

    The place in the image is in the element's own units, 0 to 1, because the page's policy allows no style attributes.
    """
    stored = io.BytesIO()
    heat_image(values).save(stored, "PNG", bits=4, optimize=True)
    source = "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode("ascii")
    left, top, right, bottom = box
    place = f'x="{left:.4g}" y="{top:.4g}" width="{right - left:.4g}" height="{bottom - top:.4g}"'
    outline = "" if box == WHOLE else f"<rect {place}/>"
    return f"""<svg class="map" viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
<image href="{source}" {place} preserveAspectRatio="none"/>{outline}</svg>"""


def lay_heat(image: Image.Image, values: NDArray[np.float32], box: Box) -> Image.Image:
    """An RGB image of any size, its colours faded, with the map drawn over its box, scaled smoothly."""
    left, top, right, bottom = (round(share * side) for share, side in zip(box, (image.size * 2), strict=True))
    size = (max(1, right - left), max(1, bottom - top))
    heat = heat_image(values).convert("RGBA").resize(size, Image.Resampling.BICUBIC)
    covered = ImageEnhance.Color(image).enhance(SATURATION).convert("RGBA")
    covered.alpha_composite(heat, (left, top))
    return covered.convert("RGB")
