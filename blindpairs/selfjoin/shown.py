"""Cosines, thresholds and engines as text for people. A number that is not 1 or -1 is never printed as 1 or -1."""

import math

ENGINE_NAMES = {
    "amx": "AMX",
    "avx512-bf16": "AVX512-BF16",
    "float32": "compiled float32",
    "torch": "torch",
    "triton": "Triton",
}


def rounded(value: float, digits: int) -> str:
    """`value` with `digits` decimals; cut off instead of rounded if rounding would make it 1 or -1."""
    text = f"{value:.{digits}f}"
    if abs(value) < 1 <= abs(float(text)):
        return f"{math.copysign(1 - 10.0**-digits, value):.{digits}f}"
    return text


def as_given(value: float) -> str:
    """A threshold: every digit if a person may have typed it, else six digits, or more if six would read 1 or -1."""
    text, whole = f"{value:g}", repr(float(value))
    same = float(text) == value
    # People type short numbers; a computed threshold has some 17 digits.
    return whole if not same and (len(whole) <= 12 or abs(float(text)) == 1) else text
