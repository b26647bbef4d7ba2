"""The files of MMVP: nothing is matched by position, quirks are named, and what was imported is exported again."""

import csv
import io
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import BUTTERFLY, DOG, KEY, files, images_of, mmvp_table, write_mmvp
from nasty_texts import NASTY
from pictured_pairs import benchmark_of, pair_of, picture
from PIL import Image

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.benchmark.mmvp import export_mmvp, import_mmvp
from blindpairs.errors import InputError
from blindpairs.images import image_id
from blindpairs.images.decode import decode
from blindpairs.mine import pair_id
from blindpairs.workspace import host_name


def rewrite(folder: Path, change: tuple[str, str]) -> None:
    table = folder / "Questions.csv"
    text = table.read_text(encoding="utf-8")
    assert change[0] in text
    table.write_text(text.replace(*change), encoding="utf-8")


def test_official_files_are_read_whole(tmp_path: Path) -> None:
    read = import_mmvp(write_mmvp(tmp_path / "mmvp"))
    data = [picture(number, size=(32, 32)) for number in range(1, 7)]
    ids = [image_id(each) for each in data]
    folder = tmp_path / "mmvp" / "MMVP Images"
    assert read.notes == ()
    assert read.benchmark.name == "mmvp"
    assert read.benchmark.pairs[1] == BenchmarkPair(
        pair_id(ids[2], ids[3]),
        ids[2],
        ids[3],
        str(folder / "3.jpg"),
        str(folder / "4.jpg"),
        Question(DOG[0], ("Right", "Left"), (1, 0)),
        source_id_a="3",
        source_id_b="4",
    )
    assert [pair.question.text for pair in read.benchmark.pairs if pair.question] == [BUTTERFLY[0], DOG[0], KEY[0]]
    assert images_of(read.benchmark) == dict(zip(ids, data, strict=True))


def test_import_and_export_give_the_same_table_and_image_bytes(tmp_path: Path) -> None:
    official = write_mmvp(tmp_path / "official")
    exported = export_mmvp(import_mmvp(official).benchmark, tmp_path / "again")
    again = files(tmp_path / "again")
    assert {name: data for name, data in again.items() if name not in ("pairs.csv", "blindpairs.json")} == files(
        official
    )
    assert (exported.pairs, dict(exported.refused), exported.notes) == (3, {}, ())


@pytest.mark.parametrize("header", ["lndex", "INDEX", "\ufeffIndex", " index "])
def test_first_column_is_found_in_every_spelling(tmp_path: Path, header: str) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    pairs = import_mmvp(folder).benchmark.pairs
    (folder / "Questions.csv").write_text(mmvp_table([BUTTERFLY, DOG, KEY], header), encoding="utf-8")
    assert import_mmvp(folder).benchmark.pairs == pairs


