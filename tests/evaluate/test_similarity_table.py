"""What is shown of CLIP-style models: the table of the paper to the digit, and lines with every count."""

import json
from dataclasses import replace

import pytest
from stated_pairs import NINE, PAPER, official

from blindpairs.evaluate.similarity import score_similarities
from blindpairs.evaluate.similarity_table import describe, summary, table
from blindpairs.statistics import wilson_interval


def test_table_of_the_paper_comes_out_to_the_digit() -> None:
    models = [score_similarities(*official(name)) for name in PAPER]
    header, rows = table(models, {name: row[2] for name, row in PAPER.items()})
    named = ("Model", "Image size", "Params (M)", "ImageNet-1k", *NINE, "Average", "Pairs", "95 % interval")
    assert header == named
    assert [row[:-2] for row in rows] == [
        (name, str(row[0]), *(f"{value:.1f}" for value in row[1:])) for name, row in PAPER.items()
    ]
    assert [row[-2] for row in rows] == [f"{k}/135" for k in (26, 27, 51, 50, 53, 47, 32, 34, 31, 45)]
    assert (rows[0][-1], rows[4][-1]) == ("13.5 to 26.7", "31.4 to 47.7")


def test_imagenet_accuracy_is_only_shown_where_it_is_given() -> None:
    models = [score_similarities(*official(name)) for name in list(PAPER)[:2]]
    header, rows = table(models)
    assert "ImageNet-1k" not in header
    header, rows = table(models, {"OpenAI ViT-L-14 336": 76.6})
    assert [row[header.index("ImageNet-1k")] for row in rows] == ["", "76.6"]


def test_description_says_every_figure_with_its_count() -> None:
    lines = describe(score_similarities(*official("OpenAI ViT-L-14 224")))
    assert lines[:6] == [
        "OpenAI ViT-L-14 224 on MMVP-VLM: 135 pairs, 'a photo of {}'",
        "  image score  19.3 % (26 of 135; 13.5 to 26.7), guessing 25.0 %",
        "  text score   100.0 % (135 of 135; 97.2 to 100.0), guessing 25.0 %",
        "  group score  19.3 % (26 of 135; 13.5 to 26.7), guessing 16.7 %",
        "  group match  100.0 % (135 of 135; 97.2 to 100.0), guessing 50.0 %",
        "  confusion    80.7 % (109 of 135; 73.3 to 86.5), guessing 50.0 %",
    ]
    assert lines[6] == "  Orientation and Direction: 13.3 % (2 of 15; 3.7 to 37.9), group match 100.0 %"
    assert lines[-1] == "  mean of the patterns: 19.3 % (the average of MMVP-VLM)"


def test_ties_and_pairs_without_patterns_are_said() -> None:
    benchmark, similarities = official("OpenAI ViT-L-14 224")
    blocks = similarities.blocks["a photo of {}"].copy()
    blocks[:7] = 0.25
    pairs = tuple(replace(pair, patterns=()) for pair in benchmark.pairs)
    tied = replace(similarities, blocks={"{}": blocks})
    scores = score_similarities(replace(benchmark, pairs=pairs), tied)
    assert describe(scores)[-1] == "  ties: 7 (in the image score image b gets them, as in the official script)"
    assert table([scores])[0] == (*("Model", "Image size", "Params (M)", "Average", "Pairs", "95 % interval"),)
    assert table([scores])[1][0][3] == ""


def test_summary_is_json_with_every_share_and_interval() -> None:
    scores = score_similarities(*official("DFN ViT-H-14 224"))
    said = json.loads(json.dumps(summary(scores), allow_nan=False))
    low, high = wilson_interval(53 / 135, 135)
    assert said["image"] == {"hits": 53, "count": 135, "share": 53 / 135, "interval": [low, high]}
    assert said["patterns"]["Text"]["image"]["hits"] == 2
    assert list(said["wordings"]) == ["a photo of {}"]
    assert (said["controls"], said["control_gain"], said["without_statements"]) == (None, None, 0)
    assert said["mean_of_patterns"] == pytest.approx(53 / 135)
