"""Several runs of one recipe, each with other settings: their names, their recipes, and what the encoders are worth.

*Capacity* of an encoder: the score of a run that has it alone. *Necessity*: what the score loses when a run with both
is trained again without it; masking it in a trained run would rank encoders otherwise (arXiv 2606.03879).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from blindpairs.errors import ConfigError
from blindpairs.mof.recipe import Recipe, check, full_name, with_setting

MIXED = ("additive", "interleaved", "concat")  # modes with both towers
Settings = Mapping[str, str]


@dataclass(frozen=True)
class Planned:
    """One run: its name, and its recipe."""

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Worth:
    """What an encoder is worth: scores of it alone, and what each way of mixing loses without it, over the seeds."""

    encoder: str
    capacity: tuple[float, ...]
    necessity: dict[str, tuple[float, ...]]  # mode, with its weight -> losses


def points_of(options: Sequence[str]) -> list[dict[str, str]]:
    """`["mode=clip,dino", "seed=1,2"]` -> the settings of every run, the last option changing fastest."""
    axes = []
    for option in options:
        name, equals, values = option.partition("=")
        chosen = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not chosen:
            raise ConfigError(f"--sweep {option}: give NAME=VALUE,VALUE,..., such as clip_weight=1,0.5,0")
        full_name(name)
        axes.append([(name, value) for value in chosen])
    return [dict(point) for point in product(*axes)]


def planned(name: str, recipe: Recipe, points: Sequence[Settings]) -> list[Planned]:
    """The runs, named after what they replace. ConfigError: a setting that is none, or two runs that are the same."""
    runs = []
    for point in points:
        replaced = recipe
        for key, value in point.items():
            replaced = with_setting(replaced, key, value)
        if any(full_name(key) == "fusion.clip_weight" for key in point) and replaced.fusion.mode != "additive":
            raise ConfigError(f"clip_weight means something in mode additive alone, not in {replaced.fusion.mode}")
        check(replaced, run_name(name, point))
        runs.append(Planned(run_name(name, point), replaced))
    names = [run.name for run in runs]
    if repeated := sorted({one for one in names if names.count(one) > 1}):
        raise ConfigError(f"two runs would be called {repeated[0]}: leave out what is given twice")
    return runs


def run_name(name: str, point: Settings) -> str:
    """`demo`, {"mode": "additive", "clip_weight": "0.5", "seed": "2"} -> `demo-additive-0.5-seed2`."""
    words = [name]
    for key, value in point.items():
        leaf = key.rpartition(".")[2]
        words.append(value if leaf in ("mode", "clip_weight") else f"{leaf}{value}")
    return re.sub(r"[^\w.-]+", "-", "-".join(words))


def worth(scores: Mapping[str, tuple[Recipe, float]]) -> list[Worth]:
    """Capacity and necessity of both encoders, of runs that differ in mode, weight and seed: name -> its score."""
    by_way: dict[str, dict[int, float]] = {}
    for recipe, score in scores.values():
        by_way.setdefault(way_of(recipe), {})[recipe.seed] = score
    found = []
    for encoder, other in (("clip", "dino"), ("dino", "clip")):
        alone, without = by_way.get(encoder, {}), by_way.get(other, {})
        necessity = {
            way: tuple(some[seed] - without[seed] for seed in sorted(some) if seed in without)
            for way, some in by_way.items()
            if way.partition(" ")[0] in MIXED
        }
        found.append(Worth(encoder, tuple(alone.values()), {way: some for way, some in necessity.items() if some}))
    return found


def way_of(recipe: Recipe) -> str:
    """`interleaved`, or `additive 0.75`."""
    fusion = recipe.fusion
    return f"{fusion.mode} {fusion.clip_weight:g}" if fusion.mode == "additive" else fusion.mode


def spread(values: Sequence[float]) -> str:
    """`0.68 (0.66 to 0.71)`: the mean, the lowest and the highest over the seeds. Too few for an interval."""
    mean = sum(values) / len(values)
    return f"{mean:.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")
