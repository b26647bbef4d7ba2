"""Renders a scene as 64 x 64 pixels in which a person can see every attribute.

Each figure is drawn once at four times its size, averaged down and cached; a rendering only places the cached layers.
Everything that may differ between two renderings of one scene is in `Nuisance`: small shifts, the part of the
background that is visible, the brightness, and noise. One core makes about 1,000 renderings a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blindpairs.demo.figures import (
    EYES,
    FIGURES,
    GLYPHS,
    GROUNDS,
    HAT,
    INK,
    MOTIFS,
    PAINT,
    PARTS,
    RUGS,
    WHITE,
    WINDOW,
    Colour,
    Shape,
)
from blindpairs.demo.world import Scene

SIZE = 64  # pixels: height and width of every picture
_FINE = 4  # drawings are this much larger, in "fine pixels"; averaging them down is the anti-aliasing
_EDGE = 3  # width of an outline, in fine pixels

Pixels = NDArray[np.uint8]
Layer = NDArray[np.float32]

_PERIOD = 64  # pixels after which a background repeats, at zoom "far"
_NEAR = 1.5  # enlargement of the background at zoom "near"

# The size of a figure in pixels, by count and zoom, and the middle (x, y) of each figure, by count.
_SIZES = {("1", "near"): 42, ("1", "far"): 31, ("2", "near"): 30, ("2", "far"): 23, ("3", "near"): 26, ("3", "far"): 20}
_PLACES = {"1": ((32, 37),), "2": ((17, 38), (47, 38)), "3": ((17, 43), (47, 43), (31, 22))}
_BALL_X = {"left": 9, "middle": 32, "right": 55}


@dataclass(frozen=True)
class Nuisance:
    """How far two renderings of one scene may differ: the ranges from which each rendering draws."""

    shift: int = 2  # of the whole picture: at most this many pixels in each direction
    jitter: int = 1  # of each figure and the ball, likewise
    phase: int = 6  # of the background behind them, to the left or right
    brightness: float = 0.12  # up to this share brighter or darker
    noise: float = 3.0  # standard deviation, in grey levels of 255


def _rgba(image: Image.Image) -> Layer:
    """Average a fine drawing down to (H, W, 4) float32: alpha in 0..1, and the colours, in 0..255, times alpha."""
    fine = np.asarray(image, dtype=np.float32)
    # Premultiplied before the average: the colour of transparent pixels must not bleed into the edges.
    fine[..., 3] /= 255.0
    fine[..., :3] *= fine[..., 3:]
    height, width = fine.shape[0] // _FINE, fine.shape[1] // _FINE
    layer: Layer = fine.reshape(height, _FINE, width, _FINE, 4).mean(axis=(1, 3))
    return layer


def _paint(draw: ImageDraw.ImageDraw, form: str, xy: Sequence[float], fill: Colour | int, edge: Colour | int) -> None:
    """Draw one outlined shape at fine coordinates."""
    if form == "pieslice":  # always an upper half
        draw.pieslice(xy, 180, 360, fill=fill, outline=edge, width=_EDGE)
    else:
        getattr(draw, form)(xy, fill=fill, outline=edge, width=_EDGE)


def _stripe(image: Image.Image, body: Image.Image, colour: Colour) -> None:
    """Paint upright stripes where `body` (a mask) is set."""
    side = image.width
    band = max(0.11 * side, 1.7 * _FINE)  # thinner stripes would disappear when the drawing is averaged down
    columns = (np.arange(side) + 0.3 * band) % (2 * band) < band
    striped = Image.fromarray((np.asarray(body) * columns).astype(np.uint8))
    image.paste(Image.new("RGBA", image.size, colour), mask=striped)


def _hat(x: int, y: int) -> tuple[Shape, Shape]:
    """Return the crown and the brim of a hat that sits at (x, y) of a figure's box."""
    crown = (x - 13, max(y - 30, 1), x + 13, y - 2)
    return ("crown", "rectangle", crown), ("brim", "rectangle", (x - 22, y - 4, x + 22, y + 4))


