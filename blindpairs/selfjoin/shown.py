"""Cosines, shares and thresholds as people read them: what is not 1 never reads as 1, nor -1 as what is not."""

import math


def rounded(value: float, digits: int) -> str:
    """To so many decimals; cut off where rounding would make it 1 or -1."""
    text = f"{value:.{digits}f}"
    if abs(value) < 1 <= abs(float(text)):
        return f"{math.copysign(1 - 10.0**-digits, value):.{digits}f}"
    return text


def as_given(value: float) -> str:
    """A threshold: all of it where somebody may have typed it, else six digits, and more where these would be 1."""
    text, whole = f"{value:g}", repr(float(value))
    same = float(text) == value
    return whole if not same and (len(whole) <= 12 or abs(float(text)) == 1) else text
