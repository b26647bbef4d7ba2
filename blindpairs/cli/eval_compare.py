"""What `blindpairs eval` says about several models together: who is better, with all else that is asked beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from blindpairs.cli.app import named_folder, print_json, progress_bars
from blindpairs.cli.benchmark import described, identity
from blindpairs.cli.eval_options import ComparingOptions
from blindpairs.cli.eval_report import Evaluated
from blindpairs.cli.eval_together import correlation, items, published
from blindpairs.cli.eval_zero_shot import percent, power, zero_shot
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blindpairs.benchmark import Benchmark, BenchmarkPair
    from blindpairs.evaluate.comparison import Comparison, SidesComparison
    from blindpairs.evaluate.contenders import Contender, Contenders
    from blindpairs.evaluate.zero_shot import LabelledImages
    from blindpairs.progress import Progress

TASKS_DIFFER = (
    "note: one side answered questions, the other compares cosines: the tasks differ, so the difference is not only in "
    "what the two see"
)


@dataclass(frozen=True)
class Side:
    """One or more runs that count as one model."""

    name: str
    runs: "Sequence[Contender]"


@dataclass
class _Found:
    """The comparisons of the first side with each other one."""

    lines: list[str] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)
    discordance: float | None = None  # of the first comparison


def print_comparisons(
    options: ComparingOptions, space: Workspace, benchmark: "Benchmark", truth: "Benchmark", *, as_json: bool
) -> None:
    """Everything that the options ask for, in the order of the help."""
    from blindpairs.evaluate.contenders import Contenders

    everybody = Contenders(space.results, benchmark, truth)
    labelled = _labelled(options.zero_shot)  # before anything is evaluated
    parts: list[Evaluated] = []
    with progress_bars() as bar:
        sides = [_side(text, everybody, bar) for text in options.compare or ()]
        compared = _compared(everybody, sides)
        if sides:
            fields = {"sides": [_side_fields(one) for one in sides], "comparisons": compared.fields}
            parts.append(Evaluated("compare", compared.lines, fields))
        runs = [run for side in sides for run in side.runs]
        if labelled:
            parts.append(zero_shot(labelled, runs, bar))
        if options.power is not None:
            parts.append(power(options.power / 100, truth, compared.discordance))
    if options.correlation:
        parts.append(correlation(everybody, [run for run in runs if run.kind == "similarity"]))
    if options.items:
        parts.append(items(everybody))
    if options.published:
        parts.append(published(everybody, runs, truth.name))
    if as_json:
        print_json({"benchmark": identity(truth), **{one.name: one.fields for one in parts}})
        return
    typer.echo(f"{truth.name}: {described(truth)}, fingerprint {truth.fingerprint}")
    for part in parts:
        for line in ("", *part.lines):
            typer.echo(line)


def _labelled(folder: str | None) -> "LabelledImages | None":
    from blindpairs.evaluate.zero_shot import labelled_images

    return labelled_images(named_folder("--zero-shot", folder)) if folder is not None else None


def _side(text: str, everybody: "Contenders", bar: "Callable[[str, str], Progress]") -> Side:
    texts = [text] if _exists(text) else [one.strip() for one in text.split(",")]  # a name may have commas
    if not all(texts):
        raise ConfigError(f"--compare {text!r} has an empty name: join the seeds of one side by single commas")
    if repeated := [one for one in texts if texts.count(one) > 1]:
        raise ConfigError(f"--compare {text!r} names {repeated[0]} twice: each seed of a side counts once")
    runs = [everybody.find(one, bar) for one in texts]
    for place, run in enumerate(runs):
        if twice := next((one for one in runs[:place] if _is_same(one, run)), None):
            raise ConfigError(
                f"--compare {text!r} has one model twice, as {twice.name} and {run.name}: each seed counts once"
            )
    if len({run.kind for run in runs}) > 1:
        raise ConfigError(
            f"--compare {text!r} joins models that were asked with CLIP-style ones: seeds of one "
            "side differ in nothing else"
        )
    if len({run.way for run in runs}) > 1:
        raise ConfigError(
            f"--compare {text!r} joins models that were asked or measured in different ways: seeds of one side differ "
            "in nothing else"
        )
    more = f", {len(runs)} runs" if len(runs) > 1 else ""
    return Side(f"{runs[0].name}{more}", runs)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # several names joined may be longer than a name can be
        return False


def _is_same(one: "Contender", other: "Contender") -> bool:
    """Whether two runs are one: the same results, or the same weights in the same words under two names."""
    of_one, of_other = ((run.weights_hash, run.way, run.right) for run in (one, other))
    return one.folder == other.folder or (bool(one.weights_hash) and of_one == of_other)


def _compared(everybody: "Contenders", sides: Sequence[Side]) -> _Found:
    found = _Found([_shown_side(side) for side in sides])
    for other in sides[1:]:
        _compare_two(everybody, sides[0], other, found)
    if len(sides) > 2:
        found.lines.append(f"note: {len(sides) - 1} comparisons; their p-values are not corrected for their number")
    return found


def _compare_two(everybody: "Contenders", a: Side, b: Side, found: _Found) -> None:
    from blindpairs.evaluate.comparison import compare_arrays, compare_arrays_by_pattern, compare_sides_arrays

    names = _names(a, b)
    pairs, rights = everybody.rights([*a.runs, *b.runs])
    ours, theirs = rights[: len(a.runs)], rights[len(a.runs) :]
    notes = _notes(a, b)
    fields: dict[str, Any] = {"names": names, "pairs": len(pairs), "notes": notes}
    if len(rights) > 2:
        sides = compare_sides_arrays(ours, theirs, names)
        lines, by_pattern = _sides_by_pattern(pairs, ours, theirs, names)
        found.lines += [sides.sentence, *_confusions(a, b), *notes, *lines]
        found.fields.append(
            {**fields, **_fields(sides), "runs": sides.runs, "spread": sides.spread, "patterns": by_pattern}
        )
        discordant = [float((one != other).mean()) for one in ours for other in theirs]
        if found.discordance is None:
            found.discordance = sum(discordant) / len(discordant)
        return
    whole = compare_arrays(ours[0], theirs[0], names)
    patterns = compare_arrays_by_pattern(ours[0], theirs[0], [pair.patterns for pair in pairs], names)
    found.lines += [whole.sentence, *_confusions(a, b), *notes]
    found.lines += [f"  {name}, {one.pairs:,} pairs: {one.sentence}" for name, one in patterns.items()]
    found.fields.append(
        {**fields, **_pair_fields(whole), "patterns": {name: _pair_fields(one) for name, one in patterns.items()}}
    )
    if found.discordance is None:
        found.discordance = whole.discordance


def _sides_by_pattern(
    pairs: "Sequence[BenchmarkPair]", ours: "NDArray[np.bool_]", theirs: "NDArray[np.bool_]", names: tuple[str, str]
) -> tuple[list[str], dict[str, Any]]:
    """Differences within each pattern of two pairs or more, with Holm's correction beside the p-value."""
    from blindpairs.evaluate.comparison import compare_sides_arrays
    from blindpairs.statistics import holm

    places: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        for pattern in pair.patterns:
            places.setdefault(pattern, []).append(place)
    found = {
        pattern: compare_sides_arrays(ours[:, of], theirs[:, of], names)
        for pattern, of in places.items()
        if len(of) > 1
    }
    lines, fields = [], {}
    for (pattern, one), adjusted in zip(found.items(), holm([one.p for one in found.values()]), strict=True):
        low, high = (100 * limit for limit in one.interval)
        gap = f"{names[1]} {100 * one.difference:+.1f} points ({low:.1f} to {high:.1f})"
        lines.append(f"  {pattern}, {one.pairs:,} pairs: {gap}, p = {one.p:.2g}, {adjusted:.2g} among all patterns")
        numbers = {"difference": one.difference, "interval": one.interval, "p": one.p, "adjusted_p": adjusted}
        fields[pattern] = {"pairs": one.pairs, **numbers}
    return lines, fields


