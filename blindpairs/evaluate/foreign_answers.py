"""Answers that another harness recorded, as answers to the questions of a benchmark.

Promises: a question is found by our pair id and side, which our exports carry, or by the id that it has in its source,
never by its position in the file. An answer counts only if nothing in the file contradicts it: where the file has the
question or the options, they must be the benchmark's, because a letter means another option where they are exchanged.
A note says what is left out, and for which questions the file has another ground truth.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blindpairs.benchmark import Benchmark, Question
from blindpairs.errors import InputError, first_names
from blindpairs.evaluate.answers import Answer, deduplicated
from blindpairs.evaluate.as_cambrian import shown_options
from blindpairs.evaluate.foreign_rows import ForeignRow, foreign_rows
from blindpairs.workspace import digest

ImageSide = tuple[str, str]  # pair id, and side "a" or "b"
MOST_NAMED = 10
_LETTERED = re.compile(r"(?<!\w)\(?a[.):]\s*(.*?)\s*(?<!\w)\(?b[.):]\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class ImportedAnswers:
    """What a foreign file says about a benchmark, in the order of the file."""

    harness: str
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]  # what was odd, one sentence each


def import_answers(path: Path, benchmark: Benchmark, ids: Mapping[str, ImageSide] | None = None) -> ImportedAnswers:
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
    numbered = source_sides(benchmark) if ids is None else ids  # for rows that name no pair of ours
    questions = _questions(benchmark)
    fitting: list[tuple[ForeignRow, ImageSide]] = []
    left_out: dict[str, list[str]] = {}
    for row in rows:
        image_side = row.image_side or numbered.get(row.source)
        why = _refusal(row, image_side, questions)
        if why or image_side is None:
            left_out.setdefault(why, []).append(row.source or " ".join(row.image_side or ()))
        else:
            fitting.append((row, image_side))
    if not fitting:
        raise InputError(f"{path} answers no question of {benchmark.name}: {next(iter(left_out))}")
    answers = tuple(
        deduplicated(((row.line, _answer(harness, row, image_side)) for row, image_side in fitting), str(path))
    )
    notes = [
        f"{len(names):,} answers are left out: {why} ({first_names(names, MOST_NAMED)})."
        for why, names in left_out.items()
    ]
    if doubled := len(fitting) - len(answers):
        notes.append(f"{doubled:,} answers are there twice, word for word, and count once.")
    notes += _missing(questions, answers)
    notes += _other_truth(path, benchmark, fitting)
    return ImportedAnswers(harness, answers, tuple(notes))


def source_sides(benchmark: Benchmark) -> dict[str, ImageSide]:
    """The id of a question in its source -> pair id and side; ids that several have are left out."""
    sides = [
        (source, (pair.pair_id, side))
        for pair in benchmark.pairs
        for side, source in (("a", pair.source_id_a), ("b", pair.source_id_b))
        if source
    ]
    counts = Counter(source for source, _ in sides)
    return {source: image_side for source, image_side in sides if counts[source] == 1}


def _questions(benchmark: Benchmark) -> dict[ImageSide, Question]:
    return {(pair.pair_id, side): pair.question for pair in benchmark.pairs if pair.question for side in "ab"}


def _refusal(row: ForeignRow, image_side: ImageSide | None, questions: Mapping[ImageSide, Question]) -> str:
    """Why an answer is to no question of the benchmark; "" where it is to one."""
    if image_side is None or image_side not in questions:
        return "the benchmark has no such question"
    question = questions[image_side]
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


def _answer(harness: str, row: ForeignRow, image_side: ImageSide) -> Answer:
    prompt_hash = digest(row.prompt)[:16] if row.prompt and harness != "vlmevalkit" else ""  # it keeps no prompt
    return Answer((*image_side, "first"), row.text, f"imported:{harness}", prompt_hash, row.model)


def _missing(questions: Mapping[ImageSide, Question], answers: Iterable[Answer]) -> list[str]:
    given = {answer.key[:2] for answer in answers}
    missing = [f"image {side} of pair {pair_id}" for pair_id, side in questions if (pair_id, side) not in given]
    return [f"{len(missing):,} questions have no answer: {first_names(missing, MOST_NAMED)}."] if missing else []


def _other_truth(path: Path, benchmark: Benchmark, fitting: Sequence[tuple[ForeignRow, ImageSide]]) -> list[str]:
    """A sentence about the questions for which the file has another right option; InputError if they are most."""

    def differing(other: Benchmark) -> list[str]:
        questions = _questions(other)
        return list(_differing(fitting, lambda image_side: questions[image_side].answers["ab".index(image_side[1])]))

    names = differing(benchmark)
    if not names:
        return []
    shown = first_names(names, MOST_NAMED)
    known = [name for name in benchmark.corrections if not differing(benchmark.with_ground_truth(name))]
    if known:
        return [f"Its ground truth is {known[0]!r}, which differs for {len(names):,} questions: {shown}."]
    if 2 * len(names) > sum(row.truth is not None for row, _ in fitting):
        raise InputError(
            f"{path} has another right answer for {len(names):,} questions ({shown}), which are most: its "
            f"numbers are not those of {benchmark.name}"
        )
    return [f"Its ground truth differs for {len(names):,} questions: {shown}."]


def _differing(fitting: Iterable[tuple[ForeignRow, ImageSide]], truth: Callable[[ImageSide], int]) -> Iterator[str]:
    for row, image_side in fitting:
        if row.truth is not None and row.truth != truth(image_side):
            yield f"{row.source + ': ' if row.source else ''}image {image_side[1]} of pair {image_side[0]}"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
