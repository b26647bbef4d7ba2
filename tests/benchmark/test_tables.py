"""Foreign tables: no cell is lost in silence, and what is no image does not stand for one."""

import csv
from pathlib import Path

import pytest
from pictured_pairs import picture

from blindpairs.benchmark.tables import numbered_images, read_table
from blindpairs.errors import InputError

COLUMNS = {"Question ID": (), "Type": (), "Statement": ()}


def table(tmp_path: Path, row: str) -> Path:
    path = tmp_path / "Questions.csv"
    path.write_text(f"Question ID,Type,Statement\n1,State,a dog\n{row}\n", encoding="utf-8")
    return path


def test_row_with_a_comma_too_many_is_an_error_because_its_last_cell_would_be_cut(tmp_path: Path) -> None:
    path = table(tmp_path, "2,State,a dog, facing left")
    with pytest.raises(InputError, match=r"line 3: it has 4 cells, and the header 3 \(is a cell with a comma"):
        read_table(path, COLUMNS)


def test_empty_cells_after_the_last_column_are_no_cells(tmp_path: Path) -> None:
    rows = read_table(table(tmp_path, "2,State,a cat,,"), COLUMNS)
    assert [row["Statement"] for row in rows] == ["a dog", "a cat"]


@pytest.mark.parametrize(
    ("separator", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8"), ("\t", "utf-16"), (",", "utf-16")]
)
def test_table_that_a_spreadsheet_saved_again_is_read_as_before(tmp_path: Path, separator: str, encoding: str) -> None:
    path = tmp_path / "Questions.csv"
    lines = [("Question ID", "Type", "Statement"), ("1", "State", "caf\u00e9, open; at night")]
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows(lines)
    assert read_table(path, COLUMNS) == [dict(zip(*lines, strict=True))]


def test_table_of_another_encoding_is_refused_and_says_what_to_save(tmp_path: Path) -> None:
    path = tmp_path / "Questions.csv"
    path.write_bytes("Question ID,Type,Statement\n1,State,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(InputError, match="is neither UTF-8 nor UTF-16 text"):
        read_table(path, COLUMNS)


@pytest.mark.parametrize("ending", ["jpg", "JPG", "jpeg", "PNG", "webp"])
def test_file_that_is_no_image_is_not_taken_for_the_one_of_its_number(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"1.{ending}").write_bytes(picture(1))
    for name in ("1.csv", "1.json", "1.txt", "1.0.jpg.txt", "._1.jpg", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_text("{}")
    notes: list[str] = []
    assert numbered_images(tmp_path, notes) == {1: tmp_path / f"1.{ending}"}
    assert notes == []


def test_of_two_images_with_one_number_the_jpg_is_taken_and_the_other_is_named(tmp_path: Path) -> None:
    for name in ("1.JPG", "1.jpg", "1.png", "2.jpeg", "2.png"):
        (tmp_path / name).write_bytes(picture(1))
    notes: list[str] = []
    assert numbered_images(tmp_path, notes) == {1: tmp_path / "1.jpg", 2: tmp_path / "2.jpeg"}
    assert notes == [
        f"{tmp_path.name} has several images 1: 1.JPG, 1.jpg, 1.png; 1.jpg is taken.",
        f"{tmp_path.name} has several images 2: 2.jpeg, 2.png; 2.jpeg is taken.",
    ]
