"""Evaluates a CLIP-style model: which of two images a statement describes, by cosine, as MMVP-VLM does.

    evaluate_similarity(benchmark, "open_clip:ViT-L-14/openai", folder) -> SimilarityScores

Read `matching.py` first (from cosines to scores), then this (from a model to cosines), `similarity_files.py` (what is
kept) and `similarity_table.py` (what is shown).

Promises: each image and each text is encoded once; images are read and encoded in batches and never all held; images
and texts are encoded in float32 on any device, because the images of a blind pair differ by less than bfloat16 rounds;
an image that cannot be read is an error that names its pair, never a smaller denominator; what an earlier run with the
same settings and the same weights measured is used again, without loading the model if its files are those of then;
scores are derived, and cost nothing to derive again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blindpairs.access import present
from blindpairs.benchmark import Benchmark, BenchmarkPair
from blindpairs.errors import ConfigError, InputError
from blindpairs.evaluate.loaded_files import LoadedFiles, unchanged_since
from blindpairs.evaluate.matching import Blocks, MatchingScores, image_right, score_blocks
from blindpairs.evaluate.scores import BOOTSTRAP_FROM
from blindpairs.evaluate.similarity_files import (
    SIMILARITIES,
    Similarities,
    kept_similarities,
    read_similarities,
    write_output,
    write_similarities,
)
from blindpairs.evaluate.squares import in_batches, squares
from blindpairs.progress import Progress, silent
from blindpairs.statistics import bootstrap_interval

if TYPE_CHECKING:
    from blindpairs.encoders import Encoder, TextEncoder

OFFICIAL_TEMPLATE = "a photo of {}"  # of tsb0601/MMVP, scripts/evaluate_vlm.py
BATCH = 64  # images
Vectors = Mapping[str, NDArray[np.float32]]  # image id or text -> (D,), of unit length


@dataclass(frozen=True)
class ControlGain:
    """By how much the image score of controls exceeds that of the blind pairs that they are controls of."""

    difference: float  # of two shares
    interval: tuple[float, float] | None  # 95 %, matched pairs drawn together; None for too few
    count: int  # blind pairs with a control, each with its control


@dataclass(frozen=True)
class SimilarityScores:
    """The scores of one model. All but `wordings` are of the first template, and of blind pairs unless they say so."""

    similarities: Similarities
    wordings: Mapping[str, MatchingScores]  # by template
    patterns: Mapping[str, MatchingScores]  # a pair of two patterns counts in both
    controls: MatchingScores | None  # None without controls
    gain: ControlGain | None
    right: Mapping[str, bool]  # pair id -> image score of the pair, controls too
    without_statements: int  # pairs of the benchmark that have none, and are left out

    @property
    def overall(self) -> MatchingScores:
        """Over all blind pairs, each once."""
        return self.wordings[self.similarities.templates[0]]

    @property
    def mean_of_patterns(self) -> float:
        """The mean of the patterns' image scores: the average of MMVP-VLM. nan where pairs have no patterns."""
        shares = [one.image.share for one in self.patterns.values()]
        return sum(shares) / len(shares) if shares else float("nan")

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest image score over the templates."""
        shares = [one.image.share for one in self.wordings.values()]
        return min(shares), max(shares)


def evaluate_similarity(
    benchmark: Benchmark,
    spec: str,
    folder: Path,
    templates: Sequence[str] = (OFFICIAL_TEMPLATE,),
    device: str = "auto",
    progress: Progress = silent,
) -> SimilarityScores:
    """Measure the model that `spec` names on a benchmark of statements, and write both files to `folder`.

    Each of the templates has one `{}`, for the statement; scores are quoted for the first. ConfigError: a model without
    a text side, a text that is too long, a wrong template, a folder of other settings. InputError: no statements, or an
    image that cannot be read.
    """
    from blindpairs.encoders import choose_device  # with torch, which the scores of an earlier run do without

    pairs = _stated(benchmark)
    _check_templates(templates)
    similarities = _known(benchmark, spec, folder, templates)
    if similarities is None:
        similarities = _measured(benchmark, pairs, (spec, choose_device(device)), folder, templates, progress)
    write_output(similarities, pairs, folder)
    return score_similarities(benchmark, similarities)


def _known(benchmark: Benchmark, spec: str, folder: Path, templates: Sequence[str]) -> Similarities | None:
    """What is in the folder, if that is of these settings and of the same files of the model, which is not loaded."""
    if not (present(folder / SIMILARITIES) and unchanged_since(folder, spec)):
        return None
    kept = read_similarities(folder)
    wanted = {"fingerprint": benchmark.fingerprint, "model": spec, "templates": list(templates)}
    return kept if wanted.items() <= dict(kept.settings).items() else None


def _measured(
    benchmark: Benchmark,
    pairs: Sequence[BenchmarkPair],
    model: tuple[str, str],
    folder: Path,
    templates: Sequence[str],
    progress: Progress,
) -> Similarities:
    """What is in the folder, if the model (spec, device) is the one that it is of; else of that model, and written."""
    from blindpairs.encoders import load_encoder, load_text_encoder

    spec, device = model
    files = LoadedFiles(spec)
    texts = load_text_encoder(spec, device=device)  # the first, because many encoders have no text side
    images = load_encoder("clip", spec, device=device, exact=True)
    settings = _settings(benchmark, templates, images, texts)
    similarities = kept_similarities(folder, settings)
    if similarities is None:
        image_vectors = _image_vectors(benchmark, pairs, images, progress)
        text_vectors = _text_vectors(pairs, templates, texts)
        blocks = {template: _blocks(pairs, image_vectors, text_vectors, template) for template in templates}
        similarities = Similarities(tuple(pair.pair_id for pair in pairs), blocks, settings)
        write_similarities(similarities, folder)
    files.record(folder, images.origin)
    return similarities


def read_scores(benchmark: Benchmark, folder: Path) -> SimilarityScores:
    """The scores of an earlier run, without its model. InputError where there are none, or of another revision."""
    similarities = read_similarities(folder)
    if similarities.settings["fingerprint"] != benchmark.fingerprint:
        raise InputError(f"{folder} holds similarities of another revision of {benchmark.name}: evaluate again")
    return score_similarities(benchmark, similarities)


def score_similarities(benchmark: Benchmark, similarities: Similarities) -> SimilarityScores:
    """The scores of similarities that were measured on this benchmark, whatever the order of either."""
    at = {pair_id: place for place, pair_id in enumerate(similarities.pair_ids)}
    pairs = [pair for pair in benchmark.pairs if pair.pair_id in at]
    blind = [pair for pair in pairs if not pair.is_control]
    controls = [pair for pair in pairs if pair.is_control]

    def blocks_of(subset: Sequence[BenchmarkPair], template: str) -> Blocks:
        return similarities.blocks[template][[at[pair.pair_id] for pair in subset]]

    first = similarities.templates[0]
    names = dict.fromkeys([*benchmark.patterns, *(name for pair in blind for name in pair.patterns)])
    groups = {name: [pair for pair in blind if name in pair.patterns] for name in names}
    flags = image_right(similarities.blocks[first])
    right = {pair.pair_id: bool(flags[at[pair.pair_id]]) for pair in pairs}
    return SimilarityScores(
        similarities=similarities,
        wordings={template: score_blocks(blocks_of(blind, template)) for template in similarities.templates},
        patterns={name: score_blocks(blocks_of(group, first)) for name, group in groups.items() if group},
        controls=score_blocks(blocks_of(controls, first)) if controls else None,
        gain=_gain(controls, right),
        right=right,
        without_statements=len(benchmark.pairs) - len(pairs),
    )


def _gain(controls: Sequence[BenchmarkPair], right: Mapping[str, bool]) -> ControlGain | None:
    """Of the controls whose blind pair was evaluated. A pair with several controls is drawn with all of them."""
    gains: dict[str, list[int]] = {}
    for pair in controls:
        if pair.control_of is not None and pair.control_of in right:
            gains.setdefault(pair.control_of, []).append(right[pair.pair_id] - right[pair.control_of])
    if not gains:
        return None
    differences = np.array([np.mean(one) for one in gains.values()])  # (blind pairs,)
    interval = bootstrap_interval(differences) if len(differences) >= BOOTSTRAP_FROM else None
    return ControlGain(float(differences.mean()), interval, len(differences))


def _stated(benchmark: Benchmark) -> list[BenchmarkPair]:
    pairs = [pair for pair in benchmark.pairs if pair.statement_a and pair.statement_b]
    if not any(not pair.is_control for pair in pairs):
        raise InputError(
            f"{benchmark.name} has no pair with two statements, which a CLIP-style model compares with its images: "
            "ask a model that answers questions, or write statements"
        )
    return pairs


def _check_templates(templates: Sequence[str]) -> None:
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"the template {template!r} must have one {{}}, for the statement: {OFFICIAL_TEMPLATE!r}")
    if not templates or len(set(templates)) < len(templates):
        raise ConfigError("give at least one template, and each once")


def _settings(
    benchmark: Benchmark, templates: Sequence[str], images: "Encoder", texts: "TextEncoder"
) -> dict[str, object]:
    return {
        "benchmark": benchmark.name,
        "fingerprint": benchmark.fingerprint,
        "model": images.spec,
        "templates": list(templates),
        "images": images.describe(),
        "texts": texts.describe(),
        "parameters": images.parameters + texts.parameters,
    }


def _text_vectors(pairs: Sequence[BenchmarkPair], templates: Sequence[str], encoder: "TextEncoder") -> Vectors:
    texts = {
        filled(template, statement): None
        for pair in pairs
        for statement in (pair.statement_a, pair.statement_b)
        for template in templates
    }
    return dict(zip(texts, encoder.encode(list(texts)).numpy(), strict=True))


def filled(template: str, statement: str) -> str:
    """The text that is encoded. Not by `format`, because a statement may hold braces."""
    return template.replace("{}", statement)


def _image_vectors(
    benchmark: Benchmark, pairs: Sequence[BenchmarkPair], encoder: "Encoder", progress: Progress
) -> Vectors:
    """The vector of each image of the pairs. InputError that names the pair of an image without one."""
    import torch

    wanted = list(dict.fromkeys(key for pair in pairs for key in pair.image_ids))
    vectors: dict[str, NDArray[np.float32]] = {}
    failed: dict[str, str] = {}
    progress(0, len(wanted))
    for batch in in_batches(squares(encoder, benchmark.images(wanted), failed.__setitem__), BATCH):
        keys, inputs = zip(*batch, strict=True)
        encoded = encoder.encode(torch.from_numpy(np.stack(inputs)).to(encoder.device)).cpu().numpy()  # (B, D)
        for key, vector in zip(keys, encoded, strict=True):
            if np.isfinite(vector).all():
                vectors[key] = vector
            else:
                failed[key] = "its vector has no direction"
        progress(len(vectors), len(wanted), len(failed))
    if failed:
        first = next(pair for pair in pairs if failed.keys() & set(pair.image_ids))
        reason = next(failed[key] for key in first.image_ids if key in failed)
        raise InputError(
            f"{len(failed):,} of {len(wanted):,} images cannot be compared, such as one of pair {first.pair_id} "
            f"({reason}): restore them, or take their pairs out of the benchmark"
        )
    return vectors


def _blocks(pairs: Sequence[BenchmarkPair], images: Vectors, texts: Vectors, template: str) -> Blocks:
    """The cosines (P, 2, 2) of statements and images, in float64, so that only equal vectors tie."""
    text_pairs = np.array(
        [[texts[filled(template, one)] for one in (pair.statement_a, pair.statement_b)] for pair in pairs]
    )
    image_pairs = np.array([[images[key] for key in pair.image_ids] for pair in pairs])  # (P, 2, D)
    blocks: Blocks = np.einsum("ptd,pid->pti", text_pairs, image_pairs, dtype=np.float64)
    return blocks
