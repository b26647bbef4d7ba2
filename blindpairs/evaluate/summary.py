"""What recorded answers say about a model: scores with intervals, by pattern, and beside those of the control pairs.

A control is a pair that resembles a blind one and that CLIP tells apart. If a model fails because CLIP is blind, it is
right about more of the controls; the difference of the two pair accuracies says by how much.

Promises: blind pairs and controls are never averaged together; where answers are missing there are no scores, unless
those of the complete pairs are asked for, and then every table says so; no score is without what produced it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from blindpairs.benchmark import Benchmark, BenchmarkPair
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import exchanged
from blindpairs.evaluate.readers import OURS
from blindpairs.evaluate.reading import read_answer
from blindpairs.evaluate.results import Setup
from blindpairs.evaluate.scores import (
    Key,
    PairOutcome,
    Scores,
    by_pattern,
    keys_of,
    outcomes,
    questions_of,
    score,
)
from blindpairs.statistics import Rate, difference_interval, rate_of, wilson_interval
from blindpairs.vlm import Failure


@dataclass(frozen=True)
class Difference:
    """By how much the share of solved controls exceeds that of solved blind pairs, with its 95 % interval."""

    share: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Counts:
    """What was wanted, and what is there."""

    pairs: int
    complete_pairs: int
    questions: int
    answered: int
    unreadable: int
    endings: Mapping[str, int] = field(default_factory=dict)  # answers that did not end by themselves, by how they did


@dataclass(frozen=True)
class Summary:
    """The scores of one setup. `blind` is None where answers are missing and only whole scores were asked for."""

    setup: Setup
    benchmark: str
    fingerprint: str
    ground_truth: str
    counts: Counts
    failures: Mapping[str, int]  # questions without an answer, by the word for what went wrong
    blind: Scores | None
    controls: Scores | None = None  # None also where the benchmark has none
    difference: Difference | None = None
    patterns: Mapping[str, Scores] = field(default_factory=dict)  # of the blind pairs
    reader: str = OURS
    controls_alone: bool = False  # the benchmark has nothing but controls, of which `blind` then is

    @property
    def complete(self) -> bool:
        """Whether every question has an answer."""
        return self.counts.answered == self.counts.questions

    def fields(self) -> dict[str, Any]:
        """Everything, as JSON."""
        asking = {**asdict(self.setup.asking), "hash": self.setup.asking.hash}
        return {
            "benchmark": {"name": self.benchmark, "fingerprint": self.fingerprint, "ground_truth": self.ground_truth},
            "model": self.setup.model,
            "settings": dict(self.setup.settings),
            "protocol": {**asking, "exchanged": self.setup.exchanged, "images": self.setup.images},
            "reading": self.reader,
            "complete": self.complete,
            "of_complete_pairs_only": self.blind is not None and not self.complete,
            "counts": asdict(self.counts),
            "unanswered": dict(self.failures),
            "scores": _scores_fields(self.blind),
            "controls": _scores_fields(self.controls),
            "controls_minus_blind_pairs": None if self.difference is None else asdict(self.difference),
            "patterns": {name: _scores_fields(one) for name, one in self.patterns.items()},
        }


def summarise(
    setup: Setup,
    benchmark: Benchmark,
    answers: Iterable[Answer],
    failures: Mapping[Key, Failure] | None = None,
    *,
    reader: str = OURS,
    complete_pairs: bool = False,
) -> Summary:
    """The scores of recorded answers to `benchmark`, whose options are in their own order.

    The answers are read by blindpairs' own rule; `reader` says so, or names the judge whose verdicts they are.

    With `complete_pairs`, pairs of which an answer is missing are left out of everything but the counts.
    """
    shown = exchanged(benchmark) if setup.exchanged else benchmark
    answers = list(answers)
    options = options_of(shown, answers)  # None for an answer that cannot be read; no key for one that is missing
    asked = [pair for pair in shown.pairs if pair.question]
    whole = [pair for pair in asked if all(key in options for key in keys_of(pair))]
    questions = questions_of(shown)
    unreadable = sum(option is None for option in options.values())
    endings = Counter(one.finish for one in answers if one.key in questions and one.finish not in ("", "stop"))
    codes = Counter(one.code for key, one in (failures or {}).items() if key in questions and key not in options)
    summary = Summary(
        setup=setup,
        benchmark=benchmark.name,
        fingerprint=benchmark.fingerprint,
        ground_truth=benchmark.ground_truth,
        counts=Counts(
            pairs=len(asked),
            complete_pairs=len(whole),
            questions=len(questions),
            answered=len(options),
            unreadable=unreadable,
            endings=dict(endings),
        ),
        failures=dict(codes),
        blind=None,
        reader=reader,
    )
    controls_alone = all(pair.is_control for pair in asked)
    scorable = [pair for pair in whole if controls_alone or not pair.is_control]
    if len(whole) < len(asked) and not (complete_pairs and scorable):
        return summary  # complete controls alone would stand in the place of blind pairs
    return _scored(summary, shown, whole, options)


def options_of(shown: Benchmark, answers: Iterable[Answer]) -> dict[Key, int | None]:
    """The option that each answer means, by blindpairs' own reader; answers to other questions are left out."""
    questions = questions_of(shown)
    return {
        answer.key: read_answer(answer.text, questions[answer.key].options).option
        for answer in answers
        if answer.key in questions
    }


