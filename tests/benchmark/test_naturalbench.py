"""The rows of NaturalBench: an export is scored by the official rules as we score it, and comes back as it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import files, images_of
from nasty_texts import NASTY
from pictured_pairs import benchmark_of, pair_of, picture

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.benchmark.naturalbench import export_naturalbench, import_naturalbench
from blindpairs.errors import InputError
from blindpairs.images import image_id
from blindpairs.mine import pair_id

SPHINX = "What is the direction the sphinx sculpture is facing?\nOption: A:To the right; B:To the left;"
COLOUR = "What is the color of the sphinx sculpture?\nOption: A:Dark gray; B:Beige;"


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A row as the published data have it, with paths of images."""
    return {
        "Index": number,
        "Image_0": f"{2 * number}.jpg",
        "Image_1": f"{2 * number + 1}.jpg",
        "Question_0": "Is the squirrel climbing up the fence?",
        "Question_1": "Is the squirrel climbing down the fence?",
        "Image_0_Question_0": "Yes",
        "Image_1_Question_0": "No",
        "Image_0_Question_1": "No",
        "Image_1_Question_1": "Yes",
        "Question_Type": "yes_no",
        "Source": "DOCCI",
        **changes,
    }


def multiple_choice(number: int = 0, **changes: Any) -> dict[str, Any]:
    letters = {"Image_0_Question_0": "A", "Image_1_Question_0": "B"}
    letters |= {"Image_0_Question_1": "B", "Image_1_Question_1": "A"}
    asked = {"Question_0": SPHINX, "Question_1": COLOUR, "Question_Type": "multiple_choice"}
    return row(number, **{**asked, **letters, **changes})


