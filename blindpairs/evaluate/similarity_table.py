"""Shows the scores of CLIP-style models: lines for a terminal, a dictionary for JSON, and the paper's Table 1."""

from collections.abc import Mapping, Sequence
from typing import Any

from blindpairs.evaluate.matching import CHANCE, MatchingScores
from blindpairs.evaluate.similarity import SimilarityScores
from blindpairs.evaluate.table import shown_range
from blindpairs.statistics import Rate

NAMES = {
    "image": "image score",
    "text": "text score",
    "group": "group score",
    "match": "group match",
    "confusion": "confusion",
}
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # header and rows


def describe(scores: SimilarityScores) -> list[str]:
    """Lines of plain text: the scores, the patterns, wordings and controls."""
    settings = scores.similarities.settings
    count = scores.overall.image.count
    lines = [f"{settings['model']} on {settings['benchmark']}: {count:,} pairs, {scores.similarities.templates[0]!r}"]
    for name, rate in scores.overall.rates().items():
        lines.append(f"  {NAMES[name]:<12} {_percent(rate)}, guessing {100 * CHANCE[name]:.1f} %")
    lines += [
        f"  {name}: {_percent(one.image)}, group match {_cell(one.match)} %" for name, one in scores.patterns.items()
    ]
    if scores.patterns:
        lines.append(f"  mean of the patterns: {100 * scores.mean_of_patterns:.1f} % (the average of MMVP-VLM)")
    if len(scores.wordings) > 1:
        low, high = scores.spread
        lines.append(f"  over {len(scores.wordings)} wordings: {100 * low:.1f} to {100 * high:.1f} %")
    if scores.controls:
        lines.append(f"  controls: {_percent(scores.controls.image)}")
    if scores.gain:
        lines.append(f"  controls above their blind pairs: {_gain(scores)}")
    if scores.overall.ties:
        lines.append(
            f"  ties: {scores.overall.ties:,} (in the image score image b gets them, as in the official script)"
        )
    if scores.without_statements:
        lines.append(f"  left out, without statements: {scores.without_statements:,} pairs")
    return lines


def summary(scores: SimilarityScores) -> dict[str, Any]:
    """The same, ready for JSON; shares from 0 to 1."""
    gain = scores.gain
    return {
        **_matching(scores.overall),
        "mean_of_patterns": scores.mean_of_patterns if scores.patterns else None,
        "patterns": {name: _matching(one) for name, one in scores.patterns.items()},
        "wordings": {template: _matching(one) for template, one in scores.wordings.items()},
        "controls": _matching(scores.controls) if scores.controls else None,
        "control_gain": {"difference": gain.difference, "interval": gain.interval, "count": gain.count}
        if gain
        else None,
        "without_statements": scores.without_statements,
        "settings": dict(scores.similarities.settings),
    }


def table(models: Sequence[SimilarityScores], imagenet: Mapping[str, float] | None = None) -> Table:
    """Table 1 of the paper: a row a model, image scores in percent by pattern, and their mean.

    `imagenet` are zero-shot accuracies in percent by spec, from elsewhere; without any, the column is left out. The
    last two columns are exact: right pairs of all pairs, each pair once, and the Wilson interval of that share.
    """
    patterns = list(dict.fromkeys(name for one in models for name in one.patterns))
    given = imagenet or {}
    header = ("Model", "Image size", "Params (M)", *(["ImageNet-1k"] if given else []))
    rows = []
    for one in models:
        settings = one.similarities.settings
        row = [settings["model"], str(settings["images"]["preprocess"]["size"]), f"{settings['parameters'] / 1e6:.1f}"]
        if given:
            row.append(f"{given[settings['model']]:.1f}" if settings["model"] in given else "")
        cells = [_cell(one.patterns[name].image) if name in one.patterns else "" for name in patterns]
        image = one.overall.image
        average = f"{100 * one.mean_of_patterns:.1f}" if one.patterns else ""
        rows.append((*row, *cells, average, f"{image.hits}/{image.count}", shown_range(image)))
    return (*header, *patterns, "Average", "Pairs", "95 % interval"), rows


def _matching(scores: MatchingScores) -> dict[str, Any]:
    rates = {
        name: {"hits": one.hits, "count": one.count, "share": one.share, "interval": one.interval}
        for name, one in scores.rates().items()
    }
    return {**rates, "ties": scores.ties}


def _cell(rate: Rate) -> str:
    return f"{100 * rate.share:.1f}"


def _percent(rate: Rate) -> str:
    return f"{_cell(rate)} % ({rate.hits:,} of {rate.count:,}; {shown_range(rate)})"


def _gain(scores: SimilarityScores) -> str:
    assert scores.gain  # asked for only where there is one
    low, high = scores.gain.interval or (float("nan"), float("nan"))
    interval = f"; {100 * low:+.1f} to {100 * high:+.1f}" if scores.gain.interval else "; too few for an interval"
    return f"{100 * scores.gain.difference:+.1f} points (of {scores.gain.count:,} pairs{interval})"
