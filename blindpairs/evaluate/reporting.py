"""From recorded answers and similarities to a report: the page, its plots, and its table as files.

report.html            the page
report/models.svg ...  each plot as SVG, PNG and PDF
report/table.csv, table.tex
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from blindpairs.benchmark import Benchmark
from blindpairs.errors import InputError
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.asking import exchanged
from blindpairs.evaluate.figures import encoded
from blindpairs.evaluate.overview import titles
from blindpairs.evaluate.report import write_report
from blindpairs.evaluate.reported import ReportedModel, ReportedRun
from blindpairs.evaluate.results import recorded_answers
from blindpairs.evaluate.scores import Rate, keys_of, outcomes
from blindpairs.evaluate.session import Entry
from blindpairs.evaluate.similarity import SimilarityScores
from blindpairs.evaluate.summary import Summary, options_of
from blindpairs.evaluate.table import ModelScores, csv_text, latex, pattern_table, records
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.heat import NO_MAPS
from blindpairs.workspace import write_text, written_atomically

NOTHING = Rate(0, 0, None)
COLUMNS = {"question accuracy": "question_accuracy", "confusion": "confusion", "invalid": "invalid"}
COLUMNS |= {"first option": "first_option", "group accuracy": "group_accuracy"}


def write_results(
    folder: Path, truth: Benchmark, models: Sequence[ReportedModel], maps: Mapping[str, DifferenceMap] = NO_MAPS
) -> Path:
    """Write report.html to `folder`, and plots and table below it; returns the page. InputError without a model."""
    if not models:
        raise InputError(
            f"there are no results on {truth.name} (fingerprint {truth.fingerprint}): run `blindpairs eval`"
        )
    run = reported_run(truth, models)
    page = folder / "report.html"
    figures = write_report(page, truth, run, maps)
    for name, figure in figures.items():
        for kind in ("svg", "png", "pdf"):
            with written_atomically(folder / "report" / f"{name}.{kind}") as aside:
                aside.write_bytes(encoded(figure, kind))
    rows = [
        ModelScores(model.name, model.pair_accuracy, model.patterns) for model in models if model.pair_accuracy.count
    ]
    write_text(folder / "report" / "table.csv", csv_text(records(rows)))
    write_text(folder / "report" / "table.tex", latex(pattern_table(rows, intervals=True)))
    return page


def reported_run(truth: Benchmark, models: Sequence[ReportedModel]) -> ReportedRun:
    """The models of a report on a benchmark, in their order."""
    names = dict.fromkeys([*truth.patterns, *(name for pair in truth.pairs for name in pair.patterns)])
    patterns = [name for name in names if any(name in model.patterns for model in models)] or list(names)
    return ReportedRun(truth.name, truth.fingerprint, truth.ground_truth, patterns, models)


def reported_entries(entries: Iterable[Entry], truth: Benchmark) -> list[ReportedModel]:
    """The models that were asked in words and scored; those of one name are told apart."""
    scored = [(entry, entry.summary) for entry in entries if entry.summary]
    names = titles([summary for _, summary in scored])
    return [_reported(name, entry, summary, truth) for name, (entry, summary) in zip(names, scored, strict=True)]


def _reported(name: str, entry: Entry, summary: Summary, truth: Benchmark) -> ReportedModel:
    shown = exchanged(truth) if entry.setup.exchanged else truth
    right, said = _pairs(shown, recorded_answers(entry.folder))
    blind = summary.blind
    counts = summary.counts
    return ReportedModel(
        name=name,
        kind="answers",
        pair_accuracy=blind.pair_accuracy if blind else NOTHING,
        patterns={name: one.pair_accuracy for name, one in summary.patterns.items()},
        rates={name: rate for name, key in COLUMNS.items() if blind and (rate := getattr(blind, key)) is not None},
        controls=summary.controls.pair_accuracy if summary.controls else None,
        protocol=_protocol(summary),
        right=right,
        said=said,
        incomplete="" if summary.complete else f"{counts.answered:,} of {counts.questions:,} questions have an answer",
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
    )


def _pairs(shown: Benchmark, answers: Iterable[Answer]) -> tuple[dict[str, bool], dict[str, tuple[str, str]]]:
    """Whether the first question of each complete pair is answered rightly, and what was said of both images."""
    answers = list(answers)
    options, texts = options_of(shown, answers), {answer.key: answer.text for answer in answers}
    whole = [pair for pair in shown.pairs if pair.question and all(key in options for key in keys_of(pair))]
    right = {one.pair.pair_id: one.pair_right for one in outcomes(whole, options)}
    said = {key: (texts[key, "a", "first"], texts[key, "b", "first"]) for key in right}
    return right, said


def _protocol(summary: Summary) -> Mapping[str, str]:
    setup, counts = summary.setup, summary.counts
    asking = setup.asking
    return {
        "model": setup.model,
        "asked": f"{asking.name}, prompt {asking.hash[:8]}" + (", options exchanged" if setup.exchanged else ""),
        "decoding": f"temperature {asking.temperature}, at most {asking.max_tokens} tokens",
        "image": "shown" if setup.images else "not shown",
        "read by": summary.reader,
        "answers": f"{counts.answered:,} of {counts.questions:,}, {counts.unreadable:,} of them unreadable",
        "pairs": f"{counts.complete_pairs:,} complete of {counts.pairs:,}, controls included",
        "ground truth": f"{summary.ground_truth}, revision {summary.fingerprint}",
    }
