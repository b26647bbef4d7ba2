"""Image files as large as photographs, for benchmarks of reading."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_photos(folder: Path, count: int) -> Path:
    """JPEG files of 500 x 375 pixels and some 60 KB, as ImageNet's are; returns `folder`."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number:05d}.jpg", quality=90)
    return folder
