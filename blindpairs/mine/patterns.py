"""The nine visual patterns of "Eyes Wide Shut?" (arXiv 2401.06209), in which CLIP-blind pairs differ."""

from enum import StrEnum


class VisualPattern(StrEnum):
    """A visual pattern; its value is the paper's wording. `list(VisualPattern)` is the paper's order."""

    ORIENTATION = "Orientation and Direction"
    PRESENCE = "Presence of Specific Features"
    STATE = "State and Condition"
    QUANTITY = "Quantity and Count"
    POSITION = "Positional and Relational Context"
    COLOR = "Color and Appearance"
    STRUCTURE = "Structural and Physical Characteristics"
    TEXT = "Text"
    VIEWPOINT = "Viewpoint and Perspective"
