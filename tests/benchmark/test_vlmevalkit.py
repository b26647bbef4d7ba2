"""Tables of VLMEvalKit: read back by its documented rules they say what the benchmark says, or a pair is refused."""

import base64
import csv
import importlib
import io
import itertools
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nasty_texts import NASTY
from pictured_pairs import benchmark_of, pair_of, picture
from PIL import Image

from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages, Question
from blindpairs.benchmark.vlmevalkit import COLUMNS, LONGEST_CELL, export_vlmevalkit, table_name
from blindpairs.errors import InputError
from blindpairs.images import image_id
from blindpairs.mine import pair_id


def rows_of(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def tables(benchmark: Benchmark, folder: Path, ending: str = "") -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows of the plain and of the circular table."""
    name = table_name(benchmark) + ending
    return rows_of(folder / f"{name}.tsv"), rows_of(folder / f"{name}_circular.tsv")


def pixels(row: dict[str, str]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(row["image"])))


def with_options(*options: tuple[str, str]) -> Benchmark:
    benchmark = benchmark_of(len(options))
    changed = [
        replace(pair, question=Question("Which?", two, (0, 1)))
        for pair, two in zip(benchmark.pairs, options, strict=True)
    ]
    return replace(benchmark, pairs=tuple(changed))


def circular_overall(rows: Sequence[dict[str, str]], hits: Sequence[bool]) -> float:
    """`Overall` as documented: rows with one g_index are one item, right if all are; the row that is it stays."""
    groups: dict[str, list[bool]] = {}
    for row, hit in zip(rows, hits, strict=True):
        groups.setdefault(row["g_index"], []).append(hit)
    kept = [all(groups[row["g_index"]]) for row in rows if row["index"] == row["g_index"]]
    return sum(kept) / len(kept)


def test_every_image_of_every_pair_is_a_row_and_pairs_are_adjacent(tmp_path: Path) -> None:
    benchmark = benchmark_of(230)  # more than are in memory at once
    exported = export_vlmevalkit(benchmark, tmp_path / "out")
    assert (exported.pairs, exported.refused) == (230, {})
    plain, circular = tables(benchmark, tmp_path / "out")
    assert [{key: row[key] for key in COLUMNS} for row in circular] == plain
    assert [(row["index"], row["g_index"]) for row in circular[:4]] == [("0", "0"), ("1", "0"), ("2", "2"), ("3", "2")]
    expected = [
        (str(2 * place + at), pair.pair_id, side, pair.image_ids[at], "AB"[at], "Open", "Closed")
        for place, pair in enumerate(benchmark.pairs)
        for at, side in enumerate("ab")
    ]
    names = ("index", "pair_id", "side", "image_id", "answer", "A", "B")
    assert [tuple(row[name] for name in names) for row in plain] == expected
    assert {len({row["question"] for row in plain[at : at + 2]}) for at in range(0, 460, 2)} == {1}


def test_overall_of_the_circular_table_is_pair_accuracy_to_the_last_digit(tmp_path: Path) -> None:
    benchmark = benchmark_of(37)
    export_vlmevalkit(benchmark, tmp_path / "out")
    _, circular = tables(benchmark, tmp_path / "out")
    for seed in range(20):
        chance = random.Random(seed)
        hits = [chance.random() < 0.7 for _ in circular]
        solved = [hits[2 * place] and hits[2 * place + 1] for place in range(37)]
        assert circular_overall(circular, hits) == sum(solved) / 37


def test_image_that_is_used_again_refers_to_its_first_row(tmp_path: Path) -> None:
    data = [picture(seed) for seed in range(5)]
    ids = [image_id(each) for each in data]
    template, _ = pair_of(0, 1)
    used = [(0, 1), (2, 0), (1, 3), (4, 4)]
    pairs = tuple(
        replace(template, pair_id=pair_id(ids[a], ids[b]), image_id_a=ids[a], image_id_b=ids[b]) for a, b in used
    )
    benchmark = Benchmark("shared", pairs, HeldImages(dict(zip(ids, data, strict=True))))
    export_vlmevalkit(benchmark, tmp_path / "out")
    plain, _ = tables(benchmark, tmp_path / "out")
    assert [row["image"] if len(row["image"]) <= 64 else "pixels" for row in plain] == [
        *("pixels", "pixels", "pixels", "0", "1", "pixels", "pixels", "6")
    ]
    for row in plain:
        whole = plain[int(row["image"])] if len(row["image"]) <= 64 else row
        assert base64.b64decode(whole["image"]) == data[ids.index(row["image_id"])]


def test_images_are_upright_rgb_whatever_they_were(tmp_path: Path) -> None:
    out = io.BytesIO()
    upright = np.zeros((120, 160, 3), np.uint8)
    upright[:40] = (250, 20, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: to be shown a quarter turn to the right
    Image.fromarray(np.rot90(upright)).save(out, "JPEG", quality=95, exif=exif)
    turned, clear = out.getvalue(), io.BytesIO()
    Image.fromarray(np.dstack([upright, np.full((120, 160), 255, np.uint8)])).save(clear, "PNG")
    data = {image_id(each): each for each in (turned, clear.getvalue())}
    template, _ = pair_of(0, 1)
    a, b = data
    benchmark = Benchmark("turned", (replace(template, image_id_a=a, image_id_b=b),), HeldImages(data))
    export_vlmevalkit(benchmark, tmp_path / "out")
    plain, _ = tables(benchmark, tmp_path / "out")
    images = [pixels(row) for row in plain]
    assert [(image.mode, image.size, image.getexif().get(0x0112, 1)) for image in images] == [
        ("RGB", (160, 120), 1)
    ] * 2
    assert np.abs(np.asarray(images[0]).astype(int) - upright).mean() < 3  # a photograph is encoded again
    assert (np.asarray(images[1]) == upright).all()  # what was lossless still is


@pytest.mark.parametrize("name", NASTY)
def test_nasty_option_survives_or_its_pair_is_refused_by_name(tmp_path: Path, name: str) -> None:
    text = NASTY[name]
    benchmark = with_options((text, "other"), ("Open", "Closed"))
    exported = export_vlmevalkit(benchmark, tmp_path / "out")
    plain, _ = tables(benchmark, tmp_path / "out")
    nasty = benchmark.pairs[0].pair_id
    refused = {
        "tab",
        "newline",
        "carriage_return",
        "line_ends",
        "missing",
        "not_available",
        "nul",
        "bell",
        "empty",
        "surrogate",
    }
    if name in refused | {"link", "very_long"}:
        assert list(exported.refused) == [nasty]
        assert [row["A"] for row in plain] == ["Open", "Open"]
    else:
        assert exported.refused == {}
        assert [row["A"] for row in plain] == [text, text, "Open", "Open"]


@pytest.mark.parametrize("name", NASTY)
def test_pandas_reads_every_text_that_was_not_refused_unchanged(tmp_path: Path, name: str) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: install blindpairs[dev]")
    benchmark = with_options((NASTY[name], "other"), ("Open", "Closed"))
    export_vlmevalkit(benchmark, tmp_path / "out")
    file = tmp_path / "out" / f"{table_name(benchmark)}.tsv"
    read = pandas.read_csv(file, sep="\t")
    for column in ("question", "A", "B", "answer", "category", "l2-category", "split", "pair_id"):
        assert [str(cell) for cell in read[column]] == [row[column] for row in rows_of(file)]
    assert {type(cell) for cell in read["index"].tolist()} == {int}


@pytest.mark.parametrize("text", ["007", "3.50", "1e3", "TRUE", "Infinity", "+4", " 5", "-0", "1."])
def test_text_that_pandas_would_rewrite_is_refused_in_a_column_of_numbers_alone(tmp_path: Path, text: str) -> None:
    benchmark = with_options((text, "none"), ("8", "none"), ("-12", "none"))
    exported = export_vlmevalkit(benchmark, tmp_path / "out")
    reason = f"A {text!r} is a number for pandas, which writes it in another way"
    assert exported.refused == {benchmark.pairs[0].pair_id: reason}
    plain, _ = tables(benchmark, tmp_path / "out")
    assert [row["A"] for row in plain] == ["8", "8", "-12", "-12"]


def test_question_too_long_for_the_file_of_answers_is_refused(tmp_path: Path) -> None:
    benchmark = benchmark_of(2)
    long = replace(benchmark.pairs[1], question=Question("x" * (LONGEST_CELL + 1), ("Open", "Closed"), (0, 1)))
    exported = export_vlmevalkit(replace(benchmark, pairs=(benchmark.pairs[0], long)), tmp_path / "out")
    assert list(exported.refused) == [long.pair_id]


def test_pattern_that_would_replace_a_column_of_the_report_is_refused(tmp_path: Path) -> None:
    benchmark = benchmark_of(3)
    named = zip(benchmark.pairs, [("Overall",), (), ("x", "y")], strict=True)
    pairs = [replace(pair, patterns=names) for pair, names in named]
    benchmark = replace(benchmark, pairs=tuple(pairs))
    exported = export_vlmevalkit(benchmark, tmp_path / "out")
    assert list(exported.refused) == [pairs[0].pair_id]
    plain, _ = tables(benchmark, tmp_path / "out")
    assert [(row["category"], row["patterns"]) for row in plain[::2]] == [("no pattern", ""), ("x", "x | y")]
    assert "Pairs with several patterns: 1. Their category is the first; `patterns` has all." in exported.notes


def test_controls_have_tables_of_their_own(tmp_path: Path) -> None:
    benchmark = benchmark_of(4)
    control = replace(benchmark.pairs[1], control_of=benchmark.pairs[0].pair_id)
    benchmark = replace(benchmark, pairs=(benchmark.pairs[0], control, *benchmark.pairs[2:]))
    exported = export_vlmevalkit(benchmark, tmp_path / "out")
    plain, _ = tables(benchmark, tmp_path / "out")
    controls, circular = tables(benchmark, tmp_path / "out", "_controls")
    assert [row["pair_id"] for row in plain[::2]] == [pair.pair_id for pair in benchmark.pairs if not pair.control_of]
    assert [(row["index"], row["pair_id"], row["l2-category"]) for row in controls] == [
        ("0", control.pair_id, "controls"),
        ("1", control.pair_id, "controls"),
    ]
    assert [row["g_index"] for row in circular] == ["0", "0"]
    name = table_name(benchmark)
    ran = [note.split("--data ")[1].split()[0] for note in exported.notes if "--data " in note]
    assert ran == [f"{name}_circular", f"{name}_controls_circular"]


@pytest.mark.parametrize(
    "name", ["MMBench pairs", "circular doors", "mmmu", "\u05d3\u05dc\u05ea", "", "a" * 300, "../x"]
)
def test_name_of_a_table_means_nothing_to_vlmevalkit_and_is_a_file_name(name: str) -> None:
    table = table_name(replace(benchmark_of(1), name=name))
    assert table.startswith("BlindPairs_")
    assert not any(word in table.lower() for word in ("mmbench", "ccbench", "circular", "mmcr", "mmmu", "lego"))
    assert len(table) < 100
    assert table.replace("_", "").replace("-", "").isalnum()


def test_name_of_a_table_changes_with_its_content(tmp_path: Path) -> None:
    benchmark = benchmark_of(3)
    assert table_name(benchmark) != table_name(replace(benchmark, pairs=benchmark.pairs[1:]))


def test_same_benchmark_gives_the_same_bytes_and_replaces_its_older_export(tmp_path: Path) -> None:
    for _ in range(2):
        export_vlmevalkit(benchmark_of(5), tmp_path / "one")
    export_vlmevalkit(benchmark_of(5), tmp_path / "other")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "other").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_unreadable_image_is_named_and_the_older_export_stays(tmp_path: Path) -> None:
    export_vlmevalkit(benchmark_of(2), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    broken = benchmark_of(3)
    assert isinstance(broken.images, HeldImages)
    del broken.images.images[broken.pairs[2].image_id_b]
    with pytest.raises(InputError, match=f"pair {broken.pairs[2].pair_id} at /corpus/5.jpg"):
        export_vlmevalkit(broken, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_benchmark_of_statements_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="VLMEvalKit can hold no blind pair of doors: it has no question"):
        export_vlmevalkit(benchmark_of(2, question=None, second=None), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_record_says_what_was_refused(tmp_path: Path) -> None:
    benchmark = with_options(("NA", "other"), ("Open", "Closed"))
    exported = export_vlmevalkit(benchmark, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "blindpairs.json").read_text())
    assert (
        record["refused"]
        == exported.refused
        == {benchmark.pairs[0].pair_id: "A 'NA' is an empty cell for pandas, and would vanish"}
    )


def patterned(count: int) -> Benchmark:
    benchmark = benchmark_of(count)
    names = itertools.cycle([("Texts",), ("Color and Appearance", "Texts"), ()])
    pairs: tuple[BenchmarkPair, ...] = tuple(replace(pair, patterns=next(names)) for pair in benchmark.pairs)
    return replace(benchmark, pairs=pairs)


def test_vlmevalkits_own_code_counts_the_pairs_that_were_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vlmeval", reason="VLMEvalKit is not installed: put its checkout on PYTHONPATH")
    scoring: Any = importlib.import_module("vlmeval.dataset.utils.multiple_choice")
    files: Any = importlib.import_module("vlmeval.smp")
    benchmark = patterned(41)
    export_vlmevalkit(benchmark, tmp_path / "out")
    name = tmp_path / "out" / table_name(benchmark)
    plain, circular = files.load(f"{name}.tsv"), files.load(f"{name}_circular.tsv")
    for seed in range(3):
        chance = random.Random(seed)
        answers = circular.drop(columns="image")
        answers["prediction"] = [
            letter if chance.random() < 0.7 else "BA"["AB".index(letter)] for letter in answers["answer"]
        ]
        files.dump(answers, str(tmp_path / f"answers-{seed}.xlsx"))
        answers = files.load(str(tmp_path / f"answers-{seed}.xlsx"))
        right: dict[str, list[bool]] = {}
        for _, row in answers.iterrows():
            right.setdefault(row["pair_id"], []).append(row["prediction"] == row["answer"])
        solved = sum(map(all, right.values())) / 41
        results = str(tmp_path / f"pairs-{seed}.pkl"), str(tmp_path / f"questions-{seed}.pkl")
        pairs = scoring.mcq_circular_eval(None, answers.copy(), circular, 1, results[0], f"{name.name}_circular")
        report = scoring.report_acc(pairs)
        questions = scoring.mcq_vanilla_eval(None, answers.copy(), plain, 1, results[1], name.name)
        assert report["Overall"][0] == solved
        assert scoring.report_acc_MMVP(questions.reset_index(drop=True))["Overall"][0] == solved
        texts = [all(right[pair.pair_id]) for pair in benchmark.pairs if pair.patterns == ("Texts",)]
        assert report["Texts"][0] == sum(texts) / len(texts)
