"""What a path holds is told by its content, and what nothing fits is described."""

import json
import os
from pathlib import Path

import pytest
from foreign_files import write_mmvp, write_mmvp_vlm
from pictured_pairs import benchmark_of

from blindpairs.benchmark.mmvp import export_mmvp
from blindpairs.benchmark.mmvp_vlm import export_mmvp_vlm
from blindpairs.benchmark.native import DATA, write_native
from blindpairs.benchmark.naturalbench import export_naturalbench
from blindpairs.benchmark.recognise import HEAD, KINDS, recognise, unrecognised
from blindpairs.errors import InputError

NATURAL = {"Index": 0, "Question_0": "?", "Question_1": "?", "Image_0_Question_0": "Yes"}
TABLES = {
    "mmvp": "lndex,Question,Options,Correct Answer\n",
    "mmvp-vlm": "\ufeffQuestion ID,Type,Statement\n",
    "mediconfusion": ",id,im_1,im_2,option_A,option_B,im_1_correct,im_2_correct\n",
    "csv-decisions": "pair_id,decision,question\n",
    "answers": "index\tquestion\tA\tB\tanswer\tprediction\n",
}
OBJECTS = [
    ("naturalbench", json.dumps([NATURAL, NATURAL])),
    ("naturalbench", json.dumps(NATURAL) + "\n" + json.dumps(NATURAL)),
    ("label-studio", json.dumps([{"id": 1, "data": {"image_a": "a.jpg"}, "annotations": []}], indent=2)),
    ("answers", json.dumps({"question_id": 1, "prompt": "", "answer": "(a)", "response": "(a)"}) + "\n"),
    ("answers", json.dumps({"question_id": 0, "answer": "A", "gt_answer": "(a)"}) + "\n"),
    ("answers", json.dumps({"doc_id": 0, "resps": [["A"]]}) + "\n"),
]


@pytest.mark.parametrize("kind", TABLES)
def test_table_is_told_by_its_columns_whatever_its_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.txt").write_text(TABLES[kind], encoding="utf-8")
    assert recognise(tmp_path / "x.txt") == kind


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", ",;\t")
def test_table_is_told_as_any_spreadsheet_writes_it(tmp_path: Path, separator: str, encoding: str) -> None:
    (tmp_path / "x.csv").write_text(f"pair_id{separator}decision\r\n1{separator}caf\xe9\r\n", encoding=encoding)
    assert recognise(tmp_path / "x.csv") == "csv-decisions"


def test_workbook_gets_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04 and the rest of an archive")
    assert recognise(tmp_path / "x.xlsx") is None
    assert unrecognised(tmp_path / "x.xlsx") == (
        f"{tmp_path}/x.xlsx is an archive or a workbook: unpack it and name the folder, or save the table as CSV"
    )


@pytest.mark.parametrize(("kind", "text"), OBJECTS, ids=range(len(OBJECTS)))
def test_json_is_told_by_the_fields_of_its_first_object(tmp_path: Path, kind: str, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert recognise(tmp_path / "x.json") == kind


def test_folders_are_told_by_what_is_in_them(tmp_path: Path) -> None:
    made = benchmark_of(2)
    write_mmvp(tmp_path / "mmvp")
    write_mmvp_vlm(tmp_path / "mmvp-vlm", {"State": 1})
    write_native(made, tmp_path / "native" / DATA)
    (tmp_path / "mediconfusion" / "data").mkdir(parents=True)
    (tmp_path / "mediconfusion" / "data" / "dataset.csv").write_text(TABLES["mediconfusion"])
    for name in ("img_emb", "metadata"):
        (tmp_path / "clip-retrieval" / name).mkdir(parents=True)
    export_naturalbench(made, tmp_path / "naturalbench")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [recognise(tmp_path / name) for name in names] == names
    assert recognise(tmp_path / "native" / DATA) == "native"


def test_own_exports_are_recognised(tmp_path: Path) -> None:
    for export, kind in ((export_mmvp, "mmvp"), (export_mmvp_vlm, "mmvp-vlm"), (export_naturalbench, "naturalbench")):
        export(benchmark_of(1), tmp_path / kind)
        assert recognise(tmp_path / kind) == kind


def test_only_the_start_of_a_file_is_read(tmp_path: Path) -> None:
    big = tmp_path / "big.csv"
    big.write_text(TABLES["mmvp"])
    os.truncate(big, 1 << 40)  # a terabyte, sparse: reading it would fail
    assert recognise(big) == "mmvp"
    assert HEAD < 1 << 21


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b,c\n1,2,3\n", "is a table with the columns a, b, c"),
        ('{"what": 1}', "holds objects with the fields what"),
        ("[[[[", "is neither a table nor JSON"),
        ("", "is neither a table nor JSON"),
        ("\0\0\0\0", "is neither a table nor JSON"),
        (",".join(f"c{number}" for number in range(20)), "c0, c1, c2, c3, c4, c5, c6, c7 and 12 more"),
    ],
)
def test_file_of_no_kind_is_described_with_what_would_be_recognised(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "x").write_text(text)
    assert recognise(tmp_path / "x") is None
    first, other = unrecognised(tmp_path / "x").split("\n")
    assert found in first
    assert other == f"recognised are: {'; '.join(KINDS.values())}"


def test_folder_of_no_kind_is_described_by_what_it_holds(tmp_path: Path) -> None:
    assert recognise(tmp_path) is None
    assert unrecognised(tmp_path).startswith(f"{tmp_path} is an empty folder\n")
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").touch()
    assert recognise(tmp_path) is None
    assert unrecognised(tmp_path).startswith(f"{tmp_path} holds notes.txt, photos/\n")
    assert recognise(tmp_path / "gone") is None
    assert unrecognised(tmp_path / "gone") == f"{tmp_path / 'gone'} does not exist"


def test_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe"):
        recognise(tmp_path / "pipe")
