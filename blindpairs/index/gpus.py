"""The GPUs that FAISS may use. If one fails, the CPU does the step, and the user is told in a line.

Nothing of a failed step is kept: it is repeated from its beginning, so the results are those of the CPU.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import faiss

from blindpairs.errors import ConfigError
from blindpairs.selfjoin.device import silent

FAILURES = (RuntimeError, MemoryError)  # what FAISS raises for C++ exceptions


@dataclass(frozen=True)
class Gpus:
    """Numbers of GPUs; none for the CPU alone. `notice` is told when the CPU takes over."""

    numbers: Sequence[int] = ()
    notice: Callable[[str], None] = silent

    @classmethod
    def chosen(cls, asked: str = "auto", notice: Callable[[str], None] = silent) -> "Gpus":
        """`auto`, `cpu`, `cuda` or `cuda:1`. `auto` is every GPU that FAISS sees; `notice` is told if there is none.

        Raises ConfigError for a device that FAISS does not have here.
        """
        there = list(range(_count()))
        if asked == "cpu":
            return cls((), notice)
        named = re.fullmatch(r"cuda(?::(\d{1,4}))?", asked, re.ASCII)
        wanted = [int(named[1])] if named and named[1] else there
        if asked != "auto" and (not named or not wanted or not set(wanted) <= set(there)):
            have = ", ".join([*(f"cuda:{number}" for number in there), "cpu"])
            raise ConfigError(f"device {asked!r} cannot search an index: FAISS has {have} here, or leave out --device")
        if not wanted:
            notice("FAISS sees no GPU: the CPU searches the index")
        return cls(tuple(wanted), notice)

    @classmethod
    def visible(cls, notice: Callable[[str], None] = silent) -> "Gpus":
        """Every GPU that FAISS sees, without a notice if there is none: only the k-means of a build uses them."""
        return cls(tuple(range(_count())), notice)

    def copy(self, index: Any) -> Any:
        """A copy of `index` on the GPUs; None if there is no GPU or the copy fails. Hold it while it is used."""
        if not self.numbers:
            return None
        try:
            return faiss.index_cpu_to_gpus_list(index, gpus=list(self.numbers))
        except FAILURES as error:
            self.step_in("the index stays on the CPU", error)
            return None

    def step_in(self, what: str, error: BaseException) -> None:
        """Tell why the CPU takes over."""
        self.notice(f"{what}: FAISS on the GPU says {said(error)!r}")

    def describe(self) -> str:
        """The devices, for people and pairs.json."""
        return " and ".join(f"cuda:{number}" for number in self.numbers) or "cpu"


def said(error: BaseException) -> str:
    """FAISS's error without source lines and function signatures."""
    return re.sub(r"^Error in .*? at \S+:\d+: (?:Error: )?", "", str(error), flags=re.DOTALL).strip()[:160]


def _count() -> int:
    """How many GPUs FAISS sees; 0 if it cannot use the driver."""
    try:
        return int(faiss.get_num_gpus())
    except FAILURES:
        return 0
