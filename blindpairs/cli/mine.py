"""`blindpairs mine`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindpairs.cli.app import WORK, Json, Work, command, progress_bar, say
from blindpairs.cli.embed import Executor, RayAddress
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.index import Gpus
    from blindpairs.mine import Mined, MiningOptions, Running
    from blindpairs.pages import PageImages
    from blindpairs.selfjoin import Hardware
    from blindpairs.store import Store
    from blindpairs.store.memory import MemoryBudget


# The panels of the help page.
THRESHOLDS, SELECTION, ENCODERS, MACHINE, OUTPUT = "Thresholds", "Selection", "Encoders", "Machine", "Output"


@dataclass(frozen=True)
class PairOptions:
    """Which pairs: the fields and defaults of `mine.MiningOptions`, as flags."""

    clip_min: Annotated[float, typer.Option(rich_help_panel=THRESHOLDS, help="Minimum CLIP cosine of a pair.")] = 0.95
    dino_max: Annotated[float, typer.Option(rich_help_panel=THRESHOLDS, help="Maximum DINOv2 cosine of a pair.")] = 0.6
    clip_quantile: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=THRESHOLDS,
            help="Instead of --clip-min: this quantile of the CLIP cosines of random pairs, such as 0.9999.",
        ),
    ] = None
    dino_quantile: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=THRESHOLDS,
            help="Instead of --dino-max: this quantile of the DINOv2 cosines of random pairs, such as 0.1.",
        ),
    ] = None
    center: Annotated[
        bool,
        typer.Option(
            "--center",
            rich_help_panel=THRESHOLDS,
            help="Subtract each encoder's mean vector first. Use quantiles as thresholds then.",
        ),
    ] = False
    top: Annotated[
        int,
        typer.Option(
            min=0, rich_help_panel=SELECTION, help="Number of pairs to keep, best first. 0 keeps all, up to a million."
        ),
    ] = 300
    max_per_image: Annotated[
        int, typer.Option(min=1, rich_help_panel=SELECTION, help="Maximum number of kept pairs per image.")
    ] = 2
    rank: Annotated[
        str,
        typer.Option(
            rich_help_panel=SELECTION,
            help="Order of the pairs. gap: widest gap first. clip: highest CLIP cosine. rarity: rarest in this corpus.",
        ),
    ] = "gap"
    distinct: Annotated[
        bool,
        typer.Option(
            "--distinct",
            rich_help_panel=SELECTION,
            help="Drop a pair if both encoders find its images similar to those of a higher-ranked pair.",
        ),
    ] = False
    keep_low_information: Annotated[
        bool,
        typer.Option(
            "--keep-low-information", rich_help_panel=SELECTION, help="Include blank and near-constant images."
        ),
    ] = False


@dataclass(frozen=True)
class RunOptions:
    """Which encoders' vectors, and what compares them."""

    encoder_a: Annotated[
        str, typer.Option(rich_help_panel=ENCODERS, help="The blind encoder, in the role of CLIP.")
    ] = "clip"
    encoder_b: Annotated[
        str, typer.Option(rich_help_panel=ENCODERS, help="The encoder that sees, in the role of DINOv2.")
    ] = "dino"
    method: Annotated[
        str,
        typer.Option(
            rich_help_panel=MACHINE,
            help="exact: finds every pair. ivf, hnsw, flat: search a FAISS index and report the measured recall.",
        ),
    ] = "exact"
    memory: Annotated[
        str,
        typer.Option(
            rich_help_panel=MACHINE,
            help="Such as 4G. Vectors beyond this limit are mapped from disk. [default: half of what is available]",
        ),
    ] = ""
    device: Annotated[
        str,
        typer.Option(
            rich_help_panel=MACHINE,
            help="auto: every usable GPU, else the CPU. cpu. cuda: every GPU. cuda:1: one GPU.",
        ),
    ] = "auto"
    executor: Annotated[Executor, typer.Option(rich_help_panel=MACHINE, help="ray: run the join on a Ray cluster.")] = (
        Executor.local
    )
    ray_address: RayAddress = ""
    plan: Annotated[
        bool,
        typer.Option("--plan", rich_help_panel=OUTPUT, help="Print what mining would take on this machine, and stop."),
    ] = False


@command
@grouped
def mine(
    pair_options: PairOptions,
    run_options: RunOptions,
    work: Work = WORK,
    gallery: Annotated[bool, typer.Option(rich_help_panel=OUTPUT, help="Write the page of the pairs.")] = True,
    as_json: Json = False,
) -> None:
    """Find the pairs that CLIP calls the same and DINOv2 calls different."""
    from blindpairs.mine import mine_store
    from blindpairs.pages import write_mined_gallery
    from blindpairs.store import Store

    space = Workspace(work)
    options = _options(pair_options)
    store = Store.open(space.embeddings)
    encoders = (run_options.encoder_a, run_options.encoder_b)
    if run_options.executor is Executor.ray and run_options.device not in ("auto", "cpu"):
        raise ConfigError(f"--executor ray joins on processors: leave out --device {run_options.device}, or --executor")
    if run_options.plan:
        _print_plan(store, options, run_options, space, as_json)
        return
    running = replace(_running(run_options, options, store, space), memory=_memory_budget(run_options.memory, space))
    with progress_bar("mine", "tiles") as show:
        mined = mine_store(store, space.pairs, options, encoders=encoders, progress=show, running=running)
    page = write_mined_gallery(store, mined, mined.options, space.gallery, encoders=encoders) if gallery else None
    report = MiningReport(space, mined, running.join.describe(), page)
    if page and page.unread:
        say(f"warning: {_unread(page, store, space)}")
    typer.echo(json.dumps(report.as_json()) if as_json else report.as_text())


