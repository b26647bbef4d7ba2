"""The task of a blindpairs benchmark in lmms-eval: prompts, how an answer is read, and the scores of pairs.

`blindpairs export` copies this file into an export as `utils.py`, beside `blindpairs.yaml`, which names its functions.
It runs there without blindpairs, so it imports the standard library only.

Promises: answers are read by the rule of `blindpairs/evaluate/reading.py`, whose text stands here again, below the
scores, because it must run alone; a test holds the two to the same text. What names neither option or both is invalid,
which is wrong and is counted, never guessed. Pairs are found by their id. A pair of which an answer is missing or
doubled is an error, so a run with `--limit` has no pair accuracy rather than a wrong one.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "blindpairs_"


def blindpairs_doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The one image that a question is about, in RGB."""
    return [doc["image"].convert("RGB")]


def blindpairs_doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> str:
    """The question and its options under letters, between the prompts that the task's YAML gives."""
    around = lmms_eval_specific_kwargs or {}
    options = "\n".join(f"{letter}. {text}" for letter, text in zip("AB", doc["Options"], strict=True))
    return f"{around.get('pre_prompt', '')}{doc['Question']}\n{options}{around.get('post_prompt', '')}"


def blindpairs_doc_to_target(doc: Mapping[str, Any]) -> str:
    """The letter of the right option."""
    return str(doc["Correct Answer"]).strip("()").upper()


def blindpairs_process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One answer under the name of each metric that it counts for; that of every pattern of its pair among them."""
    option = read_answer(results[0], doc["Options"]).option
    letter = "" if option is None else "AB"[option]
    right = int(letter == blindpairs_doc_to_target(doc))
    answer = {"pair_id": doc["pair_id"], "side": doc["side"], "letter": letter, "right": right}
    names = ["pair_accuracy", "pair_accuracy_low95", "pair_accuracy_high95", "confusion_rate"]
    names += [f"pair_accuracy_{key}" for key in doc["pattern_keys"]]
    # Only these have the `score` of which lmms-eval prints a standard error: that of questions, clustered by pair.
    scored = {
        name: {**answer, "score": value} for name, value in (("accuracy", right), ("invalid_rate", int(not letter)))
    }
    return {PREFIX + name: value for name, value in {**scored, **dict.fromkeys(names, answer)}.items()}


def blindpairs_accuracy(items: Sequence[Mapping[str, Any]]) -> float:
    """The share of questions, one an image, that is answered right."""
    return _share([item["right"] for item in items])


def blindpairs_invalid_rate(items: Sequence[Mapping[str, Any]]) -> float:
    """The share of questions whose answer names neither option or both."""
    return _share([not item["letter"] for item in items])


def blindpairs_pair_accuracy(items: Sequence[Mapping[str, Any]]) -> float:
    """The share of pairs of which both answers are right: the score of MMVP."""
    return _share([a["right"] and b["right"] for a, b in _pairs(items)])


def blindpairs_confusion_rate(items: Sequence[Mapping[str, Any]]) -> float:
    """The share of pairs with one and the same answer for both images, of those whose two answers are valid."""
    valid = [(a["letter"], b["letter"]) for a, b in _pairs(items) if a["letter"] and b["letter"]]
    return _share([a == b for a, b in valid])


def blindpairs_pair_accuracy_low95(items: Sequence[Mapping[str, Any]]) -> float:
    """The lower end of Wilson's 95 % interval of the pair accuracy."""
    return _wilson(blindpairs_pair_accuracy(items), len(items) // 2)[0]


def blindpairs_pair_accuracy_high95(items: Sequence[Mapping[str, Any]]) -> float:
    """The upper end of Wilson's 95 % interval of the pair accuracy."""
    return _wilson(blindpairs_pair_accuracy(items), len(items) // 2)[1]


def _pairs(items: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    sides: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        sides[item["pair_id"]].append(item)
    for name, found in sides.items():
        if sorted(item["side"] for item in found) != ["a", "b"]:
            raise ValueError(
                f"pair {name} has answers for images {', '.join(item['side'] for item in found)}, and needs one for "
                "each of a and b: run the whole task, without --limit and --offset and with repeats: 1"
            )
    return [(found[0], found[1]) for found in sides.values()]


def _share(values: Sequence[object]) -> float:
    return sum(map(bool, values)) / len(values) if values else math.nan


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's score interval (1927) at 95 %; (0, 1) of nothing."""
    if not count:
        return 0.0, 1.0
    z = 1.959963984540054
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


# The rule, as in blindpairs/evaluate/reading.py.
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