def _scored(
    summary: Summary, shown: Benchmark, pairs: Sequence[BenchmarkPair], options: Mapping[Key, int | None]
) -> Summary:
    blind = outcomes([pair for pair in pairs if not pair.is_control], options)
    controls = outcomes([pair for pair in pairs if pair.is_control], options)
    if not blind:  # a benchmark of controls alone is scored as what it is
        blind, controls, summary = controls, [], replace(summary, controls_alone=True)
    scores, control_scores = score(blind), score(controls) if controls else None
    return replace(
        summary,
        blind=scores,
        controls=control_scores,
        difference=None if control_scores is None else _difference(control_scores, scores),
        patterns=by_pattern(shown, blind),
    )


def _difference(controls: Scores, blind: Scores) -> Difference:
    one, other = controls.pair_accuracy, blind.pair_accuracy
    interval = difference_interval((one.share, one.count), (other.share, other.count))
    return Difference(one.share - other.share, interval)


@dataclass(frozen=True)
class BothOrders:
    """The blind pairs, asked with their options in both orders."""

    pair_accuracy: Rate  # right about both images in both orders
    same_option: Rate  # the same option in both orders, of the questions with two readable answers


def both_orders(benchmark: Benchmark, in_order: Iterable[Answer], swapped: Iterable[Answer]) -> BothOrders | None:
    """What changes with the order of the options, from the answers to each; None where answers are missing.

    The options of exchanged questions are mapped back, so that 0 is the same option in both.
    """
    options = options_of(benchmark, in_order)
    mapped_back = {
        key: None if option is None else 1 - option for key, option in options_of(exchanged(benchmark), swapped).items()
    }
    pairs = [pair for pair in benchmark.pairs if pair.question and not pair.is_control]
    pairs = pairs or [pair for pair in benchmark.pairs if pair.question]
    keys = [key for pair in pairs for key in keys_of(pair) if key[2] == "first"]
    if not keys or any(key not in options or key not in mapped_back for key in keys):
        return None
    right_in_order, right_swapped = (_pair_right(pairs, order) for order in (options, mapped_back))
    readable = [both for key in keys if None not in (both := (options[key], mapped_back[key]))]
    same = sum(a == b for a, b in readable)
    return BothOrders(
        rate_of([a and b for a, b in zip(right_in_order, right_swapped, strict=True)]),
        # Two questions a pair: the interval is that of half as many, as if both always agreed.
        Rate(same, len(readable), wilson_interval(same / max(1, len(readable)), len(readable) / 2)),
    )


def _pair_right(pairs: Sequence[BenchmarkPair], options: Mapping[Key, int | None]) -> list[bool]:
    return [PairOutcome(pair, _first(pair, options), None).pair_right for pair in pairs]


def _first(pair: BenchmarkPair, options: Mapping[Key, int | None]) -> tuple[int | None, int | None]:
    return options[pair.pair_id, "a", "first"], options[pair.pair_id, "b", "first"]


def _scores_fields(scores: Scores | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    return {name: rate_fields(rate) for name, rate in vars(scores).items() if rate is not None}


def rate_fields(rate: Rate) -> dict[str, Any]:
    """A rate as JSON; the share is null where nothing was counted."""
    share = rate.share if rate.count else None
    return {"share": share, "hits": rate.hits, "count": rate.count, "interval": rate.interval}