def _options(pair_options: PairOptions) -> "MiningOptions":
    from blindpairs.mine import MiningOptions

    return MiningOptions(**{**asdict(pair_options), "top": pair_options.top or None})


def _memory_budget(text: str, space: Workspace) -> "MemoryBudget":
    from blindpairs.store.memory import MemoryBudget, default_budget, parse_bytes

    if not text:
        return default_budget(space.embeddings, say)
    return MemoryBudget(parse_bytes(text), space.embeddings, say)


def _running(run_options: RunOptions, options: "MiningOptions", store: "Store", space: Workspace) -> "Running":
    from blindpairs.mine import ExactJoin, Running
    from blindpairs.selfjoin import Hardware

    if run_options.executor is Executor.ray and options.center:
        raise ConfigError("--executor ray reads the vectors as they are stored: leave out --center, or --executor")
    if run_options.executor is Executor.ray and run_options.method != "exact":
        raise ConfigError(
            f"--executor ray has the exact method only: leave out --method {run_options.method}, or --executor"
        )
    if run_options.executor is Executor.ray:
        from blindpairs.executors.actors import Actors
        from blindpairs.executors.joining import RayJoin

        actors = Actors(address=run_options.ray_address or None)
        return Running(RayJoin(actors, space.embeddings, run_options.encoder_a, run_options.encoder_b))
    if run_options.method == "exact":
        return Running(ExactJoin(Hardware(run_options.device, say)))
    from blindpairs.index import ApproximateJoin, Gpus

    gpus = Gpus.chosen(run_options.device, say)
    # A stored index holds the vectors as they are in the store, so centred vectors are indexed in memory.
    # An empty store has no index, and nothing to search.
    in_memory = options.center or not store.rows
    stored = None if in_memory else _stored_index(run_options, store, space, gpus)
    return Running(ApproximateJoin(run_options.method, stored=stored, gpus=gpus))


def _stored_index(run_options: RunOptions, store: "Store", space: Workspace, gpus: "Gpus") -> Callable[[], Any]:
    """Opens an index of the work folder, which is built first if it is missing or out of date."""
    from blindpairs.index import Making, build_index, load_index

    folder = space.index
    with progress_bar("index", "vectors") as show:
        file = build_index(
            store,
            run_options.encoder_a,
            folder,
            kind=run_options.method,
            making=Making(gpus=gpus),
            progress=show,
        )
    say(f"{file.path}: " + ("reused" if file.reused else f"built, {file.reason}"))
    return lambda: load_index(file.path, store)


PRODUCTS = {
    "amx": "AMX",
    "avx512-bf16": "AVX512-BF16",
    "float32": "compiled float32",
    "torch": "torch",
    "triton": "Triton",
}


def _print_plan(
    store: "Store", options: "MiningOptions", run_options: RunOptions, space: Workspace, as_json: bool
) -> None:
    from blindpairs.mine import Running
    from blindpairs.mine.planning import plan_mining
    from blindpairs.selfjoin import Hardware
    from blindpairs.selfjoin.shown import as_given

    # --executor ray and an index have no estimate of their own: theirs is the exact join on this machine's CPU.
    local = run_options.method == "exact" and run_options.executor is Executor.local
    hardware = Hardware(run_options.device, say) if local else Hardware("cpu")
    device = _planned_device(run_options, hardware)
    running = Running(memory=_memory_budget(run_options.memory, space))
    encoders = (run_options.encoder_a, run_options.encoder_b)
    plan = plan_mining(store, options, encoders=encoders, running=running, hardware=hardware)
    if as_json:
        told = {
            "pairs": plan.pairs,
            "memory_bytes": plan.memory_bytes,
            "method": run_options.method,
            "device": device,
            **asdict(plan),
        }
        typer.echo(json.dumps({"schema_version": 1, **told}))
        return
    gib = 1 << 30
    lines = [
        f"{plan.taking_part:,} of {plan.images:,} images take part: {plan.pairs:,} pairs "
        f"(clip_sim >= {as_given(plan.clip_min)}, dino_sim <= {as_given(plan.dino_max)})",
        f"  method: {run_options.method}"
        + ("" if run_options.method == "exact" else "; these are the figures of the exact one"),
        f"  arithmetic: at most {plan.flops:.3g} FLOPs on k = {plan.dimensions} axes, by "
        f"{PRODUCTS.get(plan.product, plan.product)}; comparing whole vectors would take {plan.whole_flops:.3g}",
        f"  memory: {plan.memory_bytes / gib:.2f} GiB (vectors {plan.vector_bytes / gib:.2f}, coordinates "
        f"{plan.coordinate_bytes / gib:.2f}, buffers {plan.buffer_bytes / gib:.2f}, libraries "
        f"{plan.library_bytes / gib:.2f}); "
        f"mapped from disk {plan.mapped_bytes / gib:.2f}",
        f"  time: {_duration(plan.seconds)} at most for the join, judged by a sample on {plan.timed_on}"
        + ("" if device == plan.timed_on else f"; mining will use {device}"),
    ]
    typer.echo("\n".join(lines))


