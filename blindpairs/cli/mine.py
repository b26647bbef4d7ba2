"""`blindpairs mine`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blindpairs.access import removed
from blindpairs.cli.app import WORK, Json, Work, command, progress_bar, say
from blindpairs.cli.embed import Executor, RayAddress
from blindpairs.cli.groups import grouped
from blindpairs.cli.index import index_folder
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.index import Gpus
    from blindpairs.mine import Mined, MiningOptions, Running
    from blindpairs.mine.memory import Room
    from blindpairs.pages import PageImages
    from blindpairs.store import Store


@dataclass(frozen=True)
class Wanted:
    """Which pairs: `mine.MiningOptions` as flags."""

    clip_min: Annotated[float, typer.Option(help="Alike to CLIP: cosines from here on.")] = 0.95
    dino_max: Annotated[float, typer.Option(help="Different to DINOv2: cosines up to here.")] = 0.6
    top: Annotated[
        int, typer.Option(min=0, help="How many pairs to keep, the first in rank; 0 keeps all, a million at most.")
    ] = 300
    max_per_image: Annotated[int, typer.Option(min=1, help="In how many pairs one picture may stand.")] = 2
    clip_quantile: Annotated[
        float | None, typer.Option(help="In place of --clip-min: the cosine above this share of random pairs.")
    ] = None
    dino_quantile: Annotated[
        float | None, typer.Option(help="In place of --dino-max: the cosine above this share of random pairs.")
    ] = None
    center: Annotated[
        bool, typer.Option("--center", help="Cosines about each encoder's mean; thresholds by quantile suit them.")
    ] = False
    rank: Annotated[
        str,
        typer.Option(
            help="What comes first: gap, the widest; clip, the most alike; rarity, the rarest for this corpus."
        ),
    ] = "gap"
    distinct: Annotated[
        bool, typer.Option(help="Of several views of one blind spot, which are alike to both encoders, keep the first.")
    ] = False
    keep_low_information: Annotated[
        bool, typer.Option("--keep-low-information", help="Mine blank and near-constant images, too.")
    ] = False


@dataclass(frozen=True)
class How:
    """Whose vectors, and who compares them."""

    encoder_a: Annotated[str, typer.Option(help="The encoder that may be blind: the one called CLIP here.")] = "clip"
    encoder_b: Annotated[str, typer.Option(help="The encoder that sees: the one called DINOv2 here.")] = "dino"
    method: Annotated[
        str,
        typer.Option(
            help="exact: every pair. ivf, hnsw, flat: most, through an index, and the measured share of them."
        ),
    ] = "exact"
    memory: Annotated[
        str,
        typer.Option(help="Such as 4G: vectors beyond it are mapped from disk. [default: half of what is available]"),
    ] = ""
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what mining would take, on this machine, and mine nothing.")
    ] = False
    device: Annotated[
        str, typer.Option(help="auto (every GPU that can, else the CPU), cpu, cuda (every GPU), cuda:1.")
    ] = "auto"
    executor: Annotated[Executor, typer.Option(help="ray: share the join out to the actors of a Ray cluster.")] = (
        Executor.local
    )
    ray_address: RayAddress = ""


@command
@grouped
def mine(
    wanted: Wanted,
    how: How,
    work: Work = WORK,
    gallery: Annotated[bool, typer.Option(help="Write the page of pictures.")] = True,
    as_json: Json = False,
) -> None:
    """Find the pairs that CLIP calls the same and DINOv2 calls different."""
    from blindpairs.mine import mine_store
    from blindpairs.pages import write_mined_gallery
    from blindpairs.store import Store

    space = Workspace(work)
    options = _options(wanted)
    store = Store.open(space.embeddings)
    encoders = (how.encoder_a, how.encoder_b)
    if how.executor is Executor.ray and how.device not in ("auto", "cpu"):
        raise ConfigError(f"--executor ray joins on processors: leave out --device {how.device}, or --executor")
    if how.plan:
        _print_plan(store, options, how, space, as_json)
        return
    running = replace(_running(how, wanted, store, space), room=_room(how.memory, space))
    with progress_bar("mine", "tiles") as show:
        mined = mine_store(
            store,
            space.pairs,
            options,
            encoders=encoders,
            progress=show,
            running=running,
        )
    removed(space.gallery)  # an older page would show other pairs
    page = write_mined_gallery(store, mined, mined.options, space.gallery, encoders=encoders) if gallery else None
    report = _Report(space, mined, running.describe(), page)
    if page and page.unread:
        say(f"warning: {_unread(page, store, space)}")
    typer.echo(json.dumps(report.as_json()) if as_json else report.as_text())


def _options(wanted: Wanted) -> "MiningOptions":
    from blindpairs.mine import MiningOptions

    return MiningOptions(**{**asdict(wanted), "top": wanted.top or None})


def _room(text: str, space: Workspace) -> "Room":
    from blindpairs.mine.memory import Room, default_room, read_bytes

    return Room(read_bytes(text), space.embeddings, say) if text else default_room(space.embeddings, say)


def _running(how: How, wanted: Wanted, store: "Store", space: Workspace) -> "Running":
    from blindpairs.mine import ExactJoin, Running
    from blindpairs.selfjoin import Hardware

    if how.executor is Executor.ray and wanted.center:
        raise ConfigError("--executor ray reads the vectors as they are stored: leave out --center, or --executor")
    if how.executor is Executor.ray and how.method != "exact":
        raise ConfigError(f"--executor ray has the exact method only: leave out --method {how.method}, or --executor")
    if how.executor is Executor.ray:
        from blindpairs.executors.crew import Actors
        from blindpairs.executors.joining import RayJoin

        actors = Actors(address=how.ray_address or None)
        join = RayJoin(actors, space.embeddings, how.encoder_a, how.encoder_b)
        return Running(join, lambda: {"method": "exact", "exact": True, "executor": "ray", "device": "cpu"})
    if how.method == "exact":
        exact = ExactJoin(Hardware(how.device, say))
        return Running(exact, exact.describe)
    from blindpairs.index import Gpus
    from blindpairs.index.approximate import ApproximateJoin

    gpus = Gpus.chosen(how.device, say)
    # An index of the work folder holds the vectors as they are stored; centred ones are indexed in memory.
    # Of nothing there is no index, and nothing to search.
    in_memory = wanted.center or not store.rows
    stored = None if in_memory else _stored_index(how, store, space, gpus)
    through = ApproximateJoin(how.method, stored=stored, gpus=gpus)
    return Running(through, through.describe)


def _stored_index(how: How, store: "Store", space: Workspace, gpus: "Gpus") -> Callable[[], Any]:
    """An index of the work folder, built where it is not there."""
    from blindpairs.index import Making, build_index, load_index

    folder = index_folder(space.root)
    with progress_bar("index", "vectors") as show:
        file = build_index(
            store,
            how.encoder_a,
            folder,
            kind=how.method,
            making=Making(gpus=gpus),
            progress=show,
        )
    say(f"{file.path}: " + ("reused" if file.reused else f"built, {file.reason}"))
    return lambda: load_index(file.path, store)


PRODUCTS = {"amx": "AMX", "dot": "AVX512-BF16", "float32": "compiled float32", "torch": "torch"}


def _print_plan(store: "Store", options: "MiningOptions", how: How, space: Workspace, as_json: bool) -> None:
    from blindpairs.mine import Running
    from blindpairs.mine.planning import plan_mining
    from blindpairs.selfjoin.shown import as_given

    device = _planned_device(how)
    running = Running(room=_room(how.memory, space))
    plan = plan_mining(store, options, encoders=(how.encoder_a, how.encoder_b), running=running)
    if as_json:
        told = {
            "pairs": plan.pairs,
            "memory_bytes": plan.memory_bytes,
            "method": how.method,
            "device": device,
            **asdict(plan),
        }
        typer.echo(json.dumps({"schema_version": 1, **told}))
        return
    gib = 1 << 30
    lines = [
        f"{plan.taking_part:,} of {plan.images:,} images take part: {plan.pairs:,} pairs "
        f"(clip_sim >= {as_given(plan.clip_min)}, dino_sim <= {as_given(plan.dino_max)})",
        f"  method: {how.method}" + ("" if how.method == "exact" else "; these are the figures of the exact one"),
        f"  arithmetic: at most {plan.flops:.3g} FLOPs on k = {plan.dimensions} axes, by "
        f"{PRODUCTS[plan.product]}; whole vectors would be {plan.whole_flops:.3g}",
        f"  memory: {plan.memory_bytes / gib:.2f} GiB (vectors {plan.vector_bytes / gib:.2f}, coordinates "
        f"{plan.coordinate_bytes / gib:.2f}, buffers {plan.buffer_bytes / gib:.2f}, libraries "
        f"{plan.library_bytes / gib:.2f}); "
        f"mapped from disk {plan.mapped_bytes / gib:.2f}",
        f"  time: {_duration(plan.seconds)} at most for the join, judged by a sample on this machine"
        + ("" if device == "cpu" else f", by the CPU alone: {device} will do it"),
    ]
    typer.echo("\n".join(lines))


def _planned_device(how: How) -> str:
    """What mining would run on, as far as can be told before it is tried; ConfigError for what it cannot."""
    from blindpairs.selfjoin import Hardware

    if how.executor is Executor.ray:
        return "cpu"
    if how.method == "exact":
        return " and ".join(Hardware(how.device, say).gpus) or "cpu"
    from blindpairs.index import Gpus

    return Gpus.chosen(how.device, say).describe()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class _Report:
    """What a run prints."""

    space: Workspace
    mined: "Mined"
    join: Mapping[str, Any]
    page: "PageImages | None"

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        pairs, page = str(self.space.pairs / "pairs.parquet"), str(self.space.gallery)
        files = {"pairs": pairs, "gallery": page if self.page else None}
        counts, advice = asdict(self.mined.counts), self.mined.advice
        thresholds = {name: getattr(self.mined.options, name) for name in ("clip_min", "dino_max")}
        told = {"counts": counts, "join": dict(self.join), "advice": advice}
        return {"schema_version": 1, **files, **thresholds, **told, "unread": self.page.unread if self.page else {}}

    def as_text(self) -> str:
        """Some lines for people."""
        from blindpairs.selfjoin.shown import as_given

        counts, options = self.mined.counts, self.mined.options
        lines = [
            f"{self.space.pairs / 'pairs.parquet'}: {counts.kept:,} blind pairs among {counts.images:,} images "
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
            f"beyond the {most:,} best, which are all that is held": 0 if self.mined.complete else counts.not_ranked,
        }
        images = {"of low information": counts.low_information, "identical to another": counts.identical}
        return [
            f"  {what}: " + ", ".join(f"{count:,} {why}" for why, count in some.items() if count)
            for what, some in (("not kept", pairs), ("images left out", images))
            if any(some.values())
        ]


def _unlike(count: int) -> str:
    return (
        f"{count:,} of the identical have the id of another image but not its vectors: embedded from another crop, or "
        "imported by an older release, whose ids stood for paths; import those again into another --work"
    )


def _unread(page: "PageImages", store: "Store", space: Workspace) -> str:
    """How many images the page lacks, and what to do about it."""
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
