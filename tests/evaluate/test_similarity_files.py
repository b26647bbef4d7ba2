"""What a CLIP-style model leaves behind: the official columns, and similarities that are whole or an error."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stated_pairs import few_of

from blindpairs.benchmark import Benchmark
from blindpairs.demo.benchmark import demo_benchmark
from blindpairs.errors import InputError
from blindpairs.evaluate.similarity import evaluate_similarity, read_scores
from blindpairs.evaluate.similarity_files import OUTPUT, SIMILARITIES


@pytest.fixture(scope="module")
def few() -> Benchmark:
    return few_of(demo_benchmark())


def test_output_has_the_official_columns_first_and_the_official_numbers(few: Benchmark, tmp_path: Path) -> None:
    numbered = [
        replace(pair, source_id_a=str(2 * place + 1), source_id_b=str(2 * place + 2))
        for place, pair in enumerate(few.pairs[:18])
    ]
    benchmark = replace(few, pairs=tuple(reversed(numbered)))
    scores = evaluate_similarity(benchmark, "demo:clip", tmp_path, device="cpu")
    with (tmp_path / OUTPUT).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("qid1", "qid2", "pred1", "pred2", "gt1", "gt2", "q1score", "q2score"),
        *("pattern", "s00", "s01", "s10", "s11"),
    ]
    assert [(row["qid1"], row["qid2"]) for row in rows] == [(str(2 * k + 1), str(2 * k + 2)) for k in range(18)]
    scale = scores.similarities.settings["texts"]["logit_scale"]
    for row, pair in zip(rows, numbered, strict=True):
        block = np.array([[float(row["s00"]), float(row["s01"])], [float(row["s10"]), float(row["s11"])]])
        shares = torch.softmax(torch.tensor(block * scale), dim=1)[:, 0].tolist()
        assert [float(row["q1score"]), float(row["q2score"])] == pytest.approx(shares, abs=1e-12)
        assert [row["pred1"], row["pred2"]] == ["img1" if share > 0.5 else "img2" for share in shares]
        right = (row["pred1"], row["pred2"]) == (row["gt1"], row["gt2"]) == ("img1", "img2")
        assert right == scores.right[pair.pair_id]
        assert row["pattern"] == pair.patterns[0]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def other_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1]}), path)


@pytest.mark.parametrize("damage", [cut_short, other_parquet])
def test_damaged_similarities_are_an_error_that_says_what_to_do(
    damage: Callable[[Path], None], few: Benchmark, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"there is no .*{SIMILARITIES}: run `blindpairs eval`"):
        read_scores(few, tmp_path)
    evaluate_similarity(few, "demo:clip", tmp_path, device="cpu")
    damage(tmp_path / SIMILARITIES)
    with pytest.raises(InputError, match=r"is damaged .*: remove it, and evaluate again"):
        read_scores(few, tmp_path)