def _planned_device(run_options: RunOptions, hardware: "Hardware") -> str:
    """The device that mining would run on, as far as is known before a try; ConfigError for one that cannot."""
    if run_options.executor is Executor.ray or run_options.method == "exact":
        return " and ".join(hardware.gpus) or "cpu"
    from blindpairs.index import Gpus

    return Gpus.chosen(run_options.device, say).describe()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class MiningReport:
    """What a run prints."""

    space: Workspace
    mined: "Mined"
    join: Mapping[str, Any]
    page: "PageImages | None"

    def as_json(self) -> dict[str, Any]:
        """The object that --json prints."""
        pairs, page = str(self.space.pairs_table), str(self.space.gallery)
        files = {"pairs": pairs, "gallery": page if self.page else None}
        counts, advice = asdict(self.mined.counts), self.mined.advice
        thresholds = {name: getattr(self.mined.options, name) for name in ("clip_min", "dino_max")}
        told = {"counts": counts, "join": dict(self.join), "advice": advice}
        return {"schema_version": 1, **files, **thresholds, **told, "unread": self.page.unread if self.page else {}}

    def as_text(self) -> str:
        """The lines that are printed without --json."""
        from blindpairs.selfjoin.shown import as_given

        counts, options = self.mined.counts, self.mined.options
        lines = [
            f"{self.space.pairs_table}: {counts.kept:,} blind pairs among {counts.images:,} images "
            f"(clip_sim >= {as_given(options.clip_min)}, dino_sim <= {as_given(options.dino_max)})",
            f"  {counts.above_clip_min:,} pairs are alike to CLIP: {counts.blind:,} different to DINOv2, "
            f"{counts.near_duplicates:,} near-duplicates",
            *([] if self.join["exact"] else [f"  not every pair: {_recall(self.join)}"]),
            *self._left_out(),
            *([f"  {_unlike(counts.unlike_twins)}"] if counts.unlike_twins else []),
            *([f"  {self.mined.advice}"] if self.mined.advice else []),
            *([f"  look at them: {self.space.gallery}"] if self.page else []),
        ]
        return "\n".join(lines)

    def _left_out(self) -> list[str]:
        counts, most = self.mined.counts, self.mined.options.most_candidates
        pairs = {
            "that show the same two pictures again": counts.repeated,
            "over --max-per-image": counts.capped,
            "like a better pair": counts.similar_findings,
            "beyond --top": counts.beyond_top + (counts.not_ranked if self.mined.complete else 0),
            f"not among the {most:,} best, which are kept in memory": 0 if self.mined.complete else counts.not_ranked,
        }
        images = {"of low information": counts.low_information, "identical to another": counts.identical}
        return [
            f"  {what}: " + ", ".join(f"{count:,} {why}" for why, count in some.items() if count)
            for what, some in (("not kept", pairs), ("images left out", images))
            if any(some.values())
        ]


def _unlike(count: int) -> str:
    return (
        f"{count:,} of the identical images share an id with another image but have different vectors: embedded from "
        "another crop, or imported by an older release, whose ids stood for paths; import those again elsewhere"
    )


def _unread(page: "PageImages", store: "Store", space: Workspace) -> str:
    """How many images are missing from the page, and what to do about it."""
    codes = ", ".join(f"{count:,} {code}" for code, count in page.unread.items())
    said = f"{sum(page.unread.values()):,} of the page's {page.wanted:,} images could not be read ({codes})"
    if "missing" not in page.unread or "reading" not in store.manifest["settings"]:  # an import knows no corpus
        return f"{said}: the page says why in their place"
    was = store.manifest["settings"]["corpus"]
    return (
        f"{said}. Where is the corpus that was at {was}? Bring it back, or run `blindpairs embed ITS-NEW-PLACE --work "
        f"{space.root}` with the same options, then mine again"
    )


def _recall(join: Mapping[str, Any]) -> str:
    from blindpairs.selfjoin.shown import rounded

    if join["recall"] is None:
        return f"{join['method']} was searched, and the sample held no pair to measure its recall with"
    low, high = join["recall_interval"]
    return (
        f"{join['method']} has a measured recall of {rounded(join['recall'], 4)} (95 % interval "
        f"{rounded(low, 4)} to {high:.4f}; "
        f"{join['found']:,} of {join['pairs']:,} pairs of {join['queries']:,} sampled images)"
    )