def written(folder: Path, rows: list[dict[str, Any]], name: str = "naturalbench.json") -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(2 * len(rows)):
        (folder / "images" / f"{number}.jpg").write_bytes(picture(number))
    lines = json.dumps(rows) if name.endswith(".json") else "\n".join(json.dumps(one) for one in rows)
    (folder / name).write_text(lines, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", ["naturalbench.json", "naturalbench.jsonl"])
def test_published_rows_are_read_whole(tmp_path: Path, name: str) -> None:
    file = written(tmp_path, [row(), multiple_choice(1)], name)
    read = import_naturalbench(tmp_path)
    ids = [image_id(picture(number)) for number in range(4)]
    assert read.notes == ()
    assert read.benchmark.name == "NaturalBench"
    assert read.benchmark.pairs == (
        BenchmarkPair(
            pair_id(ids[0], ids[1]),
            ids[0],
            ids[1],
            str(tmp_path / "images" / "0.jpg"),
            str(tmp_path / "images" / "1.jpg"),
            Question("Is the squirrel climbing up the fence?", ("Yes", "No"), (0, 1)),
            Question("Is the squirrel climbing down the fence?", ("Yes", "No"), (1, 0)),
            source_id_a="0/0",
            source_id_b="0/1",
        ),
        BenchmarkPair(
            pair_id(ids[2], ids[3]),
            ids[2],
            ids[3],
            str(tmp_path / "images" / "2.jpg"),
            str(tmp_path / "images" / "3.jpg"),
            Question("What is the direction the sphinx sculpture is facing?", ("To the right", "To the left"), (0, 1)),
            Question("What is the color of the sphinx sculpture?", ("Dark gray", "Beige"), (1, 0)),
            source_id_a="1/0",
            source_id_b="1/1",
        ),
    )
    assert images_of(read.benchmark) == {key: picture(number) for number, key in enumerate(ids)}
    assert import_naturalbench(file).benchmark.pairs == read.benchmark.pairs


def test_instruction_at_the_end_of_a_question_is_no_part_of_it(tmp_path: Path) -> None:
    ended = {"Question_0": SPHINX + "Please output the letter corresponding to the correct option."}
    written(tmp_path, [row(Question_0="Is it?Please answer Yes or No."), multiple_choice(1, **ended)])
    first, other = import_naturalbench(tmp_path).benchmark.pairs
    assert first.question == Question("Is it?", ("Yes", "No"), (0, 1))
    assert other.question == Question(SPHINX.split("\n")[0], ("To the right", "To the left"), (0, 1))


def test_import_and_export_give_the_same_questions_answers_and_image_bytes(tmp_path: Path) -> None:
    published = [row(), multiple_choice(1)]
    written(tmp_path / "in", published)
    exported = export_naturalbench(import_naturalbench(tmp_path / "in").benchmark, tmp_path / "out")
    again = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    same = [name for name in published[0] if name not in ("Image_0", "Image_1", "Source")]
    assert [{name: one[name] for name in same} for one in again] == [
        {name: one[name] for name in same} for one in published
    ]
    images = [(tmp_path / "out" / one[f"Image_{place}_file_name"]).read_bytes() for one in again for place in (0, 1)]
    assert images == [picture(number) for number in range(4)]
    assert (exported.pairs, dict(exported.refused), exported.notes) == (2, {}, ())


def mixed(count: int) -> Benchmark:
    """Pairs of yes/no and of two options, whose first question is right with either option for image a."""
    made = benchmark_of(count, statement_a="", statement_b="")
    pairs = []
    for place, pair in enumerate(made.pairs):
        options = ("Yes", "No") if place % 3 else (f"Open {place}", "Closed")
        answers = (0, 1) if place % 2 else (1, 0)
        first, second = Question(f"First {place}?", options, answers), Question("Second?", options, answers[::-1])
        pairs.append(replace(pair, question=first, second=second))
    return replace(made, pairs=tuple(pairs))


def test_export_and_import_keep_everything_and_controls_apart(tmp_path: Path) -> None:
    made = mixed(7)
    control = replace(made.pairs[6], control_of=made.pairs[0].pair_id)
    made = replace(made, pairs=(*made.pairs[:6], control))
    export_naturalbench(made, tmp_path / "out")
    read = import_naturalbench(tmp_path / "out").benchmark
    names = ("uri_a", "uri_b", "annotators", "source", "license", "source_id_a", "source_id_b")
    lost = {name: () if name == "annotators" else "" for name in names}
    assert [replace(pair, **lost) for pair in read.pairs] == [replace(pair, **lost) for pair in made.pairs]  # type: ignore[arg-type]
    assert (read.name, read.patterns, images_of(read)) == (made.name, made.patterns, images_of(made))
    assert len((tmp_path / "out" / "metadata.jsonl").read_text().splitlines()) == 6


def official_scores(cells: list[list[int]]) -> dict[str, float]:
    """The formulas of `get_scores` (naturalbench_vqa.py) over [q0_i0, q0_i1, q1_i0, q1_i1], 1 for Yes or A."""
    count = len(cells)
    question = sum((a and not b) + (d and not c) for a, b, c, d in cells)
    image = sum((a and not c) + (d and not b) for a, b, c, d in cells)
    single = sum(a + (not b) + (not c) + d for a, b, c, d in cells)
    group = sum(bool(a and d and not b and not c) for a, b, c, d in cells)
    totals = {"Q_Acc": question / 2, "I_Acc": image / 2, "Acc": single / 4, "G_Acc": group}
    return {name: total / count for name, total in totals.items()}


def test_official_script_scores_an_export_as_a_direct_count_does(tmp_path: Path) -> None:
    made = mixed(60)
    export_naturalbench(made, tmp_path / "out")
    said = np.random.default_rng(2).integers(0, 2, (60, 2, 2))  # recorded option: pair, question, image
    recorded, right = {}, []
    for pair, options in zip(made.pairs, said, strict=True):
        asked = (pair.question, pair.second)
        right.append([[options[q, i] == one.answers[i] for i in (0, 1)] for q, one in enumerate(asked) if one])
        recorded[pair.pair_id] = {
            (one.text, i): int(options[q, i]) for q, one in enumerate(asked) if one for i in (0, 1)
        }
    cells = []
    for one in map(json.loads, (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()):
        options = recorded[one["pair_id"]]
        cells.append([1 - options[one[f"Question_{q}"].split("\nOption:")[0], i] for q in (0, 1) for i in (0, 1)])
    hits = np.array(right)
    assert official_scores(cells) == {
        "Q_Acc": hits.all(axis=2).sum() / 2 / 60,
        "I_Acc": hits.all(axis=1).sum() / 2 / 60,
        "Acc": hits.sum() / 4 / 60,
        "G_Acc": hits.all(axis=(1, 2)).sum() / 60,
    }


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"Image_1_Question_0": "Yes"}, "The row 0 of naturalbench.json is left out: both images have the same answer"),
        ({"Image_1_Question_1": "No"}, "The second question of row 0 of naturalbench.json is left out: both images"),
        (
            {"Image_0_Question_1": "Yes", "Image_1_Question_1": "No"},
            "The second question of row 0 of naturalbench.json is left out: its answers are not exchanged.",
        ),
        ({"Image_0_Question_0": "Maybe"}, "The row 0 of naturalbench.json is left out: its correct answer is neither"),
        ({"Question_Type": "free"}, "The row 0 of naturalbench.json is left out: its type 'free' is neither"),
        ({"Question_Type": "multiple_choice"}, "The row 0 of naturalbench.json is left out: its options are not two"),
    ],
)
def test_odd_row_is_named_and_nothing_else_is_lost(tmp_path: Path, changes: dict[str, Any], note: str) -> None:
    written(tmp_path, [row(**changes), row(1)])
    read = import_naturalbench(tmp_path)
    assert read.notes[0].startswith(note)
    assert len(read.benchmark.pairs) == (2 if "second" in note else 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{", "is not JSON"),
        ("[1]", "row 1: it has no text Question_0"),
        (json.dumps([row(Question_1=None)]), "row 1: it has no text Question_1"),
        (json.dumps([row(Image_1="9.jpg")]), r"there is no .*9\.jpg, which Image_1 of row 0 names"),
        (json.dumps([row(Image_1=7)]), "Image_1 of row 0 is not the path of a file"),
    ],
)
def test_damaged_row_is_an_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path, [row()]).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        import_naturalbench(tmp_path)