def _names(a: Side, b: Side) -> tuple[str, str]:
    if shared := [run.name for run in a.runs if run.folder in {other.folder for other in b.runs}]:
        raise ConfigError(f"{shared[0]} is on both sides: name two models, or two ways to ask one")
    if a.name != b.name:
        return a.name, b.name
    return f"{a.name}, the first", f"{b.name}, the second"


def _notes(a: Side, b: Side) -> list[str]:
    one, other = a.runs[0], b.runs[0]
    if one.kind != other.kind:
        return [TASKS_DIFFER]
    if any(_is_same(run, against) for run in a.runs for against in b.runs):
        return ["note: a model of each side has the same weights, and measures the same"]
    if one.wording != other.wording:
        return ["note: the two were measured in different words, which alone can change what a model scores"]
    if one.setup and other.setup and one.sees and other.sees and one.setup.asking != other.setup.asking:
        return ["note: the two were asked in different words, which alone can change what a model says"]
    return []


def _confusions(a: Side, b: Side) -> list[str]:
    shares = [sum(run.confusion.share for run in side.runs) / len(side.runs) for side in (a, b)]
    return [f"confusion, the same for both images: {100 * shares[0]:.1f} % and {100 * shares[1]:.1f} % of the pairs"]


def _shown_side(side: Side) -> str:
    rates = ", ".join(percent(run.accuracy) for run in side.runs)
    return f"{side.name}: right about both images {rates}"


def _side_fields(side: Side) -> dict[str, Any]:
    from blindpairs.evaluate.summary import rate_fields

    runs = [
        {
            "model": run.spec,
            "kind": run.kind,
            "pair_accuracy": rate_fields(run.accuracy),
            "confusion": rate_fields(run.confusion),
            "patterns": {name: rate_fields(rate) for name, rate in run.patterns.items()},
        }
        for run in side.runs
    ]
    return {"name": side.name, "runs": runs}


def _fields(one: "Comparison | SidesComparison") -> dict[str, Any]:
    numbers = {"difference": one.difference, "interval": one.interval, "p": one.p, "told": one.significant}
    return {**numbers, "sentence": one.sentence}


def _pair_fields(one: "Comparison") -> dict[str, Any]:
    counts = {"pairs": one.pairs, "right": one.right, "gained": one.gained, "lost": one.lost}
    return {**counts, **_fields(one), "adjusted_p": one.adjusted_p, "discordance": one.discordance}