def test_columns_in_another_order_and_more_of_them_change_nothing(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    pairs = import_mmvp(folder).benchmark.pairs
    with (folder / "Questions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "Questions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["Correct Answer", "category", "Options", "Index", "Question"], restval="?")
        writer.writeheader()
        writer.writerows(rows)
    assert import_mmvp(folder).benchmark.pairs == pairs


def test_rows_in_any_order_give_the_same_pairs(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp", [BUTTERFLY, DOG, KEY, DOG, KEY, BUTTERFLY])
    pairs = import_mmvp(folder).benchmark.pairs
    header, *lines = (folder / "Questions.csv").read_text(encoding="utf-8").splitlines()
    lexicographic = sorted(lines)  # 1, 10, 11, 12, 2, ...: how `load_dataset` lists the images
    assert lexicographic != lines
    (folder / "Questions.csv").write_text("\n".join([header, *lexicographic]), encoding="utf-8")
    assert import_mmvp(folder).benchmark.pairs == pairs


@pytest.mark.parametrize(
    "options", ["(a)Open(b)Closed", "(A) Open (B) Closed", "(a) Open\n(b) Closed", " ( a ) Open  ( b ) Closed "]
)
def test_options_are_read_however_they_are_spaced(tmp_path: Path, options: str) -> None:
    folder = write_mmvp(tmp_path / "mmvp", [(BUTTERFLY[0], options, "B", " (a). ")])
    (folder / "Questions.csv").write_text(
        f'Index,Question,Options,Correct Answer\n1,Which?,"{options}",B\n2,Which?,"{options}", (a). \n',
        encoding="utf-8",
    )
    assert import_mmvp(folder).benchmark.pairs[0].question == Question("Which?", ("Open", "Closed"), (1, 0))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("3,Is it left?,(a) Right (b) Left,(b)", "its two rows ask different questions"),
        (f"3,{DOG[0]},(a) Left (b) Right,(b)", "its two rows have different options"),
        (
            f"3,{DOG[0]},(a) Right (b) Left,(a)",
            "both images have the same answer, so a model that does not look is right",
        ),
        (f"3,{DOG[0]},(a) Right (b) Left,(c)", "its correct answer is neither of its options"),
    ],
)
def test_pair_that_cannot_be_asked_is_left_out_and_named(tmp_path: Path, row: str, why: str) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    rewrite(folder, (f"3,{DOG[0]},(a) Right (b) Left,(b)", row))
    read = import_mmvp(folder)
    assert read.notes == (f"The pair of rows 3 and 4 is left out: {why}.",)
    assert [pair.source_id_a for pair in read.benchmark.pairs] == ["1", "5"]


@pytest.mark.parametrize("options", ["(a) One (b) Two (c) Three", "One or two", "(a) One (b) ", "(a) One (b) One"])
def test_options_that_are_not_two_are_left_out(tmp_path: Path, options: str) -> None:
    read = import_mmvp(write_mmvp(tmp_path / "mmvp", [BUTTERFLY, ("Which?", options, "(a)", "(b)")]))
    assert len(read.benchmark.pairs) == 1
    assert re.match("The pair of rows 3 and 4 is left out: its (two )?options are", read.notes[0])


