"""`blindpairs mine`."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, print_json, progress_bar, progress_bars, say
from blindpairs.cli.embed import Executor, RayAddress
from blindpairs.cli.groups import grouped
from blindpairs.defaults import CLIP_MIN, DINO_MAX
from blindpairs.errors import ConfigError
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.mine import MiningOptions, Running
    from blindpairs.selfjoin import Hardware
    from blindpairs.store import Store


# The panels of the help page.
THRESHOLDS, SELECTION, ENCODERS, MACHINE, OUTPUT = "Thresholds", "Selection", "Encoders", "Machine", "Output"


@dataclass(frozen=True)
class PairOptions:
    """Which pairs: the fields and defaults of `mine.MiningOptions`, as flags."""

    clip_min: Annotated[
        float,
        typer.Option(rich_help_panel=THRESHOLDS, help="Minimum CLIP cosine of a pair."),
    ] = CLIP_MIN
    dino_max: Annotated[
        float,
        typer.Option(rich_help_panel=THRESHOLDS, help="Maximum DINOv2 cosine of a pair."),
    ] = DINO_MAX
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
            help="Order of the pairs. subtle: those that differ in little, by both cosines. gap: widest gap first. "
            "clip: highest CLIP cosine. rarity: rarest in this corpus.",
        ),
    ] = "subtle"
    differences: Annotated[
        bool,
        typer.Option(
            "--differences",
            rich_help_panel=SELECTION,
            help="Compare the patches of the first pairs, rank them by how little differs, and show where. Reads their "
            "images again.",
        ),
    ] = False
    spread: Annotated[
        bool,
        typer.Option(
            "--spread",
            rich_help_panel=SELECTION,
            help="With --differences: take the kinds of differences in turn, instead of the smallest of any kind.",
        ),
    ] = False
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            rich_help_panel=SELECTION,
            help="Add to each pair a similar one that CLIP tells apart, best with --differences.",
        ),
    ] = False
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

    @property
    def encoders(self) -> tuple[str, str]:
        """The names of both encoders."""
        return self.encoder_a, self.encoder_b


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
    from blindpairs.cli.mine_report import MiningReport, unread_images
    from blindpairs.mine import MiningOptions, mine_store
    from blindpairs.pages import write_mined_gallery
    from blindpairs.store import Store

    space = Workspace(work)
    options = MiningOptions(**{**asdict(pair_options), "top": pair_options.top or None})
    store, encoders = Store.open(space.embeddings), run_options.encoders
    if run_options.executor is Executor.ray:
        _check_for_ray(run_options, options)
    if run_options.plan:
        _print_plan(store, options, run_options, space, as_json)
        return
    running = _running(run_options, options, store, space)
    with progress_bars() as bar:
        running = replace(running, patch_device=run_options.device, patch_progress=bar("patches", "images"))
        mined = mine_store(
            store, space.pairs, options, encoders=encoders, progress=bar("mine", "tiles"), running=running
        )
    page = write_mined_gallery(store, mined, space.gallery, encoders=encoders, maps=mined.maps) if gallery else None
    if page and page.unread:
        say(f"warning: {unread_images(page, store, space)}")
    report = MiningReport(space, mined, running.join.describe(), page)
    if as_json:
        print_json(report.as_json())
    else:
        typer.echo(report.as_text())


def _check_for_ray(run_options: RunOptions, options: "MiningOptions") -> None:
    """Refuse what a join on Ray cannot do."""
    if run_options.device not in ("auto", "cpu"):
        raise ConfigError(f"--executor ray joins on processors: leave out --device {run_options.device}, or --executor")
    if options.center:
        raise ConfigError("--executor ray reads the vectors as they are stored: leave out --center, or --executor")
    if run_options.method != "exact":
        raise ConfigError(
            f"--executor ray has the exact method only: leave out --method {run_options.method}, or --executor"
        )


def _running(run_options: RunOptions, options: "MiningOptions", store: "Store", space: Workspace) -> "Running":
    from blindpairs.mine import Running
    from blindpairs.store.memory import memory_budget

    memory = memory_budget(run_options.memory, space.embeddings, say)
    if run_options.executor is Executor.ray:
        from blindpairs.executors.actors import Actors
        from blindpairs.executors.joining import RayJoin

        actors = Actors(address=run_options.ray_address or None)
        return Running(RayJoin(actors, space.embeddings, *run_options.encoders), memory)
    if run_options.method == "exact":
        from blindpairs.mine import ExactJoin
        from blindpairs.selfjoin import Hardware

        return Running(ExactJoin(Hardware(run_options.device, say)), memory)
    from blindpairs.index import ApproximateJoin, Gpus

    gpus = Gpus.chosen(run_options.device, say)
    # A stored index holds the vectors as they are in the store, so centred vectors are indexed in memory.
    if options.center:
        return Running(ApproximateJoin(run_options.method, gpus=gpus), memory)
    with progress_bar("index", "vectors") as show:
        join = ApproximateJoin.of_column(
            store, run_options.encoder_a, run_options.method, folder=space.index, gpus=gpus, progress=show
        )
    return Running(join, memory)


def _print_plan(
    store: "Store", options: "MiningOptions", run_options: RunOptions, space: Workspace, as_json: bool
) -> None:
    from blindpairs.cli.mine_report import plan_as_text
    from blindpairs.mine import Running
    from blindpairs.mine.planning import plan_mining
    from blindpairs.selfjoin import Hardware
    from blindpairs.store.memory import memory_budget

    # --executor ray and an index have no estimate of their own: theirs is the exact join on this machine's CPU.
    local = run_options.method == "exact" and run_options.executor is Executor.local
    hardware = Hardware(run_options.device, say) if local else Hardware("cpu")
    device = _planned_device(run_options, hardware)
    memory = memory_budget(run_options.memory, space.embeddings, say)
    running = Running(memory=memory, patch_device=run_options.device)
    plan = plan_mining(store, options, encoders=run_options.encoders, running=running, hardware=hardware)
    if as_json:
        sums = {"pairs": plan.pairs, "memory_bytes": plan.memory_bytes}
        print_json(sums | {"method": run_options.method, "device": device} | asdict(plan))
    else:
        typer.echo(plan_as_text(plan, run_options.method, device))


def _planned_device(run_options: RunOptions, hardware: "Hardware") -> str:
    """The device that mining would run on, as far as is known before a try; ConfigError for one that cannot."""
    if run_options.executor is Executor.ray or run_options.method == "exact":
        return " and ".join(hardware.gpus) or "cpu"
    from blindpairs.index import Gpus

    return Gpus.chosen(run_options.device, say).describe()
