"""The recipes that ship, by name, and recipes of a user's file.

A file may build on another (`base = "llava-1.5-7b-336"`), and may stand for several runs (`[[runs]]`: the settings that
each replaces; `seeds`: each of them with each seed). Promise: the figures of a published recipe are those of its
authors' scripts, held by a test.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blindpairs.access import reading
from blindpairs.errors import ConfigError
from blindpairs.mof.recipe import Recipe, parse_recipe, read_toml

FOLDER = Path(__file__).parent / "presets"
BASE, RUNS, SEEDS = "base", "runs", "seeds"  # keys of a file beside those of a recipe


@dataclass(frozen=True)
class Preset:
    """A recipe, and the settings of each run that replace it: one run of nothing replaced, as a rule."""

    name: str
    recipe: Recipe
    runs: tuple[dict[str, str], ...] = ({},)


def preset_names() -> list[str]:
    """Every preset that ships, in order of name."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_preset(name: str) -> Preset:
    """A preset that ships, or the file `name` if that ends in .toml. ConfigError lists what there is."""
    path = _path(name, Path())
    tables = _tables(path, ())
    runs = tables.pop(RUNS, [{}])
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise ConfigError(f"{path}: runs are tables of settings, [[runs]]")
    numbers = tables.pop(SEEDS, [])
    if not isinstance(numbers, list):
        raise ConfigError(f"{path}: seeds is a list of whole numbers, seeds = [1, 2, 3]")
    seeds = [{"seed": str(seed)} for seed in numbers] or [{}]
    replaced = tuple(_settings(run) | seed for seed in seeds for run in runs)
    return Preset(path.stem, parse_recipe(tables, name), replaced)


def _settings(table: dict[str, Any], path: str = "") -> dict[str, str]:
    """`{"stage2": {"batch": 8, "pad": True}}` -> {"stage2.batch": "8", "stage2.pad": "true"}, as --set has them."""
    found: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= _settings(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _path(name: str, beside: Path) -> Path:
    if name.endswith(".toml"):
        return beside / name
    if name not in preset_names():
        raise ConfigError(f"there is no preset {name!r}: there are {', '.join(preset_names())}; or name a FILE.toml")
    return FOLDER / f"{name}.toml"


def _tables(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The tables of a file over those of its base."""
    if path in seen:
        raise ConfigError(f"{path} builds on itself, by way of {' and '.join(one.name for one in seen)}")
    with reading(path):
        tables = read_toml(path.read_bytes(), str(path))
    base = tables.pop(BASE, "")
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base is the name of a preset, in quotes")
    return _merged(_tables(_path(base, path.parent), (*seen, path)), tables) if base else tables


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
