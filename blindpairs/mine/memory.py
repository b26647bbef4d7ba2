"""Where the vectors lie: in memory as far as there is room, else in a flat file that is mapped.

A mapped file's pages are the system's to drop and read again, so they never crowd anything out. The file has no name
any more once it is mapped: however the process ends, nothing of it stays. One that dies while writing it leaves a
hidden `.tmp` file, which the next run sweeps.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blindpairs.errors import ConfigError, InputError
from blindpairs.workspace import aside_name

ROW_BYTES = 550  # beside the vectors: what the join holds of a row (`selfjoin.row_bytes`: 300 to 820), and ids
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

Halves = NDArray[np.float16]


@dataclass(frozen=True)
class Room:
    """How many bytes mining may hold, and where it maps what does not fit; `notice` is told of that in a sentence."""

    limit: int
    folder: Path
    notice: Callable[[str], None] = lambda _: None


class Keeper:
    """Gives arrays their place, in the order in which they come: those that fit are in memory."""

    def __init__(self, room: Room | None, rows: int, beside: Iterable[NDArray[Any]] = ()) -> None:
        self._room = room
        held = sum(one.nbytes for one in beside if not isinstance(one, np.memmap))
        self._left = room.limit - held - rows * ROW_BYTES if room else 0

    def fits(self, size: int) -> bool:
        """Whether so many bytes have room, which is then taken."""
        if self._room is None or size <= self._left:
            self._left -= size
            return True
        return False

    def keep(self, name: str, blocks: Iterable[NDArray[Any]], shape: tuple[int, int]) -> Halves:
        """The blocks below each other: (N, D) float16."""
        size = 2 * shape[0] * shape[1]
        if self._room is None or size == 0 or self.fits(size):
            return _together(blocks, shape)
        self._room.notice(f"{name}: {size / UNITS['M']:,.0f} MiB of vectors stay on disk, more than memory may hold")
        return _mapped(blocks, shape, self._room.folder)


def _together(blocks: Iterable[NDArray[Any]], shape: tuple[int, int]) -> Halves:
    whole = np.empty(shape, np.float16)
    start = 0
    for block in blocks:
        whole[start : start + len(block)] = block
        start += len(block)
    return whole


def _mapped(blocks: Iterable[NDArray[Any]], shape: tuple[int, int], folder: Path) -> Halves:
    path = folder / aside_name("vectors")
    try:
        with path.open("wb") as file:  # not through the mapping: a full disk would be a SIGBUS there
            for block in blocks:
                file.write(np.ascontiguousarray(block, np.float16).data)
        return np.memmap(path, np.float16, "r", shape=shape)
    except OSError as error:
        size = 2 * shape[0] * shape[1] / UNITS["G"]
        raise InputError(
            f"cannot map vectors at {folder}: {error.strerror}; {size:.2g} GiB must fit there, or give --memory more"
        ) from error
    finally:
        with suppress(OSError):  # never there, on a file system that takes none
            path.unlink()


def read_bytes(text: str) -> int:
    """`500M`, `4G`, `1.5GiB` or plain bytes as a number; ConfigError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not match or float(match[1]) <= 0:
        raise ConfigError(f"{text!r} is no amount of memory: write 500M or 4G")
    return int(float(match[1]) * UNITS[match[2]])


def available_memory() -> int:
    """The bytes that could be had without swapping, by the kernel's estimate and the container's limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_kernel_estimate(), *_container_limit()])


def _kernel_estimate() -> list[int]:
    try:
        said = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:  # not Linux
        return []
    return [int(kilobytes) << 10 for kilobytes in re.findall(r"^MemAvailable:\s+(\d+) kB", said, re.MULTILINE)]


def _container_limit() -> list[int]:
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{what}").read_text() for what in ("max", "current"))
    except OSError:
        return []
    return [max(0, int(limit) - int(used))] if limit.strip().isdigit() else []


def default_room(folder: Path, notice: Callable[[str], None] = lambda _: None) -> Room:
    """Half of what is available."""
    return Room(available_memory() // 2, folder, notice)
