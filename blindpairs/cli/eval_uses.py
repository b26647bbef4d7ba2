"""What `blindpairs eval` is used for, and which options each use reads.

Promise: an option that would not be read is refused with one line, whatever it is combined with.
"""

from collections.abc import Mapping
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
    return use


# Options that only some of those who are evaluated read, by field.
_OF_ASKED = ("ask", "swap", "free_form")
_OF_ANSWERS = ("shard", "read", "judge", "explain", "complete_pairs")


def check_read(given: Mapping[str, str], *, asked: bool, answers: bool, compared: bool) -> None:
    """ConfigError for an option that nobody who is evaluated would read.

    `asked`: a model is asked; `answers`: there may be answers, of a model, a baseline or a file; `compared`: there is a
    CLIP-style model.
    """
    lacking = {
        "a model that is asked: name one with --model, such as hf:FOLDER": () if asked else _OF_ASKED,
        "models that answer, and nobody who is evaluated does": () if answers else _OF_ANSWERS,
        "CLIP-style models, and none is evaluated: name one, such as --model demo:clip": ()
        if compared
        else ("template",),
    }
    for whom, fields in lacking.items():
        if unread := [given[field] for field in fields if field in given]:
            raise ConfigError(f"{', '.join(unread)} {'is' if len(unread) == 1 else 'are'} for {whom}")
