"""Small pictures for models, different for each seed."""

import io

import numpy as np
from PIL import Image

from blindpairs.vlm import Picture


def picture(seed: int, height: int = 40, width: int = 50) -> Picture:
    """Noise of a colour, as PNG."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3)) * random.random(3)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return Picture(file.getvalue(), "image/png")
