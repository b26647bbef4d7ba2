"""`blindpairs embed`."""

import functools
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, counted, print_json, progress_bar, say
from blindpairs.cli.groups import grouped
from blindpairs.defaults import DEMO_ENCODERS, PAPER_ENCODERS
from blindpairs.errors import ConfigError, TooManyFailures
from blindpairs.workspace import Workspace, demo_folder

if TYPE_CHECKING:
    from blindpairs.embed import EmbedOptions, EmbedReport
    from blindpairs.images import Corpus


class Executor(StrEnum):
    """What runs the tasks of a command."""

    local = "local"
    ray = "ray"


class Allowed(StrEnum):
    """What is not read of a corpus by default."""

    truncated = "truncated"
    symlinks = "symlinks"
    paths = "paths"


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        help="Image folders, WebDataset tars ({000..012}.tar) or Parquet files. [default: the demo's scenes]"
    ),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        rich_help_panel="Encoders",
        help="NAME=SPEC, repeatable. SPEC is open_clip:MODEL/PRETRAINED, hf:REPO_OR_PATH, timm:NAME or demo:clip. "
        "[default: the paper's two encoders, named clip and dino]",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", rich_help_panel="Output", help="Remove existing embeddings first.")
]
RayAddress = Annotated[
    str,
    typer.Option(
        envvar="RAY_ADDRESS",
        rich_help_panel="Machine",
        help="Address of the Ray cluster. [default: start one on this machine]",
    ),
]


@dataclass(frozen=True)
class MachineOptions:
    """The device, the batch size, the number of processes, and which share of the work this run does."""

    device: Annotated[str, typer.Option(rich_help_panel="Machine", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    batch: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel="Machine", help="Images per batch. [default: depends on the device]"),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, rich_help_panel="Machine", help="Decoding processes. [default: depends on the device and the cores]"
        ),
    ] = None
    shard: Annotated[
        str,
        typer.Option(
            rich_help_panel="Machine",
            help="i/n: embed only share i of n, counted from 0. auto: take i and n from SLURM, Kubernetes or RANK.",
        ),
    ] = ""


@dataclass(frozen=True)
class ReadingOptions:
    """What is read from the corpus, and how many images may fail."""

    column: Annotated[
        str,
        typer.Option(
            rich_help_panel="Corpus",
            help="Image column of Parquet files with several candidates. a.b is field b of the struct a.",
        ),
    ] = ""
    allow: Annotated[
        list[Allowed] | None,
        typer.Option(
            rich_help_panel="Corpus",
            help="Repeatable. truncated: embed truncated images, with a flag. symlinks: follow symbolic links. paths: "
            "read images that a Parquet file names by path, inside its own folder.",
        ),
    ] = None
    max_failure_rate: Annotated[
        float,
        typer.Option(
            min=0, max=1, rich_help_panel="Corpus", help="Exit with code 4 if a larger share of images failed."
        ),
    ] = 0.1

    def allows(self, what: Allowed) -> bool:
        """Whether `--allow` was given with `what`."""
        return what in (self.allow or [])


@dataclass(frozen=True)
class RayOptions:
    """Whether the work is distributed over the machines of a Ray cluster, and with how many GPUs."""

    executor: Annotated[
        Executor, typer.Option(rich_help_panel="Machine", help="ray: distribute the work over a Ray cluster.")
    ] = Executor.local
    ray_address: RayAddress = ""
    ray_gpus: Annotated[
        float,
        typer.Option(min=0, rich_help_panel="Machine", help="GPUs per Ray actor. At 0.5, two actors share a GPU."),
    ] = 0.0


