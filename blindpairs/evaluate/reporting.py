"""Scores of models that answered, as the report shows them."""

from collections.abc import Iterable, Sequence

from blindpairs.benchmark import Benchmark
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import exchanged
from blindpairs.evaluate.overview import COLUMNS, decoding, incomplete, titles
from blindpairs.evaluate.reported import ReportedModel
from blindpairs.evaluate.scores import keys_of, outcomes
from blindpairs.evaluate.summary import Summary, options_of


def reported_models(
    benchmark: Benchmark, summaries: Sequence[Summary], answers: Iterable[Sequence[Answer]]
) -> list[ReportedModel]:
    """One model for each summary that has scores; `answers` are those that each was made of, read again.

    For answers that a judge read these are its verdicts.
    """
    named = zip(titles(summaries), summaries, answers, strict=True)
    return [_reported(benchmark, name, one, given) for name, one, given in named if one.blind]


def _reported(benchmark: Benchmark, name: str, summary: Summary, answers: Sequence[Answer]) -> ReportedModel:
    assert summary.blind
    shown = exchanged(benchmark) if summary.setup.exchanged else benchmark
    options = options_of(shown, answers)
    whole = [pair for pair in shown.pairs if pair.question and options.keys() >= set(keys_of(pair))]
    said = {answer.key: answer.text for answer in answers}
    rates = {title: getattr(summary.blind, field) for field, title in COLUMNS.items() if field != "pair_accuracy"}
    asking = summary.setup.asking
    protocol = {"asked as": decoding(asking), "prompt": asking.template} if asking.template else {}
    return ReportedModel(
        name=name,
        kind="answers",
        pair_accuracy=summary.blind.pair_accuracy,
        patterns={pattern: scores.pair_accuracy for pattern, scores in summary.patterns.items()},
        rates=rates,
        controls=summary.controls.pair_accuracy if summary.controls else None,
        protocol={"model": summary.setup.model, **protocol, "read by": summary.reader},
        right={one.pair.pair_id: one.pair_right for one in outcomes(whole, options)},
        said={pair.pair_id: (said[pair.pair_id, "a", "first"], said[pair.pair_id, "b", "first"]) for pair in whole},
        incomplete="" if summary.complete else incomplete(summary),
    )
