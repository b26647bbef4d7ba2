"""How VLMEvalKit reads answers: a capital letter, else the text of an option, else a judge, else lots.

The rules are those of open-compass/VLMEvalKit, vlmeval/utils/matching_util.py (letters and texts) and
vlmeval/dataset/utils/multiple_choice.py (judge, lots, and `report_acc_MMVP`). Texts count wherever they occur, so "no"
is found in "not". With no judge what cannot be read is wrong (`exact_matching`); with one that fails three times it is
drawn by lot from the options and Z, and scored. Its lots have no seed, so only how many were drawn can be reproduced.

It reads its tables with pandas, so an option "None" vanishes, and an empty answer is the text "nan". `Average` is
question accuracy and `Overall` pair accuracy over rows that are neighbours in the order of their index; in a
`_circular` table, which blindpairs exports, `Overall` is the same pair accuracy. Numbers that pandas would write in
another way ("007" as 7), and the environment variable VERBOSE, which changes its rules, are not reproduced.
"""

import re
from collections.abc import Mapping, Sequence

from blindpairs.benchmark.checks import READ_AS_MISSING
from blindpairs.evaluate.scores import Key
from blindpairs.evaluate.verdicts import (
    Answered,
    HarnessResult,
    Judging,
    Verdict,
    by_option,
    first_questions,
    in_question_order,
)

NEITHER = "Z"
ATTEMPTS = 3
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4  # a letter before them does not count
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_ANSWER = "Failed to obtain answer via API"
_ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)


def choices_of(options: Sequence[str]) -> dict[str, str]:
    """Its letters and options, without those that pandas takes for an empty cell."""
    return {letter: option for letter, option in zip("AB", options, strict=True) if option not in READ_AS_MISSING}


def match(text: str, choices: Mapping[str, str]) -> tuple[str, str]:
    """(A, B, Z or "" for an answer that cannot be read, the rule that decided); without judge and lots."""
    letter, rule = _by_letter(text, choices)
    return (letter, rule) if letter else _by_text(text, choices, rule)


def read_vlmevalkit(asked: Sequence[Answered], judging: Judging) -> HarnessResult:
    """Verdicts, `Average` and `Overall`, and notes."""
    verdicts = {one.key: _verdict(one, judging) for one in asked}
    rows = in_question_order(first_questions(asked))
    drawn = sum(verdicts[one.key].reason == "random" for one in rows)
    notes = []
    if drawn:
        notes.append(
            f"{drawn:,} of {len(rows):,} answers were drawn by lot (seed {judging.seed or 0}), as VLMEvalKit does "
            "where its judge fails: its own lots differ in every run."
        )
    return verdicts, *_reported(rows, verdicts, notes)


def _reported(
    rows: Sequence[Answered], verdicts: Mapping[Key, Verdict], notes: list[str]
) -> tuple[dict[str, float], list[str]]:
    pairs = list(zip(rows[::2], rows[1::2], strict=False))
    if not rows or len(rows) % 2 or any(one.question.text != other.question.text for one, other in pairs):
        notes.append(
            "VLMEvalKit reports nothing: its rows are not an even number of which each two ask the same question."
        )
        return {}, notes
    if mixed := sum(one.key[0] != other.key[0] for one, other in pairs):
        notes.append(f"VLMEvalKit takes neighbouring rows for a pair: {mixed:,} of its pairs hold questions of two.")
    right = {one.key: verdicts[one.key].outcome == "right" for one in rows}
    both = sum(right[one.key] and right[other.key] for one, other in pairs)
    return {"Average": sum(right.values()) / len(rows), "Overall": both / len(pairs)}, notes


def _verdict(one: Answered, judging: Judging) -> Verdict:
    choices = choices_of(one.question.options)
    text = "nan" if one.text in READ_AS_MISSING else one.text
    letter, rule = match(text, choices)
    if not letter and judging.reply:
        letter, rule = _judged(one, choices, judging)
    if not letter and (judging.reply or judging.seed is not None):
        letter, rule = judging.lot(one.key, [*choices, NEITHER]), "random"
    option = None if letter in ("", NEITHER) else "AB".index(letter)
    return by_option(option, one.truth, rule)


def _judged(one: Answered, choices: Mapping[str, str], judging: Judging) -> tuple[str, str]:
    assert judging.reply is not None
    for attempt in range(ATTEMPTS):
        reply = judging.reply(one, attempt)
        if _NO_ANSWER not in reply and (letter := match(reply, choices)[0]):
            return letter, "judge"
    return "", "judge_failed"


def _by_letter(text: str, choices: Mapping[str, str]) -> tuple[str, str]:
    """A letter and its rule, or "" and what is in the way."""
    if _NO_ANSWER in text:
        return "", "no_answer"
    if any(refusal in text for refusal in _REFUSALS):
        return NEITHER, "refusal"
    words = text.translate(_MARKS).split()
    present = [letter for letter in choices if letter in words]
    if len(present) == 1 and words.index(present[0]) >= len(words) - _LAST_WORDS:
        after = words[words.index(present[0]) + 1 :]
        return present[0], "article" if present == ["A"] and after and after[0].islower() else "letter"
    if not present and NEITHER in words:
        return NEITHER, "letter"
    if (said := _ANSWER_IS.search(text)) and said[1].upper() in choices:
        return said[1].upper(), "answer_is"
    return "", ("no_letter", "letter_too_early", "both_letters")[len(present)]


def _by_text(text: str, choices: Mapping[str, str], letter: str) -> tuple[str, str]:
    """The one option whose text occurs; `letter` says why no letter was read."""
    lower = text.lower()
    # It does not look for options in an answer that is much longer than all of them.
    if len(lower) > 2 * sum(len(option) for option in choices.values()):
        return "", letter if letter != "no_letter" else "too_long"
    found = [key for key, option in choices.items() if option.lower() in lower]
    if len(found) != 1:
        return "", "both_texts" if found else letter
    whole_word = re.search(rf"(?<!\w){re.escape(choices[found[0]].lower())}(?!\w)", lower)
    return found[0], "text" if whole_word else "text_in_word"
