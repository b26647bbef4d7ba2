"""The data set card of a benchmark: README.md as the Hugging Face hub shows it, for people and for its search.

Promises: the front matter is YAML whatever the benchmark is called; no text of a benchmark becomes markup, and what it
hides is shown; every count is counted from the pairs; the same benchmark gives the same card.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from blindpairs.benchmark.checks import Finding
from blindpairs.benchmark.model import Benchmark, BenchmarkPair
from blindpairs.pages.safety import escape_text

# The identifiers of the hub's list of licences that images come with; the hub refuses a card with any other.
HUB_LICENSES = {
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0"),
    *("cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "pddl", "odc-by"),
}
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


@dataclass(frozen=True)
class Shipped:
    """What the folder of a card holds beside it."""

    images: bool  # whether the Parquet file has the images, or ids and uris only
    data: str  # the path of the Parquet file in the folder
    sha256: str  # of that file
    findings: Sequence[Finding]


def write_card(benchmark: Benchmark, shipped: Shipped) -> str:
    """The text of README.md."""
    sections = [
        _front_matter(benchmark),
        f"# {_plain(benchmark.name)}\n\n{_about(benchmark)}",
        _images(shipped),
        f"## Pairs\n\n{_patterns(benchmark)}",
        f"## How to load it\n\n{_loading(shipped)}",
        f"## How a score is counted\n\n{_scores(benchmark)}",
        f"## How it was made\n\n{_made(benchmark, shipped.findings)}",
        f"## Licences of the images\n\n{_licences(benchmark.pairs)}",
        f"## Which version this is\n\n{_version(benchmark, shipped)}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def yaml_text(text: str) -> str:
    """A text as a double-quoted YAML scalar of ASCII characters; a lone surrogate, which YAML lacks, as ?"""
    quoted = json.dumps(text.encode("utf-8", "replace").decode("utf-8"), ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", quoted)


def hub_license(pairs: Iterable[BenchmarkPair]) -> str:
    """The one licence of all images by the hub's identifier; else `other`, or `unknown` where none is recorded."""
    names = {re.sub(r"[\s_]+", "-", pair.license.strip().lower()) for pair in pairs}
    if names <= {""}:
        return "unknown"
    only = names.pop() if len(names) == 1 else ""
    return only if only in HUB_LICENSES else "other"


def _front_matter(benchmark: Benchmark) -> str:
    license = hub_license(benchmark.pairs)
    asks = any(pair.question for pair in benchmark.pairs)
    states = any(pair.statement_a for pair in benchmark.pairs)
    tasks = ["visual-question-answering"] * asks + ["zero-shot-image-classification"] * states
    size = next((name for limit, name in _SIZES.items() if len(benchmark.pairs) < limit), "1M<n<10M")
    lines = ["---", f"pretty_name: {yaml_text(benchmark.name)}", f"license: {license}"]
    # The hub refuses a licence outside of its list unless the card gives it a name and a link.
    if license == "other":
        lines += ["license_name: by-image", "license_link: README.md"]
    lines += ["task_categories:", *(f"- {task}" for task in tasks)] if tasks else []
    lines += ["tags:", "- blindpairs", "- clip-blind-pairs", "- mmvp", "- vision-language", "size_categories:"]
    lines += [f'- "{size}"', "configs:", "- config_name: default", "  data_files:", "  - split: test"]
    return "\n".join([*lines, "    path: data/test-*", "---"])


def _about(benchmark: Benchmark) -> str:
    blind = [pair for pair in benchmark.pairs if not pair.is_control]
    controls = len(benchmark.pairs) - len(blind)
    text = (
        f"{len(blind):,} pairs of images that a CLIP model takes for nearly the same, although they differ in what a "
        "plain question asks. The idea is that of MMVP (Eyes Wide Shut? Exploring the Visual Shortcomings of "
        "Multimodal LLMs, arXiv 2401.06209)."
    )
    clip = [pair.clip_sim for pair in blind if pair.clip_sim is not None]
    dino = [pair.dino_sim for pair in blind if pair.dino_sim is not None]
    if clip and dino:
        text += (
            f" Their CLIP cosines are {min(clip):.3f} to {max(clip):.3f}, and those of DINOv2, which looks at the "
            f"images alone, {min(dino):.3f} to {max(dino):.3f}."
        )
    if controls:
        text += (
            f"\n\nControl pairs, which CLIP tells apart: {controls:,} (`control_of` names the blind pair that each "
            "belongs to). A model that fails on both kinds has another weakness than its vision encoder; "
            "report them apart."
        )
    return text


def _images(shipped: Shipped) -> str:
    if shipped.images:
        return ""
    return (
        "**This copy has no images.** `image_id_a` and `image_id_b` are hashes of their bytes, and `uri_a` and `uri_b` "
        "say where they came from. Nothing can be asked of it until the images are there."
    )


