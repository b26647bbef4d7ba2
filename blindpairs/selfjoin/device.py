"""Which engine runs a join, and the reason if it is not a GPU.

Nothing here loads Triton or uses a GPU's memory: only the properties of a card are checked. What only a trial shows is
found by `gpu.join.prepare_within_memory`, and the same `Hardware` then keeps to the CPU.
"""

import importlib.util
import re
from typing import Any

import torch

from blindpairs.errors import ConfigError
from blindpairs.progress import Notice, drop_notice

BF16_SINCE = (8, 0)  # compute capability


class CannotRun(Exception):
    """The GPUs cannot run a join; the message is the reason. Raised only before the first pair."""


class Hardware:
    """The choice of engine for joins, and a record of the engines that ran.

    `asked` is `auto` (every GPU that can run a join, else the CPU), `cpu`, `cuda` (every GPU) or `cuda:1`. On the CPU,
    compiled code runs the join. With `compiled=False` torch does all of it; `compiled.c` is neither built nor loaded.
    `notice` gets one line if the CPU replaces a GPU, and one if torch replaces compiled code.
    Raises ConfigError for a named device that cannot run a join: a run that asks for a GPU by name must not silently
    take fifty times as long.
    """

    def __init__(self, asked: str = "auto", notice: Notice = drop_notice, *, compiled: bool = True) -> None:
        self.notice, self.compiled = notice, compiled
        self._devices: list[str] = []
        self._engines: list[str] = []
        self._noticed: set[str] = set()
        self.gpus: tuple[str, ...] = ()
        if asked == "cpu":
            return
        wanted = range(torch.cuda.device_count()) if asked in ("auto", "cuda") else [_number(asked)]
        # By name, why a GPU cannot run a join; empty if it can.
        reasons = {f"cuda:{index}": why_unusable(index) for index in wanted}
        self.gpus = tuple(name for name, reason in reasons.items() if not reason)
        if not self.gpus:
            why = next(iter(reasons.values()), "") or _why_no_gpu()
            if asked != "auto":
                raise ConfigError(f"device {asked!r} cannot compare vectors here: {why}; {_available()}")
            self.keep_to_the_cpu(why)

    def keep_to_the_cpu(self, why: str) -> None:
        """Use no GPU from now on, and say why."""
        self.gpus = ()
        self.notice(f"{why}: the CPU compares the pairs")

    def notice_once(self, text: str) -> None:
        """Give `notice` this line the first time only."""
        if text not in self._noticed:
            self._noticed.add(text)
            self.notice(text)

    def uses(self, engine: str, *devices: str) -> None:
        """Record an engine that runs a join, and its devices."""
        self._engines += [] if engine in self._engines else [engine]
        self._devices += [device for device in devices if device not in self._devices]

    def describe(self) -> str:
        """The devices that ran joins: `cuda:0`, `cpu`, or `cuda:0 and cpu` if the CPU took over."""
        return " and ".join(self._devices or ["cpu"])

    def engines(self) -> str:
        """The engines that ran joins, empty if none did: triton, amx, avx512-bf16, float32 or torch."""
        return " and ".join(self._engines)


def why_unusable(index: int) -> str:
    """Why the GPU of this number cannot run the join's kernels, by its properties; empty if it can."""
    if reason := _why_no_gpu():
        return reason
    if index >= torch.cuda.device_count():
        return f"there is no cuda:{index}"
    try:
        properties: Any = torch.cuda.get_device_properties(index)
    except (RuntimeError, AssertionError) as error:  # an old driver, a card in exclusive use, a removed card
        return f"cuda:{index} cannot be used ({str(error).partition(chr(10))[0]})"
    capability = (properties.major, properties.minor)
    if capability < BF16_SINCE:
        return (
            f"cuda:{index} ({properties.name}) has compute capability {capability[0]}.{capability[1]}, "
            f"and bfloat16 needs {BF16_SINCE[0]}.{BF16_SINCE[1]}"
        )
    return ""


def _why_no_gpu() -> str:
    """Why no GPU of this machine can run the kernels; empty if one may."""
    if torch.version.hip is not None:  # asked first: torch calls AMD's GPUs "cuda" too
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
    """The devices that may be asked for on this machine."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count()) if not why_unusable(index)]
    return f"there is {', '.join([*names, 'cpu'])}, or leave out --device"
