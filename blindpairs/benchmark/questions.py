"""Questions as the tables of foreign benchmarks write them: `(a) Open (b) Closed`, `(a)`, `B`, `Yes`."""

import re
from collections.abc import Mapping

from blindpairs.benchmark.model import Question

LETTERED = re.compile(r"\s*\(\s*a\s*\)(.*?)\(\s*b\s*\)(.*)", re.IGNORECASE | re.DOTALL)
FURTHER = re.compile(r"\(\s*[a-d]\s*\)", re.IGNORECASE)


def lettered(options: tuple[str, str]) -> str:
    """Two options as MMVP writes them."""
    return f"(a) {options[0]} (b) {options[1]}"


def options_of(text: str) -> tuple[str, str] | None:
    """The two options of `(a) X (b) Y`, however it is spaced; None for anything else, also for three options."""
    match = LETTERED.fullmatch(text)
    if not match or FURTHER.search(match[1]) or FURTHER.search(match[2]):
        return None
    return match[1].strip(), match[2].strip()


def answer_of(text: str, options: tuple[str, str] | None) -> int | None:
    """0 or 1 for `(a)`, `b`, `B.` or the text of an option; None for anything else."""
    letter = text.strip("().: \t\r\n").casefold()
    if letter in ("a", "b"):
        return "ab".index(letter)
    for spelled in (str.strip, lambda one: one.strip().casefold()):  # options may differ in case alone
        known = [spelled(option) for option in options or ()]
        if known.count(spelled(text)) == 1:
            return known.index(spelled(text))
    return None


def question_or_refusal(
    text: str, options: tuple[str, str] | None, answers: Mapping[str, int | None]
) -> Question | str:
    """A question, or why it is none; `answers` has the right option of image a and of image b."""
    a, b = answers["a"], answers["b"]
    if not text.strip():
        return "its question is empty"
    if options is None or not all(option.strip() for option in options):
        return "its options are not two texts such as (a) Open (b) Closed"
    if not all(map(_is_unicode, (text, *options))):
        return "a text is not valid Unicode"
    if options[0] == options[1]:
        return "its two options are the same"
    if a is None or b is None:
        return "its correct answer is neither of its options"
    if a == b:
        return "both images have the same answer, so a model that does not look is right"
    return Question(text, options, (a, b))


def _is_unicode(text: str) -> bool:
    """Whether a text can be written; JSON can spell half a surrogate pair, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