UNWRITABLE = {"empty", "nul", "surrogate", "very_long", *("spaces", "yaml", "long")}  # the last end with a space


@pytest.mark.parametrize("name", NASTY)
def test_nasty_texts_survive_or_are_refused(tmp_path: Path, name: str) -> None:
    text = NASTY[name]
    first, second = Question(text, (text, "No"), (1, 0)), Question("?", ("No", f"{text};"), (0, 1))
    pair, data = pair_of(0, 1, question=first, second=second)
    good, others = pair_of(2, 3)
    exported = export_naturalbench(Benchmark("nasty", (pair, good), HeldImages(data | others)), tmp_path / "out")
    assert list(exported.refused) == [pair.pair_id] * (name in UNWRITABLE)
    kept = [one for one in (pair, good) if one.pair_id not in exported.refused]
    asked = [(one.pair_id, one.question, one.second) for one in import_naturalbench(tmp_path / "out").benchmark.pairs]
    assert asked == [(one.pair_id, one.question, one.second) for one in kept]


def test_what_the_format_cannot_carry_is_refused_with_the_pair_and_the_reason(tmp_path: Path) -> None:
    open_closed = Question("?", ("Open", "Closed"), (1, 0))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"second": None}, "it has no two questions"),
        ({"second": open_closed, "question": open_closed}, "the answers of its two questions are not exchanged"),
        ({"second": Question("?", ("a; B: b", "c"), (1, 0))}, "would be read differently"),
        ({"question": Question("?", ("a", "b"), (1, 1)), "second": Question("?", ("a", "b"), (1, 1))}, "same answer"),
        ({"second": Question("?", ("a", "b; C: c"), (1, 0))}, "its options are not two texts"),
        ({"second": Question("?", (" a", "b"), (1, 0))}, "would be read differently"),
        ({"second": Question("?\nOption: A:a; B:b;", ("a", "b"), (1, 0))}, "would be read differently"),
        ({"second": Question("\ud800", ("a", "b"), (1, 0))}, "not valid Unicode"),
    ]
    made = [pair_of(2 * place, 2 * place + 1, **fields) for place, (fields, _) in enumerate(changes)]
    good, data = pair_of(100, 101)
    images = HeldImages({key: one for _, held in [*made, (good, data)] for key, one in held.items()})
    exported = export_naturalbench(Benchmark("doors", (*(pair for pair, _ in made), good), images), tmp_path / "out")
    assert list(exported.refused) == [pair.pair_id for pair, _ in made]
    for reason, (_, part) in zip(exported.refused.values(), changes, strict=True):
        assert part in reason


def test_same_benchmark_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        export_naturalbench(mixed(5), tmp_path / name)
    assert files(tmp_path / "one") == files(tmp_path / "other")


@pytest.mark.parametrize(
    "change",
    [
        *({"image_ids": value} for value in (["a"], [1, 2], "ab", ["a", "\ud800"])),
        *({"patterns": value} for value in ("abc", [1], None)),
        *({"clip_sim": value} for value in ("x", "0.5", True)),
        *({"pair_id": 7}, {"control_of": 5}),
    ],
)
def test_field_of_an_export_that_was_changed_is_an_error_that_names_the_row(
    tmp_path: Path, change: dict[str, object]
) -> None:
    export_naturalbench(benchmark_of(2), tmp_path / "out")
    rows = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    rows[1] = json.dumps(json.loads(rows[1]) | change)
    (tmp_path / "out" / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(InputError, match=r"pair_id, image_ids, patterns, .* of row 1 were changed: export again"):
        import_naturalbench(tmp_path / "out")


def test_pair_id_of_another_tool_is_no_field_of_ours(tmp_path: Path) -> None:
    written(tmp_path, [row(pair_id=7)])
    assert len(import_naturalbench(tmp_path).benchmark.pairs) == 1


def test_image_in_base64_is_an_error_of_one_line(tmp_path: Path) -> None:
    written(tmp_path, [row(Image_1="iVBORw0KGgo" * 90_000)])
    with pytest.raises(InputError, match=r"there is no .{1,200}, which Image_1 of row 0 names"):
        import_naturalbench(tmp_path)


def test_half_a_surrogate_pair_is_left_out_and_named(tmp_path: Path) -> None:
    written(tmp_path, [row(Question_0="open \ud83d?"), row(1)])
    read = import_naturalbench(tmp_path)
    assert read.notes == ("The row 0 of naturalbench.json is left out: a text is not valid Unicode.",)
    assert len(read.benchmark.pairs) == 1