def _patterns(benchmark: Benchmark) -> str:
    blind, controls = Counter[str](), Counter[str]()
    # A pair without a pattern counts under "", one with several under each.
    for pair in benchmark.pairs:
        for name in pair.patterns or ("",):
            (blind if not pair.is_control else controls)[name] += 1
    order = [name for name in dict.fromkeys([*benchmark.patterns, *blind, *controls]) if blind[name] or controls[name]]
    rows = [(_plain(name) or "(none)", f"{blind[name]:,}", f"{controls[name]:,}") for name in order]
    several = sum(len(pair.patterns) > 1 for pair in benchmark.pairs)
    table = _table(("Visual pattern", "Blind pairs", "Controls"), rows)
    return table + (f"\n\nPairs with several patterns, counted under each: {several:,}." if several else "")


def _loading(shipped: Shipped) -> str:
    images = 'pair["image_a"], pair["image_b"]  # PIL images' if shipped.images else 'pair["uri_a"], pair["uri_b"]'
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        'benchmark = load_dataset("path/to/this/folder", split="test")  # or its name on the hub\n'
        "pair = benchmark[0]\n"
        f'{images}\npair["question"], pair["options"], pair["answer_a"], pair["answer_b"]  # answers: 0 or 1\n```'
    )


def _scores(benchmark: Benchmark) -> str:
    text = "Find the two answers of a pair by `pair_id`, never by the order of rows."
    if any(pair.question for pair in benchmark.pairs):
        text += (
            " A model is asked the same question about each image alone, and a pair counts if both answers are right: "
            "pair accuracy, of which guessing gets 25 %. Say which prompt was used and how answers were read."
        )
    if any(pair.second for pair in benchmark.pairs):
        text += " `second` asks the same with the answers exchanged; with it, a group counts if all four are right."
    if any(pair.statement_a for pair in benchmark.pairs):
        text += (
            " `statement_a` and `statement_b` are for models that compare an image with a text: MMVP-VLM puts "
            '"a photo of " before each, and a pair counts if each statement is nearer to its own image.'
        )
    if benchmark.corrections:
        names = ", ".join(map(_plain, benchmark.corrections))
        text += f"\n\nThe answers are those of the ground truth {_plain(benchmark.ground_truth)}; others: {names}."
    return text


def _made(benchmark: Benchmark, findings: Sequence[Finding]) -> str:
    people = sorted({name for pair in benchmark.pairs for name in pair.annotators})
    sources = Counter(pair.source for pair in benchmark.pairs if pair.source)
    parts = ["Candidates are found by two vision encoders that disagree; the questions are about what differs."]
    if people:
        parts.append(f"Accepted by: {', '.join(map(_plain, people))}.")
    if sources:
        counted = ", ".join(f"{_plain(name)} ({count:,})" for name, count in sorted(sources.items()))
        parts.append(f"Questions and statements were written by: {counted}.")
    present = {pair.pair_id for pair in benchmark.pairs}
    # A refusing finding may be of a pair that the author exported all the same.
    refused = {finding.pair_id for finding in findings if finding.refuses} - present
    if findings:
        checks = Counter(finding.check for finding in findings)
        counted = ", ".join(f"{name} ({count:,})" for name, count in sorted(checks.items()))
        parts.append(f"Pairs that its checks left out: {len(refused):,}; findings, all in `benchmark.json`: {counted}.")
    text = " ".join(parts)
    if not benchmark.provenance:
        return text
    # As ASCII, so that nothing in it can hide, and without backquotes, which would end the block.
    record = json.dumps(benchmark.provenance, indent=2, sort_keys=True, default=str).replace("`", "\\u0060")
    return f"{text}\n\n```json\n{record}\n```"


def _licences(pairs: Sequence[BenchmarkPair]) -> str:
    counted = Counter(name for pair in pairs for name in [pair.license] * len(set(pair.image_ids)))
    rows = [(_plain(name) or "not recorded", f"{count:,}") for name, count in sorted(counted.items())]
    return (
        _table(("Licence", "Images in pairs"), rows)
        + "\n\nThe licence is that of the images; it was taken from their source and not checked."
    )


def _version(benchmark: Benchmark, shipped: Shipped) -> str:
    return (
        f"Fingerprint `{benchmark.fingerprint}`: it changes with every change that can change a score. State it with "
        f"every score. `{shipped.data}` has the sha256 `{shipped.sha256}`."
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """A text in one line that Markdown shows as it is."""
    # HTML last: it makes references such as &#x27;, of which a # with a backslash would leave nothing.
    return escape_text(re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:@])", r"\\\1", " ".join(text.split())))
