"""Which option an answer means: by its letter or by its text, and never by a guess.

The rule, in this order; the first that finds something decides, and a contradiction decides for `None`:

1. The answer is a letter or an option alone, whatever its case and the marks around it: `b`, `(B)`, `**Closed**.`.
2. The answer says which it is: `the answer is (b)`, `Answer: closed`, `\\boxed{B}`; of several such, the last.
3. Letters that cannot be a word: in brackets, bold, before `.`, `)` or `:`, or a capital that is not the article `A`.
4. The texts of the options on word boundaries; digits and number words are the same; a longer option hides a shorter
   one inside it (`upper left` is not `left`); a text that is denied (`not open`) contradicts.

An answer without an option, with both, or with a letter and the text of the other option is unreadable: it is counted
apart, as wrong, and never drawn by lot. Every published reader gets some of these wrong: the tests name them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LETTERS = ("a", "b")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
NEAR = 400  # characters before an option in which a denial is looked for: three words, however long
_STRAIGHT = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'}  # typographic quotation marks
REASONING = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKS = " \t\r\n.,;:!?'\"`*_()[]{}<>$\\"
# What introduces the verdict. The rest of its sentence is read by rules 1, 3 and 4.
_VERDICT = re.compile(
    r"(?:\b(?:final|correct|right|best)?\s*(?:answer|option|choice)\s*(?:is|would be|:|=)\s*|\\boxed\s*(?=\{))",
    re.IGNORECASE,
)
_DENIALS = {
    "not",
    "no",
    "isn't",
    "aren't",
    "wasn't",
    "doesn't",
    "don't",
    "never",
    "neither",
    "nor",
    "without",
    "cannot",
}
_SHAPED_LETTER = re.compile(
    r"""[(\[{]\s*([ab])\s*[)\]}]      # (a) [B] {b}
    | \*\*\s*\(?([ab])\)?[.:)]?\s*\*\*  # **B** **(b)** **B.**
    | (?:^|(?<=[\s"']))([ab])(?=[.):](?:\s|$))  # B. b) A:
    | \b(?:answer|option|choice)\s+([ab])(?=\s*(?:$|[.,;:!?)\]\n])|\s+(?:and|or|nor|is|because|since)\b)  # option a
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CAPITAL_B = re.compile(r"(?<![\w'-])B(?![\w'-])")
# A capital A that is no article: the end of a clause follows it, or a word that no article has after it.
_CAPITAL_A = re.compile(r"(?<![\w'-])A(?=\s*(?:$|[.,;:!?)\]\n])|\s+(?:and|or|nor|is|because|since)\b)")


@dataclass(frozen=True)
class Reading:
    """The option that was read, 0 or 1, or None where the answer is unreadable; and the rule that decided."""

    option: int | None
    rule: str


def read_answer(answer: str, options: Sequence[str]) -> Reading:
    """Which of two options an answer means. Any text is accepted; the same text always gives the same reading."""
    visible = REASONING.sub(" ", answer.translate(_STRAIGHT)).strip()
    if not visible:
        return Reading(None, "empty")
    if found := _alone(visible, options):
        return _decided(found, "alone")
    if found := _verdict(visible, options):
        return _decided(found, "verdict")
    texts = _texts(visible, options)
    if letters := _letters(visible):
        # A text beside the letter must agree with it; two texts, as in a comparison, say nothing.
        return _decided(letters | (texts if len(texts) == 1 else set()), "letter")
    if found := _leading(visible, options) or texts:
        return _decided(found, "text")
    return Reading(None, "nothing")


def _verdict(text: str, options: Sequence[str]) -> set[int]:
    """What the last sentence says that names its own verdict, such as `The answer is (b)`."""
    starts = [match.end() for match in _VERDICT.finditer(text)]
    if not starts:
        return set()
    sentence, *rest = re.split(r"(?<=[.!?])\s+(?=[A-Z])|\n", text[starts[-1] :].strip(), maxsplit=1)
    if _plain(sentence) in LETTERS and rest:
        return _alone(sentence, options) | _beginning(rest[0], options)  # `A. Closed` is not two sentences
    return _alone(sentence, options) or _letters(sentence) | _texts(sentence, options)


def _decided(found: set[int], rule: str) -> Reading:
    return Reading(next(iter(found)), rule) if len(found) == 1 else Reading(None, "contradiction")


def _alone(text: str, options: Sequence[str]) -> set[int]:
    """What a text means that is nothing but a letter or an option; both where an option is itself a or b."""
    bare = _plain(text)
    found = {place for place, option in enumerate(options) if bare and bare == _plain(option)}
    return found | {place for place, letter in enumerate(LETTERS) if bare == letter}


def _letters(text: str) -> set[int]:
    """The letters that cannot be words; both where one is denied."""
    matches = [*_SHAPED_LETTER.finditer(text), *_CAPITAL_B.finditer(text), *_CAPITAL_A.finditer(text)]
    if any(_denied(text, match.start()) for match in matches):
        return {0, 1}
    return {LETTERS.index(next((one for one in match.groups() if one), match[0]).lower()) for match in matches}


def _texts(text: str, options: Sequence[str]) -> set[int]:
    """The options whose texts occur; both where one is denied."""
    left, found = _plain(text), set()
    # The longest first, and what it covers is taken out: `upper left` is not `left`.
    for place in sorted(range(len(options)), key=lambda place: -len(_plain(options[place]))):
        option = _plain(options[place])
        pattern = re.compile(rf"(?<!\w){re.escape(option)}(?!\w)")
        matches = list(pattern.finditer(left)) if option else []
        if any(_denied(left, match.start()) for match in matches):
            return {0, 1}
        if matches:
            found.add(place)
            left = pattern.sub("|", left)
    return found


def _beginning(text: str, options: Sequence[str]) -> set[int]:
    """The option with whose text a text begins; of two of which one begins with the other, the longer."""
    plain = [_plain(option) for option in options]
    beginning = _plain(text)
    found = [
        place for place, option in enumerate(plain) if option and re.match(rf"{re.escape(option)}(?!\w)", beginning)
    ]
    return {max(found, key=lambda place: len(plain[place]))} if found else set()


def _denied(text: str, place: int) -> bool:
    """Whether one of the last three words before an option denies it."""
    before = text[max(0, place - NEAR) : place]  # not all of it: an answer of 100 kB with an option in each word ends
    clause = re.split(r"[.,;:!?|\n]", before.casefold())[-1]
    return bool(_DENIALS & set(clause.split()[-3:]))


def _leading(text: str, options: Sequence[str]) -> set[int]:
    """`No, there is not` begins with its verdict, where the options are yes and no."""
    if {_plain(option) for option in options} != {"yes", "no"}:
        return set()
    first = re.match(r"\W*(yes|no)(?=\s*(?:[.,;:!-]|$))", text, re.IGNORECASE)
    return {place for place, option in enumerate(options) if first and _plain(option) == first[1].lower()}


def _plain(text: str) -> str:
    """Lower case, one space between words, digits for number words, and no marks at the ends."""
    words = text.casefold().translate(_STRAIGHT).strip(_MARKS).split()
    return " ".join(_digits(word) for word in words)


def _digits(word: str) -> str:
    match = re.fullmatch(r"(\W*)(\w+)(\W*)", word)
    if match and match[2] in NUMBERS:
        return f"{match[1]}{NUMBERS.index(match[2])}{match[3]}"
    return word
