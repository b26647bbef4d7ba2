"""`blindpairs embed`."""

import functools
import json
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, progress_bar, say
from blindpairs.cli.groups import grouped
from blindpairs.errors import ConfigError, TooManyFailures
from blindpairs.workspace import Workspace, demo_folder

if TYPE_CHECKING:
    from blindpairs.embed import EmbedOptions, EmbedReport
    from blindpairs.images import Corpus

PAPER_ENCODERS = {"clip": "open_clip:ViT-L-14/openai", "dino": "hf:facebook/dinov2-large"}
DEMO_ENCODERS = {"clip": "demo:clip", "dino": "demo:dino"}


class Where(StrEnum):
    """Who does the work."""

    here = "local"
    ray = "ray"


class Allowance(StrEnum):
    """What a corpus may hold that is refused without being asked for."""

    truncated = "truncated"
    symlinks = "symlinks"
    paths = "paths"


Sources = Annotated[
    list[str] | None,
    typer.Argument(help="Folders, WebDataset tars ({000..012}.tar), Parquet files. None: the demo's scenes."),
]
Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        help="NAME=SPEC, repeatable: open_clip:MODEL/PRETRAINED, hf:REPO_OR_PATH, timm:NAME, demo:clip. "
        "[default: the paper's two, clip and dino]",
    ),
]
RayAddress = Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="The cluster. [default: start one here]")]


@dataclass(frozen=True)
class How:
    """What computes, how much at once, and which share of the work."""

    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto"
    batch: Annotated[int | None, typer.Option(min=1, help="Images a batch. [default: 128 on a CPU, 256 on a GPU]")] = (
        None
    )
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes. [default: from the cores]")] = None
    shard: Annotated[
        str,
        typer.Option(help="i/n: only the i-th of n shares, counted from 0; auto: as SLURM, Kubernetes or RANK says."),
    ] = ""


@dataclass(frozen=True)
class Reading:
    """What of the corpus is read, and how much of it may fail."""

    column: Annotated[
        str, typer.Option(help="The image column of Parquet files, where it cannot be told; a.b: field b of a.")
    ] = ""
    allow: Annotated[
        list[Allowance] | None,
        typer.Option(
            help="Repeatable. truncated: embed cut-off images, flagged; symlinks: follow links; paths: read images "
            "that a Parquet file names by path below its own folder."
        ),
    ] = None
    max_failure_rate: Annotated[float, typer.Option(min=0, max=1, help="More failed images than this: exit 4.")] = 0.1

    def allows(self, what: Allowance) -> bool:
        """Whether it was asked for."""
        return what in (self.allow or [])


@dataclass(frozen=True)
class Cluster:
    """The cluster that does the work, where it is not this machine alone."""

    executor: Annotated[Where, typer.Option(help="ray: share the parts out to the actors of a Ray cluster.")] = (
        Where.here
    )
    ray_address: RayAddress = ""
    ray_gpus: Annotated[float, typer.Option(min=0, help="GPUs of each Ray actor; two share one at 0.5.")] = 0.0


@command
@grouped
def embed(
    *,  # help lists the options in this order, whichever have defaults
    sources: Sources = None,
    work: Work = WORK,
    encoders: Encoders = None,
    how: How,
    reading: Reading,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the embeddings that are there first.")] = False,
    cluster: Cluster,
    as_json: Json = False,
) -> None:
    """Embed a corpus of images with CLIP and DINOv2; the same command again resumes, or adds an encoder."""
    from blindpairs.embed import embed as embed_corpus
    from blindpairs.encoders import choose_device, load_encoder

    specs = _encoder_specs(encoders or [], demo=not sources)
    space = Workspace(work)
    corpus = _corpus(sources, reading, space)
    device = "cuda" if cluster.ray_gpus else choose_device(how.device)
    settings = replace(_settings(how, reading, device), overwrite=overwrite)
    with progress_bar("embed") as show:
        if cluster.executor is Where.ray:
            from blindpairs.executors.actors import Actors
            from blindpairs.executors.embedding import Loading, embed_on_ray

            actors = Actors(cpus=settings.workers, gpus=cluster.ray_gpus, address=cluster.ray_address or None)
            report = embed_on_ray(corpus, space.embeddings, Loading(specs, how.device), settings, actors, show)
        else:
            load = functools.partial(load_encoder, device=device)
            report = embed_corpus(corpus, space.embeddings, specs, load, settings, show)
    _print_report(report, space, as_json)
    if report.failure_rate > reading.max_failure_rate:
        raise TooManyFailures(
            f"{report.failed:,} of {report.rows + report.failed:,} images failed, more than --max-failure-rate "
            f"{reading.max_failure_rate:g}; {space.failures} says which and why"
        )


def _settings(how: How, reading: Reading, device: str) -> "EmbedOptions":
    from blindpairs.embed import EmbedOptions
    from blindpairs.executors.shard import choose_shard

    suited = EmbedOptions.suited_to(device)
    return replace(
        suited,
        limits=replace(suited.limits, allow_truncated=reading.allows(Allowance.truncated)),
        batch=how.batch or suited.batch,
        workers=how.workers or suited.workers,
        shard=choose_shard(how.shard, os.environ),
    )


def _corpus(sources: list[str] | None, reading: Reading, space: Workspace) -> "Corpus":
    """The corpus that was named, or the demo's, told; work folders within it are not part of it."""
    from blindpairs.images import CorpusOptions, open_corpus

    if not sources:
        say("no corpus given: embedding the demo's scenes with the demo's encoders")
        sources = [str(demo_folder() / "scenes.parquet")]
    ours = tuple(os.path.realpath(path) for path in (space.root, space.embeddings, space.pairs))
    symlinks, paths = reading.allows(Allowance.symlinks), reading.allows(Allowance.paths)
    return open_corpus(sources, CorpusOptions(reading.column, symlinks, paths, exclude=ours))


def _encoder_specs(given: list[str], *, demo: bool) -> dict[str, str]:
    from blindpairs.store import refuse_column_name

    if not given:
        return dict(DEMO_ENCODERS if demo else PAPER_ENCODERS)
    specs = {}
    for text in given:
        name, found, spec = text.partition("=")
        if not found or not name.isidentifier():
            raise ConfigError(f"--encoder {text!r} is not NAME=SPEC, such as clip=open_clip:ViT-L-14/openai")
        if name in specs:
            raise ConfigError(f"--encoder names {name!r} twice: give each encoder its own column name")
        refuse_column_name(name)
        specs[name] = spec
    return specs


def _print_report(report: "EmbedReport", space: Workspace, as_json: bool) -> None:
    for warning in report.warnings:
        say(f"warning: {warning}")
    rate = report.embedded / report.seconds if report.embedded else 0.0
    if as_json:
        fields = {name: value for name, value in vars(report).items() if name != "folder"}
        rate_field = {"images_per_second": round(rate, 1)}
        typer.echo(json.dumps({"schema_version": 1, "folder": str(report.folder), **fields, **rate_field}))
        return
    already = report.rows - report.embedded
    did = f"{report.embedded:,} images embedded in {report.seconds:.1f} s ({rate:.0f}/s)" if report.embedded else ""
    was = f"{already:,} were there already" if already > 0 else ""
    typer.echo(f"{report.folder}: " + (", ".join(filter(None, (did, was))) or "nothing to embed"))
    for label, counts in (
        ("failed", report.failures_by_code),
        ("flagged", report.flags),
        ("left out", report.corpus_notes),
    ):
        if any(counts.values()):
            typer.echo(f"  {label}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items() if count))
    if report.failed:
        typer.echo(f"  {space.failures} says which images failed and why")
