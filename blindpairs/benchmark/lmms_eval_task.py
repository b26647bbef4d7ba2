"""The task of a blindpairs benchmark in lmms-eval: prompts, how an answer is read, and the scores of pairs.

`blindpairs export` copies this file into an export as `utils.py`, beside `blindpairs.yaml`, which names its functions.
It runs there without blindpairs, so it imports the standard library only.

Promises: an answer is read by a letter or by the text of one option, never by the article "a"; what names neither or
both is invalid, which is wrong and is counted, never guessed. Pairs are found by their id. A pair of which an answer is
missing or doubled is an error, so a run with `--limit` has no pair accuracy rather than a wrong one.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

LETTERS = "AB"
PREFIX = "blindpairs_"
_MARK = r"[(\[{*_`\"'$]*(?:\\boxed\{|\\text\{)*"
_ALONE = re.compile(rf"\W*{_MARK}([ABab])\W*")
_STATED = re.compile(
    r"\b(?:answer|option|choice)\b(?:\s+(?:is|would\s+be|should\s+be))?\s*:?\s*(?:(?:option|choice)\s+)?"
    rf"{_MARK}([AB])(?!\w|['\u2019-]\w)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"[(\[{*]([ABab])[)\]}*]"  # (b)  [B]  **b**
    r"|(?:^|\n)\s*([ABab])[.):]"  # B.  b)  B:  at the start of a line
    r"|(?<![\w'\u2019])(A)(?=\s*(?:[.,;:!)\n]|$|(?:or|and|is|because|since)\b))"  # what never follows the article
    r"|(?<![\w'\u2019.])(B)(?![\w'\u2019-])"
)
_NEGATED = re.compile(
    r"\b(?:not|no|neither|nor|never|isn['\u2019]?t|aren['\u2019]?t)\s+(?:an?\s+|the\s+)?$", re.IGNORECASE
)


def blindpairs_doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """The one image that a question is about, in RGB."""
    return [doc["image"].convert("RGB")]


def blindpairs_doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> str:
    """The question and its options under letters, between the prompts that the task's YAML gives."""
    around = lmms_eval_specific_kwargs or {}
    options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, doc["Options"], strict=True))
    return f"{around.get('pre_prompt', '')}{doc['Question']}\n{options}{around.get('post_prompt', '')}"


def blindpairs_doc_to_target(doc: Mapping[str, Any]) -> str:
    """The letter of the right option."""
    return str(doc["Correct Answer"]).strip("()").upper()


def blindpairs_process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One answer under the name of each metric that it counts for; that of every pattern of its pair among them."""
    letter = read_answer(results[0], doc["Options"])
    right = int(letter == blindpairs_doc_to_target(doc))
    answer = {"pair_id": doc["pair_id"], "side": doc["side"], "letter": letter, "right": right}
    names = ["pair_accuracy", "pair_accuracy_low95", "pair_accuracy_high95", "confusion_rate"]
    names += [f"pair_accuracy_{key}" for key in doc["pattern_keys"]]
    # Only these have the `score` of which lmms-eval prints a standard error: that of questions, clustered by pair.
    scored = {
        name: {**answer, "score": value} for name, value in (("accuracy", right), ("invalid_rate", int(not letter)))
    }
    return {PREFIX + name: value for name, value in {**scored, **dict.fromkeys(names, answer)}.items()}


def read_answer(response: str, options: Sequence[str]) -> str:
    """ "A" or "B", or "" where a response names neither option or both.

    The first of these that names any option decides: the whole response is a letter; "the answer is B"; letters that
    are marked or stand alone; the text of an option, between word boundaries, not negated.
    """
    text = response.strip()
    alone = _ALONE.fullmatch(text)
    if alone:
        return alone[1].upper()
    for pattern in (_STATED, _NAMED):
        found = [match for match in pattern.finditer(text) if not _article(match)]
        if found:
            letters = {_letter(match) for match in found}
            denied = any(_NEGATED.search(text[: match.start()]) for match in found)
            return "" if len(letters) > 1 or denied or _contradicted(text, found, options) else letters.pop()
    return _by_text(text, options)


def _letter(match: re.Match[str]) -> str:
    return match[match.lastindex or 0].upper()


def _article(match: re.Match[str]) -> bool:
    """Whether an "a" in lower case is the article: a word follows it, and it is not "option a"."""
    letter = match.lastindex or 0
    before, after = match.string[: match.start(letter)], match.string[match.end(letter) :]
    is_lower = match[letter] == "a"
    return is_lower and bool(re.match(r"\s+\w", after)) and not re.search(r"(?i)(?:option|choice)\s*$", before)


def _contradicted(text: str, found: Sequence[re.Match[str]], options: Sequence[str]) -> bool:
    """Whether the text of the other option follows a letter, such as "(a) Closed" where (b) is Closed."""
    plain = [_plain(option) for option in options]
    for match in found:
        after = _plain(re.sub(r"^[\W_]+", "", text[match.end() :]))
        starts = [option for option in plain if re.match(rf"{re.escape(option)}(?!\w)", after)]
        if starts and max(starts, key=len) != plain[LETTERS.index(_letter(match))]:
            return True
    return False


def _by_text(text: str, options: Sequence[str]) -> str:
    """The letter of the one option whose text occurs; of two options of which one is part of the other, the longer."""
    plain = _plain(text)
    named = set()
    for letter, option in sorted(zip(LETTERS, map(_plain, options), strict=True), key=lambda each: -len(each[1])):
        pattern = re.compile(rf"(?<!\w){re.escape(option)}(?!\w)")
        for match in pattern.finditer(plain) if option else ():
            if _NEGATED.search(plain[: match.start()]):
                return ""
            named.add(letter)
        plain = pattern.sub(" \0 ", plain) if option else plain
    return named.pop() if len(named) == 1 else ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def blindpairs_accuracy(items: Sequence[Mapping[str, Any]]) -> float:
    """The part of questions, one an image, that is answered right."""
    return _part([item["right"] for item in items])


def blindpairs_invalid_rate(items: Sequence[Mapping[str, Any]]) -> float:
    """The part of questions whose answer names neither option or both."""
    return _part([not item["letter"] for item in items])


def blindpairs_pair_accuracy(items: Sequence[Mapping[str, Any]]) -> float:
    """The part of pairs of which both answers are right: the score of MMVP."""
    return _part([a["right"] and b["right"] for a, b in _pairs(items)])


def blindpairs_confusion_rate(items: Sequence[Mapping[str, Any]]) -> float:
    """The part of pairs with one and the same answer for both images, of those whose two answers are valid."""
    valid = [(a["letter"], b["letter"]) for a, b in _pairs(items) if a["letter"] and b["letter"]]
    return _part([a == b for a, b in valid])


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


def _part(values: Sequence[object]) -> float:
    return sum(map(bool, values)) / len(values) if values else math.nan


def _wilson(part: float, count: int) -> tuple[float, float]:
    """Wilson's score interval (1927) at 95 %; (0, 1) of nothing."""
    if not count:
        return 0.0, 1.0
    z = 1.959963984540054
    middle = (part + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(part * (1 - part) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)
