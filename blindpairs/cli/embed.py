"""`blindpairs embed`."""

import functools
import json
import os
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from blindpairs.cli.app import WORK, Json, Work, command, progress_bar, say
from blindpairs.errors import ConfigError, TooManyFailures
from blindpairs.workspace import Workspace, demo_folder

if TYPE_CHECKING:
    from blindpairs.corpus import Corpus
    from blindpairs.embed import EmbedReport

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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Images a batch. [default: 128 on a CPU, 256 on a GPU]")]
Workers = Annotated[int | None, typer.Option(min=1, help="Decoding processes. [default: from the cores]")]
Shard = Annotated[
    str, typer.Option(help="i/n: only the i-th of n shares, counted from 0; auto: as SLURM, Kubernetes or RANK says.")
]
Column = Annotated[str, typer.Option(help="The image column of Parquet files, where it cannot be told.")]
Allow = Annotated[
    list[Allowance] | None,
    typer.Option(
        help="Repeatable. truncated: embed cut-off images, flagged; symlinks: follow links; paths: read images "
        "that a Parquet file names by path below its own folder."
    ),
]
MaxFailureRate = Annotated[float, typer.Option(min=0, max=1, help="More failed images than this: exit 4.")]
Executor = Annotated[Where, typer.Option(help="ray: share the parts out to the actors of a Ray cluster.")]
RayGpus = Annotated[float, typer.Option(min=0, help="GPUs of each Ray actor; two share one at 0.5.")]
RayAddress = Annotated[str, typer.Option(envvar="RAY_ADDRESS", help="The cluster. [default: start one here]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove the embeddings that are there first.")]


@command
def embed(
    sources: Sources = None,
    work: Work = WORK,
    encoders: Encoders = None,
    device: Device = "auto",
    batch: Batch = None,
    workers: Workers = None,
    shard: Shard = "",
    column: Column = "",
    allow: Allow = None,
    max_failure_rate: MaxFailureRate = 0.1,
    overwrite: Overwrite = False,
    executor: Executor = Where.here,
    ray_address: RayAddress = "",
    ray_gpus: RayGpus = 0.0,
    as_json: Json = False,
) -> None:
    """Embed a corpus of images with CLIP and DINOv2; the same command again resumes, or adds an encoder."""
    from blindpairs.embed import EmbedOptions
    from blindpairs.embed import embed as embed_corpus
    from blindpairs.encoders import choose_device, load_encoder
    from blindpairs.executors.cluster import choose_shard

    specs = _encoder_specs(encoders or [], demo=not sources)
    allowed, space = set(allow or []), Workspace(work)
    corpus = _corpus(sources, column, allowed, space)
    where = "cuda" if ray_gpus else choose_device(device)
    settings = EmbedOptions.suited_to(where)
    settings = replace(
        settings,
        limits=replace(settings.limits, allow_truncated=Allowance.truncated in allowed),
        batch=batch or settings.batch,
        workers=workers or settings.workers,
        shard=choose_shard(shard, os.environ),
        overwrite=overwrite,
    )
    with progress_bar("embed") as show:
        if executor is Where.ray:
            from blindpairs.executors.crew import Actors
            from blindpairs.executors.embedding import Loading, embed_on_ray

            actors = Actors(cpus=settings.workers, gpus=ray_gpus, address=ray_address or None)
            report = embed_on_ray(corpus, space.embeddings, Loading(specs, device), settings, actors, show)
        else:
            load = functools.partial(load_encoder, device=where)
            report = embed_corpus(corpus, space.embeddings, specs, load, settings, show)
    _print_report(report, as_json)
    if report.failure_rate > max_failure_rate:
        raise TooManyFailures(
            f"{report.failed:,} of {report.rows + report.failed:,} images failed, more than --max-failure-rate "
            f"{max_failure_rate:g}; {report.folder / 'failures'} says which and why"
        )


def _corpus(sources: list[str] | None, column: str, allowed: set[Allowance], space: Workspace) -> "Corpus":
    """The corpus that was named, or the demo's, told; work folders within it are not part of it."""
    from blindpairs.corpus import CorpusOptions, open_corpus

    if not sources:
        say("no corpus given: embedding the demo's scenes with the demo's encoders")
        sources = [str(demo_folder() / "scenes.parquet")]
    ours = tuple(str(path.resolve()) for path in (space.root, space.embeddings, space.pairs))
    symlinks, paths = Allowance.symlinks in allowed, Allowance.paths in allowed
    return open_corpus(sources, CorpusOptions(column, symlinks, paths, exclude=ours))


def _encoder_specs(given: list[str], *, demo: bool) -> dict[str, str]:
    if not given:
        return dict(DEMO_ENCODERS if demo else PAPER_ENCODERS)
    specs = {}
    for text in given:
        name, found, spec = text.partition("=")
        if not found or not name.isidentifier():
            raise ConfigError(f"--encoder {text!r} is not NAME=SPEC, such as clip=open_clip:ViT-L-14/openai")
        if name in specs:
            raise ConfigError(f"--encoder names {name!r} twice: give each encoder its own column name")
        specs[name] = spec
    return specs


def _print_report(report: "EmbedReport", as_json: bool) -> None:
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
        typer.echo(f"  {report.folder / 'failures'} says which images failed and why")
