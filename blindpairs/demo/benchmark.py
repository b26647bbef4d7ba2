"""The benchmark that ships with the demo: `python -m blindpairs.demo benchmark FOLDER` makes it.

    scenes that no encoder was trained on and that the corpus does not hold -> embedded with the encoders that ship
    -> mined with --differences --spread --controls -> drafted by the ground truth, with second questions -> choosing.py

Promises: the same versions build the same bytes; a killed build goes on with what was embedded; the scene of each image
can be found again, because its uri names the seed and the position of `corpus.plan`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blindpairs.author.drafts import Draft, MinedPair, NotDrafted
from blindpairs.benchmark import Benchmark, BenchmarkPair, HeldImages
from blindpairs.benchmark.native import read_native, write_native
from blindpairs.demo.choosing import Candidate, choose
from blindpairs.demo.corpus import SEED, build_corpus, plan, read_images
from blindpairs.demo.drafting import DemoDrafter
from blindpairs.demo.truth import read_truth
from blindpairs.demo.world import PATTERNS, Scene, differences
from blindpairs.embed import EmbedOptions, embed
from blindpairs.encoders import DEMO_ENCODERS, load_encoder
from blindpairs.images import open_corpus
from blindpairs.mine import MiningOptions, mine_store
from blindpairs.store import Store
from blindpairs.workspace import demo_folder, written_atomically

FILE = "benchmark.parquet"
CARD = "README.md"
COMMAND = "python -m blindpairs.demo benchmark FOLDER"


@dataclass(frozen=True)
class BenchmarkRecipe:
    """How to build. The defaults are those of the benchmark that ships.

    Several small corpora, because --differences ranks pairs better among 3,000 images than among 8,000, and costs less.
    """

    seeds: tuple[int, ...] = (SEED + 1, SEED + 2, SEED + 3, SEED + 4)
    scenes: int = 3000  # of each seed
    mined: int = 600  # blind pairs kept of each seed, from which the choice is made
    per_pattern: int = 16  # a multiple of four, see choosing.py

    @property
    def mining(self) -> MiningOptions:
        """The paper's thresholds, and every option that makes better pairs."""
        return MiningOptions(top=self.mined, differences=True, spread=True, controls=True)


def demo_benchmark() -> Benchmark:
    """The benchmark that ships; AssetMissing where the demo is not installed."""
    return read_native(demo_folder() / FILE)


def scene_of(uri: str, plans: dict[int, list[Scene]]) -> Scene:
    """The scene of an image of the benchmark. `plans` keeps the scenes of each seed from one call to the next."""
    seed, position = (int(part) for part in uri.removeprefix("scene:").split("#"))
    if seed not in plans:
        plans[seed] = [scene for scene, _ in plan(BenchmarkRecipe().scenes, seed)]
    return plans[seed][position]


def build_benchmark(folder: Path, recipe: BenchmarkRecipe = BenchmarkRecipe()) -> Benchmark:
    """Write the benchmark and its card to `folder`, with the corpora and mined pairs that it was chosen from.

    The folder is new, or that of a killed build of the same recipe.
    """
    known = read_images(demo_folder() / "scenes.parquet").keys()
    images: dict[str, bytes] = {}
    candidates: list[Candidate] = []
    for seed in recipe.seeds:
        store = _embedded(folder / str(seed), seed, recipe.scenes)
        scenes = folder / str(seed) / "scenes.parquet"
        images |= read_images(scenes)
        pairs = mine_store(store, folder / str(seed) / "pairs", recipe.mining).pairs.to_pylist()
        candidates += _candidates(pairs, read_truth(scenes), seed)
        encoders = {name: store.manifest["encoders"][name] for name in DEMO_ENCODERS}
    candidates = [one for one in candidates if known.isdisjoint(one.image_ids)]
    chosen = choose(candidates, recipe.per_pattern)
    benchmark = Benchmark(
        name="blindpairs-demo",
        pairs=tuple([one.blind for one in chosen] + [one.control for one in chosen]),
        images=HeldImages(images),
        patterns=tuple(pattern.name.value for pattern in PATTERNS.values()),
        provenance=_provenance(recipe, encoders, candidates),
    )
    write_native(benchmark, folder / FILE)
    with written_atomically(folder / CARD) as aside:
        aside.write_text(card(benchmark), encoding="utf-8")
    return benchmark


def _embedded(folder: Path, seed: int, count: int) -> Store:
    """The store of the scenes of one seed, which are only made where they are not there yet."""
    scenes = folder / "scenes.parquet"
    if not scenes.exists():
        build_corpus(scenes, count=count, seed=seed)
    embed(open_corpus([str(scenes)]), folder / "embeddings", DEMO_ENCODERS, load_encoder, EmbedOptions.suited_to("cpu"))
    return Store.open(folder / "embeddings")


