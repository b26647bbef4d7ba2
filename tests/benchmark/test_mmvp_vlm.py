"""The files of MMVP-VLM: both spellings are read, and an export is counted by the official script as we count it."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import files, images_of, write_mmvp_vlm
from nasty_texts import NASTY
from pictured_pairs import benchmark_of, pair_of, picture

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.benchmark.mmvp_vlm import TYPES, export_mmvp_vlm, import_mmvp_vlm
from blindpairs.errors import InputError
from blindpairs.images import image_id
from blindpairs.mine import pair_id
from blindpairs.mine.patterns import VisualPattern

OFFICIAL_TYPES = (
    *("Orientation", "Presence", "State", "Quantity", "Spatial", "Color", "Structural Character", "Text"),
    "Camera Perspective",
)
NINE = tuple(pattern.value for pattern in VisualPattern)


def spread(per_pattern: int, patterns: tuple[str, ...] = NINE) -> Benchmark:
    """A benchmark with as many pairs of each pattern, mixed."""
    made = benchmark_of(per_pattern * len(patterns))
    pairs = [
        replace(pair, patterns=(patterns[place % len(patterns)],), statement_a=f"{place} a", statement_b=f"{place} b")
        for place, pair in enumerate(made.pairs)
    ]
    return replace(made, pairs=tuple(pairs), patterns=patterns)


def test_official_files_are_read_whole(tmp_path: Path) -> None:
    read = import_mmvp_vlm(write_mmvp_vlm(tmp_path / "files", {"State": 1, "Camera Perspective": 1})).benchmark
    data = [picture(number, size=(24, 24)) for number in range(1, 5)]
    ids = [image_id(each) for each in data]
    folder = tmp_path / "files" / "MLLM_VLM Images" / "Camera Perspective"
    assert read.pairs[1] == BenchmarkPair(
        pair_id(ids[2], ids[3]),
        ids[2],
        ids[3],
        str(folder / "3.jpg"),
        str(folder / "4.jpg"),
        patterns=("Viewpoint and Perspective",),
        statement_a="one of pair 2",
        statement_b="two of pair 2",
        source_id_a="3",
        source_id_b="4",
    )
    assert (read.patterns, read.name) == (NINE, "files")
    assert images_of(read) == dict(zip(ids, data, strict=True))


def test_import_and_export_give_the_same_table_and_image_bytes(tmp_path: Path) -> None:
    official = write_mmvp_vlm(tmp_path / "official", dict.fromkeys(OFFICIAL_TYPES, 15))
    read = import_mmvp_vlm(official)
    assert (read.notes, read.benchmark.name) == ((), "MMVP-VLM")
    exported = export_mmvp_vlm(read.benchmark, tmp_path / "again")
    again = files(tmp_path / "again")
    assert {name: data for name, data in again.items() if name not in ("pairs.csv", "blindpairs.json")} == files(
        official
    )
    assert (exported.pairs, dict(exported.refused), exported.notes) == (135, {}, ())


@pytest.mark.parametrize("images", ["MMVP_VLM_Images", "MMVP_VLM Images", "mllm_vlm images"])
@pytest.mark.parametrize("folder", ["Camera_Perspective", "camera perspective"])
def test_both_spellings_of_folders_and_types_are_read(tmp_path: Path, images: str, folder: str) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"Camera Perspective": 2, "Structural Character": 1}, images)
    expected = [pair.patterns for pair in import_mmvp_vlm(place).benchmark.pairs]
    (place / images / "Camera Perspective").rename(place / images / folder)
    assert [pair.patterns for pair in import_mmvp_vlm(place).benchmark.pairs] == expected
    table = place / "Questions.csv"
    table.write_text(table.read_text().replace("Structural Character", "structural_character"))
    assert [pair.patterns for pair in import_mmvp_vlm(place).benchmark.pairs] == expected
    assert expected[0] == ("Viewpoint and Perspective",)


def test_rows_in_any_order_and_columns_by_name_give_the_same_pairs(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 6, "Text": 5})
    pairs = import_mmvp_vlm(place).benchmark.pairs
    with (place / "Questions.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["Question ID"])  # 1, 10, 11, ...
    with (place / "Questions.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["Statement", "extra", "Type", "Question ID"])
        writer.writeheader()
        writer.writerows(rows)
    assert import_mmvp_vlm(place).benchmark.pairs == pairs


def test_type_of_ones_own_becomes_a_pattern(tmp_path: Path) -> None:
    read = import_mmvp_vlm(write_mmvp_vlm(tmp_path / "files", {"Hats": 1, "State": 1})).benchmark
    assert [pair.patterns for pair in read.pairs] == [("Hats",), ("State and Condition",)]
    assert read.patterns == (*NINE, "Hats")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (("4,State", "4,Text"), "its rows have two types, 'State' and 'Text'"),
        (("two of pair 2", "one of pair 2"), "its statements are empty or the same"),
        (("two of pair 2", " "), "its statements are empty or the same"),
    ],
)
def test_pair_that_says_nothing_is_left_out_and_named(tmp_path: Path, change: tuple[str, str], note: str) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 3, "Text": 1})
    (place / "MLLM_VLM Images" / "Text" / "4.jpg").write_bytes(picture(4))
    table = place / "Questions.csv"
    table.write_text(table.read_text().replace(*change))
    read = import_mmvp_vlm(place)
    assert read.notes == (f"The pair of rows 3 and 4 is left out: {note}.",)
    assert [pair.source_id_a for pair in read.benchmark.pairs] == ["1", "5", "7"]


def test_missing_row_and_missing_image_are_errors(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 3})
    table = place / "Questions.csv"
    whole = table.read_text()
    table.write_text(whole.replace("3,State,one of pair 2\n", ""))
    with pytest.raises(InputError, match=r"has half of a pair, row 4 \(1 such\)"):
        import_mmvp_vlm(place)
    table.write_text(whole)
    (place / "MLLM_VLM Images" / "State" / "6.jpg").unlink()
    with pytest.raises(InputError, match=r"there is no .*State/6\.jpg \(1 of 6 images are missing\)"):
        import_mmvp_vlm(place)


def test_export_and_import_keep_ids_all_patterns_and_controls(tmp_path: Path) -> None:
    made = spread(2)
    control, data = pair_of(90, 91, control_of=made.pairs[0].pair_id)
    both = replace(made.pairs[0], patterns=("Text", "My Own", "Color and Appearance"))
    assert isinstance(made.images, HeldImages)
    made = replace(made, pairs=(both, *made.pairs[1:], control), images=HeldImages({**made.images.images, **data}))
    export_mmvp_vlm(made, tmp_path / "out")
    read = import_mmvp_vlm(tmp_path / "out").benchmark
    kept = ("image_ids", "statement_a", "statement_b", "patterns", "clip_sim", "dino_sim", "control_of")
    fields: Callable[[BenchmarkPair], list[object]] = lambda pair: [getattr(pair, name) for name in kept]  # noqa: E731
    assert {pair.pair_id: fields(pair) for pair in read.pairs} == {pair.pair_id: fields(pair) for pair in made.pairs}
    assert len(list((tmp_path / "out" / "MLLM_VLM Images").rglob("*.jpg"))) == 36
    assert images_of(read) == images_of(made)


UNWRITABLE = {"empty", "missing", "not_available", "nul", "surrogate", "very_long"}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_statement_survives_or_is_refused(tmp_path: Path, name: str) -> None:
    pair, data = pair_of(0, 1, statement_a=NASTY[name], statement_b=f"no {NASTY[name]}")
    good, others = pair_of(2, 3)
    exported = export_mmvp_vlm(Benchmark("nasty", (pair, good), HeldImages(data | others)), tmp_path / "out")
    assert list(exported.refused) == [pair.pair_id] * (name in UNWRITABLE)
    kept = [one for one in (pair, good) if one.pair_id not in exported.refused]
    said = [
        (one.pair_id, one.statement_a, one.statement_b) for one in import_mmvp_vlm(tmp_path / "out").benchmark.pairs
    ]
    assert said == [(one.pair_id, one.statement_a, one.statement_b) for one in kept]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"statement_b": ""}, "it has no two statements"),
    ({"statement_a": "a door that is closed"}, "its two statements are the same"),
    ({"patterns": ("Hats",)}, "its pattern ('Hats') is not one of the nine"),
    ({"patterns": ()}, "its pattern (none) is not one of the nine"),
    ({"statement_a": "null"}, "takes the statement 'null' for a missing one"),
    ({"statement_a": "a\0b"}, "a NUL character"),
    ({"statement_a": "\udfff"}, "not valid Unicode"),
]


def test_what_the_format_cannot_carry_is_refused_with_the_pair_and_the_reason(tmp_path: Path) -> None:
    made = [pair_of(2 * place, 2 * place + 1, **changes) for place, (changes, _) in enumerate(REFUSED)]
    good, data = pair_of(100, 101)
    images = HeldImages({key: one for _, held in [*made, (good, data)] for key, one in held.items()})
    exported = export_mmvp_vlm(Benchmark("doors", (*(pair for pair, _ in made), good), images), tmp_path / "out")
    assert list(exported.refused) == [pair.pair_id for pair, _ in made]
    for reason, (_, part) in zip(exported.refused.values(), REFUSED, strict=True):
        assert part in reason
    assert [pair.pair_id for pair in import_mmvp_vlm(tmp_path / "out").benchmark.pairs] == [good.pair_id]


def test_limit_keeps_what_most_annotators_accepted_then_the_better_ranked(tmp_path: Path) -> None:
    made = spread(4, ("Text",))
    accepted = (("ada",), ("ada", "bob"), ("bob",), ())
    made = replace(
        made, pairs=tuple(replace(pair, annotators=who) for pair, who in zip(made.pairs, accepted, strict=True))
    )
    exported = export_mmvp_vlm(made, tmp_path / "out", per_pattern=2)
    assert [pair.statement_a for pair in import_mmvp_vlm(tmp_path / "out").benchmark.pairs] == ["0 a", "1 a"]
    reason = "2 pairs of Text were accepted by more annotators or ranked better"
    assert exported.refused == {made.pairs[2].pair_id: reason, made.pairs[3].pair_id: reason}


def test_fifteen_of_each_pattern_need_no_note_and_any_other_number_gets_one(tmp_path: Path) -> None:
    enough = export_mmvp_vlm(spread(16), tmp_path / "out", per_pattern=15)
    assert [note for note in enough.notes if "script" in note] == []
    few = export_mmvp_vlm(spread(2), tmp_path / "out")
    assert few.notes[-1].startswith(
        "The official script wants 15 pairs of each type, and counts pairs for wrong patterns here (2 Orientation, "
    )
    many = export_mmvp_vlm(spread(16), tmp_path / "out")
    assert "stops with an IndexError here (16 Orientation, " in many.notes[-1]


def official_accuracies(folder: Path, first_is_first: Callable[[str, bytes, bytes], bool]) -> list[float]:
    """The rules of scripts/evaluate_vlm.py: two rows at a time, both images from the first row's folder, an odd id is
    image 1, and the pattern is the number of pairs so far, divided by 15."""
    solved = [0] * 9
    with (folder / "Questions.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    for place, (first, other) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        images = [(folder / "MLLM_VLM Images" / first[1] / f"{row[0]}.jpg").read_bytes() for row in (first, other)]
        chosen = [first_is_first(row[2], *images) for row in (first, other)]
        solved[place // 15] += chosen == [int(row[0]) % 2 == 1 for row in (first, other)]
    return [100 * count / 15 for count in solved]


def test_official_script_counts_an_export_as_a_direct_count_does(tmp_path: Path) -> None:
    made = spread(15)
    export_mmvp_vlm(made, tmp_path / "out")
    scores = np.random.default_rng(1).normal(size=(135, 2, 2))  # pair, statement, image: a recorded 2 x 2 block
    recorded = {
        statement: (pair.image_ids, block[side])
        for pair, block in zip(made.pairs, scores, strict=True)
        for side, statement in enumerate((pair.statement_a, pair.statement_b))
    }

    def first_is_first(statement: str, *images: bytes) -> bool:
        ids, similarities = recorded[statement]
        first, other = (similarities[ids.index(image_id(image))] for image in images)
        return bool(first > other)

    solved = (scores[:, 0, 0] > scores[:, 0, 1]) & (scores[:, 1, 1] > scores[:, 1, 0])
    of_pattern = dict.fromkeys(NINE, 0)
    for pair, hit in zip(made.pairs, solved, strict=True):
        of_pattern[pair.patterns[0]] += int(hit)
    assert official_accuracies(tmp_path / "out", first_is_first) == [100 * count / 15 for count in of_pattern.values()]
    assert tuple(TYPES.values()) == OFFICIAL_TYPES


def clip_embeds(folder: Path, text: str, header: str = "lndex,Question,Options,Correct Answer") -> None:
    (folder / "Questions-llava.csv").write_text(f"{header}\n{text}", encoding="utf-8")


def test_questions_of_clip_embeds_are_matched_by_id(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 2})
    clip_embeds(
        place, "4,B?,(a) X (b) Y,(a)\n3,B?,(a) X (b) Y,(b)\n1,A?,(a) Yes (b) No,(a)\n2,A?, (a) Yes (b) No,(b)\n"
    )
    read = import_mmvp_vlm(place)
    assert [pair.question for pair in read.benchmark.pairs] == [
        Question("A?", ("Yes", "No"), (0, 1)),
        Question("B?", ("X", "Y"), (1, 0)),
    ]
    assert read.notes == ("Questions of 2 pairs are those of Questions-llava.csv.",)


def test_ids_that_the_benchmark_does_not_have_are_taken_for_their_line(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 2})
    clip_embeds(place, "1,A?,(a) X (b) Y,(a)\n2,A?,(a) X (b) Y,(b)\n277,B?,(a) X (b) Y,(a)\n278,B?,(a) X (b) Y,(b)\n")
    read = import_mmvp_vlm(place)
    assert [pair.question.text for pair in read.benchmark.pairs if pair.question] == ["A?", "B?"]
    assert read.notes[:2] == (
        "Questions-llava.csv, row 3: 277 is not an id of the benchmark, so it is taken for 3.",
        "Questions-llava.csv, row 4: 278 is not an id of the benchmark, so it is taken for 4.",
    )


def test_doubled_quotes_of_clip_embeds_are_single_ones(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"Text": 1})
    rows = [
        f'{number},"Is it ""0"" or ""80"""?,(a) ""0"" (b) ""80"",({letter})\n'
        for number, letter in ((1, "a"), (2, "b"))
    ]
    clip_embeds(place, "".join(rows))
    (pair,) = import_mmvp_vlm(place).benchmark.pairs
    assert pair.question == Question('Is it "0" or "80"?', ('"0"', '"80"'), (0, 1))


