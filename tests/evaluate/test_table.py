"""Tables say the same in every form: aligned text, LaTeX that compiles to what was written, and rows of numbers."""

import csv
import io
import json

import numpy as np
import pytest
from answered_pairs import PATTERNS, made_pairs, run_of

from blindpairs.benchmark import Benchmark
from blindpairs.evaluate.published import load_published, table_values
from blindpairs.evaluate.scores import by_pattern, score
from blindpairs.evaluate.table import (
    ModelScores,
    Table,
    csv_text,
    escape_latex,
    latex,
    model_scores,
    pattern_table,
    published_models,
    records,
    scaling_records,
    scaling_table,
    text,
)
from blindpairs.statistics import Rate

SMALL = ModelScores("tiny_1", Rate(3, 12, (0.089, 0.532)), {"Text": Rate(1, 4, (0.046, 0.699))}, 0.5, 32)
LARGE = ModelScores(
    "big & 50%", Rate(12, 12, (0.757, 1.0)), {"Text": Rate(4, 4, (0.51, 1.0)), "Color": Rate(0, 0, None)}
)


def test_models_by_patterns_as_aligned_text() -> None:
    assert text(pattern_table([SMALL, LARGE])) == (
        "model      Text (n = 4)  Color (n = 0)  all (n = 12)\n"
        "---------  ------------  -------------  ------------\n"
        "tiny_1             25.0              -          25.0\n"
        "big & 50%         100.0              -         100.0"
    )


def test_transposed_table_with_intervals_has_a_row_a_pattern() -> None:
    assert text(pattern_table([SMALL], intervals=True).transposed()) == (
        "model                     tiny_1\n"
        "------------  ------------------\n"
        "Text (n = 4)  25.0 (4.6 to 69.9)\n"
        "all (n = 12)  25.0 (8.9 to 53.2)"
    )


def test_header_gives_no_count_where_models_have_different_ones() -> None:
    other = ModelScores("other", Rate(1, 8, None), {"Text": Rate(1, 3, None)})
    assert pattern_table([SMALL, other]).header == ("model", "Text", "all")


def test_models_of_one_name_keep_their_own_numbers() -> None:
    other = ModelScores("tiny_1", Rate(6, 12, None), {"Text": Rate(3, 4, None)}, 9.0, 64)
    assert pattern_table([SMALL, other]).rows == (("tiny_1", "25.0", "25.0"), ("tiny_1", "75.0", "50.0"))
    assert [row[1:5] for row in scaling_table([other, SMALL]).rows] == [
        ("0.5", "32", "12", "25.0"),
        ("9.0", "64", "12", "50.0"),
    ]


