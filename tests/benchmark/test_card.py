"""The data set card: valid front matter, honest counts, and no text of a benchmark that becomes markup."""

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from nasty_texts import NASTY
from pictured_pairs import benchmark_of

from blindpairs.benchmark import Benchmark
from blindpairs.benchmark.card import HUB_LICENSES, Shipped, hub_license, write_card, yaml_text
from blindpairs.benchmark.checks import Finding

SHIPPED = Shipped(images=True, data="data/test-00000-of-00001.parquet", sha256="0" * 64, findings=())


def front_matter(card: str) -> dict[str, Any]:
    start, front, _ = card.split("---\n", 2)
    assert start == ""
    loaded = yaml.safe_load(front)
    assert isinstance(loaded, dict)
    return loaded


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n\n", 1)[1].split("\n\n## ", 1)[0]


def mixed() -> Benchmark:
    """Six blind pairs, one of them with two patterns, and a control; two licences, and one pair without."""
    benchmark = benchmark_of(7)
    pairs = list(benchmark.pairs)
    pairs[1] = replace(pairs[1], patterns=("State and Condition", "Texts"), license="CC0-1.0")
    pairs[2] = replace(pairs[2], patterns=(), license="")
    pairs[6] = replace(pairs[6], control_of=pairs[0].pair_id, clip_sim=0.2)
    return replace(benchmark, pairs=tuple(pairs))


def test_front_matter_says_what_the_hub_asks_for() -> None:
    assert front_matter(write_card(benchmark_of(3), SHIPPED)) == {
        "pretty_name": "doors",
        "license": "cc-by-4.0",
        "task_categories": ["visual-question-answering", "zero-shot-image-classification"],
        "tags": ["blindpairs", "clip-blind-pairs", "mmvp", "vision-language"],
        "size_categories": ["n<1K"],
        "configs": [{"config_name": "default", "data_files": [{"split": "test", "path": "data/test-*"}]}],
    }


def test_tasks_are_those_that_the_pairs_can_be_used_for() -> None:
    statements = benchmark_of(1, question=None, second=None)
    questions = benchmark_of(1, statement_a="", statement_b="")
    assert front_matter(write_card(statements, SHIPPED))["task_categories"] == ["zero-shot-image-classification"]
    assert front_matter(write_card(questions, SHIPPED))["task_categories"] == ["visual-question-answering"]


@pytest.mark.parametrize(
    ("count", "size"), [(999, "n<1K"), (1_000, "1K<n<10K"), (9_999, "1K<n<10K"), (10_000, "10K<n<100K")]
)
def test_size_category_is_that_of_the_rows(count: int, size: str) -> None:
    benchmark = benchmark_of(1)
    many = replace(benchmark, pairs=benchmark.pairs * count)
    assert front_matter(write_card(many, SHIPPED))["size_categories"] == [size]


def test_patterns_are_counted_apart_for_blind_pairs_and_controls() -> None:
    pairs = section(write_card(mixed(), SHIPPED), "Pairs")
    assert pairs.splitlines() == [
        "| Visual pattern | Blind pairs | Controls |",
        "| --- | ---: | ---: |",
        "| State and Condition | 5 | 1 |",
        "| Texts | 1 | 0 |",
        "| (none) | 1 | 0 |",
        "",
        "Pairs with several patterns, counted under each: 1.",
    ]


def test_controls_are_explained_and_kept_out_of_the_figures_of_blind_pairs() -> None:
    card = write_card(mixed(), SHIPPED)
    assert "6 pairs of images that a CLIP model takes for nearly the same" in card
    assert "Their CLIP cosines are 0.970 to 0.970" in card
    assert "Control pairs, which CLIP tells apart: 1 (" in card
    assert "Control pairs" not in write_card(benchmark_of(2), SHIPPED)


