"""The table and the picture of the demo's sweep: means of the seeds, and intervals that seeds do not narrow."""

from typing import Any

from demo_run import ROOT

from blindpairs.demo.sweep import LOG, PRESET, read_sweep
from blindpairs.demo.sweep_report import COLUMNS, PICTURE, by_way, picture, table
from blindpairs.mof.presets import load_preset
from blindpairs.mof.sweep import planned
from blindpairs.workspace import demo_folder


def row(way: str, seed: int, share: float, low: float, high: float) -> dict[str, Any]:
    figure = {"share": share, "interval": [low, high]}
    return {
        "way": way,
        "seed": seed,
        "blind": {"pair_accuracy": figure},
        "controls": {"pair_accuracy": figure},
        "following": {"exact": figure, "category": figure},
        "pope": {"accuracy": figure},
    }


def test_ways_keep_the_order_of_the_log_and_runs_that_of_their_seeds() -> None:
    rows = [row("clip", 2, 0, 0, 0), row("interleaved", 1, 0, 0, 0), row("clip", 1, 0, 0, 0)]
    assert [(way, [one["seed"] for one in runs]) for way, runs in by_way(rows).items()] == [
        ("clip", [1, 2]),
        ("interleaved", [1]),
    ]


def test_a_cell_is_the_mean_of_the_seeds_and_of_their_intervals() -> None:
    rows = [row("clip", 1, 0.10, 0.06, 0.16), row("clip", 2, 0.14, 0.10, 0.22)]
    heading, rule, line = table(rows).splitlines()
    assert heading == "| mode | blind pairs | blind pairs, each seed | controls | instructions | category | POPE |"
    assert rule == "|" + " --- |" * 7
    assert line == "| `clip` | 12.0 (8 to 19) | 10, 14 " + "| 12.0 (8 to 19) " * 4 + "|"


def test_the_picture_has_a_row_a_way_from_clip_to_dino_and_a_dot_a_seed() -> None:
    ways = ["interleaved", "dino", "clip", "concat", "additive 0.25", "additive 0.75"]
    rows = [row(way, seed, 0.5, 0.4, 0.6) for way in ways for seed in (1, 2)]
    (axes,) = picture(rows).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "clip",
        "additive 0.75",
        "additive 0.25",
        "dino",
        "concat",
        "interleaved",
    ]
    dots = [line for line in axes.lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [2] * len(ways) * len(COLUMNS)
    assert axes.get_legend_handles_labels()[1] == list(COLUMNS)


def test_the_log_that_ships_is_that_of_the_preset() -> None:
    found = load_preset(PRESET)
    runs = {one.name: one.recipe.seed for one in planned(found.name, found.recipe, found.runs)}
    rows = read_sweep(demo_folder() / LOG)
    assert {row["run"]: row["seed"] for row in rows} == runs
    assert len(rows) == len(runs)


def test_the_readme_shows_the_log_that_ships() -> None:
    assert table(read_sweep(demo_folder() / LOG)) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_ships_where_the_readme_shows_it() -> None:
    shown = demo_folder() / PICTURE
    assert shown.read_bytes().startswith(b"\x89PNG")
    assert f"({shown.relative_to(ROOT)})" in (ROOT / "README.md").read_text(encoding="utf-8")
