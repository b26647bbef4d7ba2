"""A pair, its draft and its decision as one flat row of texts, and what comes back in such a row.

Spreadsheets and annotation tools carry the same row. Whatever a row comes from, it is checked here: all rows are kept
or none, each fault with its place and its pair.

Answers are texts of options, not numbers: in questions of quantity, "1" may be the text of the second option.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from blindpairs.author.database import AuthoringDatabase
from blindpairs.author.drafts import Draft, MinedPair, fault_of, same_words
from blindpairs.author.revisions import Decision, Revision, Saved, latest_decision, latest_draft, latest_standing
from blindpairs.benchmark import Question
from blindpairs.errors import InputError

_QUESTION = ("question", "option_1", "option_2", "answer_a", "answer_b")
_SECOND = ("second_question", "second_option_1", "second_option_2", "second_answer_a", "second_answer_b")
TEXTS = (*_QUESTION, "pattern", "statement_a", "statement_b", *_SECOND)  # what a person may change
SHOWN = ("image_a", "image_b", "clip_sim", "dino_sim", "cluster", "control_of", "source")  # what comes back unread
COLUMNS = ("pair_id", "revision", *SHOWN, *TEXTS, "decision", "annotator", "reason")
NEEDED = ("pair_id", "revision", *TEXTS, "decision")
BETWEEN_PATTERNS = "; "
WORDS = {"accept": True, "reject": False}
NAMED = 3  # faults in a message


@dataclass(frozen=True)
class Row:
    """One row that came back."""

    place: str  # for people, such as "line 5"
    cells: Mapping[str, str]  # at least those of NEEDED


@dataclass(frozen=True)
class ImportedDecisions:
    """What became of the rows of a file."""

    saved: Saved
    undecided: int  # rows without a decision
    edited_undecided: tuple[str, ...]  # pair ids of those whose text was changed, which is not kept
    outdated: tuple[str, ...]  # decided pairs whose draft was replaced after it was exported


class RowsRefused(InputError):
    """Rows with faults: `faults` names all of them. Nothing was imported."""

    def __init__(self, name: str, faults: list[str]) -> None:
        more = f" (and {len(faults) - NAMED:,} more faults)" if len(faults) > NAMED else ""
        super().__init__(f"{name}: nothing was imported: {'; '.join(faults[:NAMED])}{more}")
        self.faults = faults


def rows_of(
    database: AuthoringDatabase, annotator: str = ""
) -> Iterator[tuple[MinedPair, Revision | None, dict[str, str]]]:
    """Every pair in rank order, the revision that its row shows, and the row.

    For an annotator, a row shows this person's own decision, else the latest draft. For nobody in particular it shows
    the latest revision of anyone.
    """
    for pair, history in database.histories():
        shown = latest_standing(history)
        if annotator:
            shown = latest_decision(history, annotator) or latest_draft(history)
        yield pair, shown, _row(pair, shown, annotator)


def import_rows(database: AuthoringDatabase, rows: Iterable[Row], name: str, annotator: str = "") -> ImportedDecisions:
    """Keep the decisions in rows of the file `name`, all or none; `annotator` decided where a row names nobody.

    Raises RowsRefused with every fault: a pair that is not known or comes twice, a revision of another pair, a
    decision that is neither accept nor reject or is nobody's, an answer that is no option or the same for both images.
    """
    decisions, faults, seen = [], [], set()
    edited, outdated, undecided = [], [], 0
    for row in rows:
        person = row.cells.get("annotator", "").strip() or annotator
        pair_id = row.cells["pair_id"].strip()
        try:
            if (pair_id, person) in seen:
                raise InputError("the pair comes twice")
            seen.add((pair_id, person))
            shown, history = _shown(database, pair_id, row.cells["revision"].strip())
            word = row.cells["decision"].strip().casefold()
            if not word:
                undecided += 1
                edited += [pair_id] if _edited(row.cells, shown) else []
                continue
            decisions.append(_decision(row.cells, pair_id, person, shown))
        except InputError as error:
            faults.append(f"{row.place}, pair {pair_id or '(none)'}: {error}")
            continue
        drafter = latest_draft(history, shown.author) if shown and shown.kind == "draft" else None
        outdated += [pair_id] if shown and drafter and drafter.id > shown.id else []
    if faults:
        raise RowsRefused(name, faults)
    return ImportedDecisions(database.decide_all(decisions), undecided, tuple(edited), tuple(outdated))


def unsaved(database: AuthoringDatabase, rows: Iterable[Row]) -> list[str]:
    """The pair ids of rows with a decision or a text that no revision of their pair has: what `import_rows` would keep.

    Whoever replaces the file of these rows would lose a person's work.
    """
    found = []
    for row in rows:
        pair_id, person = row.cells["pair_id"].strip(), row.cells.get("annotator", "").strip()
        history = database.history(pair_id)
        said = [one for one in history if one.kind != "withdrawn"]
        kept = [_content(_texts(one)) for one in said if one.kind == "draft" or person in ("", one.author)]
        if _content(row.cells) not in [_content(_texts(None)), *kept]:
            found.append(pair_id)
    return found


def draft_cells(draft: Draft) -> dict[str, str]:
    """The cells of TEXTS for a draft."""
    return {
        **_question_cells(_QUESTION, draft.question),
        "pattern": BETWEEN_PATTERNS.join(draft.patterns),
        "statement_a": draft.statement_a,
        "statement_b": draft.statement_b,
        **_question_cells(_SECOND, draft.second),
    }


def _row(pair: MinedPair, shown: Revision | None, annotator: str) -> dict[str, str]:
    figures = {"clip_sim": pair.clip_sim, "dino_sim": pair.dino_sim, "cluster": pair.cluster}
    decided = shown is not None and shown.kind != "draft"
    return {
        "pair_id": pair.pair_id,
        "revision": str(shown.id) if shown else "",
        "image_a": pair.uri_a,
        "image_b": pair.uri_b,
        **{name: "" if figure is None else repr(figure) for name, figure in figures.items()},
        "control_of": pair.control_of or "",
        "source": shown.source if shown else "",
        **_texts(shown),
        "annotator": shown.author if shown and decided else annotator,
    }


def _texts(shown: Revision | None) -> dict[str, str]:
    """The cells of a row that say something: the texts of the draft, the decision and its reason."""
    decided = shown if shown and shown.kind != "draft" else None
    return {
        **draft_cells(shown.draft if shown else Draft()),
        "decision": next(word for word, yes in WORDS.items() if yes == (decided.kind == "accepted")) if decided else "",
        "reason": decided.reason if decided else "",
    }


def _content(cells: Mapping[str, str]) -> list[str]:
    """What `_texts` names, so that it can be compared. Who rejects a pair or adds a reason has said something."""
    texts = [_lines(cells[name]) for name in TEXTS]
    return [*texts, cells["decision"].strip().casefold(), _lines(cells.get("reason", ""))]


def _shown(database: AuthoringDatabase, pair_id: str, number: str) -> tuple[Revision | None, list[Revision]]:
    """The revision that a row shows, with the history of its pair."""
    if database.pair(pair_id) is None:
        raise InputError("no such pair was mined")
    history = database.history(pair_id)
    if not number:
        return None, history
    # Table libraries turn a column of whole numbers with gaps into "1.0".
    shown = next((one for one in history if str(one.id) == number.removesuffix(".0")), None)
    if shown is None:
        raise InputError(f"revision {number} is not one of this pair")
    return shown, history


def _decision(cells: Mapping[str, str], pair_id: str, person: str, shown: Revision | None) -> Decision:
    word = cells["decision"].strip().casefold()
    if word not in WORDS:
        raise InputError(f"the decision is {cells['decision']!r}: write accept, reject or nothing")
    if not person:
        raise InputError("it is decided by nobody: fill the column annotator, or give --annotator")
    draft = shown.draft if shown else Draft()
    if WORDS[word] and _edited(cells, shown):
        draft = _draft(cells, shown)
    if WORDS[word] and (fault := fault_of(draft)):
        raise InputError(fault)
    return Decision(pair_id, person, WORDS[word], draft, cells.get("reason", ""), shown.id if shown else None)


def _edited(cells: Mapping[str, str], shown: Revision | None) -> bool:
    """Whether the text differs from the one shown. Spreadsheets write line ends of their own, which is no change."""
    before = draft_cells(shown.draft if shown else Draft())
    return any(_lines(cells[name]) != _lines(before[name]) for name in TEXTS)


def _draft(cells: Mapping[str, str], shown: Revision | None) -> Draft:
    patterns = tuple(one.strip() for one in cells["pattern"].split(BETWEEN_PATTERNS.strip()) if one.strip())
    if shown and cells["pattern"] == BETWEEN_PATTERNS.join(shown.draft.patterns):
        patterns = shown.draft.patterns  # one of them may hold the separator
    question, second = _question(cells, _QUESTION), _question(cells, _SECOND)
    return Draft(question, second, patterns, cells["statement_a"], cells["statement_b"])


def _question_cells(names: tuple[str, ...], question: Question | None) -> dict[str, str]:
    if question is None:
        return dict.fromkeys(names, "")
    answers = (question.options[answer] for answer in question.answers)
    return dict(zip(names, (question.text, *question.options, *answers), strict=True))


def _question(cells: Mapping[str, str], names: tuple[str, ...]) -> Question | None:
    text, first, other, *answers = (cells[name] for name in names)
    if not any((text, first, other, *answers)):
        return None
    options = (first, other)
    a, b = (_answer(answer, options, name) for answer, name in zip(answers, names[3:], strict=True))
    if a == b and not same_words(*options):
        raise InputError(f"{names[3]} and {names[4]} are both {answers[0]!r}: the images must have different answers")
    return Question(text, options, (a, b))


def _answer(answer: str, options: tuple[str, str], name: str) -> int:
    """The position of an answer, which is the text of an option, or 1 or 2 where no option is a number."""
    exact = [place for place, option in enumerate(options) if answer == option]
    near = [place for place, option in enumerate(options) if answer.strip() and same_words(answer, option)]
    if found := exact or near:
        return found[0]
    if answer.strip() in ("1", "2") and not any(option.strip().isnumeric() for option in options):
        return int(answer) - 1
    raise InputError(f"{name} is {answer!r}, which is neither {options[0]!r} nor {options[1]!r}")


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
