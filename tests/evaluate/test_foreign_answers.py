"""Answer files of other harnesses: matched by ids, checked against the question, and what does not fit is said."""

import csv
import json
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked_pairs import OPEN, answers_of, benchmark_of

from blindpairs.benchmark import Benchmark
from blindpairs.errors import InputError
from blindpairs.evaluate.answers import Answer
from blindpairs.evaluate.foreign_answers import ImportedAnswers, import_answers
from blindpairs.evaluate.readers import read_with

Rows = list[dict[str, Any]]
BENCHMARK = benchmark_of([OPEN, ("left", "upper left"), ("cat", "cats")])
TEXTS = ["(a) Open", "b", "A.", "The answer is B", "", "cats\n"]
HARNESSES = ("official", "cambrian", "lmms-eval", "vlmevalkit")


def rows_of(harness: str, benchmark: Benchmark = BENCHMARK) -> Rows:
    """What a harness writes for TEXTS."""
    rows: Rows = []
    for place, pair in enumerate(benchmark.pairs):
        assert pair.question
        first, other = pair.question.options
        for side in (0, 1):
            number, text, letter = 2 * place + side + 1, TEXTS[2 * place + side], "ab"[pair.question.answers[side]]
            question = pair.question.text
            lines = f"A. {first}\nB. {other}\nAnswer with the option's letter from the given choices directly."
            said = {
                "official": {
                    **{"question_id": number, "prompt": f"{question} (a) {first} (b) {other}"},
                    **{"answer": f"({letter})", "response": text, "answer_id": "x", "model_id": "llava"},
                },
                "cambrian": {
                    **{
                        "question_id": number - 1,
                        "prompt": f"<image>\n{question} Options:\n{lines} ASSISTANT:",
                    },
                    **{"answer": text, "gt_answer": f"({letter})", "model_id": "llava", "text_options": [first, other]},
                },
                "lmms-eval": {
                    **{"doc_id": 77, "target": letter.upper(), "filtered_resps": text, "input": f"{question}\n{lines}"},
                    "mmvp_accuracy": {"index": number - 1, "pair_index": place, "pred": text, "is_correct": False},
                    "mmvp_pair_accuracy": {"index": number - 1, "pair_index": place, "pred": text},
                },
                "vlmevalkit": {
                    **{"index": number - 1, "question": question, "A": first, "B": other},
                    **{"answer": letter.upper(), "prediction": text},
                },
            }
            rows.append(said[harness])
    return rows


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path: Path, rows: Rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    return path


def written(folder: Path, harness: str, rows: Rows) -> Path:
    return table(folder / "x.tsv", rows) if harness == "vlmevalkit" else jsonl(folder / "x.jsonl", rows)


def keys_and_texts(answers: Iterable[Answer]) -> list[tuple[tuple[str, str, str], str]]:
    return [(answer.key, answer.text) for answer in answers]


EXPECTED = keys_and_texts(answers_of(BENCHMARK, TEXTS))


@pytest.mark.parametrize("harness", HARNESSES)
def test_answers_of_a_harness_are_found_by_their_ids_in_any_order(tmp_path: Path, harness: str) -> None:
    rows = rows_of(harness)
    got = import_answers(written(tmp_path, harness, rows), BENCHMARK)
    assert (got.harness, keys_and_texts(got.answers), got.notes) == (harness, EXPECTED, ())
    assert {answer.protocol for answer in got.answers} == {f"imported:{harness}"}
    random.Random(4).shuffle(rows)
    mixed = import_answers(written(tmp_path, harness, rows), BENCHMARK)
    assert keys_and_texts(mixed.answers) != EXPECTED  # the order of the file stays
    assert sorted(keys_and_texts(mixed.answers)) == sorted(EXPECTED)


def test_published_number_comes_out_of_the_file_of_its_harness(tmp_path: Path) -> None:
    rows = rows_of("cambrian")
    got = import_answers(jsonl(tmp_path / "x.jsonl", rows[1:]), BENCHMARK)
    assert got.notes == ("1 questions have no answer: image a of pair 0000000000000000.",)
    # Its lines are right, right; right, wrong; right: two for the first pair of lines, and one for the last line.
    assert read_with("cambrian", BENCHMARK, got.answers).headline["accuracy"] == 60.0
    with pytest.raises(InputError, match="missing"):
        read_with("ours", BENCHMARK, got.answers)


def test_prompt_and_model_are_kept_and_tell_answers_apart(tmp_path: Path) -> None:
    got = import_answers(jsonl(tmp_path / "x.jsonl", rows_of("official")), BENCHMARK)
    assert {answer.model for answer in got.answers} == {"llava"}
    assert len({answer.prompt_hash for answer in got.answers}) == 3  # one a pair
    rows = rows_of("official")
    rows[2]["model_id"] = "other"
    with pytest.raises(InputError, match=r"answers of several models \(llava, other\): keep one of them"):
        import_answers(jsonl(tmp_path / "x.jsonl", rows), BENCHMARK)


