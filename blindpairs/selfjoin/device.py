"""Which devices a join runs on, and why it is not a GPU.

Nothing here loads Triton or touches a GPU's memory: what can be told from the properties of a card is told here, and
what only trying shows (`gpu.ready`) is told to the same `Hardware`, which then keeps to the CPU.
"""

import importlib.util
import re
from collections.abc import Callable
from typing import Any

import torch

from blindpairs.errors import ConfigError

BF16_SINCE = (8, 0)  # compute capability
Notice = Callable[[str], None]


def silent(_: str) -> None:
    """For callers that want no notices."""


class CannotRun(Exception):
    """Why the GPUs cannot do a join. Raised before its first pair is handed out, and never after."""


class Hardware:
    """What a join may run on: `auto` (every GPU that can do it, else the CPU), `cpu`, `cuda` or `cuda:1`.

    `notice` is told in one line why the CPU steps in, once. Raises ConfigError for a device that was named and cannot
    do it: a run that was given a GPU by name should not begin to take fifty times as long.
    """

    def __init__(self, asked: str = "auto", notice: Notice = silent) -> None:
        self.notice = notice
        self.used: list[str] = []
        self.gpus: tuple[str, ...] = ()
        if asked == "cpu":
            return
        wanted = range(torch.cuda.device_count()) if asked in ("auto", "cuda") else [_number(asked)]
        reasons = {f"cuda:{index}": why_not(index) for index in wanted}
        self.gpus = tuple(name for name, reason in reasons.items() if not reason)
        if not self.gpus:
            why = next(iter(reasons.values()), "") or _why_none()
            if asked != "auto":
                raise ConfigError(f"device {asked!r} cannot compare vectors here: {why}; {_available()}")
            self.keep_to_the_cpu(why)

    def keep_to_the_cpu(self, why: str) -> None:
        """No GPU is asked again."""
        self.gpus = ()
        self.notice(f"{why}: the CPU compares the pairs")

    def uses(self, *names: str) -> None:
        """Note what did some of the work."""
        self.used += [name for name in names if name not in self.used]

    def describe(self) -> str:
        """What did the work, as `cuda:0`, `cpu`, or `cuda:0 and cpu` where one took over from the other."""
        return " and ".join(self.used or ["cpu"])


def why_not(index: int) -> str:
    """Why the GPU of this number cannot run the join's kernels, as far as its properties tell; empty where they can."""
    if reason := _why_none():
        return reason
    if index >= torch.cuda.device_count():
        return f"there is no cuda:{index}"
    try:
        properties: Any = torch.cuda.get_device_properties(index)
    except (RuntimeError, AssertionError) as error:  # an old driver, a card taken by another, a number that went
        return f"cuda:{index} cannot be used ({str(error).partition(chr(10))[0]})"
    capability = (properties.major, properties.minor)
    if capability < BF16_SINCE:
        return (
            f"cuda:{index} ({properties.name}) has compute capability {capability[0]}.{capability[1]}, "
            f"and bfloat16 needs {BF16_SINCE[0]}.{BF16_SINCE[1]}"
        )
    return ""


def _why_none() -> str:
    """Why no GPU at all can; empty where one might."""
    if torch.version.hip is not None:
        return "this torch is built for AMD GPUs (HIP), and the join's kernels are written for NVIDIA's"
    if not torch.cuda.is_available() or not torch.cuda.device_count():
        return "torch sees no GPU"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed, which the join's kernels are written in"
    return ""


def _number(asked: str) -> int:
    if match := re.fullmatch(r"cuda:(\d{1,4})", asked, re.ASCII):
        return int(match[1])
    kind = asked.partition(":")[0]
    why = "the join has no code for it" if kind == "mps" else "no such device"
    raise ConfigError(f"device {asked!r} cannot compare vectors ({why}); {_available()}")


def _available() -> str:
    """What may be asked for on this machine."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count()) if not why_not(index)]
    return f"there is {', '.join([*names, 'cpu'])}, or leave out --device"
