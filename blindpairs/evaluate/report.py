"""The report: one self-contained page with scores, intervals, protocols and plots, and the failures to look at.

Promises: every number stands beside its interval or the count that it is made of; what is incomplete says so at the
top; what a model said is shown as text, whatever it contains; the page makes no request, and the same input gives the
same bytes.
"""

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from blindpairs.benchmark import Benchmark, BenchmarkPair, ImageReader
from blindpairs.errors import Undecodable
from blindpairs.evaluate.correlation import Correlation, correlate, shown_coefficient
from blindpairs.evaluate.figures import encoded, figures_of, models_shown
from blindpairs.evaluate.reported import ReportedModel, ReportedRun
from blindpairs.evaluate.scaling import scaling_trends
from blindpairs.evaluate.table import ModelScores
from blindpairs.images.decode import decode
from blindpairs.mine.maps import DifferenceMap
from blindpairs.pages.heat import NO_MAPS, heat_svg
from blindpairs.pages.safety import escape_text, fill_template
from blindpairs.pages.thumbnails import Thumbnail, make_thumbnail
from blindpairs.statistics import Rate
from blindpairs.workspace import written_atomically

MOST_FAILURES = 200  # pairs on the page, those that most models fail first: each takes two images of some 10 kB
LONGEST_ANSWER = 300  # characters of an answer that the page shows
CAPTIONS = {
    "models": "Pair accuracy of each model. Where controls are shown, the distance between the two says how much of "
    "the failure goes with what CLIP does not tell apart.",
    "patterns": "Pair accuracy by pattern.",
    "radar": "The same as profiles, without intervals: few pairs a pattern make them wide.",
    "clip": "Each dot is a pattern: the CLIP-style model against the models that answer.",
    "scaling": "Image scores of the CLIP-style models against their parameters and the resolution of their images; "
    "models of about one size stand side by side.",
}
MAP_BUTTON = '<button id="maps" type="button" aria-pressed="false">Show where DINOv2 sees a difference</button>'


@dataclass(frozen=True)
class Plot:
    """A plot of the page: matplotlib's figure, and the SVG that the page shows, which takes longest to encode."""

    figure: Any
    svg: bytes


def write_report(
    path: Path, benchmark: Benchmark, run: ReportedRun, maps: Mapping[str, DifferenceMap] = NO_MAPS
) -> dict[str, Plot]:
    """Write the page; returns its plots by name, to be saved beside it."""
    plots = {name: Plot(figure, encoded(figure, "svg")) for name, figure in figures_of(run).items()}
    failures = _failures(benchmark.pairs, run.models)
    shown = dict(_thumbnails(benchmark.images, {key for pair in failures for key in pair.image_ids}))
    cards = [_card(pair, run, shown, maps.get(pair.pair_id)) for pair in failures]
    mapped = any(pair.pair_id in maps for pair in failures)
    parts = {
        "title": escape_text(f"Results on {run.benchmark}"),
        "lede": _lede(benchmark, run),
        "warnings": _warnings(run),
        "table": _table(run),
        "chance": escape_text(models_shown(run.models)),
        "figures": "\n".join(_figure(name, plot.svg) for name, plot in plots.items()),
        "correlations": _correlations(run),
        "scaling": _scaling(run),
        "patterns": _pattern_table(run),
        "protocol": "\n".join(_protocol(model) for model in run.models),
        "failures_about": _about_failures(benchmark.pairs, run.models),
        "models": _choices("any model", [model.name for model in run.models], "m"),
        "pattern_names": _choices("all", run.patterns, "p"),
        "map_button": MAP_BUTTON if mapped else "",
        "cards": "\n".join(cards),
    }
    template = resources.files("blindpairs.evaluate").joinpath("report.html").read_text("utf-8")
    with written_atomically(path) as aside:
        aside.write_text(fill_template(template, parts), encoding="utf-8")
    return plots


