"""How NaturalBench and MediConfusion read answers, by their own scripts.

NaturalBench (Baiqi-Li/NaturalBench, naturalbench_vqa.py): yes or no, or A or B, in any case on word boundaries; the
earlier of both counts, so the article is an A. Its four accuracies are those of all four answers of a pair, by key.

MediConfusion (AIF4S/MediConfusion, utils/answering.py, `clean_up_manual`): a capital letter that is a word between
spaces, in some forms of marks; both letters are none. Rates are in percent with two decimals; confusion is of the pairs
with two valid answers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from blindpairs.benchmark import Question
from blindpairs.evaluate.scores import Key
from blindpairs.evaluate.verdicts import Answered, HarnessResult, Verdict, by_option, first_questions

_FORMS = ("{}", "{}:", ".{}", ".{}:", "{}.", '{}")', '("{}":', '("{}")', '("{}").')  # around a letter


def read_naturalbench(asked: Sequence[Answered]) -> HarnessResult:
    """Verdicts; `Q_Acc`, `I_Acc`, `Acc`, `G_Acc` where every pair has four answers; and notes."""
    verdicts = {one.key: _earlier(one) for one in asked}
    cells = {key: verdict.outcome == "right" for key, verdict in verdicts.items()}
    pairs = list(dict.fromkeys(key[0] for key in cells))
    if not pairs or len(cells) != 4 * len(pairs):
        return verdicts, {}, ["NaturalBench scores nothing: a pair has not two questions with two answers each."]
    at = {
        pair: [[cells[pair, side, "first"], cells[pair, side, "second"]] for side in "ab"] for pair in pairs
    }  # [image][question]
    headline = {
        "Q_Acc": sum(both[0][q] and both[1][q] for both in at.values() for q in (0, 1)) / (2 * len(pairs)),
        "I_Acc": sum(all(image) for both in at.values() for image in both) / (2 * len(pairs)),
        "Acc": sum(cells.values()) / (4 * len(pairs)),
        "G_Acc": sum(all(both[0]) and all(both[1]) for both in at.values()) / len(pairs),
    }
    return verdicts, headline, []


def earlier_word(text: str, words: tuple[str, str]) -> tuple[int | None, str]:
    """(0 or 1 for the word that comes first, None without any; the rule that decided)."""
    matches = [re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in words]
    found = [(match.start(), place, match) for place, match in enumerate(matches) if match]
    if not found:
        return None, "no_word"
    _, place, match = min(found, key=lambda one: one[:2])
    if match[0].lower() == "a" and re.match(r"\s+[^\W\d_]", text[match.end() :]):
        return place, "article"
    return place, "first_of_both" if len(found) == 2 else "word"


def read_mediconfusion(asked: Sequence[Answered]) -> HarnessResult:
    """Verdicts; `Set acc.`, `Individual acc.`, `Confused acc.`, `Invalid acc.`; and notes."""
    verdicts = {one.key: by_option(*_word(one)) for one in asked}
    sides = _sides(first_questions(asked), verdicts)
    notes = [f"MediConfusion asks whole pairs: {len(sides):,} are not."] if any(len(s) != 2 for s in sides) else []
    if not sides or notes:
        return verdicts, {}, notes
    valid = [pair for pair in sides if all(verdict.option is not None for verdict in pair)]
    right = [[verdict.outcome == "right" for verdict in pair] for pair in sides]
    count = len(sides) / 100
    headline = {
        "Set acc.": round(sum(map(all, right)) / count, 2),
        "Individual acc.": round(sum(map(sum, right)) / count / 2, 2),
        "Confused acc.": round(sum(a.option == b.option for a, b in valid) / len(valid) * 100, 2) if valid else 0.0,
        "Invalid acc.": round(sum(verdict.option is None for pair in sides for verdict in pair) / count / 2, 2),
    }
    return verdicts, headline, []


def marked_letter(text: str) -> tuple[int | None, str]:
    """(0 for A, 1 for B, None for neither or both; the rule that decided), as MediConfusion reads."""
    words = set(text.replace("\n", " ").split(" "))
    found = [place for place, letter in enumerate("AB") if words & {form.format(letter) for form in _FORMS}]
    if len(found) == 1:
        return found[0], "letter"
    return None, "both_letters" if found else "no_letter"


def _earlier(one: Answered) -> Verdict:
    option, rule = earlier_word(one.text, _words(one.question))
    return by_option(option, one.truth, rule)


def _words(question: Question) -> tuple[str, str]:
    """What is looked for: the options where they are yes and no, else their letters."""
    plain = tuple(option.strip().lower() for option in question.options)
    return (plain[0], plain[1]) if set(plain) == {"yes", "no"} else ("A", "B")


def _word(one: Answered) -> tuple[int | None, int, str]:
    option, rule = marked_letter(one.text)
    return option, one.truth, rule


def _sides(asked: Iterable[Answered], verdicts: Mapping[Key, Verdict]) -> list[list[Verdict]]:
    pairs: dict[str, list[Verdict]] = {}
    for one in asked:
        pairs.setdefault(one.key[0], []).append(verdicts[one.key])
    return list(pairs.values())