@command
@grouped
def embed(
    *,  # keyword-only: help lists the options in this order
    sources: Sources = None,
    encoders: Encoders = None,
    reading: ReadingOptions,
    machine: MachineOptions,
    ray: RayOptions,
    work: Work = WORK,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Embed a corpus of images with CLIP and DINOv2. The same command again resumes, or adds an encoder."""
    from blindpairs.embed import embed as embed_corpus  # late, as below: torch takes seconds, which --help must not
    from blindpairs.encoders import choose_device, load_encoder

    specs = _encoder_specs(encoders or [], demo=not sources)
    space = Workspace(work)
    corpus = _corpus(sources, reading, space)
    # With GPUs for the actors, this machine may have none: its own device says nothing about the right batch size.
    device = "cuda" if ray.ray_gpus else choose_device(machine.device)
    settings = replace(_settings(machine, reading, device), overwrite=overwrite)
    with progress_bar("embed") as show:
        if ray.executor is Executor.ray:
            from blindpairs.executors.actors import Actors
            from blindpairs.executors.embedding import Loading, embed_on_ray

            actors = Actors(cpus=settings.workers, gpus=ray.ray_gpus, address=ray.ray_address or None)
            report = embed_on_ray(corpus, space.embeddings, Loading(specs, machine.device), settings, actors, show)
        else:
            load = functools.partial(load_encoder, device=device)
            report = embed_corpus(corpus, space.embeddings, specs, load, settings, show)
    _print_report(report, space, as_json)
    # Only now: what was embedded is stored and reported, and the exit code tells a script that too much failed.
    if report.failure_rate > reading.max_failure_rate:
        raise TooManyFailures(
            f"{report.failed:,} of {report.rows + report.failed:,} images failed, more than --max-failure-rate "
            f"{reading.max_failure_rate:g}; {space.failures} lists them, with the reasons"
        )


def _settings(machine: MachineOptions, reading: ReadingOptions, device: str) -> "EmbedOptions":
    from blindpairs.embed import EmbedOptions
    from blindpairs.executors.shard import choose_shard

    defaults = EmbedOptions.suited_to(device)
    return replace(
        defaults,
        limits=replace(defaults.limits, allow_truncated=reading.allows(Allowed.truncated)),
        batch=machine.batch or defaults.batch,
        workers=machine.workers or defaults.workers,
        shard=choose_shard(machine.shard, os.environ),
    )


def _corpus(sources: list[str] | None, reading: ReadingOptions, space: Workspace) -> "Corpus":
    """The corpus that was named, or the demo's; a work folder inside of it is not part of it."""
    from blindpairs.images import CorpusOptions, open_corpus

    if not sources:
        say("no corpus given: embedding the demo's scenes with the demo's encoders")
        sources = [str(demo_folder() / "scenes.parquet")]
    # Each by itself, because a subfolder of the work folder may be a link to another disk.
    outputs = tuple(os.path.realpath(path) for path in (space.root, space.embeddings, space.pairs))
    symlinks, paths = reading.allows(Allowed.symlinks), reading.allows(Allowed.paths)
    return open_corpus(sources, CorpusOptions(reading.column, symlinks, paths, exclude=outputs))


def _encoder_specs(given: list[str], *, demo: bool) -> dict[str, str]:
    from blindpairs.store import refuse_column_name

    if not given:
        return dict(DEMO_ENCODERS if demo else PAPER_ENCODERS)
    specs = {}
    for text in given:
        name, found, spec = text.partition("=")
        if not found or not name.isidentifier():  # the first `=` separates: options of a SPEC contain more
            raise ConfigError(f"--encoder {text!r} is not NAME=SPEC, such as clip=open_clip:ViT-L-14/openai")
        if name in specs:
            raise ConfigError(f"--encoder names {name!r} twice: give each encoder its own column name")
        refuse_column_name(name)
        specs[name] = spec
    return specs


def _print_report(report: "EmbedReport", space: Workspace, as_json: bool) -> None:
    for warning in report.warnings:
        say(f"warning: {warning}")
    rate = report.embedded / report.seconds if report.embedded else 0.0  # images a second, without loading
    if as_json:
        fields = {name: value for name, value in vars(report).items() if name != "folder"}
        print_json({"folder": str(report.folder), **fields, "images_per_second": round(rate, 1)})
        return
    counts = []
    if report.embedded:
        counts.append(f"{report.embedded:,} images embedded in {report.seconds:.1f} s ({rate:.0f}/s)")
    if report.rows > report.embedded:
        counts.append(f"{report.rows - report.embedded:,} were there already")
    typer.echo(f"{report.folder}: " + (", ".join(counts) or "nothing to embed"))
    for label, count_by_name in (
        ("failed", report.failures_by_code),
        ("flagged", report.flags),
        ("left out", report.corpus_notes),
    ):
        if any(count_by_name.values()):
            typer.echo(f"  {label}: {counted(count_by_name)}")
    if report.failed:
        typer.echo(f"  {space.failures} lists the images that failed, and why")
