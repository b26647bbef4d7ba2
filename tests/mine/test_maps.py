"""differences.parquet: what was written is read, and a damaged file is answered in a sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_access import bound

from blindpairs.errors import InputError
from blindpairs.mine.maps import MAPS, WHOLE, DifferenceMap, read_maps, write_maps


def maps_of(count: int, grid: tuple[int, int] = (5, 7)) -> dict[str, DifferenceMap]:
    random = np.random.default_rng(count)
    return {
        f"{number:016x}": DifferenceMap(
            random.random(grid, np.float32), random.random(grid, np.float32), (0.25, 0.0, 0.75, 1.0), WHOLE
        )
        for number in range(count)[::-1]
    }


def test_maps_are_read_as_they_were_written_in_256_steps(tmp_path: Path) -> None:
    written = maps_of(12) | {"square": DifferenceMap(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32))}
    write_maps(tmp_path, written)
    found = read_maps(tmp_path)
    assert list(found) == list(written)
    for name, one in written.items():
        for side in "ab":
            before, after = getattr(one, side), getattr(found[name], side)
            assert (after.shape, after.dtype) == (before.shape, np.float32)
            assert np.abs(after - before).max() <= 0.5 / 255 + 1e-6
            assert getattr(found[name], f"box_{side}") == pytest.approx(getattr(one, f"box_{side}"))
    assert (found["square"].a.item(), found["square"].b.item()) == (0.0, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == [MAPS]


def test_what_was_read_is_written_again_with_the_same_bytes(tmp_path: Path) -> None:
    write_maps(tmp_path / "one", maps_of(9))
    write_maps(tmp_path / "two", read_maps(tmp_path / "one"))
    assert (tmp_path / "one" / MAPS).read_bytes() == (tmp_path / "two" / MAPS).read_bytes()


def test_folder_without_maps_has_none(tmp_path: Path) -> None:
    assert read_maps(tmp_path) == read_maps(tmp_path / "absent") == {}
    write_maps(tmp_path, {})
    assert read_maps(tmp_path) == {}


def refused(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        read_maps(folder)
    assert str(error.value) == f"{folder / MAPS} is damaged: run `blindpairs mine --differences` again"


def test_every_flipped_byte_is_told_or_does_not_matter(tmp_path: Path) -> None:
    written = maps_of(12)
    write_maps(tmp_path, written)
    content, expected = (tmp_path / MAPS).read_bytes(), read_maps(tmp_path)
    told = 0
    for place in range(0, len(content), 29):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        (tmp_path / MAPS).write_bytes(damaged)
        try:
            found = read_maps(tmp_path)
        except InputError:
            told += 1
        else:
            assert list(found) == list(expected)
            assert all(np.array_equal(found[name].a, expected[name].a) for name in found)
            assert all(np.array_equal(found[name].b, expected[name].b) for name in found)
    assert told > len(content) // 29 // 2


@pytest.mark.parametrize("length", [0, 1, 4, 100, -1, -9])
def test_file_that_was_cut_is_damaged(tmp_path: Path, length: int) -> None:
    write_maps(tmp_path, maps_of(3))
    (tmp_path / MAPS).write_bytes((tmp_path / MAPS).read_bytes()[:length])
    refused(tmp_path)


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def replaced(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        return table.set_column(
            place, table.schema.field(name), pa.array([value] * len(table), table.schema.field(name).type)
        )

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("map_a"),
        without("rows"),
        replaced("rows", 4),
        replaced("columns", None),
        replaced("map_b", None),
        replaced("map_b", [1, 2, 3]),
        replaced("box_a", None),
    ],
)
def test_table_of_another_shape_is_damaged(tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    write_maps(tmp_path, maps_of(3))
    pq.write_table(change(pq.read_table(tmp_path / MAPS)), tmp_path / MAPS)
    refused(tmp_path)


READ = """
import sys
from pathlib import Path
from blindpairs.errors import Refused
from blindpairs.mine.maps import read_maps
try:
    read_maps(Path(sys.argv[1]))
except Refused as error:
    print(error)
"""


def test_maps_that_may_not_be_read_are_not_called_damaged(tmp_path: Path) -> None:
    write_maps(tmp_path, maps_of(1))
    (tmp_path / MAPS).chmod(0)
    answer = bound(READ, tmp_path)
    assert answer.startswith(f"cannot read {tmp_path / MAPS}: Permission denied")
