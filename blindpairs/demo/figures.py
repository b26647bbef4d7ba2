"""The appearance of the demo's scenes, as tables: shapes, colours, backgrounds, letters.

`draw.py` draws them. The figures are designed so that a person can tell them apart when they are 18 pixels wide.
"""

Colour = tuple[int, int, int]
INK = (28, 24, 34)
WHITE = (250, 248, 240)
HAT: dict[str, Colour] = {"crown": (214, 40, 200), "brim": (255, 150, 245)}
WINDOW: Colour = (240, 226, 150)

# The colour of the body, and a colour for stripes that is clearly visible on it.
PAINT: dict[str, tuple[Colour, Colour]] = {
    "red": ((222, 46, 44), WHITE),
    "blue": ((48, 92, 226), WHITE),
    "green": ((38, 168, 70), WHITE),
    "yellow": ((250, 212, 36), INK),
}

# Parts whose colour does not depend on the attribute `colour`: tones "one" and "two" of each category.
PARTS: dict[str, tuple[Colour, Colour]] = {
    "cat": ((116, 74, 52), (255, 176, 190)),
    "fish": ((150, 60, 190), WHITE),
    "duck": ((255, 238, 190), (255, 140, 20)),
    "car": ((44, 44, 52), (150, 228, 255)),
    "snail": ((140, 84, 44), (196, 212, 110)),
    "rabbit": ((255, 160, 186), (255, 250, 245)),
    "elephant": ((142, 142, 154), WHITE),
    "teapot": ((214, 160, 50), WHITE),
    "turtle": ((70, 84, 30), (122, 150, 60)),
    "robot": ((70, 200, 206), (24, 70, 90)),
}

# Each category stands on a rug of its own colour, like objects in web pictures that have their usual surroundings. It
# lets a CLIP this small learn the categories within a few hundred steps. Without rugs, 500 steps were too few.
RUGS: dict[str, Colour] = {
    "cat": (255, 170, 190),
    "fish": (90, 210, 220),
    "duck": (255, 240, 170),
    "car": (70, 70, 78),
    "snail": (130, 140, 50),
    "rabbit": (170, 240, 190),
    "elephant": (190, 160, 235),
    "teapot": (120, 30, 60),
    "turtle": (130, 85, 45),
    "robot": (100, 140, 190),
}

# A shape is (tone, name of an ImageDraw method, its coordinates). The tone "body" has the scene's colour and stripes;
# "one" and "two" have the colours in PARTS.
Shape = tuple[str, str, tuple[int, ...]]
# Each figure is (the point where a hat sits, its shapes, the rearmost first), in a box of 100 x 100 with y downwards.
# It faces right and stands on y = 96.
FIGURES: dict[str, tuple[tuple[int, int], tuple[Shape, ...]]] = {
    "cat": (
        (76, 34),
        (
            ("body", "polygon", (30, 74, 8, 54, 2, 22, 12, 20, 20, 46, 40, 60)),
            ("one", "rectangle", (24, 78, 36, 96)),
            ("one", "rectangle", (56, 78, 68, 96)),
            ("body", "ellipse", (16, 48, 76, 90)),
            ("body", "polygon", (58, 44, 58, 18, 74, 34)),
            ("body", "polygon", (80, 34, 95, 18, 95, 46)),
            ("body", "ellipse", (56, 30, 98, 68)),
            ("two", "ellipse", (80, 50, 98, 64)),
        ),
    ),
    "fish": (
        (66, 36),
        (
            ("one", "polygon", (34, 56, 2, 28, 10, 56, 2, 86)),
            ("one", "polygon", (36, 40, 52, 22, 62, 40)),
            ("one", "polygon", (44, 74, 40, 94, 62, 76)),
            ("body", "ellipse", (20, 32, 98, 82)),
        ),
    ),
    "duck": (
        (66, 26),
        (
            ("body", "polygon", (30, 60, 2, 46, 8, 80)),
            ("body", "ellipse", (8, 52, 78, 94)),
            ("body", "polygon", (50, 60, 50, 40, 80, 40, 76, 72)),
            ("body", "ellipse", (46, 22, 84, 56)),
            ("two", "polygon", (80, 34, 99, 44, 80, 50)),
            ("one", "ellipse", (26, 62, 56, 82)),
        ),
    ),
    "car": (
        (42, 40),
        (
            ("body", "polygon", (2, 60, 16, 58, 26, 38, 58, 38, 74, 58, 98, 64, 98, 84, 2, 84)),
            ("two", "polygon", (30, 44, 54, 44, 66, 58, 26, 58)),
            ("one", "ellipse", (12, 70, 38, 96)),
            ("one", "ellipse", (64, 70, 90, 96)),
            ("two", "rectangle", (88, 64, 98, 74)),
        ),
    ),
    "snail": (
        (36, 36),
        (
            ("two", "polygon", (2, 96, 10, 80, 70, 80, 80, 54, 96, 54, 98, 76, 84, 96)),
            ("two", "polygon", (81, 56, 74, 32, 80, 32, 86, 56)),
            ("two", "polygon", (90, 56, 92, 32, 98, 32, 95, 56)),
            ("body", "ellipse", (6, 32, 70, 90)),
            ("one", "ellipse", (26, 50, 52, 74)),
        ),
    ),
    "rabbit": (
        (78, 38),
        (
            ("one", "polygon", (66, 44, 34, 4, 46, 2, 74, 36)),
            ("one", "polygon", (58, 48, 20, 18, 30, 10, 66, 38)),
            ("two", "ellipse", (6, 64, 28, 86)),
            ("body", "ellipse", (16, 50, 70, 96)),
            ("body", "ellipse", (52, 34, 96, 70)),
            ("two", "rectangle", (60, 82, 84, 96)),
        ),
    ),
    "elephant": (
        (70, 28),
        (
            ("one", "rectangle", (10, 70, 28, 96)),
            ("one", "rectangle", (46, 70, 64, 96)),
            ("body", "ellipse", (2, 32, 72, 84)),
            ("body", "polygon", (80, 44, 98, 48, 98, 94, 88, 94, 86, 66, 76, 64)),
            ("body", "ellipse", (50, 24, 94, 68)),
            ("one", "ellipse", (42, 30, 66, 68)),
        ),
    ),
    "teapot": (
        (47, 34),
        (
            ("one", "ellipse", (0, 44, 36, 84)),
            ("two", "ellipse", (9, 54, 30, 74)),
            ("body", "polygon", (66, 76, 84, 42, 99, 36, 99, 48, 84, 84)),
            ("body", "ellipse", (16, 38, 80, 96)),
            ("one", "ellipse", (30, 32, 64, 46)),
        ),
    ),
    "turtle": (
        (84, 54),
        (
            ("two", "polygon", (10, 78, 0, 88, 16, 86)),
            ("two", "rectangle", (12, 78, 30, 96)),
            ("two", "rectangle", (50, 78, 68, 96)),
            ("two", "ellipse", (66, 50, 99, 80)),
            ("body", "pieslice", (2, 36, 78, 128)),
        ),
    ),
    "robot": (
        (52, 22),
        (
            ("body", "rectangle", (28, 20, 76, 48)),
            ("two", "rectangle", (56, 28, 76, 38)),
            ("one", "rectangle", (44, 48, 58, 56)),
            ("body", "rectangle", (20, 54, 70, 86)),
            ("one", "polygon", (56, 60, 98, 52, 98, 64, 56, 72)),
            ("one", "rectangle", (24, 86, 40, 96)),
            ("one", "rectangle", (50, 86, 66, 96)),
        ),
    ),
}
# The middle of the eye. Categories that have none here have no eye.
EYES = {
    "cat": (84, 46),
    "fish": (80, 52),
    "duck": (70, 36),
    "rabbit": (82, 50),
    "elephant": (80, 42),
    "turtle": (88, 62),
}

