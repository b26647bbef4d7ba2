"""Tables in the shape of MediConfusion: images beside the table, answers per image, categories as patterns."""

import csv
from pathlib import Path

import pytest
from foreign_files import images_of
from pictured_pairs import picture

from blindpairs.benchmark import BenchmarkPair, Question
from blindpairs.benchmark.mediconfusion import import_mediconfusion
from blindpairs.errors import InputError
from blindpairs.images import image_id
from blindpairs.mine import pair_id

ROW = {
    "": "0",
    "id": "10001",
    "im_1": "train/radiology/images/ROCO_28778.jpg",
    "im_2": "train/radiology/images/ROCO_62117.jpg",
    "im_1_local": "20192",
    "im_2_local": "20053",
    "cap_1": "Selective injection, in the left artery",
    "category_1": "['Cerebral', 'Vascular']",
    "category_2": "['Cerebral', \"Crohn's\"]",
    "BiomedCLIP_sim": "0.9245057",
    "DINO_sim": "0.6720365",
    "question": "What do you see on this angiogram?",
    "option_A": "An artery that ends",
    "option_B": "A pseudoaneurysm, aggravating",
    "im_1_correct": "A",
    "im_2_correct": "B",
}


def written(folder: Path, *rows: dict[str, str], name: str = "data/dataset.csv") -> Path:
    """The repository of MediConfusion with its images downloaded; the table has these rows."""
    table = folder / name
    (table.parent / "images").mkdir(parents=True)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for number in (20192, 20053, 20014):
        (table.parent / "images" / f"{number}.jpg").write_bytes(picture(number))
    return table


def test_published_table_is_read_whole(tmp_path: Path) -> None:
    table = written(tmp_path, ROW)
    ids = [image_id(picture(number)) for number in (20192, 20053)]
    read = import_mediconfusion(tmp_path)
    assert read.notes == ()
    assert read.benchmark.pairs == (
        BenchmarkPair(
            pair_id(*ids),
            ids[0],
            ids[1],
            str(tmp_path / "data" / "images" / "20192.jpg"),
            str(tmp_path / "data" / "images" / "20053.jpg"),
            Question(
                "What do you see on this angiogram?", ("An artery that ends", "A pseudoaneurysm, aggravating"), (0, 1)
            ),
            patterns=("Cerebral", "Vascular", "Crohn's"),
            clip_sim=0.9245057,
            dino_sim=0.6720365,
            source_id_a="10001/1",
            source_id_b="10001/2",
        ),
    )
    assert (read.benchmark.name, read.benchmark.patterns) == ("MediConfusion", ("Cerebral", "Vascular", "Crohn's"))
    assert images_of(read.benchmark) == {ids[0]: picture(20192), ids[1]: picture(20053)}
    assert import_mediconfusion(table).benchmark.pairs == read.benchmark.pairs


def test_image_in_many_pairs_and_a_second_question_have_ids_of_their_own(tmp_path: Path) -> None:
    other = {**ROW, "id": "10002", "im_2_local": "20014", "im_1_correct": "B", "im_2_correct": "A"}
    written(tmp_path, ROW, other, {**ROW, "id": "10003"})
    first, second, third = import_mediconfusion(tmp_path).benchmark.pairs
    assert first.image_id_a == second.image_id_a
    assert second.question is not None
    assert second.question.answers == (1, 0)
    assert third.pair_id == f"{first.pair_id}-2"


def test_paths_are_relative_to_the_table_where_there_are_no_numbers(tmp_path: Path) -> None:
    few = {name: ROW[name] for name in ("question", "option_A", "option_B", "im_1_correct", "im_2_correct")}
    few |= {"im_1": "scans/1.png", "im_2": "scans/2.png", "category": "Cardiac"}
    table = written(tmp_path / "own", few, name="scans.csv")
    (table.parent / "scans").mkdir()
    for number in (1, 2):
        (table.parent / "scans" / f"{number}.png").write_bytes(picture(number, "PNG"))
    (read,) = import_mediconfusion(table).benchmark.pairs
    assert [read.uri_a, read.uri_b] == [str(table.parent / "scans" / f"{number}.png") for number in (1, 2)]
    assert (read.patterns, read.clip_sim, read.source_id_a) == (("Cardiac",), None, "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"im_2_correct": "A"}, "both images have the same answer, so a model that does not look is right"),
        ({"im_2_correct": "C"}, "its correct answer is neither of its options"),
        ({"option_B": ROW["option_A"]}, "its two options are the same"),
        ({"question": " "}, "its question is empty"),
    ],
)
def test_row_that_cannot_be_asked_is_left_out_and_named(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    written(tmp_path, {**ROW, **changes}, {**ROW, "id": "10002"})
    read = import_mediconfusion(tmp_path)
    assert read.notes == (f"The pair 10001 is left out: {why}.",)
    assert [pair.source_id_a for pair in read.benchmark.pairs] == ["10002/1"]


def test_images_that_were_not_downloaded_are_an_error_that_counts_them(tmp_path: Path) -> None:
    table = written(tmp_path, ROW, {**ROW, "im_2_local": "20014"})
    for number in (20053, 20014):
        (table.parent / "images" / f"{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"there is no .*images/20053\.jpg \(2 images are missing\): put them beside"):
        import_mediconfusion(table)


def test_table_without_its_columns_is_an_error(tmp_path: Path) -> None:
    table = written(tmp_path, {"id": "1", "im_1": "1.jpg"})
    with pytest.raises(InputError, match="has no column 'im_2': it has id, im 1"):
        import_mediconfusion(table)
    with pytest.raises(InputError, match=r"has no dataset\.csv"):
        import_mediconfusion(tmp_path / "data" / "images")