@pytest.mark.parametrize("harness", HARNESSES)
def test_answers_of_our_own_exports_are_found_by_pair_id_and_side(tmp_path: Path, harness: str) -> None:
    native = benchmark_of([pair.question.options for pair in BENCHMARK.pairs if pair.question], sources=False)
    rows, keys = rows_of(harness), [key for key, _ in EXPECTED]
    for row, (pair_id, side, _) in zip(rows, keys, strict=True):
        carried = {"pair_id": pair_id, "side": side}
        if harness == "lmms-eval":
            row.pop("mmvp_accuracy")
            row.pop("mmvp_pair_accuracy")
            row["blindpairs_accuracy"] = {**carried, "letter": "A", "right": 1}
        else:
            row |= carried
    random.Random(5).shuffle(rows)
    assert sorted(keys_and_texts(import_answers(written(tmp_path, harness, rows), native).answers)) == sorted(EXPECTED)


@pytest.mark.parametrize("harness", HARNESSES)
def test_numbers_without_a_source_need_the_ids_of_the_export(tmp_path: Path, harness: str) -> None:
    native = benchmark_of([pair.question.options for pair in BENCHMARK.pairs if pair.question], sources=False)
    path = written(tmp_path, harness, rows_of(harness))
    with pytest.raises(InputError, match="answers no question of scenes: the benchmark has no such question"):
        import_answers(path, native)
    ids = {str(number): key[:2] for number, (key, _) in enumerate(EXPECTED, 1)}
    assert keys_and_texts(import_answers(path, native, ids).answers) == EXPECTED


def left_out(tmp_path: Path, harness: str, place: int, **changes: Any) -> ImportedAnswers:
    """The import with one changed row; the other answers must be there."""
    rows = rows_of(harness)
    rows[place] |= changes
    got = import_answers(written(tmp_path, harness, rows), BENCHMARK)
    assert keys_and_texts(got.answers) == EXPECTED[:place] + EXPECTED[place + 1 :]
    return got


@pytest.mark.parametrize(
    ("harness", "changes", "note"),
    [
        ("official", {"question_id": 301}, "the benchmark has no such question (301)."),
        ("cambrian", {"question_id": 300}, "the benchmark has no such question (301)."),
        ("vlmevalkit", {"index": "300.0"}, "the benchmark has no such question (301)."),
        ("official", {"prompt": "Is it open? (a) Open (b) Closed"}, "its prompt asks another question (1)."),
        ("vlmevalkit", {"question": "Is it open?"}, "its prompt asks another question (1)."),
        ("vlmevalkit", {"A": "Closed", "B": "Open"}, "its options are others, or exchanged (1)."),
        ("cambrian", {"text_options": ["Closed", "Open"]}, "its options are others, or exchanged (1)."),
        (
            "official",
            {"prompt": "What does scene 0 show? (a) Closed (b) Open"},
            "its options are others, or exchanged (1).",
        ),
        (
            "lmms-eval",
            {"input": "What does scene 0 show?\nA. Closed\nB. Open"},
            "its options are others, or exchanged (1).",
        ),
    ],
)
def test_answer_to_another_question_is_left_out_and_said(
    tmp_path: Path, harness: str, changes: dict[str, Any], note: str
) -> None:
    assert left_out(tmp_path, harness, 0, **changes).notes[0] == f"1 answers are left out: {note}"


def test_other_first_option_is_seen(tmp_path: Path) -> None:
    got = left_out(tmp_path, "official", 0, prompt="What does scene 0 show? (a) Ajar (b) Closed")
    assert got.notes[0] == "1 answers are left out: its options are others, or exchanged (1)."


def test_our_own_ids_count_and_not_the_numbers_beside_them(tmp_path: Path) -> None:
    rows = rows_of("vlmevalkit")
    for row, (pair_id, side, _) in zip(rows, [key for key, _ in EXPECTED], strict=True):
        row |= {"index": 5 - row["index"], "pair_id": pair_id, "side": side}
    assert keys_and_texts(import_answers(table(tmp_path / "x.tsv", rows), BENCHMARK).answers) == EXPECTED


def test_id_that_two_questions_have_in_their_sources_is_nobodys(tmp_path: Path) -> None:
    other = replace(BENCHMARK.pairs[1], source_id_a="1", source_id_b="4")
    merged = replace(BENCHMARK, pairs=(BENCHMARK.pairs[0], other, BENCHMARK.pairs[2]))
    got = import_answers(jsonl(tmp_path / "x.jsonl", rows_of("official")), merged)
    assert got.notes[0] == "2 answers are left out: the benchmark has no such question (1, 3)."


def test_exchanged_options_of_which_one_is_part_of_the_other_are_seen(tmp_path: Path) -> None:
    for place, prompt in ((3, "scene 1 show? (a) upper left (b) left"), (4, "scene 2 show? (a) cats (b) cat")):
        got = left_out(tmp_path, "official", place, prompt=f"What does {prompt}")
        assert got.notes[0] == f"1 answers are left out: its options are others, or exchanged ({place + 1})."