def test_licences_are_counted_by_image() -> None:
    licences = section(write_card(mixed(), SHIPPED), "Licences of the images")
    assert licences.splitlines()[2:5] == ["| not recorded | 2 |", r"| CC\-BY\-4\.0 | 10 |", r"| CC0\-1\.0 | 2 |"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["CC-BY-4.0", "cc by 4.0"], "cc-by-4.0"),
        (["CC-BY-4.0", "CC0-1.0"], "other"),
        (["CC-BY-4.0", ""], "other"),
        (["", ""], "unknown"),
        (["Flickr: all rights reserved"], "other"),
        (["mit\nlicense: cc0-1.0"], "other"),
    ],
)
def test_licence_of_the_hub_is_the_one_of_all_images_or_other(names: list[str], expected: str) -> None:
    benchmark = benchmark_of(len(names))
    pairs = [replace(pair, license=name) for pair, name in zip(benchmark.pairs, names, strict=True)]
    assert hub_license(pairs) == expected
    front = front_matter(write_card(replace(benchmark, pairs=tuple(pairs)), SHIPPED))
    assert front["license"] == expected
    assert ("license_name" in front) == (expected == "other")
    assert expected in HUB_LICENSES | {"other", "unknown"}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_texts_keep_the_front_matter_valid_and_become_no_markup(name: str) -> None:
    text = NASTY[name]
    benchmark = benchmark_of(2, patterns=(text or "x",), annotators=(text,), source=text, license=text)
    benchmark = replace(benchmark, name=text, provenance={"query": text.encode("utf-8", "replace").decode()})
    card = write_card(benchmark, SHIPPED)
    front = front_matter(card)
    assert front["pretty_name"] == text.encode("utf-8", "replace").decode()
    assert front["license"] in {"other", "unknown"}
    prose = re.sub(r"```json\n.*?\n```", "", card, flags=re.DOTALL)
    assert "<" not in prose.split("---\n", 2)[2].replace("n<1K", "")
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in section(card, "Pairs").splitlines()[:3]] == [4] * 3
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u0085\u202e\u2028\ud800-\udfff]", card)
    assert card.count("\n```") == 4  # two code blocks, which nothing closes early


def test_headings_and_code_blocks_cannot_be_forged() -> None:
    forged = "doors\n\n## Licences of the images\n\n[free](https://example.org) `x` ```"
    card = write_card(replace(benchmark_of(1), name=forged, provenance={"x": "```\n# free"}), SHIPPED)
    assert [line for line in card.splitlines() if line.startswith("## Licences")] == ["## Licences of the images"]
    heading = next(line for line in card.splitlines() if line.startswith("# doors"))
    assert heading == (r"# doors \#\# Licences of the images \[free\]\(https\://example\.org\) \`x\` \`\`\`")
    assert r'"x": "\u0060\u0060\u0060\n# free"' in card


def test_apostrophes_come_out_as_they_are() -> None:
    assert "# Ada&#x27;s doors" in write_card(replace(benchmark_of(1), name="Ada's doors"), SHIPPED)


def test_card_of_a_copy_without_images_says_so_and_loads_uris() -> None:
    card = write_card(benchmark_of(1), replace(SHIPPED, images=False))
    assert "**This copy has no images.**" in card
    assert 'pair["uri_a"], pair["uri_b"]' in section(card, "How to load it")
    assert "This copy" not in write_card(benchmark_of(1), SHIPPED)


def test_what_the_checks_left_out_and_found_is_counted() -> None:
    benchmark = benchmark_of(2)
    findings = [
        Finding("gone", "same_answer", "'Open' is the answer for both images"),
        Finding("gone", "bracket", "option '(x)' has a bracket"),
        Finding(benchmark.pairs[0].pair_id, "no_pattern", "it has no visual pattern", refuses=False),
        Finding("", "no_pattern", "x", refuses=False),
    ]
    made = section(write_card(benchmark, replace(SHIPPED, findings=findings)), "How it was made")
    assert "left out: 1; findings, all in `benchmark.json`: bracket (1), no_pattern (2), same_answer (1)." in made


def test_fingerprint_and_hash_of_the_data_are_stated() -> None:
    benchmark = benchmark_of(2)
    version = section(write_card(benchmark, SHIPPED), "Which version this is")
    assert f"`{benchmark.fingerprint}`" in version
    assert f"`{'0' * 64}`" in version


def test_other_ground_truths_are_named() -> None:
    benchmark = benchmark_of(2)
    benchmark = replace(benchmark, corrections={"corrected": {benchmark.pairs[0].pair_id: (1, 0)}})
    assert "The answers are those of the ground truth original; others: corrected." in write_card(benchmark, SHIPPED)


def test_same_benchmark_gives_the_same_card() -> None:
    assert write_card(mixed(), SHIPPED) == write_card(mixed(), SHIPPED)


@pytest.mark.parametrize("text", [*NASTY.values(), "\x80\x9f\ufeff\ufffe", "\U0010ffff", "no", "~", "1.0", "a: b"])
def test_yaml_text_is_read_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(yaml_text(text)) == text.encode("utf-8", "replace").decode()
    assert yaml_text(text).isascii()
