"""How many of 300 kept pairs differ in one thing alone, by how `mine` ranks: the figures of README and of mine/.

    python tests/benchmarks/bench_ranks.py                       # the demo's corpus: the table of the README, 30 s
    python tests/benchmarks/bench_ranks.py --seeds 1 2 3         # corpora of other seeds as well
    python tests/benchmarks/bench_ranks.py --seeds 1 2 --offset 8    # whose scenes are moved by 0 to 8 pixels each way

Each corpus is embedded with the demo's encoders and mined with the default, and with every option of OPTIONS. Of the
kept pairs are printed: in what share one thing differs, or at most two, whatever it is; how many differ in each of the
nine attributes alone; how well clusters agree with attributes; and how controls compare with their pairs.
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from demo_stores import demo_store

from blindpairs.demo.corpus import COUNT, SEED, build_corpus
from blindpairs.demo.truth import cluster_agreement, judge, judge_controls, read_truth
from blindpairs.demo.world import Scene
from blindpairs.mine import MiningOptions, mine_store

OPTIONS: dict[str, dict[str, Any]] = {
    "--rank gap": {"rank": "gap"},
    "default": {},
    "--differences": {"differences": True},
    "--differences --spread --controls": {"differences": True, "spread": True, "controls": True},
}


def moved(corpus: Path, most: int, seed: int) -> None:
    """Move each scene of a corpus by 0 to `most` pixels to the right and down; the edge is repeated."""
    table = pq.read_table(corpus)
    random = np.random.default_rng(seed)
    images = []
    for image in table["image"].to_pylist():
        pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])))
        down, across = random.integers(0, most + 1, 2)
        height, width = pixels.shape[:2]
        shifted = np.pad(pixels, ((down, 0), (across, 0), (0, 0)), mode="edge")[:height, :width]
        file = io.BytesIO()
        Image.fromarray(shifted).save(file, "JPEG", quality=93, subsampling=0)
        images.append(image | {"bytes": file.getvalue()})
    column = pa.array(images, table.schema.field("image").type)
    pq.write_table(table.set_column(table.schema.get_field_index("image"), table.schema.field("image"), column), corpus)


def print_figures(label: str, pairs: pa.Table, truth: dict[str, Scene]) -> None:
    """One line for the kept pairs, and one for their controls."""
    blind = pairs.filter(pc.is_null(pairs["control_of"]))
    ids = zip(blind["image_id_a"].to_pylist(), blind["image_id_b"].to_pylist(), strict=True)
    report = judge(ids, truth)
    one, two = report.differing_in_one / report.mined, report.differing_in_two / report.mined
    alone = " ".join(f"{name} {count}" for name, count in report.alone.items())
    clustered = not blind["cluster"].null_count
    agreement = f"; clusters {cluster_agreement(pairs, truth):.2f}" if clustered else ""
    sys.stdout.write(f"  {label}: one alone {one:.1%}, at most two {one + two:.1%}; {alone}{agreement}\n")
    if controls := judge_controls(pairs, truth):
        sys.stdout.write(
            f"    {controls.controls} controls: {controls.hidden_control:.2f} hidden attributes against "
            f"{controls.hidden_blind:.2f} (p {controls.hidden_p:.3f}), DINOv2 cosines p {controls.dino_p:.3f}; "
            f"category {controls.category}, background {controls.background}\n"
        )


def main(arguments: list[str]) -> None:
    """Print the figures of each corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[SEED])
    parser.add_argument("--count", type=int, default=COUNT, help="scenes in each corpus")
    parser.add_argument("--offset", type=int, default=0, help="pixels")
    asked = parser.parse_args(arguments)
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            corpus = folder / "scenes.parquet"
            build_corpus(corpus, count=asked.count, seed=seed)
            if asked.offset:
                moved(corpus, asked.offset, seed)
            sys.stdout.write(f"{asked.count:,} scenes of seed {seed}, moved by up to {asked.offset} pixels\n")
            store, truth = demo_store(corpus, folder / "store"), read_truth(corpus)
            for label, options in OPTIONS.items():
                print_figures(label, mine_store(store, folder / "pairs", MiningOptions(**options)).pairs, truth)


if __name__ == "__main__":
    main(sys.argv[1:])