def _lede(benchmark: Benchmark, run: ReportedRun) -> str:
    blind = sum(not pair.is_control for pair in benchmark.pairs)
    controls = len(benchmark.pairs) - blind
    beside = f" and {controls:,} controls" if controls else ""
    return escape_text(
        f"{len(run.models):,} models on {blind:,} pairs of images{beside}. Revision {run.fingerprint}, "
        f"ground truth {run.ground_truth}."
    )


def _warnings(run: ReportedRun) -> str:
    partial = [f"{model.name}: {model.incomplete}" for model in run.models if model.incomplete]
    return "\n".join(f'<p class="warning">Incomplete: {escape_text(text)}</p>' for text in partial)


def _table(run: ReportedRun) -> str:
    names = list(dict.fromkeys(name for model in run.models for name in model.rates))
    controls = any(model.controls is not None for model in run.models)
    head = ["model", "pair accuracy", *(["on controls"] if controls else []), *names]
    rows = [
        [
            _name(model),
            _cell(model.pair_accuracy),
            *([_cell(model.controls)] if controls else []),
            *(_cell(model.rates.get(name)) for name in names),
        ]
        for model in run.models
    ]
    return _html_table([escape_text(name) for name in head], rows)


def _pattern_table(run: ReportedRun) -> str:
    head = ["pattern", *(_name(model) for model in run.models)]
    rows = [[escape_text(name), *(_cell(model.patterns.get(name)) for model in run.models)] for name in run.patterns]
    return _html_table(head, rows)


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _name(model: ReportedModel) -> str:
    return escape_text(model.name) + (" <small>incomplete</small>" if model.incomplete else "")


def _cell(rate: Rate | None) -> str:
    if rate is None or not rate.count:
        return "<small>none</small>"
    interval = "no interval" if rate.interval is None else "{:.1f} to {:.1f}".format(*(100 * x for x in rate.interval))
    return f"{100 * rate.share:.1f} %<small>{rate.hits:,} of {rate.count:,}, {interval}</small>"


def _figure(name: str, plot: bytes) -> str:
    # As an image, because the page's policy allows no style attributes, which matplotlib's SVG has.
    source = "data:image/svg+xml;base64," + base64.b64encode(plot).decode("ascii")
    caption = escape_text(CAPTIONS[name])
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def correlations_of(run: ReportedRun) -> list[Correlation]:
    """Each model that sees the images with each CLIP-style model, over the patterns that both have: three at least."""
    found = []
    for clip in run.named("similarity"):
        for model in run.named("answers"):
            both = [name for name in run.patterns if name in clip.patterns and name in model.patterns]
            if model.sees and len(both) >= 3:
                seen, said = ({name: one.patterns[name].share for name in both} for one in (clip, model))
                found.append(correlate(seen, said, (clip.name, model.name)))
    return found


def _correlations(run: ReportedRun) -> str:
    found = correlations_of(run)
    if not found:
        return ""
    head = ["model", "CLIP-style model", "n", "Pearson's r", "Spearman's rho"]
    rows = [
        [
            escape_text(one.model),
            escape_text(one.clip),
            f"{len(one.patterns):,}",
            *(escape_text(shown_coefficient(each)) for each in (one.pearson, one.spearman)),
        ]
        for one in found
    ]
    about = "Correlations of accuracy over n patterns, with 95 % intervals; p by permuting the patterns."
    return f'<div class="scroll">{_html_table(head, rows)}</div><p class="meta">{about}</p>'


def _scaling(run: ReportedRun) -> str:
    models = [
        ModelScores(one.name, one.pair_accuracy, {}, one.parameters, one.resolution) for one in run.named("similarity")
    ]
    return "".join(f'<p class="meta">{escape_text(one.sentence)}.</p>' for one in scaling_trends(models))


def _protocol(model: ReportedModel) -> str:
    rows = "".join(f"<dt>{escape_text(name)}</dt><dd>{escape_text(text)}</dd>" for name, text in model.protocol.items())
    return f"<h3>{escape_text(model.name)}</h3><dl>{rows}</dl>"


