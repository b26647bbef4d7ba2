"""`blindpairs eval --table`: models by patterns, CLIP-style models by size, and the same as published."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blindpairs.cli.eval_report import Evaluated

if TYPE_CHECKING:
    from blindpairs.evaluate.session import Entry
    from blindpairs.evaluate.similarity import SimilarityScores
    from blindpairs.evaluate.summary import Summary
    from blindpairs.evaluate.table import ModelScores

STYLE = "CLIP-style models, % of pairs: image score"
ASKED = "models that answer, % of pairs right about both images"
MOST_WITH_INTERVALS = 5  # models in one table by pattern: with more, lines get too long, and --json has them
TABLES = ("mmvp_vlm", "mmvp")  # of the paper: CLIP-style models, and models that answer


def tables(entries: "Sequence[Entry]", scores: "Sequence[SimilarityScores]", *, published: bool) -> Evaluated:
    """Every model by pattern, and CLIP-style models by size; those of the paper below, where they are wanted."""
    from blindpairs.evaluate.overview import incomplete, titles

    clips = _clips(scores)
    summaries = [one.summary for one in entries if one.summary]
    named = list(zip(titles(summaries), summaries, strict=True))
    asked = [_asked(title, one) for title, one in named if one.blind]
    lines, fields = _blocks(clips, asked, "")
    lines += [f"{title}: {incomplete(one)}" for title, one in named if not one.complete]
    if published:
        more, theirs = _published()
        lines += more
        fields["published"] = theirs
    return Evaluated("table", lines, fields)


def _clips(scores: "Sequence[SimilarityScores]") -> "list[ModelScores]":
    from blindpairs.evaluate.reporting import reported_similarity, with_distinct_names
    from blindpairs.evaluate.table import ModelScores

    models = with_distinct_names([reported_similarity(one) for one in scores])
    return [ModelScores(one.name, one.pair_accuracy, one.patterns, one.parameters, one.resolution) for one in models]


def _asked(title: str, summary: "Summary") -> "ModelScores":
    from blindpairs.evaluate.table import model_scores

    assert summary.blind
    part = "" if summary.complete else " (complete pairs alone)"
    return model_scores(title + part, summary.blind, summary.patterns)


def _blocks(
    clips: "Sequence[ModelScores]", asked: "Sequence[ModelScores]", of: str
) -> tuple[list[str], dict[str, Any]]:
    """The tables that have rows, as lines; and all of them as JSON. `of` says whose they are."""
    from blindpairs.evaluate.scaling import scaling_trends
    from blindpairs.evaluate.table import pattern_table, records, scaling_records, scaling_table, text

    lines: list[str] = []
    for title, models in ((STYLE, clips), (ASKED, asked)):
        if models:
            intervals = len(models) <= MOST_WITH_INTERVALS
            table = pattern_table(models, intervals)
            title += ", with 95 % intervals" if intervals else "; intervals by pattern are in --json"
            shown = table.transposed() if len(models) < len(table.header) else table
            lines += ["", f"{of}{title}", *text(shown).split("\n")]
    trends = scaling_trends(clips)
    if clips:
        lines += ["", f"{of}CLIP-style models by size", *text(scaling_table(clips)).split("\n")]
        lines += [f"  {one.sentence}" for one in trends]
    fields = {
        "clip_style": records(clips),
        "asked": records(asked),
        "scaling": scaling_records(clips),
        "trends": [
            {"against": one.against, "models": one.models, "gain_per_doubling": one.gain, "interval": one.interval}
            for one in trends
        ],
    }
    return lines, fields


def _published() -> tuple[list[str], dict[str, Any]]:
    """The paper's two tables; of values that are no share of their pairs, that they are none."""
    from blindpairs.evaluate.published import impossible, load_published, table_values
    from blindpairs.evaluate.table import published_models

    values = load_published()
    clips, asked = (published_models(table_values(values, name)) for name in TABLES)
    lines, fields = _blocks(clips, asked, "published: ")
    odd = impossible(one for name in TABLES for one in table_values(values, name))
    lines += [f"{one.model}, {one.text} %: left out, because no count of {one.count} pairs prints so" for one in odd]
    lines.append("numbers of another benchmark, or asked otherwise, say nothing about who is better")
    return lines, fields | {"impossible": [vars(one) for one in odd]}