def test_questions_that_differ_in_spaces_alone_are_one(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    rewrite(folder, ("4,Is the dog", "4, Is the  dog"))
    read = import_mmvp(folder)
    assert read.notes == ()
    assert read.benchmark.pairs[1].question == Question(DOG[0], ("Right", "Left"), (1, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("4,Is the dog", "40,Is the dog"), "MMVP Images has no 40.jpg .1 of 6 are missing."),
        (("4,Is the dog", "3,Is the dog"), "Index 3 is there twice"),
        (("4,Is the dog", "0,Is the dog"), "Index counts from 0; the official files count from 1"),
        (("4,Is the dog", "x,Is the dog"), "Index 'x' is not a whole number"),
        (("Correct Answer", "Solution"), "has no column 'Correct Answer': it has index, question, options, solution"),
        (("Index,Question", "Index,Index"), "has the column 'Index' 2 times"),
        (('(b) No",(b)', "(b) No,(b)"), "ends inside a quoted cell: it was cut short"),
        ((",(a) Right (b) Left,(b)", ""), "line 4: it has 2 cells, and the header 4"),
    ],
)
def test_damaged_table_is_an_error_that_names_the_place(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    rewrite(folder, change)
    with pytest.raises(InputError, match=message):
        import_mmvp(folder)


def test_half_a_pair_is_an_error_because_scorers_would_mispair_the_rest(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    rewrite(folder, (f"3,{DOG[0]},(a) Right (b) Left,(b)\n", ""))
    with pytest.raises(InputError, match=r"Questions.csv has half of a pair, row 4 \(1 such\)"):
        import_mmvp(folder)


def test_image_that_is_missing_or_an_error_page_is_an_error(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    page = folder / "MMVP Images" / "2.jpg"
    page.write_text("<!doctype html><p>404")
    with pytest.raises(InputError, match=r"2.jpg is not an image \(it looks like HTML"):
        import_mmvp(folder)
    page.unlink()
    with pytest.raises(InputError, match=r"has no 2.jpg \(1 of 6 are missing\)"):
        import_mmvp(folder)


def test_image_without_a_row_is_noted(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    (folder / "MMVP Images" / "7.jpg").write_bytes(picture(7))
    assert import_mmvp(folder).notes == ("Images in MMVP Images without a row in Questions.csv: 1.",)


def test_second_question_about_the_same_images_gets_an_id_of_its_own(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    for number in (1, 2):
        (folder / "MMVP Images" / f"{number + 4}.jpg").write_bytes(picture(number, size=(32, 32)))
    first, _, third = import_mmvp(folder).benchmark.pairs
    assert third.pair_id == f"{first.pair_id}-2"
    assert third.image_ids == first.image_ids


def elephants(answers: tuple[str, str] = ("(a)", "(b)")) -> list[tuple[str, str, str, str]]:
    """The 150 pairs of MMVP by number, with the two whose published answers are wrong."""
    asked = [BUTTERFLY] * 150
    asked[49] = ("Does the elephant have long or short tusks?", "(a) Long (b) Short", *answers)
    asked[139] = ("Is the elderly person standing or sitting in the picture?", "(a) Standing (b) Sitting", *answers)
    return asked


def test_known_corrections_are_a_second_ground_truth(tmp_path: Path) -> None:
    read = import_mmvp(write_mmvp(tmp_path / "files", elephants())).benchmark
    keys = [read.pairs[place].pair_id for place in (49, 139)]
    assert (read.name, read.ground_truth) == ("MMVP", "original")
    assert read.corrections == {"corrected": {keys[0]: (1, 0), keys[1]: (1, 0)}}
    corrected = read.with_ground_truth("corrected")
    different = [pair.pair_id for pair, other in zip(read.pairs, corrected.pairs, strict=True) if pair != other]
    assert different == keys


def test_file_with_corrected_answers_is_recognised_as_such(tmp_path: Path) -> None:
    read = import_mmvp(write_mmvp(tmp_path / "files", elephants(("(b)", "(a)")))).benchmark
    keys = [read.pairs[place].pair_id for place in (49, 139)]
    assert read.ground_truth == "corrected"
    assert read.corrections == {"original": {keys[0]: (0, 1), keys[1]: (0, 1)}}


def test_corrections_do_not_touch_another_benchmark_of_as_many_rows(tmp_path: Path) -> None:
    read = import_mmvp(write_mmvp(tmp_path / "files", [BUTTERFLY] * 140)).benchmark
    assert (read.name, read.ground_truth, read.corrections) == ("files", "original", {})


def test_export_and_import_keep_ids_patterns_cosines_and_controls(tmp_path: Path) -> None:
    made = benchmark_of(3, second=None, statement_a="", statement_b="", annotators=(), source="", license="")
    control, data = pair_of(90, 91, control_of=made.pairs[0].pair_id, second=None, patterns=())
    assert isinstance(made.images, HeldImages)
    made = replace(made, pairs=(control, *made.pairs), images=HeldImages({**made.images.images, **data}))
    exported = export_mmvp(made, tmp_path / "out")
    read = import_mmvp(tmp_path / "out").benchmark
    assert exported.notes == (
        "This format has no place for these fields of pairs: "
        "statement_a (of 1), annotators (of 1), source (of 1), license (of 1).",
        "Control pairs in controls/, which the official scripts do not read: 1.",
    )
    assert (read.name, read.patterns) == (made.name, made.patterns)
    kept = ("pair_id", "image_ids", "question", "patterns", "clip_sim", "dino_sim", "control_of")
    assert [[getattr(pair, name) for name in kept] for pair in read.pairs] == [
        [getattr(pair, name) for name in kept] for pair in (*made.pairs[1:], control)
    ]
    assert len(list((tmp_path / "out" / "MMVP Images").iterdir())) == 6  # without the control
    assert images_of(read) == images_of(made)


def test_rows_of_an_export_may_be_renumbered_with_their_sidecar(tmp_path: Path) -> None:
    made = benchmark_of(2)
    export_mmvp(made, tmp_path / "out")
    swap = str.maketrans("14", "41")  # rows 1 and 4 exchanged: neither odd and even nor neighbours are pairs now
    for name in ("Questions.csv", "pairs.csv"):
        lines = (tmp_path / "out" / name).read_text().splitlines()
        moved = [line[:1].translate(swap) + line[1:] for line in lines]
        (tmp_path / "out" / name).write_text("\n".join(moved) + "\n")
    images = tmp_path / "out" / "MMVP Images"
    (images / "1.jpg").rename(images / "one")
    (images / "4.jpg").rename(images / "1.jpg")
    (images / "one").rename(images / "4.jpg")
    read = import_mmvp(tmp_path / "out")
    assert {pair.pair_id: pair.question for pair in read.benchmark.pairs} == {
        pair.pair_id: pair.question for pair in made.pairs
    }
    assert read.notes == ()


def test_image_changed_after_the_export_gives_the_pair_a_new_id(tmp_path: Path) -> None:
    made = benchmark_of(2)
    export_mmvp(made, tmp_path / "out")
    (tmp_path / "out" / "MMVP Images" / "1.jpg").write_bytes(picture(77))
    read = import_mmvp(tmp_path / "out")
    new = pair_id(image_id(picture(77)), made.pairs[0].image_id_b)
    assert [pair.pair_id for pair in read.benchmark.pairs] == [new, made.pairs[1].pair_id]
    assert read.notes == (f"An image of pair {made.pairs[0].pair_id} was changed after the export: it is now {new}.",)


def turned_jpeg() -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(picture(50))).save(out, "JPEG", exif=exif, quality=95)
    return out.getvalue()


def converted(mode: str, kind: str) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(picture(51))).convert(mode).save(out, kind)
    return out.getvalue()


def sixteen_bits() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 6400).reshape(80, 80).astype(np.uint16)).save(out, "PNG")
    return out.getvalue()


ODD_IMAGES = {
    "png": picture(52, "PNG"),
    "webp": picture(53, "WEBP"),
    "turned": turned_jpeg(),
    "cmyk": converted("CMYK", "JPEG"),
    "grey": converted("L", "JPEG"),
    "16 bits": sixteen_bits(),
    "transparent": converted("RGBA", "PNG"),
}


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_image_that_is_no_plain_jpeg_becomes_an_upright_one_and_the_pair_keeps_its_id(
    tmp_path: Path, kind: str
) -> None:
    pair, data = pair_of(0, 1)
    odd = ODD_IMAGES[kind]
    pair = replace(pair, image_id_b=image_id(odd))
    exported = export_mmvp(Benchmark("odd", (pair,), HeldImages({**data, image_id(odd): odd})), tmp_path / "out")
    assert exported.notes[-1] == "Images that became upright RGB JPEGs, and so have new ids: 1."
    with Image.open(tmp_path / "out" / "MMVP Images" / "2.jpg") as image:
        assert (image.format, image.mode, image.getexif().get(0x0112)) == ("JPEG", "RGB", None)
        difference = np.asarray(image).astype(int) - decode(odd).pixels.astype(int)
    assert np.abs(difference).mean() < 3  # of 255, at quality 95
    (read,) = import_mmvp(tmp_path / "out").benchmark.pairs
    assert (read.pair_id, read.image_id_a) == (pair.pair_id, pair.image_id_a)
    assert read.image_id_b != pair.image_id_b


UNWRITABLE = {"empty", "missing", "not_available", "nul", "surrogate", "spaces", "very_long"}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_question_and_options_survive_or_are_refused(tmp_path: Path, name: str) -> None:
    text = NASTY[name]
    asked = Question(text, (f"{text}.", "No"), (1, 0)) if "(" not in text else Question(text, ("Yes", "No"), (1, 0))
    pair, data = pair_of(0, 1, question=asked, patterns=(text.replace("|", "/"),))
    good, others = pair_of(2, 3)
    exported = export_mmvp(Benchmark("nasty", (pair, good), HeldImages(data | others)), tmp_path / "out")
    assert list(exported.refused) == [pair.pair_id] * (name in UNWRITABLE)
    kept = [one for one in (pair, good) if one.pair_id not in exported.refused]
    read = [(one.pair_id, one.question, one.patterns) for one in import_mmvp(tmp_path / "out").benchmark.pairs]
    assert read == [(one.pair_id, one.question, one.patterns) for one in kept]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"question": None}, "it has no question"),
    ({"question": Question("?", ("3 (three)", "4"), (0, 1))}, 'an option holds "("'),
    ({"question": Question("?", (" Open", "Closed"), (0, 1))}, "begins or ends with a space"),
    ({"question": Question("?", ("Open", ""), (0, 1))}, "its options are not two texts"),
    ({"question": Question("NA", ("Open", "Closed"), (0, 1))}, "takes the question 'NA' for a missing one"),
    ({"question": Question("?", ("Open", "Closed"), (1, 1))}, "both images have the same answer"),
    ({"question": Question("a\0b", ("Open", "Closed"), (0, 1))}, "a NUL character"),
    ({"question": Question("\ud800", ("Open", "Closed"), (0, 1))}, "not valid Unicode"),
    ({"question": Question("x" * 140_000, ("Open", "Closed"), (0, 1))}, "140,000 characters"),
    ({"patterns": ("a|b",)}, "holds |, which separates patterns"),
]