def _failures(pairs: Sequence[BenchmarkPair], models: Sequence[ReportedModel]) -> list[BenchmarkPair]:
    """The pairs that most models fail, first; ties in the order of the benchmark."""
    failed = {pair.pair_id: sum(model.right.get(pair.pair_id) is False for model in models) for pair in pairs}
    wanted = [pair for pair in pairs if failed[pair.pair_id]]
    return sorted(wanted, key=lambda pair: -failed[pair.pair_id])[:MOST_FAILURES]


def _about_failures(pairs: Sequence[BenchmarkPair], models: Sequence[ReportedModel]) -> str:
    failed = sum(any(model.right.get(pair.pair_id) is False for model in models) for pair in pairs)
    shown = f", the {MOST_FAILURES} that most models fail" if failed > MOST_FAILURES else ", those that most fail first"
    return f"{failed:,} pairs that at least one model fails{shown}."


def _thumbnails(images: ImageReader, image_ids: Collection[str]) -> Iterator[tuple[str, Thumbnail | str]]:
    for key, data in images(image_ids):
        try:
            if isinstance(data, Undecodable):
                raise data
            yield key, make_thumbnail(decode(data).pixels)
        except Undecodable as error:
            yield key, error.message


def _card(
    pair: BenchmarkPair, run: ReportedRun, shown: Mapping[str, Thumbnail | str], difference: DifferenceMap | None
) -> str:
    wrong = [f"m{place}" for place, model in enumerate(run.models) if model.right.get(pair.pair_id) is False]
    kinds = [f"p{place}" for place, name in enumerate(run.patterns) if name in pair.patterns]
    heats = (
        [heat_svg(difference.a, difference.box_a), heat_svg(difference.b, difference.box_b)] if difference else ["", ""]
    )
    pictures = [_picture(shown[key], side, heat) for key, side, heat in zip(pair.image_ids, "AB", heats, strict=True)]
    about = f"pair {pair.pair_id}{', a control' * bool(pair.control_of)}; {', '.join(pair.patterns) or 'no pattern'}"
    return f"""<article class="pair" data-wrong="{" ".join(wrong)}" data-patterns="{" ".join(kinds)}">
{"".join(pictures)}
<div><p class="question">{escape_text(_asked(pair))}</p>{_answers(pair, run.models)}
<p class="meta">{escape_text(about)}</p></div>
</article>"""


def _picture(image: Thumbnail | str, side: str, heat: str) -> str:
    if isinstance(image, str):
        return f'<figure class="picture"><div class="unread">image {side}: {escape_text(image)}</div></figure>'
    small = ' class="small"' if image.small else ""
    size = f'width="{image.width}" height="{image.height}"'
    return f'<figure class="picture"><img{small} src="{image.source}" {size} alt="image {side}">{heat}</figure>'


def _asked(pair: BenchmarkPair) -> str:
    if pair.question is None:
        return f"A: {pair.statement_a} / B: {pair.statement_b}"
    return f"{pair.question.text} ({' / '.join(pair.question.options)})"


def _answers(pair: BenchmarkPair, models: Sequence[ReportedModel]) -> str:
    rows = []
    if pair.question:
        truth = [pair.question.options[answer] for answer in pair.question.answers]
        rows.append(["right", *(escape_text(text) for text in truth)])
    for model in models:
        if pair.pair_id in model.right:
            right = model.right[pair.pair_id]
            mark = '<span class="yes">right</span>' if right else '<span class="no">wrong</span>'
            said = model.said.get(pair.pair_id, ("", ""))
            rows.append([f"{escape_text(model.name)} {mark}", *(escape_text(_cut(text)) for text in said)])
    return _html_table(["", "of image A", "of image B"], rows)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]} ... ({len(text):,} characters)"


def _choices(first: str, names: Sequence[str], letter: str) -> str:
    options = [f'<option value="">{first}</option>']
    options += [f'<option value="{letter}{place}">{escape_text(name)}</option>' for place, name in enumerate(names)]
    return "".join(options)
