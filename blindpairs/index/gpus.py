"""The GPUs that FAISS may use. If one fails, the CPU repeats the step from its beginning, and one line says so.

Nothing of a failed step is kept, so the results are those of the CPU.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss

from blindpairs.errors import ConfigError
from blindpairs.progress import Notice, drop_notice

FAILURES = (RuntimeError, MemoryError)  # what FAISS raises for C++ exceptions


@dataclass(frozen=True)
class Gpus:
    """Numbers of GPUs; none for the CPU alone. `notice` is called with one line when the CPU takes over."""

    numbers: Sequence[int] = ()
    notice: Notice = drop_notice

    @classmethod
    def chosen(cls, asked: str = "auto", notice: Notice = drop_notice) -> "Gpus":
        """`auto`, `cpu`, `cuda` or `cuda:1`. `auto` is every GPU that FAISS sees; `notice` is called if it sees none.

        Raises ConfigError for a device that FAISS does not have here.
        """
        visible = list(range(_count()))
        if asked == "cpu":
            return cls((), notice)
        # Without a number (`auto`, `cuda`) every visible GPU is wanted.
        named = re.fullmatch(r"cuda(?::(\d{1,4}))?", asked, re.ASCII)
        wanted = [int(named[1])] if named and named[1] else visible
        if asked != "auto" and (not named or not wanted or not set(wanted) <= set(visible)):
            have = ", ".join([*(f"cuda:{number}" for number in visible), "cpu"])
            raise ConfigError(f"device {asked!r} cannot search an index: FAISS has {have} here, or leave out --device")
        if not wanted:
            notice("FAISS sees no GPU: the CPU searches the index")
        return cls(tuple(wanted), notice)

    @classmethod
    def visible(cls, notice: Notice = drop_notice) -> "Gpus":
        """Every GPU that FAISS sees, without a notice if it sees none: only the k-means of a build uses them."""
        return cls(tuple(range(_count())), notice)

    def copy(self, index: Any) -> Any:
        """A copy of `index` on the GPUs; None if there is no GPU or the copy fails."""
        if not self.numbers:
            return None
        try:
            # The caller must keep the copy in a variable: FAISS itself holds only bare pointers to such an index.
            return faiss.index_cpu_to_gpus_list(index, gpus=list(self.numbers))
        except FAILURES as error:
            self.report_fallback("the index stays on the CPU", error)
            return None

    def report_fallback(self, what: str, error: BaseException) -> None:
        """Send the notice that the CPU takes over, and why."""
        self.notice(f"{what}: FAISS on the GPU says {short_message(error)!r}")

    def describe(self) -> str:
        """The devices, for people and pairs.json."""
        return " and ".join(f"cuda:{number}" for number in self.numbers) or "cpu"


def short_message(error: BaseException) -> str:
    """FAISS's error without source lines and function signatures."""
    # FAISS prefixes the function's signature, the path of its source and the line, which can fill five lines.
    return re.sub(r"^Error in .*? at \S+:\d+: (?:Error: )?", "", str(error), flags=re.DOTALL).strip()[:160]


def _count() -> int:
    """How many GPUs FAISS sees; 0 if it cannot use the driver."""
    try:
        return int(faiss.get_num_gpus())
    except FAILURES:
        return 0
