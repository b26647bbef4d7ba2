"""All steps on the demo's scenes: embed, mine, write the gallery, and score the pairs against the ground truth."""

from dataclasses import dataclass

import pyarrow.compute as pc

from blindpairs.demo.truth import (
    ControlReport,
    TruthReport,
    cluster_agreement,
    judge,
    judge_controls,
    judge_vectors,
    patterns_of,
    read_truth,
)
from blindpairs.embed import EmbedOptions, EmbedReport, embed
from blindpairs.encoders import DEMO_ENCODERS, load_encoder
from blindpairs.images import open_corpus
from blindpairs.mine import Mined, MiningOptions, mine_store, read_pairs
from blindpairs.pages import write_mined_gallery
from blindpairs.progress import Progress
from blindpairs.store import Store
from blindpairs.workspace import Workspace, demo_folder


@dataclass(frozen=True)
class DemoReport:
    """The result of each step. `every` scores all pairs of scenes before any is left out; `kept` the kept pairs."""

    embedded: EmbedReport
    mined: Mined
    every: TruthReport
    kept: TruthReport
    agreement: float  # of cluster and attribute, see truth.cluster_agreement
    controls: ControlReport | None


def run_demo(space: Workspace, progress: Progress) -> DemoReport:
    """Embed the demo's scenes, mine them at the paper's thresholds, write the gallery, and score the pairs."""
    scenes = demo_folder() / "scenes.parquet"
    options = MiningOptions(differences=True, spread=True, controls=True)
    corpus = open_corpus([str(scenes)])
    embedded = embed(corpus, space.embeddings, DEMO_ENCODERS, load_encoder, EmbedOptions.suited_to("cpu"), progress)
    store = Store.open(space.embeddings)
    mined = mine_store(store, space.pairs, options)
    truth = read_truth(scenes)
    write_mined_gallery(
        store,
        mined,
        space.gallery,
        maps=mined.maps,
        differs=lambda one, other: patterns_of(truth[one], truth[other]),
    )
    known = [truth[image_id] for image_id in store.metadata(["image_id"])["image_id"].to_pylist()]
    clip, dino = (store.column(name) for name in DEMO_ENCODERS)
    # The pairs are scored as they are in the file, so the demo also tests what a user reads.
    written = read_pairs(space.pairs)
    blind = written.filter(pc.is_null(written["control_of"]))
    pairs = zip(blind["image_id_a"].to_pylist(), blind["image_id_b"].to_pylist(), strict=True)
    every = judge_vectors(clip, dino, known, clip_min=options.clip_min, dino_max=options.dino_max)
    return DemoReport(
        embedded, mined, every, judge(pairs, truth), cluster_agreement(written, truth), judge_controls(written, truth)
    )