# The colours of sky, ground and motif, and which motif repeats along the horizon.
GROUNDS: dict[str, tuple[Colour, Colour, Colour, str]] = {
    "beach": ((170, 220, 240), (238, 218, 170), (250, 240, 215), "waves"),
    "forest": ((176, 206, 176), (104, 92, 62), (44, 84, 50), "pines"),
    "city": ((200, 200, 208), (118, 118, 124), (82, 84, 100), "towers"),
    "snow": ((206, 218, 236), (246, 248, 252), (160, 180, 206), "peaks"),
    "desert": ((250, 222, 170), (222, 168, 98), (196, 132, 70), "dunes"),
    "night": ((18, 20, 56), (40, 38, 66), (236, 236, 190), "stars"),
    "meadow": ((180, 222, 250), (140, 196, 96), (240, 150, 190), "flowers"),
    "sea": ((150, 196, 220), (40, 120, 150), (120, 190, 205), "waves"),
}
# Motifs, in pixels of the zoom "far", around a point of the horizon at (0, 0); y grows downwards.
MOTIFS: dict[str, tuple[Shape, ...]] = {
    "pines": (("motif", "polygon", (-7, 0, 0, -22, 7, 0)),),
    "towers": (
        ("motif", "rectangle", (-6, -18, 5, 0)),
        ("window", "rectangle", (-3, -14, 2, -12)),
        ("window", "rectangle", (-3, -9, 2, -7)),
        ("window", "rectangle", (-3, -4, 2, -2)),
    ),
    "peaks": (("motif", "polygon", (-13, 0, 0, -15, 13, 0)),),
    "dunes": (("motif", "ellipse", (-15, -7, 15, 8)),),
    "stars": (("motif", "rectangle", (0, -22, 2, -20)), ("motif", "rectangle", (7, -12, 9, -10))),
    "flowers": (
        ("motif", "ellipse", (-2, 5, 2, 9)),
        ("motif", "ellipse", (6, 15, 10, 19)),
        ("motif", "ellipse", (-6, 25, -2, 29)),
    ),
    "waves": (
        ("motif", "arc", (-7, 0, 7, 8)),
        ("motif", "arc", (2, 10, 16, 18)),
        ("motif", "arc", (-6, 20, 8, 28)),
    ),
}

# Glyphs of 5 x 7 pixels, one number for each row. With a font file the pixels would depend on a font library.
GLYPHS = {
    "A": (0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001),
    "L": (0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b10000, 0b11111),
    "T": (0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100),
    "X": (0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001),
}