@cache
def _figure(category: str, colour: str, hat: str, stripes: str, size: int) -> Layer:
    """Draw one figure facing right as a (size, size, 4) layer."""
    side = size * _FINE
    seat, shapes = FIGURES[category]
    body, stripe = PAINT[colour]
    tones = {"body": body, "one": PARTS[category][0], "two": PARTS[category][1], "eye": WHITE, **HAT}
    image, mask = Image.new("RGBA", (side, side)), Image.new("L", (side, side))
    # The mask ends up with the visible body: parts that are drawn later over it erase it there.
    for tone, form, coordinates in shapes:
        xy = [value * (side / 100) for value in coordinates]
        _paint(ImageDraw.Draw(image), form, xy, tones[tone], INK)
        _paint(ImageDraw.Draw(mask), form, xy, 255 if tone == "body" else 0, 0)
    if stripes == "striped":
        _stripe(image, mask, stripe)
    # Eye and hat come after the stripes, which must not cover them.
    x, y = EYES.get(category, (0, 0))
    eye = [("eye", "ellipse", (x - 7, y - 7, x + 7, y + 7))] if category in EYES else []
    for tone, form, coordinates in [*eye, *(_hat(*seat) if hat == "yes" else ())]:
        _paint(ImageDraw.Draw(image), form, [value * (side / 100) for value in coordinates], tones[tone], INK)
    return _rgba(image)


def _motif(draw: ImageDraw.ImageDraw, kind: str, at: tuple[float, float], unit: float, colour: Colour) -> None:
    """Draw one motif at (x, y) in fine pixels; `unit` is the size, in fine pixels, of one pixel of MOTIFS."""
    for tone, form, coordinates in MOTIFS[kind]:
        fill = WINDOW if tone == "window" else colour
        xy = [at[i % 2] + value * unit for i, value in enumerate(coordinates)]
        if form == "arc":
            draw.arc(xy, 190, 350, fill=fill, width=round(2 * unit))
        else:
            getattr(draw, form)(xy, fill=fill)


@cache
def _background(background: str, zoom: str) -> Layer:
    """Draw a background that repeats horizontally: (SIZE + 16, period, 3). The extra rows are for vertical shifts."""
    scale = _NEAR if zoom == "near" else 1.0
    unit = _FINE * scale
    width, height = round(_PERIOD * unit), (SIZE + 16) * _FINE
    horizon = (38 if zoom == "near" else 34) * _FINE
    sky, ground, motif, kind = GROUNDS[background]
    image = Image.new("RGBA", (width, height), (*sky, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, horizon, width, height], fill=(*ground, 255))
    for start in range(8, _PERIOD, 16):
        for copy in (-width, 0, width):  # a motif that crosses one edge continues at the other
            _motif(draw, kind, (start * unit + copy, float(horizon)), unit, motif)
    return _rgba(image)[..., :3]


@cache
def _rug(category: str) -> Layer:
    """Draw the rug on which this category stands: (14, 60, 4)."""
    image = Image.new("RGBA", (60 * _FINE, 14 * _FINE))
    _paint(ImageDraw.Draw(image), "rectangle", (0, 0, image.width - 1, image.height - 1), RUGS[category], INK)
    return _rgba(image)


@cache
def _ball() -> Layer:
    image = Image.new("RGBA", (14 * _FINE, 14 * _FINE))
    draw = ImageDraw.Draw(image)
    _paint(draw, "ellipse", (0, 0, image.width - 1, image.height - 1), (255, 122, 0), INK)
    draw.rectangle((0.4 * image.width, 2, 0.58 * image.width, image.height - 4), fill=WHITE)
    return _rgba(image)


