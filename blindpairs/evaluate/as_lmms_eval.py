"""How lmms-eval reads answers: the reader of its task `mmvp`, and the newer one that other tasks share.

`mmvp` (EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/mmvp/utils.py) looks for a letter only, never for the text of an
option, and takes the last letter of `camera` and the article for an A. The shared one (_task_utils/mcq_extract.py)
looks for capital letters in every form, prefers some forms, and within a form takes the last; 14 tasks use it, and
mmvp does not, so its numbers here are those that mmvp would print with it.

Both pair rows by (Index - 1) // 2, drop pairs that are not exactly two rows, and divide by the pairs that are left.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from blindpairs.evaluate.scores import Key
from blindpairs.evaluate.verdicts import Answered, HarnessResult, Verdict, by_option, first_questions

LETTERS = "AB"
_ANY = re.compile(r"([AB])\)?(?:\s|$)", re.IGNORECASE)
# In the order in which mmvp tries them, before any letter that a space follows.
_RULES = (
    ("letter_alone", re.compile(r"\(?([AB])\)?\.?\Z", re.IGNORECASE).match),
    ("letter_first", re.compile(r"\(?([AB])\)?[.\s]", re.IGNORECASE).match),
    ("answer_is", re.compile(r"answer\s+is\s+\(?([AB])", re.IGNORECASE).search),
    ("option_is", re.compile(r"option\s+\(?([AB])", re.IGNORECASE).search),
)
_OPTION = re.compile(r"\([a-z]\)\s*([^(]+?)\s*(?=\([a-z]\)|$)", re.IGNORECASE)
# The forms of the shared reader, best first, and how each is written around a letter.
_FORMS = {"parentheses": "({})", "period": "{}.", "colon": "{}:", "right_paren": "{})", "space": "{} "}
_PRIORITY = ("start", "end", "phrase", *_FORMS, "fallback")
_ENGLISH = ("answer is", "correct answer is", "best answer is", "correct option is", "best option is", "choice is")
_PHRASES = (
    *(f"{article}{words}" for article in ("", "the ") for words in (*_ENGLISH, "correct choice is")),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)


def mmvp_letter(text: str) -> tuple[str, str]:
    """(A, B or "" for an answer without a letter, the rule that decided), as the task mmvp reads."""
    text = text.strip()
    for rule, find in _RULES:
        if match := find(text):
            return match[1].upper(), "article" if _is_article(match) else rule
    if match := _ANY.search(text):
        inside = match.start() > 0 and text[match.start() - 1].isalnum()
        return match[1].upper(), "letter_in_word" if inside else "article" if _is_article(match) else "letter"
    first = text[:1].upper()
    return (first, "first_character") if first and first in LETTERS else ("", "no_letter")


def shared_letter(text: str, letters: Sequence[str] = LETTERS) -> tuple[str, str]:
    """The same for the shared reader."""
    text = text.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    bare, text = text.strip(), f" {text} "
    found = [place for letter in letters for place in _places(bare, text, letter)]
    if not found:
        found = [("fallback", text.rfind(letter), letter) for letter in letters if letter in text]
    if not found:
        return "", "no_letter"
    form, _, letter = min(found, key=lambda one: (_PRIORITY.index(one[0]), -one[1]))
    return letter, form


def mmvp_options(text: str) -> list[str]:
    """The options that mmvp's prompt shows for `(a) Open (b) Closed`; an option with a bracket loses text."""
    return [match.strip() for match in _OPTION.findall(text)]


def read_mmvp(asked: Sequence[Answered]) -> HarnessResult:
    """Verdicts, `mmvp_accuracy` and `mmvp_pair_accuracy`, and notes."""
    verdicts = _verdicts(asked, mmvp_letter)
    notes = [*_pairing(asked), *_hidden_options(asked)]
    return verdicts, _headline(asked, verdicts), notes


def read_shared(asked: Sequence[Answered]) -> HarnessResult:
    """The same with the shared reader."""
    verdicts = _verdicts(asked, shared_letter)
    return verdicts, _headline(asked, verdicts), _pairing(asked)


def _is_article(match: re.Match[str]) -> bool:
    """Whether a letter that was taken for an A is the article: a word follows it."""
    return match[1] in "aA" and bool(re.match(r"\s+[^\W\d_]", match.string[match.end(1) :]))


def _places(bare: str, text: str, letter: str) -> Iterable[tuple[str, int, str]]:
    """(form, place, letter) for each form in which a letter occurs, and the last place of it."""
    for form, shape in _FORMS.items():
        if (place := text.rfind(shape.format(letter))) >= 0:
            yield form, place, letter
    lower = text.lower()
    for phrase in _PHRASES:
        place = lower.find(phrase)
        if place >= 0 and (after := text.find(letter, place + len(phrase))) >= 0:
            yield "phrase", after, letter
    if bare.startswith(letter) and not bare[1:2].isalpha():
        yield "start", 0, letter
    if bare.endswith(letter) and (len(bare) == 1 or not bare[-2].isalpha()):
        yield "end", len(text) - 1, letter


def _verdicts(asked: Iterable[Answered], read: Callable[[str], tuple[str, str]]) -> dict[Key, Verdict]:
    verdicts = {}
    for one in asked:
        letter, rule = read(one.text)
        verdicts[one.key] = by_option(LETTERS.index(letter) if letter else None, one.truth, rule)
    return verdicts


def _groups(asked: Iterable[Answered]) -> dict[int, list[Key]]:
    groups: defaultdict[int, list[Key]] = defaultdict(list)
    for one in first_questions(asked):
        # A number 0 stays 0, so that a table that counts from 0 is paired wrongly, as there.
        groups[max(one.number - 1, 0) // 2].append(one.key)
    return groups


def _headline(asked: Sequence[Answered], verdicts: Mapping[Key, Verdict]) -> dict[str, float]:
    right = {one.key: verdicts[one.key].outcome == "right" for one in first_questions(asked)}
    pairs = [keys for keys in _groups(asked).values() if len(keys) == 2]
    both = sum(all(right[key] for key in keys) for keys in pairs)
    return {
        "mmvp_accuracy": sum(right.values()) / len(right) if right else 0.0,
        "mmvp_pair_accuracy": both / len(pairs) if pairs else 0.0,
    }


def _pairing(asked: Sequence[Answered]) -> list[str]:
    groups = _groups(asked)
    notes = []
    if dropped := sum(len(keys) != 2 for keys in groups.values()):
        notes.append(f"lmms-eval drops {dropped:,} pairs that are not two rows, and divides by the others.")
    if mixed := sum(len({key[0] for key in keys}) > 1 for keys in groups.values()):
        notes.append(f"lmms-eval pairs rows by their number: {mixed:,} of its pairs hold questions of several.")
    return notes


def _hidden_options(asked: Sequence[Answered]) -> list[str]:
    questions = {one.key[0]: one.question.options for one in first_questions(asked)}
    hidden = {
        pair: options
        for pair, options in questions.items()
        if mmvp_options(f"(a) {options[0]} (b) {options[1]}") != [option.strip() for option in options]
    }
    if not hidden:
        return []
    pair, options = next(iter(hidden.items()))
    shown = mmvp_options(f"(a) {options[0]} (b) {options[1]}")
    return [f"The prompt of mmvp shows other options for {len(hidden):,} pairs, such as {shown} for pair {pair}."]