def test_latex_is_a_whole_table_with_every_mark_escaped() -> None:
    assert latex(pattern_table([SMALL, LARGE])) == (
        "\\begin{tabular}{lrrr}\n\\toprule\n"
        "model & Text (n = 4) & Color (n = 0) & all (n = 12) \\\\\n\\midrule\n"
        "tiny\\_1 & 25.0 & - & 25.0 \\\\\nbig \\& 50\\% & 100.0 & - & 100.0 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )
    assert escape_latex(r"a\b {c} $d #e ~f ^g <h|") == (
        r"a\textbackslash{}b \{c\} \$d \#e \textasciitilde{}f \textasciicircum{}g \textless{}h\textbar{}"
    )


def test_records_carry_shares_and_intervals_to_json_and_csv() -> None:
    rows = records([LARGE])
    assert rows == [
        {"model": "big & 50%", "pattern": "all", "hits": 12, "count": 12, "share": 1.0, "low": 0.757, "high": 1.0},
        {"model": "big & 50%", "pattern": "Text", "hits": 4, "count": 4, "share": 1.0, "low": 0.51, "high": 1.0},
        {"model": "big & 50%", "pattern": "Color", "hits": 0, "count": 0, "share": None, "low": None, "high": None},
    ]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    back = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert back == [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows]
    assert csv_text([]) == ""


def test_no_name_is_a_formula_in_a_spreadsheet() -> None:
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "llava-=1"]
    rows = records([ModelScores(name, Rate(1, 4, (-0.0, 0.5))) for name in names])
    found = [row["model"] for row in csv.DictReader(io.StringIO(csv_text(rows), newline=""))]
    assert found == ["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "'\t=1", "llava-=1"]


def test_scaling_rows_go_from_small_to_large_with_unknown_sizes_last() -> None:
    assert [row["model"] for row in scaling_records([LARGE, SMALL])] == ["tiny_1", "big & 50%"]
    assert scaling_table([LARGE, SMALL]) == Table(
        ("model", "parameters (M)", "resolution", "pairs", "accuracy", "95 % interval"),
        (
            ("tiny_1", "0.5", "32", "12", "25.0", "8.9 to 53.2"),
            ("big & 50%", "-", "-", "12", "100.0", "75.7 to 100.0"),
        ),
    )


def test_scores_of_a_run_become_a_row() -> None:
    pairs = made_pairs(9)
    run = run_of(pairs, np.arange(9) < 4)
    benchmark = Benchmark("made", tuple(pairs), lambda ids: iter(()), PATTERNS)
    got = model_scores("mine", score(run), by_pattern(benchmark, run), parameters=86.0, resolution=224)
    assert (got.overall.hits, got.overall.count) == (4, 9)
    assert {name: (rate.hits, rate.count) for name, rate in got.patterns.items()} == {
        "Text": (2, 3),
        "Color and Appearance": (1, 3),
        "State and Condition": (1, 3),
    }
    assert scaling_records([got])[0]["parameters_millions"] == 86.0


def test_papers_table_comes_out_as_it_was_printed() -> None:
    models = published_models(table_values(load_published(), "mmvp_vlm"))
    table = pattern_table(models)
    assert table.rows[2] == ("SigLIP ViT-SO-14 224", *"26.7 20.0 53.3 40.0 20.0 66.7 40.0 20.0 53.3 37.8".split())
    assert len(table.rows) == 10
    by_size = [(row["model"], row["parameters_millions"], row["resolution"]) for row in scaling_records(models)]
    assert by_size[0] == ("MetaCLIP ViT-L-14 224", 427.6, 224)
    assert by_size[-1] == ("EVA02 ViT-bigE-14+ 224", 5044.9, 224)


def test_impossible_values_make_no_row() -> None:
    models = published_models(table_values(load_published(), "mmvp"))
    assert {"Human", "Bard"} & {one.model for one in models} == set()
    assert len(models) == 7


def test_rows_and_columns_of_one_model_are_told_apart() -> None:
    values = load_published()
    assert [(one.model, one.overall.hits) for one in published_models(table_values(values, "i_mof"))] == [
        ("LLaVA", 9),
        ("LLaVA + I-MoF", 25),
        ("LLaVA-1.5", 37),
        ("LLaVA-1.5 + I-MoF", 42),
    ]
    trained = published_models(table_values(values, "post_training"))
    assert len(trained) == 26
    assert [(one.model, one.overall.hits) for one in trained[:3]] == [
        ("OpenAI ViT-L-14 224 (original)", 26),
        ("OpenAI ViT-L-14 224 (DIVA)", 35),
        ("OpenAI ViT-L-14 224 (GenHancer)", 43),
    ]
    mixed = published_models(table_values(values, "a_mof"))
    assert [one.model for one in mixed] == [f"LLaVA + A-MoF (dino_weight {weight})" for weight in (0.5, 0.75)]


@pytest.mark.parametrize("models", [[], [SMALL]])
def test_any_number_of_models_has_a_table(models: list[ModelScores]) -> None:
    assert len(text(pattern_table(models)).split("\n")) == 2 + len(models)