def test_what_the_format_cannot_carry_is_refused_with_the_pair_and_the_reason(tmp_path: Path) -> None:
    made = [pair_of(2 * place, 2 * place + 1, **changes) for place, (changes, _) in enumerate(REFUSED)]
    good, data = pair_of(100, 101)
    images = HeldImages({key: one for _, held in [*made, (good, data)] for key, one in held.items()})
    exported = export_mmvp(Benchmark("doors", (*(pair for pair, _ in made), good), images), tmp_path / "out")
    assert list(exported.refused) == [pair.pair_id for pair, _ in made]
    for reason, (_, part) in zip(exported.refused.values(), REFUSED, strict=True):
        assert part in reason
    assert exported.pairs == 1
    assert [pair.pair_id for pair in import_mmvp(tmp_path / "out").benchmark.pairs] == [good.pair_id]
    assert json.loads((tmp_path / "out" / "blindpairs.json").read_text())["refused"] == dict(exported.refused)


def test_same_benchmark_gives_the_same_bytes_and_replaces_an_older_export_whole(tmp_path: Path) -> None:
    export_mmvp(benchmark_of(5), tmp_path / "one")
    export_mmvp(benchmark_of(9), tmp_path / "other")
    export_mmvp(benchmark_of(5), tmp_path / "other")
    assert files(tmp_path / "one") == files(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_folder_that_blindpairs_did_not_write_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty, and not an export of blindpairs"):
        export_mmvp(benchmark_of(1), tmp_path / "mine")
    export_mmvp(benchmark_of(1), tmp_path / "out")
    (tmp_path / "out" / "answers.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"also holds answers\.jsonl, which blindpairs did not write"):
        export_mmvp(benchmark_of(1), tmp_path / "out")
    with pytest.raises(InputError, match="is a file: name a folder"):
        export_mmvp(benchmark_of(1), tmp_path / "mine" / "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_unreadable_image_is_named_and_the_older_export_stays(tmp_path: Path) -> None:
    export_mmvp(benchmark_of(2), tmp_path / "out")
    before = files(tmp_path / "out")
    broken = benchmark_of(3)
    assert isinstance(broken.images, HeldImages)
    del broken.images.images[broken.pairs[2].image_id_b]
    message = f"pair {broken.pairs[2].pair_id} at /corpus/5.jpg .no image with this id.: restore"
    with pytest.raises(InputError, match=message):
        export_mmvp(broken, tmp_path / "out")
    assert files(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_unfinished_folder_of_a_dead_export_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    dead, alive = (tmp_path / f".out.{host_name()}.{process}.00ff00ff.tmp" for process in (ended.pid, os.getppid()))
    for folder in (dead, alive):
        (folder / "MMVP Images").mkdir(parents=True)
    export_mmvp(benchmark_of(1), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "out"]


def official_pair_accuracy(folder: Path, right: dict[int, bool]) -> float:
    """The rules of scripts/gpt_grader.py over graded answers: lines in file order, two by two, over all pairs."""
    with (folder / "Questions.csv").open(encoding="utf-8", newline="") as file:
        grades = [right[int(row["Index"])] for row in csv.DictReader(file)]
    solved = sum(first and other for first, other in zip(grades[::2], grades[1::2], strict=True))
    return solved / (len(grades) / 2)


def test_official_script_counts_an_export_as_a_direct_count_does(tmp_path: Path) -> None:
    made = benchmark_of(37)
    export_mmvp(made, tmp_path / "out")
    letters = np.random.default_rng(0).integers(0, 2, (37, 2))  # recorded answers: one letter for each image
    asked = [pair.question for pair in made.pairs if pair.question]
    hits = [
        [bool(a == b) for a, b in zip(row, one.answers, strict=True)] for row, one in zip(letters, asked, strict=True)
    ]
    by_image = {
        image: hit
        for pair, row in zip(made.pairs, hits, strict=True)
        for image, hit in zip(pair.image_ids, row, strict=True)
    }
    right = {
        int(path.stem): by_image[image_id(path.read_bytes())] for path in (tmp_path / "out" / "MMVP Images").iterdir()
    }
    assert official_pair_accuracy(tmp_path / "out", right) == sum(map(all, hits)) / 37


def test_statements_of_clip_embeds_make_the_benchmark_two_by_two(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    said = "\n".join(f'{number},Unknown,"statement, {number}"' for number in (6, 5, 4, 3, 2, 1))
    (folder / "Questions-clip.csv").write_text(f"Question ID,Type,Statement\n{said}\n", encoding="utf-8")
    read = import_mmvp(folder)
    assert [(pair.statement_a, pair.statement_b) for pair in read.benchmark.pairs] == [
        ("statement, 1", "statement, 2"),
        ("statement, 3", "statement, 4"),
        ("statement, 5", "statement, 6"),
    ]
    assert read.notes == ("Statements of 6 images are those of Questions-clip.csv.",)


def test_statements_without_ids_are_matched_by_line_and_that_is_said(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    (folder / "Questions-clip.csv").write_text("Statement\n" + "\n".join("abcdef"), encoding="utf-8")
    read = import_mmvp(folder)
    assert [pair.statement_b for pair in read.benchmark.pairs] == ["b", "d", "f"]
    assert read.notes[0].startswith("Questions-clip.csv has no ids: its rows are matched by line")


def test_statements_that_say_nothing_leave_the_pair_its_question(tmp_path: Path) -> None:
    folder = write_mmvp(tmp_path / "mmvp")
    said = "\n".join(f"{number},Unknown,{text}" for number, text in enumerate(["a", "", "c", "c", "e", "f"], 1))
    (folder / "Questions-clip.csv").write_text(f"Question ID,Type,Statement\n{said}\n", encoding="utf-8")
    read = import_mmvp(folder)
    assert [(pair.statement_a, pair.statement_b) for pair in read.benchmark.pairs] == [("", ""), ("", ""), ("e", "f")]
    assert read.notes[1:] == (
        "The statements for 1 and 2 are left out: they are empty or the same.",
        "The statements for 3 and 4 are left out: they are empty or the same.",
    )
