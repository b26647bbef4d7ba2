"""`pairs.csv`: a row that was copied by hand never makes a pair disappear."""

from pathlib import Path

import pytest
from pictured_pairs import benchmark_of

from blindpairs.benchmark.mmvp import export_mmvp, import_mmvp
from blindpairs.errors import InputError


def test_two_images_for_one_side_of_a_pair_are_an_error_that_names_it(tmp_path: Path) -> None:
    made = benchmark_of(3)
    export_mmvp(made, tmp_path / "out")
    table = tmp_path / "out" / "pairs.csv"
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    rows[2:4] = [f"{number},{rows[number - 3].partition(',')[2]}" for number in (3, 4)]  # pair 2 is called pair 1
    table.write_text("\n".join([header, *rows]), encoding="utf-8")
    message = f"pairs.csv gives image a of pair {made.pairs[0].pair_id} the numbers 1 and 3: export again"
    with pytest.raises(InputError, match=message):
        import_mmvp(tmp_path / "out")


def test_number_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    export_mmvp(benchmark_of(2), tmp_path / "out")
    table = tmp_path / "out" / "pairs.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines, f"1,other{lines[1][6:]}"]), encoding="utf-8")
    with pytest.raises(InputError, match=r"pairs\.csv: Index 1 is there twice"):
        import_mmvp(tmp_path / "out")
