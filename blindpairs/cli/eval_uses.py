"""What `blindpairs eval` is used for, and which options each use reads.

Promise: an option that would not be read is refused with one line, whatever it is combined with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from blindpairs.errors import ConfigError

# Options that give another one its meaning, by field: without it there is nothing that they could mean.
NEEDED = {
    "zero_shot": ("compare", "--zero-shot needs the CLIP-style models that classify: name them with --compare SPEC"),
    "layer": ("readout", "--layer is for --readout: name an encoder, such as --readout auto"),
    "data": ("suite", "--data is the folder of a suite: say which, --suite pope or --suite llava-bench"),
    "explain": ("read", "--explain needs the reader whose scores it explains: --read lmms-eval, for example"),
}
_TOGETHER = {"compare", "power", "correlation", "items", "published"}
_SPENDING = {"max_requests", "max_tokens", "plan"}


class Use(Enum):
    """The uses, each with the fields of the options that it reads. The first whose mark is given counts."""

    readout = ({"readout"}, {"readout", "layer", "benchmark", "ground_truth"})
    suite = ({"suite"}, {"suite", "data", "model", "answers", "read", "judge", *_SPENDING})
    together = (_TOGETHER, {*_TOGETHER, "zero_shot", "benchmark", "ground_truth"})
    ask = (
        set[str](),
        {"model", "ask", "swap", "free_form", "answers", "template", "shard", "read", "explain", "judge"}
        | {"ground_truth", "complete_pairs", "table", "published", "benchmark", *_SPENDING},
    )

    def __init__(self, marks: set[str], reads: set[str]) -> None:
        self.marks = marks
        self.reads = reads


WHY = {
    Use.readout: "--readout asks nobody",
    Use.suite: "--suite has its own questions and words",
    Use.together: "{mark} is about what is recorded, and asks nobody",
    Use.ask: "a benchmark is asked",  # never shown: what it does not read, NEEDED explains
}


def use_of(given: Mapping[str, str]) -> Use:
    """The use that the options ask for; `given` are those that differ from their defaults: field -> flag.

    ConfigError for an option that this use does not read, and for one that lacks what it is for.
    """
    use = next(one for one in Use if one.marks & given.keys() or one is Use.ask)
    if (
        use is Use.together
        and {"table", "published"} <= given.keys()
        and not given.keys() & (use.marks - {"published"})
    ):
        use = Use.ask  # its tables have room for published ones
    lonely = [why for field, (needed, why) in NEEDED.items() if field in given and needed not in given]
    unread = [flag for field, flag in given.items() if field not in use.reads]
    if unread and (use is not Use.ask or not lonely):
        mark = next(flag for field, flag in given.items() if field in use.marks)
        raise ConfigError(f"{WHY[use].format(mark=mark)}: leave {', '.join(unread)} out")
    if lonely:
        raise ConfigError(lonely[0])
    if {"free_form", "read"} <= given.keys():
        raise ConfigError("--free-form shows no options, which other readers look for: leave --read out")
    return use


@dataclass(frozen=True)
class There:
    """What there is to read an option for."""

    asked: bool  # a model that is asked
    shared: bool  # somebody whose questions a shard can have a share of: baselines, too
    answers: bool  # answers of anybody, asked or recorded
    judged: bool  # answers that a judge reads, or may read
    compared: bool  # a CLIP-style model


_READ_FOR = {
    "asked": (("ask", "swap", "free_form"), "a model that is asked: name one with --model, such as hf:FOLDER"),
    "shared": (("shard",), "models that answer, and nobody who is evaluated is asked anything"),
    "answers": (("read", "explain", "complete_pairs"), "models that answer, and nobody who is evaluated does"),
    "judged": (("judge",), "--free-form, --read official and --read vlmevalkit: give one of these, too"),
    "compared": (("template",), "CLIP-style models, and none is evaluated: name one, such as --model demo:clip"),
}


def check_read(given: Mapping[str, str], there: There) -> None:
    """ConfigError for an option that nobody who is evaluated would read."""
    for what, (options, whom) in _READ_FOR.items():
        unread = [given[field] for field in options if field in given and not getattr(there, what)]
        if unread:
            raise ConfigError(f"{', '.join(unread)} {'is' if len(unread) == 1 else 'are'} for {whom}")
