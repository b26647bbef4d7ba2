"""The benchmark's checks for one pair while it is written, each with the field that it is about.

They are those of `benchmark.checks`, so that nothing passes here and fails at export. A form that is half done has
`unfinished` findings of its own, which a page may show more quietly than the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blindpairs.author.edits import Form, form_refused, is_written, parts_of_form, patterns_of_form, statements_of_form
from blindpairs.benchmark import Question
from blindpairs.benchmark.checks import pattern_faults, question_faults, shown_by_one, statement_faults

# The part of a question that a check is about; the others are about its text.
_PARTS = {"same_answer": "answers", "equal_options": "options", "bracket": "options", "read_as_missing": "options"}


@dataclass(frozen=True)
class LiveFinding:
    """One thing that is wrong with what is written now.

    `field` is question.text, question.options, question.answers, the same of second, statements, patterns, or "" for
    the whole. `check` is a stable word, as in `benchmark.checks.Finding`, or `unfinished`.
    """

    field: str
    check: str
    message: str
    refuses: bool = True  # whether an export would refuse the pair; what does not is a note


def live_checks(form: Form, taxonomy: Sequence[str] = ()) -> list[LiveFinding]:
    """Every finding about a form. InputError for JSON of another shape."""
    with form_refused():
        return list(_findings(form, taxonomy))


def _findings(form: Form, taxonomy: Sequence[str]) -> Iterator[LiveFinding]:
    statements = statements_of_form(form)
    questions = {name: parts_of_form(form.get(name)) for name in ("question", "second")}
    written = {name for name, (text, options, _) in questions.items() if is_written(text, options)}
    if "question" not in written and not all(one.strip() for one in statements):
        yield LiveFinding("", "unfinished", "write a question, or a statement for each image")
    if "second" in written and "question" not in written:
        yield LiveFinding("question.text", "unfinished", "write the first question before the second")
    for name in ("question", "second"):
        if name in written:
            yield from _of_question(name, *questions[name], statements)
    first, second = questions["question"][2], questions["second"][2]
    if len(written) == 2 and None not in (*first, *second) and second != first[::-1]:
        message = "the answers of the second question are not exchanged"
        yield LiveFinding("second.answers", "second_not_exchanged", message)
    yield from (LiveFinding("statements", word, message) for word, message in statement_faults(statements))
    yield from (LiveFinding("patterns", *one) for one in pattern_faults(patterns_of_form(form), taxonomy))


def _of_question(
    name: str,
    text: str,
    options: tuple[str, str],
    answers: tuple[int | None, int | None],
    statements: tuple[str, str],
) -> Iterator[LiveFinding]:
    chosen = None not in answers
    if not text.strip():
        yield LiveFinding(f"{name}.text", "unfinished", "write what is asked")
    if missing := [place for place, option in enumerate(options) if not option.strip()]:
        which = " and ".join(("first", "second")[place] for place in missing)
        yield LiveFinding(f"{name}.options", "unfinished", f"write the {which} option")
    if not chosen:
        sides = " and ".join(f"image {side}" for side, answer in zip("ab", answers, strict=True) if answer is None)
        yield LiveFinding(f"{name}.answers", "unfinished", f"choose the answer for {sides}")
    # Answers that are not chosen yet stand as two different ones, about which no check has anything to say.
    question = Question(text, options, tuple(answers) if chosen else (0, 1))  # type: ignore[arg-type]
    for word, message in question_faults(question):
        part = _PARTS.get(word, "answers" if word == "no_such_option" else "text")
        if word != "no_text" and not (missing and part == "options"):
            yield LiveFinding(f"{name}.{part}", word, message)
    if not missing and (why := shown_by_one(question, statements)):
        yield LiveFinding(f"{name}.text", "shown_by_one", why, refuses=False)
