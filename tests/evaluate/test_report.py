"""The report says what the scores are, shows failures as text, whatever a model said, and makes no request."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pictured_pairs import benchmark_of

from blindpairs.benchmark import Benchmark
from blindpairs.evaluate.figures import encoded, figures_of
from blindpairs.evaluate.report import correlations_of, write_report
from blindpairs.evaluate.reported import ReportedModel, ReportedRun
from blindpairs.statistics import Rate

NASTY = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e$x$ {{table}}'


def model(benchmark: Benchmark, name: str, wrong: int, **fields: object) -> ReportedModel:
    """A model that is wrong about the first pairs."""
    right = {pair.pair_id: place >= wrong for place, pair in enumerate(benchmark.pairs)}
    count = len(benchmark.pairs)
    rate = Rate(count - wrong, count, (0.1, 0.9))
    values = {"kind": "answers", "patterns": {"State and Condition": rate}, "right": right, **fields}
    return ReportedModel(name=name, pair_accuracy=rate, **values)  # type: ignore[arg-type]


@pytest.fixture
def benchmark() -> Benchmark:
    made = benchmark_of(6)
    first = made.pairs[0]
    assert first.question
    asked = replace(first.question, text=NASTY, options=(NASTY, "Closed"))
    return replace(made, pairs=(replace(first, question=asked, second=None), *made.pairs[1:]))


@pytest.fixture
def run(benchmark: Benchmark) -> ReportedRun:
    said = {pair.pair_id: (NASTY, "Open " * 200) for pair in benchmark.pairs}
    models = [
        model(benchmark, "sees little", 4, said=said, rates={"confusion": Rate(3, 6, None)}),
        model(benchmark, NASTY, 1, incomplete="2 pairs are missing", protocol={"prompt": NASTY}),
        model(benchmark, "a CLIP", 2, kind="similarity", controls=Rate(5, 6, (0.4, 1.0))),
    ]
    patterns = ["State and Condition", "Quantity and Count", "Text"]
    return ReportedRun("doors", benchmark.fingerprint, "original", patterns, models)


def page(path: Path, benchmark: Benchmark, run: ReportedRun) -> str:
    write_report(path / "report.html", benchmark, run)
    return (path / "report.html").read_text("utf-8")


def test_every_rate_stands_with_its_counts_and_interval(tmp_path: Path, benchmark: Benchmark, run: ReportedRun) -> None:
    shown = page(tmp_path, benchmark, run)
    assert "33.3 %<small>2 of 6, 10.0 to 90.0</small>" in shown
    assert "50.0 %<small>3 of 6, no interval</small>" in shown
    assert f"Revision {benchmark.fingerprint}, ground truth original." in shown
    assert "Incomplete: " in shown
    assert "2 pairs are missing" in shown


def test_pairs_that_most_models_fail_come_first_and_unfailed_ones_are_left_out(
    tmp_path: Path, benchmark: Benchmark, run: ReportedRun
) -> None:
    shown = page(tmp_path, benchmark, run)
    cards = re.findall(r'data-wrong="([^"]*)"', shown)
    assert cards == ["m0 m1 m2", "m0 m2", "m0", "m0"]
    assert "4 pairs that at least one model fails" in shown


def test_nothing_that_a_model_or_an_author_wrote_becomes_markup(
    tmp_path: Path, benchmark: Benchmark, run: ReportedRun
) -> None:
    shown = page(tmp_path, benchmark, run)
    assert "<img src=x" not in shown
    assert shown.count("<script>") == 1
    assert "\u202e" not in shown
    assert shown.count("{{table}}") >= 3  # as text, not filled in
    assert " style=" not in shown
    assert not re.search(r'(?:src|href)="(?!data:)', shown)
    assert f"({5 * 200:,} characters)" in shown


def test_same_scores_give_the_same_page_and_the_same_plots(
    tmp_path: Path, benchmark: Benchmark, run: ReportedRun
) -> None:
    first = write_report(tmp_path / "one.html", benchmark, run)
    other = write_report(tmp_path / "other.html", benchmark, run)
    assert all(first[name].svg == encoded(other[name].figure, "svg") for name in first)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "other.html").read_bytes()
    assert set(first) == {"models", "patterns", "radar", "clip"}


def test_without_a_clip_model_there_is_no_plot_against_it(run: ReportedRun) -> None:
    assert set(figures_of(replace(run, models=run.models[:2]))) == {"models", "patterns", "radar"}


def test_sizes_of_clip_style_models_are_drawn_where_they_differ(run: ReportedRun) -> None:
    clip = run.models[2]
    sized = [replace(clip, name=str(size), parameters=size, resolution=int(size)) for size in (32.0, 33.0, 500.0)]
    figure = figures_of(replace(run, models=[*run.models, *sized]))["scaling"]
    left, right = figure.axes
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["32.0", "33.0", "500.0"]
    assert [text.get_text() for text in left.get_xticklabels()] == ["32", "500"]
    dots = [float(line.get_xdata()[0]) for line in right.lines if line.get_marker() != "None"]
    assert dots == pytest.approx([32, 32 + 0.025 * 468, 500])  # of about one size, and side by side
    assert "scaling" not in figures_of(replace(run, models=[*run.models, sized[0], sized[0]]))


def test_correlations_stand_on_the_page_with_their_intervals_for_models_that_see(
    tmp_path: Path, benchmark: Benchmark, run: ReportedRun
) -> None:
    names = ["A", "B", "C", "D", "E"]
    rates = [
        {name: Rate(hits, 6, None) for name, hits in zip(names, some, strict=True)}
        for some in ([1, 2, 3, 3, 5], [0, 2, 1, 4, 6])
    ]
    models = [
        replace(run.models[0], name="sees", patterns=rates[0] | {"only here": Rate(1, 2, None)}),
        replace(run.models[0], name="blind:sees", patterns=rates[0], sees=False),
        replace(run.models[2], patterns=rates[1]),
    ]
    both = replace(run, models=models, patterns=[*names, "only here"])
    (found,) = correlations_of(both)
    assert (found.model, found.clip, found.patterns) == ("sees", "a CLIP", tuple(names))
    shown = page(tmp_path, benchmark, both)
    assert found.pearson.interval
    low, high = found.pearson.interval
    assert f"<td>{found.pearson.value:.2f} ({low:.2f} to {high:.2f}), p = " in shown
    assert "Correlations of accuracy over n patterns, with 95 % intervals" in shown
    assert "Correlations of accuracy" not in page(tmp_path, benchmark, replace(both, patterns=names[:2]))


def legends(run: ReportedRun) -> dict[str, list[str]]:
    """The words of every legend."""
    found = {name: figure.axes[0].get_legend() for name, figure in figures_of(run).items()}
    return {name: [text.get_text() for text in one.get_texts()] for name, one in found.items() if one}


def test_legend_names_what_is_drawn_though_the_first_model_lacks_it(benchmark: Benchmark, run: ReportedRun) -> None:
    one = model(benchmark, "_hidden", 2)
    other = model(benchmark, "a", 3, controls=Rate(5, 6, (0.4, 1.0)))
    unscored = replace(one, name="b", pair_accuracy=Rate(0, 0, None), patterns={}, incomplete="half")
    shown = legends(replace(run, models=[unscored, one, other]))
    assert shown["models"] == ["blind pairs", "controls"]
    assert shown["patterns"] == [" _hidden", "a"]


@pytest.mark.filterwarnings("error")
def test_plots_of_nothing_and_of_one_pattern_are_drawn_without_a_warning(run: ReportedRun) -> None:
    unscored = [replace(one, pair_accuracy=Rate(0, 0, None), patterns={}) for one in run.models[:2]]
    for count, more in ((0, []), (1, []), (3, ["radar"])):
        nothing = replace(run, models=unscored, patterns=run.patterns[:count])
        assert list(figures_of(nothing)) == ["models", "patterns", *more]
        assert "patterns" not in legends(nothing)


def test_plot_is_xml_whatever_the_names_hold(run: ReportedRun) -> None:
    hostile = [replace(run.models[0], name="a\x1b[31m\x00\ud800 <&", patterns={"p\x1b": Rate(1, 2, None)})]
    for figure in figures_of(replace(run, models=hostile, patterns=["p\x1b"])).values():
        assert ElementTree.fromstring(encoded(figure, "svg")).tag.endswith("svg")


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plots_are_files_of_their_kind(run: ReportedRun, kind: str, magic: bytes) -> None:
    assert encoded(figures_of(run)["models"], kind).startswith(magic)


def test_missing_image_is_said_in_its_place(tmp_path: Path, benchmark: Benchmark, run: ReportedRun) -> None:
    held = benchmark.images
    del held.images[benchmark.pairs[0].image_id_b]  # type: ignore[attr-defined]
    assert "image B: no image with this id" in page(tmp_path, benchmark, run)


def test_page_in_a_browser_filters_by_model_and_runs_nothing_foreign(
    tmp_path: Path, benchmark: Benchmark, run: ReportedRun, chromium: Path
) -> None:
    from playwright.sync_api import sync_playwright

    write_report(tmp_path / "report.html", benchmark, run)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page()
        complaints: list[str] = []
        opened.on("console", lambda message: complaints.append(message.text))
        opened.goto((tmp_path / "report.html").as_uri())
        assert opened.title() == "Results on doors"
        assert opened.locator(".pair:visible").count() == 4
        opened.locator("#model").select_option("m2")
        assert opened.locator(".pair:visible").count() == 2
        assert opened.locator("#count").text_content() == "2 pairs"
        browser.close()
    assert complaints == []
