"""Two more answers of `blindpairs eval`: zero-shot accuracy beside that of pairs, and how many pairs detect a gain."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from blindpairs.cli.eval_report import Evaluated
from blindpairs.errors import ConfigError

if TYPE_CHECKING:
    from blindpairs.benchmark import Benchmark
    from blindpairs.evaluate.contenders import Contender
    from blindpairs.evaluate.zero_shot import LabelledImages
    from blindpairs.progress import Progress
    from blindpairs.statistics import Rate

DISCORDANCE = 0.2  # the share of pairs that one of two models solves alone, where none are compared
MISALIGNED = (
    "note: tuning the image side alone can move images away from texts: the score of a pair may hide that, and rise, "
    "where zero-shot accuracy falls"
)


def zero_shot(
    labelled: "LabelledImages", runs: "Sequence[Contender]", bar: "Callable[[str, str], Progress]"
) -> Evaluated:
    """Top-1 of the CLIP-style models among `runs`, each beside its pairs, and against the first on the same images."""
    from blindpairs.evaluate.comparison import compare_arrays
    from blindpairs.evaluate.summary import rate_fields
    from blindpairs.evaluate.zero_shot import evaluate_zero_shot

    able = [run for run in runs if run.kind == "similarity"]
    if not able:
        raise ConfigError("--zero-shot needs a CLIP-style model among those of --compare: no other can classify")
    found = [evaluate_zero_shot(labelled, run.spec, progress=bar(run.name, "images")) for run in able]
    for run, one in zip(able, found, strict=True):
        if run.weights_hash != one.weights_hash:
            raise ConfigError(f"{run.spec} has other weights now than when its pairs were scored: name it by its spec")
    lines = [f"zero-shot: {len(labelled.images):,} images of {len(labelled.classes):,} classes"]
    rows: list[dict[str, Any]] = []
    for run, one in zip(able, found, strict=True):
        lines.append(f"  {run.name}: top-1 {percent(one.top1)}; pairs {percent(run.accuracy)}")
        rows.append({"model": run.spec, "top1": rate_fields(one.top1), "pair_accuracy": rate_fields(run.accuracy)})
        if one is not found[0]:
            against = compare_arrays(found[0].right, one.right, (able[0].name, run.name))
            low, high = (100 * limit for limit in against.interval)
            gap = f"{100 * against.difference:+.1f} points ({low:.1f} to {high:.1f}), p = {against.p:.2g}"
            lines.append(f"    against {able[0].name}: {gap}, on the same images")
            numbers = {"difference": against.difference, "interval": against.interval, "p": against.p}
            rows[-1]["against_the_first"] = numbers
    lines.append(MISALIGNED)
    return Evaluated("zero_shot", lines, {"classes": labelled.classes, "images": len(labelled.images), "models": rows})


def power(gain: float, truth: "Benchmark", observed: float | None) -> Evaluated:
    """What a gain needs, from the discordance that was observed between two models, else a usual one."""
    from blindpairs.evaluate.power import detectable_gain, pairs_needed

    count = sum(not pair.is_control for pair in truth.pairs)
    discordance = max(gain, DISCORDANCE if observed is None else observed)
    origin = "assumed"
    if observed is not None:
        too_few = f"the least that such a gain takes; of the first two compared {100 * observed:.1f} %"
        origin = "as the first two compared do" if observed == discordance else too_few
    try:
        needed: int | None = pairs_needed(gain, discordance)
        need = f"a gain of {100 * gain:g} points needs {needed:,} pairs"
    except ConfigError as error:
        needed, need = None, str(error)
    least = detectable_gain(count, discordance)
    detected = "no gain" if least is None else f"gains from {100 * least:.1f} points"
    lines = [
        "power 80 % at p < 0.05, "
        f"where {100 * discordance:.1f} % of the pairs are solved by one of two models only ({origin})",
        f"  {need}",
        f"  the {count:,} pairs of this benchmark detect {detected}",
    ]
    numbers = {"gain": gain, "discordance": discordance, "observed": observed is not None and observed == discordance}
    return Evaluated("power", lines, {**numbers, "pairs_needed": needed, "pairs": count, "gain_told": least})


def percent(rate: "Rate") -> str:
    """`24.3 [18, 32] %`."""
    from blindpairs.evaluate.overview import shown_rate

    return f"{shown_rate(rate)} %"
