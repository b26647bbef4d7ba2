"""The published numbers that ship: they add up where they can, and the impossible ones are known."""

from collections import Counter
from pathlib import Path

import pytest

from blindpairs.errors import AssetMissing, InputError
from blindpairs.evaluate.published import PublishedValue, impossible, load_published, possible_hits, table_values
from blindpairs.mine.patterns import VisualPattern
from blindpairs.workspace import published_file


@pytest.fixture(scope="module")
def values() -> list[PublishedValue]:
    return load_published()


def test_averages_of_the_papers_table_follow_from_its_cells(values: list[PublishedValue]) -> None:
    hits: dict[str, int] = Counter()
    averages = {}
    for one in table_values(values, "mmvp_vlm"):
        assert one.rate
        if one.pattern:
            hits[one.model] += one.rate.hits
        else:
            averages[one.model] = (one.rate.hits, one.text)
    assert {name: (count, f"{100 * count / 135:.1f}") for name, count in hits.items()} == averages
    assert list(hits.values()) == [26, 27, 51, 50, 53, 47, 32, 34, 31, 45]


def test_every_model_of_that_table_has_the_nine_patterns_in_their_order(values: list[PublishedValue]) -> None:
    rows: dict[str, list[str]] = {}
    for one in table_values(values, "mmvp_vlm"):
        if one.pattern:
            rows.setdefault(one.model, []).append(one.pattern)
    assert len(rows) == 10
    assert all(row == [pattern.value for pattern in VisualPattern] for row in rows.values())


def test_impossible_values_are_exactly_these(values: list[PublishedValue]) -> None:
    assert [(one.table, one.model, one.text) for one in impossible(values)] == [
        ("mmvp", "Human", "95.7"),
        ("mmvp", "Bard", "19.0"),
        ("gpt4v_variants", "GPT-4V", "40.3"),
        ("a_mof", "LLaVA + A-MoF", "5.5"),
        ("a_mof", "LLaVA + A-MoF", "7.9"),
        ("a_mof", "LLaVA + A-MoF", "15.0"),
        ("a_mof", "LLaVA + A-MoF", "16.5"),
        ("a_mof", "LLaVA + A-MoF", "13.4"),
        ("i_mof", "LLaVA", "5.5"),
    ]
    assert all(one.rate is None for one in impossible(values))


def test_possible_values_are_whole_pairs_with_their_intervals(values: list[PublishedValue]) -> None:
    rates = {one.model: one.rate for one in table_values(values, "mmvp") if one.rate}
    assert {name: rate.hits for name, rate in rates.items()} == {
        "Gemini": 61,
        "GPT-4V": 58,
        "LLaVA-1.5": 37,
        "Bing Chat": 26,
        "InstructBLIP": 25,
        "mini-GPT4": 19,
        "LLaVA": 9,
    }
    assert rates["LLaVA-1.5"].interval == pytest.approx((0.185, 0.321), abs=5e-4)
    assert rates["GPT-4V"].interval == pytest.approx((0.312, 0.467), abs=5e-4)


def test_what_is_no_share_is_never_judged(values: list[PublishedValue]) -> None:
    (chance,) = table_values(values, "chance")
    assert (chance.value, chance.metric, chance.possible, chance.rate) == (25.0, "expected_pair_accuracy", None, None)
    assert {one.metric for one in values if one.possible is None} == {
        *("expected_pair_accuracy", "llava_bench", "pope", "pearson", "group_accuracy"),
        "pair_accuracy",  # by pattern of MMVP, whose sizes nobody published
    }


def test_every_number_has_a_source_and_a_letter(values: list[PublishedValue]) -> None:
    assert all(one.source and one.source != "see each row" for one in values)
    assert {one.confidence for one in values} <= {"H", "M", "L"}
    found = {(one.text, one.metric): one for one in table_values(values, "llava_1_5")}
    assert found["22.67", "pair_accuracy"].rate is not None
    assert found["22.67", "pair_accuracy"].confidence == "M"
    assert found["60", "question_accuracy"].count == 300


def test_disagreeing_numbers_of_one_model_stand_side_by_side(values: list[PublishedValue]) -> None:
    pairs = [one.text for one in table_values(values, "llava_1_5") if one.metric == "pair_accuracy"]
    assert pairs == ["24.7", "22.67", "24.7", "30.7", "31.3", "39.3", "21", "24.7", "42.0"]


@pytest.mark.parametrize(
    ("text", "count", "hits"),
    [
        ("24.7", 150, [37]),
        ("95.7", 150, []),
        ("95.7", 300, [287]),
        ("21", 150, [31, 32]),  # without decimals two shares print alike
        ("0.0", 15, [0]),
        ("100", 15, [15]),
        ("12.5", 8, [1]),
        ("0.5", 1000, [5]),
        ("3.1", 32, [1]),  # 3.125, rounded down
        ("6.3", 8, []),
    ],
)
def test_share_is_possible_where_some_number_of_hits_prints_like_it(text: str, count: int, hits: list[int]) -> None:
    assert possible_hits(text, count) == hits


@pytest.mark.parametrize("text", ["", "n/a", "nan", "-1", "100.5"])
def test_text_that_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a share in percent"):
        possible_hits(text, 150)


def test_unknown_table_is_refused_with_the_known_ones(values: list[PublishedValue]) -> None:
    with pytest.raises(InputError, match="'table1': choose one of mmvp, chance"):
        table_values(values, "table1")


def test_file_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert published_file().is_file()
    monkeypatch.setattr("blindpairs.workspace.__file__", str(tmp_path / "blindpairs" / "workspace.py"))
    with pytest.raises(AssetMissing, match="the table of published numbers is not installed"):
        published_file()
