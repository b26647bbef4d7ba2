"""Scores as lines of text: a table of models, one of patterns, and what every number rests on.

Percentages with their 95 % interval behind them, rounded to whole points; the files beside the answers have all digits.
"""

from collections.abc import Sequence

from blindpairs.evaluate.asking import Asking
from blindpairs.evaluate.baselines import CHANCE_PERCENT
from blindpairs.evaluate.readers import OURS
from blindpairs.evaluate.results import Setup
from blindpairs.evaluate.scores import Scores
from blindpairs.evaluate.summary import Summary
from blindpairs.pages.safety import visible_text
from blindpairs.statistics import Rate

COLUMNS = {
    "pair_accuracy": "pairs",
    "question_accuracy": "questions",
    "confusion": "same answer",
    "invalid": "unreadable",
    "first_option": "first option",
}


def shown_rate(rate: Rate | None) -> str:
    """`24.3 [18, 32]`; a dash where nothing was counted."""
    if rate is None or not rate.count:
        return "-"
    return f"{100 * rate.share:.1f}" + (f" {shown_interval(rate.interval)}" if rate.interval else "")


def shown_interval(interval: tuple[float, float]) -> str:
    """`[18, 32]`, in percent."""
    return f"[{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"


def model_table(summaries: Sequence[Summary]) -> list[str]:
    """One line a model under a heading, with what guessing gives first. Incomplete ones say so instead."""
    alone = any(one.controls_alone for one in summaries)
    rows = [("% of controls" if alone else "% of blind pairs", *COLUMNS.values())]
    rows.append(("guessing, on average", *(f"{value:.1f}" for value in CHANCE_PERCENT.values())))
    for title, one in zip(_with_parts(summaries), summaries, strict=True):
        rates = [shown_rate(getattr(one.blind, name)) for name in COLUMNS] if one.blind else [incomplete(one)]
        rows.append((title, *rates))
    return aligned(rows)


def provenance(summaries: Sequence[Summary]) -> list[str]:
    """What the numbers rest on besides the benchmark: how each protocol asks, and who read the answers."""
    lines = [f"asked as {decoding(one.setup.asking)}" for one in summaries if one.setup.asking.template]
    lines += ["read by " + ("blindpairs' own rule" if one.reader == OURS else one.reader) for one in summaries]
    return list(dict.fromkeys(lines))


def decoding(asking: Asking) -> str:
    """`ours (1a2b3c4d), greedy, at most 512 tokens`; of people, who decode nothing, `study (1a2b3c4d)`."""
    if asking.max_tokens is None:
        return asking.identity
    decoded = "greedy" if not asking.temperature else f"sampled at temperature {asking.temperature:g}"
    return f"{asking.identity}, {decoded}, at most {asking.max_tokens:,} tokens"


def endings(summary: Summary) -> list[str]:
    """Why answers may be unreadable that did not end by themselves."""
    words = {"length": "were cut at the limit of tokens", "refused": "are refusals", "empty": "are empty"}
    return [
        f"{count:,} of {summary.counts.answered:,} answers {words.get(ending, f'ended with {ending}')}"
        for ending, count in summary.counts.endings.items()
    ]


def titles(summaries: Sequence[Summary]) -> list[str]:
    """A name for each; models of one name have the hash that their folders end in behind it."""
    names = [titled(one) for one in summaries]
    return [
        f"{name} {one.setup.folder_name[-8:]}" if names.count(name) > 1 else name
        for name, one in zip(names, summaries, strict=True)
    ]


def _with_parts(summaries: Sequence[Summary]) -> list[str]:
    """The titles; those of scores of complete pairs alone say so."""
    return [
        title if one.complete or not one.blind else f"{title} ({one.counts.complete_pairs:,} complete pairs)"
        for title, one in zip(titles(summaries), summaries, strict=True)
    ]


def titled(summary: Summary) -> str:
    """The model, and how it was asked where it was asked."""
    return titled_setup(summary.setup)


def titled_setup(setup: Setup) -> str:
    """The same of a setup."""
    asking = setup.asking
    how = f" ({asking.name})" if asking.template or asking.name.startswith("imported") else ""
    return visible_text(setup.title) + how  # a line feed in a name would begin a row of its own


def incomplete(summary: Summary) -> str:
    """`incomplete: 96 of 288 questions have no answer`."""
    counts = summary.counts
    return f"incomplete: {counts.questions - counts.answered:,} of {counts.questions:,} questions have no answer"


def control_table(summaries: Sequence[Summary]) -> list[str]:
    """Blind pairs beside control pairs, for a benchmark that has controls."""
    rows = [("% right about both images", "blind pairs", "controls", "controls - blind")]
    for title, one in zip(_with_parts(summaries), summaries, strict=True):
        if one.blind and one.controls and one.difference:
            both = (shown_rate(one.blind.pair_accuracy), shown_rate(one.controls.pair_accuracy))
            difference = f"{100 * one.difference.share:+.1f} {shown_interval(one.difference.interval)}"
            rows.append((title, *both, difference))
    return aligned(rows) if len(rows) > 1 else []


def pattern_table(summaries: Sequence[Summary]) -> list[str]:
    """Pair accuracy by pattern, a column for each model that has scores; `n` is a range where they differ."""
    scored = [one for one in summaries if one.blind]
    names = list(dict.fromkeys(name for one in scored for name in one.patterns))
    if not names:
        return []
    rows = [("% of pairs by pattern", "n", *_with_parts(scored))]
    for name in names:
        found = [one.patterns.get(name) for one in scored]
        counts = sorted({scores.pair_accuracy.count if scores else 0 for scores in found})
        shown = " to ".join(f"{count:,}" for count in dict.fromkeys([counts[0], counts[-1]]))
        rows.append((visible_text(name), shown, *(_pairs(scores) for scores in found)))
    return aligned(rows)


def _pairs(scores: Scores | None) -> str:
    return "-" if scores is None else shown_rate(scores.pair_accuracy)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two spaces apart, the first of them left and the others right. A row with fewer cells is not cut."""
    # A row with fewer cells has a sentence in place of numbers: it must not widen the columns.
    widths: dict[int, int] = {}
    longest = max(map(len, rows))
    for row in rows:
        for place, cell in enumerate(row):
            if len(row) == longest or place == 0:
                widths[place] = max(widths.get(place, 0), len(cell))
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(widths[place]) if len(row) == longest else cell for place, cell in enumerate(row) if place]
        lines.append("  ".join(cells).rstrip())
    return lines
