"""Benchmarks of statements, and similarities that score what the paper says of its models."""

from dataclasses import replace

import numpy as np

from blindpairs.benchmark import Benchmark, BenchmarkPair
from blindpairs.evaluate.similarity_files import Similarities
from blindpairs.mine.patterns import VisualPattern

NINE = [pattern.value for pattern in VisualPattern]
# Table 1 of the paper: image size, parameters in millions, ImageNet-1k, nine patterns, average.
PAPER = {
    "OpenAI ViT-L-14 224": (224, 427.6, 75.5, 13.3, 13.3, 20.0, 20.0, 13.3, 53.3, 20.0, 6.7, 13.3, 19.3),
    "OpenAI ViT-L-14 336": (336, 427.9, 76.6, 0.0, 20.0, 40.0, 20.0, 6.7, 20.0, 33.3, 6.7, 33.3, 20.0),
    "SigLIP ViT-SO-14 224": (224, 877.4, 82.0, 26.7, 20.0, 53.3, 40.0, 20.0, 66.7, 40.0, 20.0, 53.3, 37.8),
    "SigLIP ViT-SO-14 384": (384, 878.0, 83.1, 20.0, 26.7, 60.0, 33.3, 13.3, 66.7, 33.3, 26.7, 53.3, 37.0),
    "DFN ViT-H-14 224": (224, 986.1, 83.4, 20.0, 26.7, 73.3, 26.7, 26.7, 66.7, 46.7, 13.3, 53.3, 39.3),
    "DFN ViT-H-14 378": (378, 986.7, 84.4, 13.3, 20.0, 53.3, 33.3, 26.7, 66.7, 40.0, 20.0, 40.0, 34.8),
    "MetaCLIP ViT-L-14": (224, 427.6, 79.2, 13.3, 6.7, 66.7, 6.7, 33.3, 46.7, 20.0, 6.7, 13.3, 23.7),
    "MetaCLIP ViT-H-14": (224, 986.1, 80.6, 6.7, 13.3, 60.0, 13.3, 6.7, 53.3, 26.7, 13.3, 33.3, 25.2),
    "EVA01 ViT-g-14": (224, 1136.4, 78.5, 6.7, 26.7, 40.0, 6.7, 13.3, 66.7, 13.3, 13.3, 20.0, 23.0),
    "EVA02 ViT-bigE-14+": (224, 5044.9, 82.0, 13.3, 20.0, 66.7, 26.7, 26.7, 66.7, 26.7, 20.0, 33.3, 33.3),
}
RIGHT, WRONG = [[0.3, 0.2], [0.1, 0.4]], [[0.2, 0.3], [0.1, 0.4]]


def few_of(demo: Benchmark) -> Benchmark:
    """18 blind pairs, two of each pattern, and the controls of six of them."""
    blind = [
        pair
        for name in NINE
        for pair in [one for one in demo.pairs if one.patterns == (name,) and not one.control_of][:2]
    ]
    controls = [pair for pair in demo.pairs if pair.control_of in {one.pair_id for one in blind[:6]}]
    return replace(demo, name="few", pairs=(*blind, *controls))


def official(name: str) -> tuple[Benchmark, Similarities]:
    """135 pairs of nine patterns, and similarities that score what a row of the paper's table says."""
    size, millions, _, *cells, _ = PAPER[name]
    pairs, blocks = [], []
    for pattern, cell in zip(NINE, cells, strict=True):
        for number in range(15):
            key = f"{pattern} {number}"
            pairs.append(
                BenchmarkPair(key, f"{key} a", f"{key} b", statement_a="a", statement_b="b", patterns=(pattern,))
            )
            blocks.append(RIGHT if number < round(cell * 15 / 100) else WRONG)
    settings = {
        "model": name,
        "benchmark": "MMVP-VLM",
        "images": {"preprocess": {"size": size}},
        "parameters": round(millions * 1e6),
    }
    benchmark = Benchmark("MMVP-VLM", tuple(pairs), lambda _: iter(()), tuple(NINE))
    blocks_of = {"a photo of {}": np.array(blocks)}
    return benchmark, Similarities(tuple(pair.pair_id for pair in pairs), blocks_of, settings)
