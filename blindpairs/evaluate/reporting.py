"""From recorded answers and similarities to a report: the page, its plots, and its table as files.

report.html            the page
report/models.svg ...  each plot as SVG, PNG and PDF
report/table.csv, table.tex
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from blindpairs.benchmark import Benchmark
from blindpairs.errors import InputError
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import exchanged
from blindpairs.evaluate.figures import encoded
from blindpairs.evaluate.overview import COLUMNS, decoding, incomplete, titles
from blindpairs.evaluate.report import write_report
from blindpairs.evaluate.reported import ReportedModel, ReportedRun
from blindpairs.evaluate.scores import keys_of, outcomes
from blindpairs.evaluate.similarity import SimilarityScores
from blindpairs.evaluate.summary import Summary, options_of
from blindpairs.evaluate.table import ModelScores, csv_text, latex, pattern_table, records
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.heat import NO_MAPS
from blindpairs.statistics import Rate
from blindpairs.workspace import write_text, written_atomically

NOTHING = Rate(0, 0, None)


def write_results(
    folder: Path, truth: Benchmark, models: Sequence[ReportedModel], maps: Mapping[str, DifferenceMap] = NO_MAPS
) -> Path:
    """Write report.html to `folder`, and plots and table below it; returns the page. InputError without a model."""
    if not models:
        raise InputError(
            f"there are no results on {truth.name} (fingerprint {truth.fingerprint}): run `blindpairs eval`, "
            "with --model for a benchmark of statements alone"
        )
    models = with_distinct_names(models)
    run = reported_run(truth, models)
    page = folder / "report.html"
    plots = write_report(page, truth, run, maps)
    for name, plot in plots.items():
        for kind in ("svg", "png", "pdf"):
            with written_atomically(folder / "report" / f"{name}.{kind}") as aside:
                aside.write_bytes(plot.svg if kind == "svg" else encoded(plot.figure, kind))
    rows = [
        ModelScores(model.name, model.pair_accuracy, model.patterns) for model in models if model.pair_accuracy.count
    ]
    write_text(folder / "report" / "table.csv", csv_text(records(rows)))
    write_text(folder / "report" / "table.tex", latex(pattern_table(rows, intervals=True)))
    return page


def with_distinct_names(models: Sequence[ReportedModel]) -> list[ReportedModel]:
    """The same, with its wordings in the name of a CLIP-style model that was measured in several."""
    names = [one.name for one in models]
    return [
        replace(one, name=f"{one.name} ({one.protocol['wording']})")
        if one.kind == "similarity" and names.count(one.name) > 1
        else one
        for one in models
    ]


def reported_run(truth: Benchmark, models: Sequence[ReportedModel]) -> ReportedRun:
    """The models of a report on a benchmark, in their order."""
    names = dict.fromkeys([*truth.patterns, *(name for pair in truth.pairs for name in pair.patterns)])
    patterns = [name for name in names if any(name in model.patterns for model in models)] or list(names)
    return ReportedRun(truth.name, truth.fingerprint, truth.ground_truth, patterns, models)


def reported_models(
    truth: Benchmark,
    summaries: Sequence[Summary],
    answers: Iterable[Sequence[Answer]],
    verdicts: Sequence[Sequence[Answer] | None] = (),
) -> list[ReportedModel]:
    """One model for each summary; `answers` are what each said, read again.

    Where a judge read them, its `verdicts` say what is right, as in the summary; None in the place of others. A model
    without scores is in the report, too, and says why.
    """
    judged = verdicts or [None] * len(summaries)
    named = zip(titles(summaries), summaries, answers, judged, strict=True)
    return [_reported(truth, name, one, given, verdict) for name, one, given, verdict in named]


def _reported(
    truth: Benchmark, name: str, summary: Summary, answers: Sequence[Answer], verdicts: Sequence[Answer] | None
) -> ReportedModel:
    shown = exchanged(truth) if summary.setup.exchanged else truth
    options = options_of(shown, answers if verdicts is None else verdicts)
    texts = {answer.key: answer.text for answer in answers}
    whole = [pair for pair in shown.pairs if pair.question and options.keys() >= set(keys_of(pair))]
    blind, asking = summary.blind, summary.setup.asking
    rates = {title: getattr(blind, field) for field, title in COLUMNS.items() if blind and field != "pair_accuracy"}
    protocol = {"asked as": decoding(asking), "prompt": asking.template} if asking.template else {}
    if summary.setup.exchanged:
        protocol["options"] = "shown in the other order: its (a) is the second of those that stand with a pair"
    return ReportedModel(
        name=name,
        kind="answers",
        pair_accuracy=blind.pair_accuracy if blind else NOTHING,
        patterns={pattern: scores.pair_accuracy for pattern, scores in summary.patterns.items()},
        rates=rates,
        controls=summary.controls.pair_accuracy if summary.controls else None,
        protocol={"model": summary.setup.model, **protocol, "read by": summary.reader},
        right={one.pair.pair_id: one.pair_right for one in outcomes(whole, options)},
        said={pair.pair_id: (texts[pair.pair_id, "a", "first"], texts[pair.pair_id, "b", "first"]) for pair in whole},
        incomplete="" if summary.complete else incomplete(summary),
        sees=summary.setup.images,
    )


def reported_similarity(scores: SimilarityScores) -> ReportedModel:
    """A CLIP-style model: its image score stands where others have pair accuracy."""
    settings, overall = scores.similarities.settings, scores.overall
    wordings = ", ".join(repr(template) for template in scores.similarities.templates)
    return ReportedModel(
        name=str(settings["model"]),
        kind="similarity",
        pair_accuracy=overall.image,
        patterns={name: one.image for name, one in scores.patterns.items()},
        rates={"confusion": overall.confusion, "text score": overall.text, "group match": overall.match},
        controls=scores.controls.image if scores.controls else None,
        protocol={
            "model": str(settings["model"]),
            "measured": "image score of the 2 x 2 cosines of statements and images, as MMVP-VLM",
            "wording": wordings,
            "ties": f"{overall.ties:,}, which image b gets",
            "pairs": f"{overall.image.count:,} blind pairs; {scores.without_statements:,} pairs have no statements",
        },
        right=scores.right,
        parameters=settings["parameters"] / 1e6,
        resolution=settings["images"]["preprocess"]["size"],
    )
