"""What a training run is made of: towers, language model, fusion, and the two stages; read from TOML and written to it.

A part of the model is trained in a stage if it has a learning rate there, and frozen otherwise. Promises: what is
written is read back equal; a name or a value that means nothing is an error that says what would; two recipes are
compared setting by setting.
"""

import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from blindpairs.errors import ConfigError
from blindpairs.mof.building import Fusion

# Where files lie, and how a run is kept and watched: they change nothing about the result.
NEUTRAL = ("stage1.data", "stage1.images", "stage2.data", "stage2.images", "stage1.save_every", "stage2.save_every")
# The end of a setting's name -> the least value, and the one that is too large already. A number that is none (nan) is
# in no range.
RANGES = {
    "seed": (0, 1 << 32),  # NumPy takes no larger one
    ".resolution": (1, math.inf),
    **dict.fromkeys((".batch", ".micro_batch", ".max_length", ".save_every", ".lora.alpha"), (1, math.inf)),
    **dict.fromkeys((".epochs", ".steps", ".weight_decay", ".lora.rank"), (0, math.inf)),
    ".warmup": (0, 1),
    ".lora.dropout": (0, 1),
    **{f".rates.{name}": (0, math.inf) for name in ("projectors", "language_model", "clip", "dino")},
}
Group = TypeVar("Group")


@dataclass(frozen=True)
class Rates:
    """The peak learning rate of each part; 0 freezes it. All projectors have one rate."""

    projectors: float = 0.0
    language_model: float = 0.0
    clip: float = 0.0
    dino: float = 0.0

    @property
    def trained(self) -> frozenset[str]:
        """The parts that have a rate."""
        return frozenset(name for name, rate in vars(self).items() if rate > 0)


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters on every linear layer of the language model, in place of its own weights; rank 0: none."""

    rank: int = 0
    alpha: int = 256
    dropout: float = 0.05


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    data: str = ""  # a file of conversations
    images: str = ""  # the folder that the file's image names are in
    template: Literal["plain", "vicuna_v1", "chat"] = "vicuna_v1"  # chat: the language model's own
    pad: bool = False  # to a square, in the mean colour, before resizing
    batch: int = 128  # samples of one step, over all devices
    micro_batch: int = 16  # samples that a device holds at once
    epochs: float = 1.0
    steps: int = 0  # in place of epochs, if not 0
    warmup: float = 0.03  # share of the steps; then a cosine down to 0
    weight_decay: float = 0.0
    max_length: int = 2048  # tokens of a sample, image included
    group_by_length: bool = False  # batches of one modality and of like lengths
    packing: bool = False  # several samples in a row, which do not see each other
    # The mean over the label tokens of a step, or, as in LLaVA, the mean of the means of micro-batches.
    loss: Literal["tokens", "micro_batches"] = "tokens"
    activation_checkpointing: bool = False
    save_every: int = 500  # steps between two checkpoints to resume from
    rates: Rates = field(default_factory=Rates)
    lora: Lora = field(default_factory=Lora)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run becomes."""

    clip: str = ""  # an encoder spec
    dino: str = ""
    language_model: str = ""  # a folder or a repository
    seed: int = 42
    cache_features: bool = False  # of the frozen towers, on disk
    skip: Literal["nothing", "unusable", "odd"] = "nothing"  # rows of the data that are left out
    fusion: Fusion = field(default_factory=Fusion)
    stage1: Stage = field(default_factory=Stage)
    stage2: Stage = field(default_factory=Stage)

    def towers(self) -> tuple[str, str]:
        """The specs of the towers that the mode uses: CLIP's, DINO's; "" for one that it does not."""
        return tuple(getattr(self, name) if name in self.fusion.towers else "" for name in ("clip", "dino"))  # type: ignore[return-value]

    def stage(self, number: int) -> Stage:
        """Stage 1 or 2."""
        return {1: self.stage1, 2: self.stage2}[number]


def parse_recipe(table: Mapping[str, Any], source: str) -> Recipe:
    """A recipe from the tables of a TOML file; ConfigError names what is wrong, and `source`; `check` the rest."""
    return _group(Recipe, table, source, "")


def read_toml(content: bytes, source: str) -> dict[str, Any]:
    """The tables of a TOML file; ConfigError with the line where it is none."""
    try:
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error


def check(recipe: Recipe, source: str) -> None:
    """ConfigError unless the settings go together."""
    for name in recipe.fusion.towers:
        if not getattr(recipe, name):
            raise ConfigError(f"{source}: mode {recipe.fusion.mode} needs a tower `{name}`: give --{name} SPEC")
    if not recipe.language_model:
        raise ConfigError(f"{source} names no language model: give --lm FOLDER_OR_REPOSITORY")
    for name, value in settings(recipe).items():
        low, high = next((limits for ends, limits in RANGES.items() if name.endswith(ends)), (-math.inf, math.inf))
        if value is not None and isinstance(value, (int, float)) and not low <= value < high:
            span = f"at least {low:g}" + (f" and below {high:g}" if high < math.inf else "")
            raise ConfigError(f"{source}: {name} is {value:g}; it must be {span}")
    for number in (1, 2):
        _check_stage(recipe.stage(number), f"{source}: stage{number}")


