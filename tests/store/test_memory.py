"""Where vectors are kept: how a limit is written, what the machine has, and that the limit changes no value."""

import os
from pathlib import Path

import numpy as np
import pytest

from blindpairs.errors import ConfigError
from blindpairs.store.memory import ROW_BYTES, MemoryBudget, VectorPlacement, available_memory, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"), [("500M", 500 << 20), ("4G", 4 << 30), ("1.5GiB", 3 << 29), ("64kb", 64 << 10), ("1000", 1000)]
)
def test_amount_of_memory_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "-1G", "0", "4X", ""])
def test_amount_of_memory_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an amount of memory: write 500M or 4G"):
        parse_bytes(text)


def test_available_memory_is_less_than_the_machine_has() -> None:
    assert 1 << 20 < available_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("room", [0, 1, 2])
def test_arrays_are_in_memory_while_the_budget_lasts_and_mapped_beyond_it(tmp_path: Path, room: int) -> None:
    arrays = [np.full((10, 4), number, np.float16) for number in range(2)]
    notices: list[str] = []
    budget = MemoryBudget(10 * ROW_BYTES + 80 * room, tmp_path, notices.append)
    placement = VectorPlacement(budget, 10)
    placed = [placement.place(f"a{number}", np.array_split(one, 3), one.shape) for number, one in enumerate(arrays)]
    assert [isinstance(one, np.memmap) for one in placed] == [number >= room for number in range(2)]
    assert all(np.array_equal(one, other) for one, other in zip(placed, arrays, strict=True))
    assert len(notices) == 2 - room
    assert list(tmp_path.iterdir()) == []