def _candidates(rows: Sequence[Mapping[str, Any]], truth: Mapping[str, Scene], seed: int) -> list[Candidate]:
    """The blind pairs of one mining run that have a control, where both can be asked about; in rank order."""
    uris = {key: f"scene:{seed}#{position}" for position, key in enumerate(truth)}
    names = ("pair_id", "image_id_a", "image_id_b", "clip_sim", "dino_sim", "control_of")
    mined = [
        MinedPair(
            **{name: row[name] for name in names},
            uri_a=uris[row["image_id_a"]],
            uri_b=uris[row["image_id_b"]],
            rank=rank,
        )
        for rank, row in enumerate(rows)
    ]
    drafter = DemoDrafter(truth, pairs=mined)
    drafts = dict(drafter.draft(mined, second=True))
    controls = {pair.control_of: pair for pair in mined if pair.control_of is not None}
    found = []
    for pair in mined:
        control = controls.get(pair.pair_id)
        if pair.control_of is not None or control is None:
            continue
        both = [(one, drafts[one.pair_id]) for one in (pair, control)]
        blind, matched = (_asked(one, draft, drafter.name) for one, draft in both)
        if blind and matched:
            differing = len(differences(truth[pair.image_id_a], truth[pair.image_id_b]))
            found.append(Candidate(blind, matched, differing, pair.rank))
    return found


def _asked(pair: MinedPair, draft: Draft | NotDrafted, source: str) -> BenchmarkPair | None:
    """The pair as a benchmark holds it; None where nothing can be asked."""
    if isinstance(draft, NotDrafted):
        return None
    values = {name: value for name, value in vars(pair).items() if name not in ("cluster", "rank")}
    return BenchmarkPair(**values, **vars(draft), source=source, license="Apache-2.0")


def _provenance(
    recipe: BenchmarkRecipe,
    encoders: Mapping[str, Mapping[str, Any]],
    candidates: Sequence[Candidate],
) -> dict[str, Any]:
    return {
        "command": COMMAND,
        "seeds": list(recipe.seeds),
        "scenes": recipe.scenes,
        "encoders": {name: {key: one[key] for key in ("spec", "weights_hash")} for name, one in encoders.items()},
        "mining": asdict(recipe.mining),
        "drafter": "demo, with second questions",
        "chosen": {
            "per_pattern": recipe.per_pattern,
            "from": len(candidates),
            "from_by_pattern": dict(sorted(Counter(one.pattern for one in candidates).items())),
        },
    }


def card(benchmark: Benchmark) -> str:
    """The card of the data set: what it holds, how it was made, and what it cannot tell."""
    plans: dict[int, list[Scene]] = {}
    blind = [pair for pair in benchmark.pairs if pair.control_of is None]
    counts = Counter(pair.patterns[0] for pair in blind)
    alone = Counter(
        pair.patterns[0]
        for pair in blind
        if len(differences(scene_of(pair.uri_a, plans), scene_of(pair.uri_b, plans))) == 1
    )
    rows = "\n".join(f"| {name} | {counts[name]} | {alone[name]} |" for name in benchmark.patterns)
    made = benchmark.provenance
    return _CARD.format(
        pairs=len(blind),
        controls=len(benchmark.pairs) - len(blind),
        images=len(benchmark.image_ids),
        rows=rows,
        seeds=", ".join(str(seed) for seed in made["seeds"]),
        scenes=f"{made['scenes']:,}",
        mined=made["mining"]["top"],
        chosen_from=f"{made['chosen']['from']:,}",
        clip=made["encoders"]["clip"]["weights_hash"][:16],
        dino=made["encoders"]["dino"]["weights_hash"][:16],
        command=COMMAND,
        fingerprint=benchmark.fingerprint,
    )


_CARD = """---
license: apache-2.0
configs:
- config_name: benchmark
  data_files:
  - split: test
    path: benchmark.parquet
- config_name: scenes
  data_files:
  - split: train
    path: scenes.parquet
---

# The demo of blindpairs

`scenes.parquet` holds the scenes that `blindpairs demo` mines, `clip/` and `dino/` the two encoders, `lm/` the language
model of `blindpairs train-mof`, `mof-sweep.jsonl` the scores of what was trained from all three (`mof-sweep.png` shows
them), and `benchmark.parquet` the benchmark described here: {pairs} pairs of images that
the demo's CLIP calls the same and its Dinov2 calls different, and {controls} control pairs that its CLIP tells apart.
{images} images of 64 x 64 pixels.

Each pair has a question whose right answers differ between its images, a second one whose right answers are exchanged,
and a statement about each image that is false of the other.

| pattern | pairs | in which this alone differs |
|---|---|---|
{rows}

How it was made: `{command}`.
Scenes of the seeds {seeds}, {scenes} of each,
none of whose images is in `scenes.parquet`, were embedded with the encoders that ship (weights
{clip} and {dino}) and mined at the paper's thresholds with
--differences --spread --controls, {mined} pairs of each seed. Questions, answers and statements are those of the scenes
themselves. Of {chosen_from} pairs with a control, those that differ in one thing come first, then those whose control
is asked about the same pattern, then those that mining ranks higher. Within each pattern each option is right for image
a equally often, and so is each order of the options. No image is in more than two pairs. No model's answer was looked
at.

What it cannot tell: how a model does on photographs. The scenes are drawn, and the questions have nine forms. Controls
differ in more than one hidden attribute, and in most of them so do category and background.

Fingerprint {fingerprint}. The Parquet file itself holds the whole provenance.
"""