def _check_stage(stage: Stage, source: str) -> None:
    if stage.steps == 0 and stage.epochs == 0:
        raise ConfigError(f"{source} has no steps: give epochs above 0, or steps")
    if not stage.rates.trained:
        raise ConfigError(f"{source}.rates: no part has a learning rate, so nothing would be trained")
    if stage.lora.rank and not stage.rates.language_model:
        raise ConfigError(f"{source}.lora needs a learning rate, rates.language_model")


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, which `parse_recipe` reads back equal."""
    return "\n".join(_lines(recipe, "")) + "\n"


def settings(value: object, path: str = "") -> dict[str, Any]:
    """Every setting by its dotted name: {"clip": ..., "stage1.batch": ..., ...}."""
    found: dict[str, Any] = {}
    for one in fields(value):  # type: ignore[arg-type]
        name, inner = f"{path}{one.name}", getattr(value, one.name)
        found |= settings(inner, f"{name}.") if is_dataclass(inner) else {name: inner}
    return found


def differences(old: Recipe, new: Recipe) -> list[str]:
    """`stage2.batch was 128, is 64`: each setting that differs and matters for the result."""
    before, after = settings(old), settings(new)
    return [
        f"{name} was {before[name]!r}, is {after[name]!r}"
        for name in before
        if before[name] != after[name] and name not in NEUTRAL
    ]


def full_name(name: str) -> str:
    """`clip_weight` -> `fusion.clip_weight`: a setting's dotted name. ConfigError for one that is none, or several."""
    known = list(settings(Recipe()))
    found = [one for one in known if one == name] or [one for one in known if one.rpartition(".")[2] == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name!r} is a setting of several parts: give {' or '.join(found)}")
    raise ConfigError(f"there is no setting {name!r}{_similar(name, known)}")


def with_setting(recipe: Recipe, name: str, value: str) -> Recipe:
    """The recipe with one setting replaced: the value is TOML, or else text. Not yet checked as a whole."""
    path = full_name(name).split(".")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except ValueError:  # no TOML, or a number of thousands of digits
        parsed = value
    replaced: Recipe = _replaced(recipe, path, parsed, f"{name}={value}")
    return replaced


def _replaced(value: Any, path: list[str], given: object, source: str) -> Any:
    first, *rest = path
    if rest:
        return replace(value, **{first: _replaced(getattr(value, first), rest, given, source)})
    hint = get_type_hints(type(value))[first]
    return replace(value, **{first: _typed(given, hint, source)})


def _group(kind: type[Group], table: Mapping[str, Any], source: str, path: str) -> Group:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in table.items():
        where = f"{source}: {path}{name}"
        if name not in hints:
            raise ConfigError(f"{where} is no setting{_similar(name, list(hints))}")
        if is_dataclass(hints[name]):
            if not isinstance(value, dict):
                raise ConfigError(f"{where} is a table, [{path}{name}]")
            values[name] = _group(hints[name], value, source, f"{path}{name}.")
        else:
            values[name] = _typed(value, hints[name], where)
    return kind(**values)


def _typed(value: object, kind: Any, where: str) -> object:
    """`value` as a bool, int, float, str or one of some words; ConfigError where it is anything else."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(get_args(kind))}")
        return value
    kind = next((one for one in get_args(kind) if one is not type(None)), kind)  # of `int | None`
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
        raise ConfigError(f"{where}: {value!r} is not {words[kind]}")
    return value


def _similar(name: str, known: list[str]) -> str:
    by_leaf = {one.rpartition(".")[2]: one for one in known}
    close = difflib.get_close_matches(name.rpartition(".")[2], list(by_leaf), n=3)
    return (
        f": did you mean {' or '.join(by_leaf[one] for one in close)}?" if close else f"; there are {', '.join(known)}"
    )


def _lines(value: object, path: str) -> Iterator[str]:
    groups = []
    for one in fields(value):  # type: ignore[arg-type]
        inner = getattr(value, one.name)
        if is_dataclass(inner):
            groups.append((f"{path}{one.name}", inner))
        elif inner is not None:  # TOML has no word for nothing: what is left out has its default, which is that
            yield f"{one.name} = {_literal(inner)}"
    for name, inner in groups:  # after the plain values: in TOML those would belong to the table above
        yield f"\n[{name}]"
        yield from _lines(inner, f"{name}.")


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escapes = {"\\": "\\\\", '"': '\\"'}
        return (
            '"' + "".join(escapes.get(one) or (f"\\u{ord(one):04x}" if _control(one) else one) for one in value) + '"'
        )
    return repr(value)


def _control(character: str) -> bool:
    return ord(character) < 32 or ord(character) == 127