def test_prompt_without_options_says_nothing_against_an_answer(tmp_path: Path) -> None:
    rows = rows_of("official")
    rows[0]["prompt"] = "What does scene 0 show? Use one word."
    rows[1].pop("prompt")
    assert keys_and_texts(import_answers(jsonl(tmp_path / "x.jsonl", rows), BENCHMARK).answers) == EXPECTED


def test_other_ground_truth_is_said_by_name(tmp_path: Path) -> None:
    rows = rows_of("official")
    rows[2]["answer"], rows[3]["answer"] = rows[3]["answer"], rows[2]["answer"]
    path = jsonl(tmp_path / "x.jsonl", rows)
    where = "3: image a of pair 0000000000000001, 4: image b of pair 0000000000000001"
    assert import_answers(path, BENCHMARK).notes == (f"Its ground truth differs for 2 questions: {where}.",)
    corrected = replace(BENCHMARK, corrections={"corrected": {BENCHMARK.pairs[1].pair_id: (1, 0)}})
    assert import_answers(path, corrected).notes == (
        f"Its ground truth is 'corrected', which differs for 2 questions: {where}.",
    )
    assert import_answers(path, corrected.with_ground_truth("corrected")).notes == ()


def test_numbers_that_begin_elsewhere_are_refused(tmp_path: Path) -> None:
    rows = rows_of("official")
    for row in rows:
        row["question_id"] = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5}[row["question_id"]]
    with pytest.raises(
        InputError, match=r"another right answer for 6 questions .* its numbers are not those of scenes"
    ):
        import_answers(jsonl(tmp_path / "x.jsonl", rows), BENCHMARK)


def test_doubled_rows_count_once_and_different_ones_are_an_error(tmp_path: Path) -> None:
    rows = rows_of("lmms-eval")
    got = import_answers(jsonl(tmp_path / "x.jsonl", [*rows, rows[1]]), BENCHMARK)
    assert keys_and_texts(got.answers) == EXPECTED
    assert got.notes == ("1 answers are there twice, word for word, and count once.",)
    with pytest.raises(InputError, match="lines 2 and 7 are different answers to the first question about image b of"):
        import_answers(jsonl(tmp_path / "x.jsonl", [*rows, rows[1] | {"filtered_resps": "?"}]), BENCHMARK)


def test_lists_around_an_answer_and_json_lists_of_rows_are_read(tmp_path: Path) -> None:
    rows = rows_of("lmms-eval")
    rows[0]["filtered_resps"] = [[rows[0]["filtered_resps"]]]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows))
    assert keys_and_texts(import_answers(path, BENCHMARK).answers) == EXPECTED


def test_excel_file_is_read_with_openpyxl(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed here")
    book, rows = openpyxl.Workbook(), rows_of("vlmevalkit")
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append([value if value != "" else None for value in row.values()])
    book.save(tmp_path / "x.xlsx")
    assert keys_and_texts(import_answers(tmp_path / "x.xlsx", BENCHMARK).answers) == EXPECTED
    (tmp_path / "broken.xlsx").write_bytes((tmp_path / "x.xlsx").read_bytes()[:-400])
    with pytest.raises(InputError, match="is not an Excel file"):
        import_answers(tmp_path / "broken.xlsx", BENCHMARK)


def test_excel_file_without_openpyxl_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"openpyxl is not installed: install it, or .* save the file as \.tsv"):
        import_answers(tmp_path / "x.xlsx", BENCHMARK)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no answer"),
        (b'{"a": 1}\n', "not a file of answers of MMVP's script, .* its first row has a"),
        (b'{"question_id": 1, "answer": "(a)"', "line 1 is damaged"),
        (b'{"question_id": 1, "response": "a"}\n', r"line 1 is not an answer of official \(KeyError: 'answer'\)"),
        (b'{"question_id": "one", "response": "a", "answer": "(a)"}\n', "line 1 is not an answer of official .*'one'"),
        (
            b'{"question_id": 1, "response": ["a"], "answer": "(a)"}\n',
            "line 1 is not an answer of official .* JSON list",
        ),
        (
            b'{"filtered_resps": "a", "doc_id": 3}\n',
            "line 1 is not an answer of lmms-eval .* so its question has no id",
        ),
        (b"[3]", "line 1 holds a JSON int, not an object"),
        (b"\xff\xfe\x00", "is not JSON"),
    ],
)
def test_file_that_is_damaged_or_foreign_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_answers(tmp_path / "x.jsonl", BENCHMARK)


def test_table_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("index\tquestion\tprediction\n0\tWhat\n")
    with pytest.raises(InputError, match="line 2: its cells are not those of the header"):
        import_answers(tmp_path / "x.tsv", BENCHMARK)


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.jsonl is missing"):
        import_answers(tmp_path / "x.jsonl", BENCHMARK)