@cache
def _lamp(state: str) -> Layer:
    """Draw a hanging lamp, (24, 24, 4); one that is on has a halo that fills the square."""
    side = 24 * _FINE
    middle, radius = side / 2, 6.5 * _FINE
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    if state == "on":
        draw.ellipse((0, 0, side - 1, side - 1), fill=(255, 240, 110, 120))
    draw.rectangle((middle - _FINE, 0, middle + _FINE, middle), fill=INK)
    bulb = (255, 246, 130) if state == "on" else (70, 66, 74)
    _paint(draw, "ellipse", (middle - radius, middle - radius, middle + radius, middle + radius), bulb, INK)
    return _rgba(image)


@cache
def _sign(letter: str) -> Layer:
    """Draw a sign with a letter in strokes of three pixels: (25, 19, 4)."""
    stroke = 3 * _FINE
    image = Image.new("RGBA", (19 * _FINE, 25 * _FINE))
    draw = ImageDraw.Draw(image)
    _paint(draw, "rectangle", (0, 0, image.width - 1, image.height - 1), WHITE, INK)
    for row, bits in enumerate(GLYPHS[letter]):
        for column in range(5):
            if bits >> (4 - column) & 1:
                x, y = 2 * _FINE + column * stroke, 2 * _FINE + row * stroke
                draw.rectangle((x, y, x + stroke - 1, y + stroke - 1), fill=INK)
    return _rgba(image)


def _place(canvas: Layer, layer: Layer, x: int, y: int) -> None:
    """Composite a layer over the canvas with its middle at (x, y), in place; parts outside are cut off."""
    height, width = layer.shape[:2]
    top, left = y - height // 2, x - width // 2
    rows = slice(max(top, 0), min(top + height, SIZE))
    columns = slice(max(left, 0), min(left + width, SIZE))
    part = layer[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    region = canvas[rows, columns]
    region *= 1.0 - part[..., 3:]  # the layer's colours are already multiplied by its alpha
    region += part[..., :3]


def render(scene: Scene, nuisance_seed: int, nuisance: Nuisance = Nuisance()) -> Pixels:
    """Return the scene as (64, 64, 3) uint8 RGB; the seed chooses the values of everything in `nuisance`."""
    # Every rendering draws the same numbers in the same order, and the corpus that ships depends on that order.
    rng = np.random.default_rng(nuisance_seed)
    shift_x, shift_y = (int(v) for v in rng.integers(-nuisance.shift, nuisance.shift + 1, size=2))
    jitter = rng.integers(-nuisance.jitter, nuisance.jitter + 1, size=(4, 2)).tolist()
    phase = int(rng.integers(-nuisance.phase, nuisance.phase + 1))
    ground = _background(scene.background, scene.zoom)
    columns = (np.arange(SIZE) - shift_x - phase) % ground.shape[1]
    # take() copies: the cached background must not be drawn on.
    canvas = ground[4 - shift_y : 4 - shift_y + SIZE].take(columns, axis=1)
    # From back to front. Rug, lamp and sign move with the picture; figures and ball also move by themselves.
    _place(canvas, _rug(scene.category), 32 + shift_x, 56 + shift_y)
    figure = _figure(scene.category, scene.colour, scene.hat, scene.stripes, _SIZES[scene.count, scene.zoom])
    if scene.facing == "left":
        figure = figure[:, ::-1]
    for (x, y), (dx, dy) in zip(_PLACES[scene.count], jitter, strict=False):
        _place(canvas, figure, x + dx + shift_x, y + dy + shift_y)
    dx, dy = jitter[3]
    _place(canvas, _ball(), _BALL_X[scene.ball] + dx + shift_x, 57 + dy + shift_y)
    _place(canvas, _lamp(scene.lamp), 11 + shift_x, 11 + shift_y)
    _place(canvas, _sign(scene.letter), 53 + shift_x, 13 + shift_y)
    canvas *= 1.0 + nuisance.brightness * (2.0 * rng.random() - 1.0)
    canvas += nuisance.noise * rng.standard_normal(canvas.shape, dtype=np.float32)
    # + 0.5 and truncation: rounding to nearest.
    pixels: Pixels = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return pixels
