"""The same answers under every reader: blindpairs' own and those of other harnesses, and where they differ.

One file of recorded answers gives every number that is published about them. A reader of another harness keeps its
mistakes: each is in the file that is named after the harness, with where its rule is from.

Promises: blindpairs' own numbers never depend on the order of the answers, and a missing answer is an error. For a
harness that takes neighbouring lines for a pair (cambrian, official) the lines are the answers in the order of the
questions, as it would write them, or on request in that of the file; a note says where such a pair is none.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from blindpairs.benchmark import Benchmark
from blindpairs.errors import ConfigError
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.as_cambrian import read_cambrian
from blindpairs.evaluate.as_lmms_eval import read_mmvp, read_shared
from blindpairs.evaluate.as_official import read_official
from blindpairs.evaluate.as_successors import read_mediconfusion, read_naturalbench
from blindpairs.evaluate.as_vlmevalkit import read_vlmevalkit
from blindpairs.evaluate.reading import read_answer
from blindpairs.evaluate.scores import Key, outcomes, score
from blindpairs.evaluate.verdicts import (
    NO_JUDGE,
    Answered,
    HarnessResult,
    Judging,
    ReaderScores,
    Verdict,
    answered,
    by_option,
    in_question_order,
)

OURS = "ours"
_Read = Callable[[Sequence[Answered], Judging], HarnessResult]
_HARNESSES: dict[str, _Read] = {
    "lmms-eval": lambda asked, _: read_mmvp(asked),
    "lmms-eval-shared": lambda asked, _: read_shared(asked),
    "vlmevalkit": read_vlmevalkit,
    "cambrian": lambda asked, _: read_cambrian(asked),
    "official": read_official,
    "naturalbench": lambda asked, _: read_naturalbench(asked),
    "mediconfusion": lambda asked, _: read_mediconfusion(asked),
}
READERS = (OURS, *_HARNESSES)


@dataclass(frozen=True)
class Disagreement:
    """An answer that a reader scores otherwise than blindpairs does."""

    answered: Answered
    ours: Verdict
    theirs: Verdict

    @property
    def reason(self) -> str:
        """The rule of the other reader that decided, in one word."""
        return self.theirs.reason


def read_with(
    name: str,
    benchmark: Benchmark,
    answers: Iterable[Answer],
    judging: Judging = NO_JUDGE,
    *,
    in_file_order: bool = False,
) -> ReaderScores:
    """The verdicts and the numbers of a reader.

    `in_file_order` pairs answers as they stand, to match a number from a file whose lines were mixed.
    Raises ConfigError for an unknown reader; InputError for different answers to one question, for an answer that is
    missing where the reader is blindpairs' own, and without a judge where the reader needs one.
    """
    asked = answered(benchmark, answers)
    if not in_file_order:
        asked = in_question_order(asked)
    if name == OURS:
        verdicts = _ours(asked)
        return ReaderScores(name, verdicts, _our_headline(benchmark, verdicts))
    verdicts, headline, notes = _harness(name)(asked, judging)
    return ReaderScores(name, verdicts, headline, tuple(notes))


def explain(
    name: str, benchmark: Benchmark, answers: Iterable[Answer], judging: Judging = NO_JUDGE
) -> list[Disagreement]:
    """The answers that a reader scores otherwise than blindpairs does, in their order; missing answers are none."""
    asked = answered(benchmark, answers)
    ours = _ours(asked)
    theirs = ours if name == OURS else _harness(name)(asked, judging)[0]
    return [
        Disagreement(one, ours[one.key], theirs[one.key])
        for one in asked
        if one.key in theirs and ours[one.key].outcome != theirs[one.key].outcome
    ]


def _harness(name: str) -> _Read:
    if name not in _HARNESSES:
        raise ConfigError(f"there is no reader {name!r}: choose one of {', '.join(READERS)}")
    return _HARNESSES[name]


def _ours(asked: Iterable[Answered]) -> dict[Key, Verdict]:
    verdicts = {}
    for one in asked:
        found = read_answer(one.text, one.question.options)
        verdicts[one.key] = by_option(found.option, one.truth, found.rule)
    return verdicts


def _our_headline(benchmark: Benchmark, verdicts: dict[Key, Verdict]) -> dict[str, float]:
    options = {key: verdict.option for key, verdict in verdicts.items()}
    got = score(outcomes(benchmark.pairs, options))
    rates = {
        "pair_accuracy": got.pair_accuracy,
        "question_accuracy": got.question_accuracy,
        "confusion": got.confusion,
        "invalid": got.invalid,
        "group_accuracy": got.group_accuracy,
    }
    return {name: rate.share for name, rate in rates.items() if rate is not None}
