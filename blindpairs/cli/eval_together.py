"""What `blindpairs eval` says about all recorded models: correlations, item tests, and published numbers."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blindpairs.cli.benchmark import MOST_LISTED
from blindpairs.cli.eval_report import Evaluated
from blindpairs.errors import InputError

if TYPE_CHECKING:
    from blindpairs.evaluate.contenders import Contender, Contenders
    from blindpairs.evaluate.correlation import Coefficient
    from blindpairs.evaluate.items import Item
    from blindpairs.evaluate.published import PublishedValue

LEAST_MODELS = 3  # for item tests: two models agree too often by chance


def correlation(everybody: "Contenders", named: "Sequence[Contender]") -> Evaluated:
    """Every recorded model that was asked, with each CLIP-style model that is named, else with all recorded ones."""
    from blindpairs.evaluate.correlation import correlate

    clips, asked = named or everybody.similar(), [one for one in everybody.asked() if one.sees]
    if not clips:
        raise InputError("--correlation needs a CLIP-style model: name one, such as --compare demo:clip --correlation")
    if not asked:
        raise InputError("--correlation needs recorded answers of a model: ask one first, with --model or --answers")
    found = [correlate(_shares(clip), _shares(one), (clip.name, one.name)) for clip in clips for one in asked]
    lines = ["correlation of accuracies by pattern, with 95 % intervals; p by permuting the patterns"]
    rows = [
        {
            "clip": one.clip,
            "model": one.model,
            "patterns": one.patterns,
            "pearson": _coefficient(one.pearson),
            "spearman": _coefficient(one.spearman),
        }
        for one in found
    ]
    return Evaluated("correlation", [*lines, *(f"  {one.sentence}" for one in found)], {"models": rows})


def _shares(one: "Contender") -> dict[str, float]:
    return {name: rate.share for name, rate in one.patterns.items()}


def _coefficient(one: "Coefficient") -> dict[str, Any]:
    value = None if math.isnan(one.value) else one.value
    return {"value": value, "interval": one.interval, "p": one.p, "exact": one.exact}


def items(everybody: "Contenders") -> Evaluated:
    """What the models that saw the images, in the options' own order, say about the pairs."""
    from blindpairs.evaluate.items import item_analysis

    recorded = everybody.asked()
    seeing = [one for one in recorded if one.sees and one.setup and not one.setup.exchanged]
    blind = [one for one in recorded if one.asked_blind]
    if len(seeing) < LEAST_MODELS:
        raise InputError(
            f"--items needs complete answers of {LEAST_MODELS} models at least, and {len(seeing)} are recorded "
            "(baselines do not count): ask more with --model, or take over recorded ones with --answers"
        )
    names = [one.name for one in seeing]
    runs = {
        name if names.count(name) == 1 else f"{name} {place}": one.outcomes
        for place, (name, one) in enumerate(zip(names, seeing, strict=True), 1)
    }
    found = item_analysis(runs)
    solved = {one.name: item_analysis(runs, one.outcomes).solved_blind for one in blind}
    unsolved, expected = found.unsolved, found.expected_unsolved
    lines = [
        f"items: {len(found.items):,} pairs in the eyes of {len(runs)} models",
        f"  all models fail {len(unsolved):,} pairs; {expected:.1f} if their errors were independent",
        *_listed(unsolved),
        f"  {len(found.suspected):,} keys may be wrong: look at these pairs",
        *_listed(found.suspected),
    ]
    lines += [f"  {name}, without the images, solves {len(ids):,} pairs" for name, ids in solved.items()]
    if not blind:
        lines.append("  no model was asked without the images: --model blind:SPEC asks one")
    fields = {
        "models": found.models,
        "expected_unsolved": expected,
        "unsolved": [one.pair_id for one in unsolved],
        "suspected": [one.pair_id for one in found.suspected],
        "solved_blind": solved,
        "items": [_item(one) for one in found.items],
    }
    return Evaluated("items", lines, fields)


def _listed(some: "Sequence[Item]") -> list[str]:
    lines = [
        f"    {one.pair_id}: {one.right} of {one.models} right, {one.exchanged} exactly exchanged, "
        f"evidence {one.evidence:.1f}"
        for one in some[:MOST_LISTED]
    ]
    more = len(some) - MOST_LISTED
    return [*lines, *([f"    and {more:,} more: --json lists all"] if more > 0 else [])]


def _item(one: "Item") -> dict[str, Any]:
    undefined = math.isnan(one.discrimination)
    return {**vars(one), "discrimination": None if undefined else one.discrimination, "suspected": one.suspected}


def published(everybody: "Contenders", named: "Sequence[Contender]", benchmark: str) -> Evaluated:
    """Published pair accuracies on whole benchmarks, those recorded first."""
    from blindpairs.evaluate.overview import aligned, shown_rate
    from blindpairs.evaluate.published import load_published
    from blindpairs.evaluate.summary import rate_fields

    ours = {one.folder: one for one in [*named, *everybody.asked(), *everybody.similar()]}
    values = load_published()
    whole = [one for one in values if one.metric == "pair_accuracy" and not one.pattern]
    rows = [("model", "benchmark", "% right", "source")]
    rows += [(one.name, benchmark, shown_rate(one.accuracy), "here") for one in ours.values()]
    rows += [(_named(one), one.benchmark, _published(one), one.source) for one in whole]
    wrong = sum(one.possible is False for one in values)
    lines = aligned(rows)
    lines.append(f"{wrong:,} published values are no share of their number of pairs, and no pair accuracies")
    lines.append("numbers of another benchmark, or asked otherwise, say nothing about who is better")
    fields = {
        "ours": [{"model": one.spec, "kind": one.kind, **rate_fields(one.accuracy)} for one in ours.values()],
        "published": [{**vars(one), "possible": one.possible} for one in values],
    }
    return Evaluated("published", lines, fields)


def _named(one: "PublishedValue") -> str:
    return f"{one.model} ({one.column})" if one.column != one.metric else one.model


def _published(one: "PublishedValue") -> str:
    from blindpairs.evaluate.overview import shown_rate

    if one.possible is False:
        return f"{one.text} (impossible: no count of {one.count} prints so)"
    return shown_rate(one.rate) if one.rate else one.text
