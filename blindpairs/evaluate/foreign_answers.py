"""Answers that another harness recorded, as answers to the questions of a benchmark.

Promises: a question is found by our pair id and side, which our exports carry, or by the id that it has in its source,
never by its place in the file. An answer counts only if the file says nothing against it: where it has the question or
the options, they must be the benchmark's, because a letter means another option where they are exchanged. What is
left out is said; a ground truth that differs is said by the names of its questions.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blindpairs.benchmark import Benchmark, Question
from blindpairs.errors import InputError
from blindpairs.evaluate.answers import Answer, one_each
from blindpairs.evaluate.as_cambrian import shown_options
from blindpairs.evaluate.foreign_rows import ForeignRow, foreign_rows
from blindpairs.workspace import digest

Place = tuple[str, str]  # pair id and side
MOST_NAMED = 10
_LETTERED = re.compile(r"(?<!\w)\(?a[.):]\s*(.*?)\s*(?<!\w)\(?b[.):]\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class ImportedAnswers:
    """What a foreign file says about a benchmark, in the order of the file."""

    harness: str
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]  # what was odd, one sentence each


def import_answers(path: Path, benchmark: Benchmark, ids: Mapping[str, Place] | None = None) -> ImportedAnswers:
    """The answers in a file of MMVP's script, Cambrian, lmms-eval or VLMEvalKit.

    `ids` gives pair id and side of the questions by number, counted from 1, as in the sidecar of an export; without it
    the numbers are those of the source that the benchmark was imported from. Raises InputError if no answer fits, if
    one question has different answers, or if most of its ground truth is another one, so that its numbers cannot be
    those of this benchmark.
    """
    harness, rows = foreign_rows(path)
    models = {row.model for row in rows if row.model}
    if len(models) > 1:
        raise InputError(f"{path} has answers of several models ({', '.join(sorted(models))[:80]}): keep one of them")
    numbered = source_places(benchmark) if ids is None else ids
    questions = _questions(benchmark)
    fitting: list[tuple[ForeignRow, Place]] = []
    left_out: dict[str, list[str]] = {}
    for row in rows:
        place = row.place or numbered.get(row.source)
        why = _objection(row, place, questions)
        if why or place is None:
            left_out.setdefault(why, []).append(row.source or " ".join(row.place or ()))
        else:
            fitting.append((row, place))
    if not fitting:
        raise InputError(f"{path} answers no question of {benchmark.name}: {next(iter(left_out))}")
    answers = tuple(one_each(((row.line, _answer(harness, row, place)) for row, place in fitting), str(path)))
    notes = [f"{len(names):,} answers are left out: {why} ({_named(names)})." for why, names in left_out.items()]
    if doubled := len(fitting) - len(answers):
        notes.append(f"{doubled:,} answers are there twice, word for word, and count once.")
    notes += _missing(questions, answers)
    notes += _other_truth(path, benchmark, fitting)
    return ImportedAnswers(harness, answers, tuple(notes))


def source_places(benchmark: Benchmark) -> dict[str, Place]:
    """The id of a question in its source -> pair id and side; ids that several have are left out."""
    places = [
        (source, (pair.pair_id, side))
        for pair in benchmark.pairs
        for side, source in (("a", pair.source_id_a), ("b", pair.source_id_b))
        if source
    ]
    counts = Counter(source for source, _ in places)
    return {source: place for source, place in places if counts[source] == 1}


def _questions(benchmark: Benchmark) -> dict[Place, Question]:
    return {(pair.pair_id, side): pair.question for pair in benchmark.pairs if pair.question for side in "ab"}


def _objection(row: ForeignRow, place: Place | None, questions: Mapping[Place, Question]) -> str:
    """Why an answer is to no question of the benchmark; "" where it is to one."""
    if place is None or place not in questions:
        return "the benchmark has no such question"
    question = questions[place]
    prompt, asked = _plain(row.prompt), _plain(question.text)
    if prompt and asked not in prompt:
        return "its prompt asks another question"
    return "" if _same_options(row, prompt.rpartition(asked)[2], question) else "its options are others, or exchanged"


def _same_options(row: ForeignRow, after: str, question: Question) -> bool:
    """Whether a file's options are the question's; `after` is what follows the question in the prompt."""
    first, other = map(_plain, question.options)
    if row.options:
        cut = shown_options(question.options) or ()  # by Cambrian, at brackets
        return [*map(_plain, row.options)] in ([first, other], [*map(_plain, cut)])
    match = _LETTERED.search(after)
    return match is None or (match[1] == first and match[2].startswith(other))


def _answer(harness: str, row: ForeignRow, place: Place) -> Answer:
    prompt_hash = digest(row.prompt)[:16] if row.prompt and harness != "vlmevalkit" else ""  # it keeps no prompt
    return Answer((*place, "first"), row.text, f"imported:{harness}", prompt_hash, row.model)


def _missing(questions: Mapping[Place, Question], answers: Iterable[Answer]) -> list[str]:
    given = {answer.key[:2] for answer in answers}
    missing = [f"image {side} of pair {pair_id}" for pair_id, side in questions if (pair_id, side) not in given]
    return [f"{len(missing):,} questions have no answer: {_named(missing)}."] if missing else []


def _other_truth(path: Path, benchmark: Benchmark, fitting: Sequence[tuple[ForeignRow, Place]]) -> list[str]:
    """A sentence about the questions for which the file has another right option; InputError if they are most."""

    def differing(other: Benchmark) -> list[str]:
        questions = _questions(other)
        return list(_differing(fitting, lambda place: questions[place].answers["ab".index(place[1])]))

    names = differing(benchmark)
    if not names:
        return []
    known = [name for name in benchmark.corrections if not differing(benchmark.with_ground_truth(name))]
    if known:
        return [f"Its ground truth is {known[0]!r}, which differs for {len(names):,} questions: {_named(names)}."]
    if 2 * len(names) > sum(row.truth is not None for row, _ in fitting):
        raise InputError(
            f"{path} has another right answer for {len(names):,} questions ({_named(names)}), which are most: its "
            f"numbers are not those of {benchmark.name}"
        )
    return [f"Its ground truth differs for {len(names):,} questions: {_named(names)}."]


def _differing(fitting: Iterable[tuple[ForeignRow, Place]], truth: Callable[[Place], int]) -> Iterator[str]:
    for row, place in fitting:
        if row.truth is not None and row.truth != truth(place):
            yield f"{row.source + ': ' if row.source else ''}image {place[1]} of pair {place[0]}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