def test_table_that_ends_inside_a_cell_is_an_error_and_loses_no_row_in_silence(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 3})
    table = place / "Questions.csv"
    table.write_text(table.read_text().replace("two of pair 1", '"two of pair 1'))  # rows 3 to 6 would be gone
    with pytest.raises(InputError, match="ends inside a quoted cell"):
        import_mmvp_vlm(place)


def test_quote_that_opens_in_the_header_is_an_error(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 1})
    table = place / "Questions.csv"
    table.write_text(table.read_text().replace("Type,Statement", 'Type,Statement,"more'))
    with pytest.raises(InputError, match="ends inside a quoted cell"):
        import_mmvp_vlm(place)


def test_known_wrong_options_are_left_out_and_the_statements_stay(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"Presence": 1})
    asked = "Are there any bars of chocolates in the image?,(a) Pink (b) Violet"
    clip_embeds(place, f"1,{asked},(a)\n2,{asked},(b)\n")
    read = import_mmvp_vlm(place)
    (pair,) = read.benchmark.pairs
    assert (pair.question, pair.statement_a) == (None, "one of pair 1")
    assert (
        "the question for 1 and 2 in questions-llava.csv is left out: its options are those of" in read.notes[0].lower()
    )


def test_questions_without_ids_are_matched_by_line_and_checked_by_type(tmp_path: Path) -> None:
    place = write_mmvp_vlm(tmp_path / "files", {"State": 1, "Text": 1})
    rows = "State,A?,(a) X (b) Y,(a)\nState,A?,(a) X (b) Y,(b)\nColor,B?,(a) X (b) Y,(a)\nColor,B?,(a) X (b) Y,(b)\n"
    clip_embeds(place, rows, "Type,Question,Options,Correct Answer")
    read = import_mmvp_vlm(place)
    assert [pair.question is not None for pair in read.benchmark.pairs] == [True, False]
    assert read.notes[0].startswith("Questions-llava.csv has no ids: its rows are matched by line")
    assert read.notes[1].endswith("is left out: its type there is 'Color', and here 'Text'.")
