"""Where vectors are kept: in memory up to a budget, and beyond it in a flat file that is mapped into memory.

The system can drop the pages of a mapped file and read them again, so they take no memory from anything else. The file
is unlinked as soon as it is mapped, so it disappears with the process, even if that is killed. A process that dies
while it writes the file leaves a hidden `.tmp` file, which the next run removes.
"""

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError, InputError
from blindpairs.progress import Notice, drop_notice
from blindpairs.system import physical_memory
from blindpairs.workspace import aside_name

ROW_BYTES = 550  # per row, apart from its vectors: what the join holds (`selfjoin.row_bytes`: 300 to 820), and the id
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Float16 = NDArray[np.float16]


@dataclass(frozen=True)
class MemoryBudget:
    """How many bytes may be in memory. What exceeds `limit` is mapped from a file in `folder`, after a `notice`."""

    limit: int
    folder: Path
    notice: Notice = drop_notice


class VectorPlacement:
    """Decides for each array, in the order of the calls, whether it is kept in memory or mapped.

    `rows` is the number of rows that the join will hold. `existing` arrays are held already and count as well.
    Without a budget, everything is kept in memory.
    """

    def __init__(self, budget: MemoryBudget | None, rows: int, existing: Iterable[NDArray[Any]] = ()) -> None:
        self._budget = budget
        held = sum(one.nbytes for one in existing if not isinstance(one, np.memmap))
        self._left = budget.limit - held - rows * ROW_BYTES if budget else 0

    def place(self, name: str, blocks: Iterable[NDArray[Any]], shape: tuple[int, int]) -> Float16:
        """The blocks concatenated: (N, D) float16."""
        size = 2 * shape[0] * shape[1]  # bytes of float16
        if self._budget is None or size == 0:
            return _in_memory(blocks, shape)  # also (0, D): an empty file cannot be mapped
        if size <= self._left:
            self._left -= size
            return _in_memory(blocks, shape)
        self._budget.notice(f"{name}: {size / UNITS['M']:,.0f} MiB of vectors stay on disk, more than memory may hold")
        return map_rows(blocks, shape, self._budget.folder, "vectors", "raise --memory")


def _in_memory(blocks: Iterable[NDArray[Any]], shape: tuple[int, int]) -> Float16:
    whole = np.empty(shape, np.float16)
    start = 0
    for block in blocks:
        whole[start : start + len(block)] = block
        start += len(block)
    return whole


def map_rows(
    blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], folder: Path, name: str, remedy: str
) -> NDArray[np.float16]:
    """The blocks concatenated, as float16 in a file that is mapped into memory: (n, *shape[1:]), n at most shape[0].

    `name` says in the error what is mapped, and `remedy` what to do if `folder` has no room for all of it.
    """
    path = folder / aside_name(name.replace(" ", "-"))
    try:
        with path.open("wb") as file:  # writing through the mapping would end in SIGBUS on a full disk
            for block in blocks:
                file.write(np.ascontiguousarray(block, np.float16).data)
        if not path.stat().st_size:  # an empty file cannot be mapped
            return np.empty((0, *shape[1:]), np.float16)
        return np.memmap(path, np.float16, "r").reshape(-1, *shape[1:])
    except OSError as error:
        size = 2 * math.prod(shape) / UNITS["G"]
        room = f"{size:.0f}" if size >= 10 else f"{size:.2g}"
        raise InputError(
            f"cannot map {name} at {folder}: {error.strerror}; free {room} GiB there, or {remedy}"
        ) from error
    finally:
        with suppress(OSError):  # it may not exist: some file systems refuse to create it
            path.unlink()


def parse_bytes(text: str) -> int:
    """`500M`, `4G`, `1.5GiB` or plain bytes as a number of bytes; ConfigError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not match or float(match[1]) <= 0:
        raise ConfigError(f"{text!r} is not an amount of memory: write 500M or 4G")
    return int(float(match[1]) * UNITS[match[2]])


def available_memory() -> int:
    """The bytes available without swapping: the kernel's estimate, or the container's limit where that is lower."""
    return min([physical_memory(), *_kernel_estimate(), *_container_limit()])


def _kernel_estimate() -> list[int]:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:  # not Linux
        return []
    return [int(kilobytes) << 10 for kilobytes in re.findall(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)]


def _container_limit() -> list[int]:
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{what}").read_text() for what in ("max", "current"))
    except OSError:  # not Linux, no container, or the first version of cgroups
        return []
    # `max` means no limit. A container may already use more than a limit that was lowered.
    return [max(0, int(limit) - int(used))] if limit.strip().isdigit() else []


def memory_budget(text: str, folder: Path, notice: Notice) -> MemoryBudget:
    """A budget of `text`, as for `parse_bytes`; where it is empty, of half of the available memory."""
    return MemoryBudget(parse_bytes(text) if text else available_memory() // 2, folder, notice)
