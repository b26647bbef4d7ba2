"""Embedding on Ray: actors make the parts of a store, with the same bytes as a run on one machine.

The driver locks, plans and counts; it loads no encoder and reads no image. Actors get part numbers, read the plan and
the images from disk, and commit finished parts there: the work folder and the corpus must be on disks that every
machine sees under the same path. The bytes of a part depend on its images and encoders alone, so that it does not
matter which actor makes it, or how often, as long as all machines are of one kind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blindpairs.embed import EmbedOptions, EmbedReport, ImageEncoder
from blindpairs.embed.loop import PartJob
from blindpairs.embed.sequence import LocalRunner, embed_with, unfinished_jobs
from blindpairs.encoders import choose_device, load_encoder
from blindpairs.errors import ConfigError
from blindpairs.executors.actors import ActorPool, Actors, not_shared
from blindpairs.images import Corpus
from blindpairs.progress import Progress, silent
from blindpairs.store import Part, has_manifest, prepare_store, read_manifest, summary_of

PARTS_PER_CALL = 8  # at most; each call starts the decoding processes of its actor, which takes a third of a second

Loader = Callable[[str, str, str], ImageEncoder]  # column name, spec, device


def load_on(name: str, spec: str, device: str) -> ImageEncoder:
    """Load an encoder on a device of the machine that this runs on; `auto` is its first GPU, or its CPU."""
    return load_encoder(name, spec, device=choose_device(device))


@dataclass(frozen=True)
class Loading:
    """Which encoders every actor loads, and how. `load` is pickled, so it must be importable on every machine."""

    specs: Mapping[str, str]  # column name -> spec
    device: str = "auto"
    load: Loader = load_on

    def __call__(self, name: str, spec: str) -> ImageEncoder:
        """Load one encoder."""
        return self.load(name, spec, self.device)


class Embedder:
    """The worker of an actor: loads the encoders once, then makes the parts whose numbers it gets."""

    def __init__(self, folder: Path, loading: Loading, options: EmbedOptions) -> None:
        self._folder = folder
        self._runner = LocalRunner(folder, loading.specs, loading, options)
        self._manifest: dict[str, Any] = {}  # read at the first task: at the start the driver may not have written it

    def describe(self) -> Mapping[str, Any]:
        """What the vectors of each column depend on; all actors must agree."""
        return self._runner.describe()

    def run_task(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Complete these parts; returns how many rows and how many failures they have."""
        self._manifest = self._manifest or self._read_manifest()
        parts = [Part(self._folder, number) for number in numbers]
        self._runner.run(unfinished_jobs(parts, self._manifest, self._runner.encoders, []), self._manifest, silent)
        made = summary_of(parts)
        return made["rows"], made["failed"]

    def _read_manifest(self) -> dict[str, Any]:
        """The manifest, which the driver writes before it submits the first task."""
        if not has_manifest(self._folder):
            raise not_shared(self._folder)
        prepare_store(self._folder)  # removes the unfinished files of actors that were killed on this machine
        return read_manifest(self._folder)


class RayRunner:
    """The `embed.sequence.Runner` of a pool of Embedders."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    def describe(self) -> Mapping[str, Mapping[str, object]]:
        """The description of the first actor; a later actor with another one ends the run."""
        return self._pool.describe()

    def run(self, jobs: Sequence[PartJob], manifest: Mapping[str, Any], progress: Progress) -> int:
        """Embed the parts; returns how many rows they have. Actors read the manifest from the disk."""
        planned, embedded, failed = sum(job.to_decode for job in jobs), 0, 0
        progress(0, planned)
        for _, (rows, failures) in self._pool.run(_calls([job.part.number for job in jobs], self._pool.count)):
            embedded, failed = embedded + rows, failed + failures
            progress(embedded, planned, failed)
        return embedded


def embed_on_ray(
    corpus: Corpus,
    folder: Path,
    loading: Loading,
    options: EmbedOptions,
    actors: Actors,
    progress: Progress = silent,
) -> EmbedReport:
    """Do what `embed.embed` does, with the encoders in Ray actors; resumes, adds columns and refuses as `embed` does.

    `options.workers` are decoding processes for each actor. Raises what `embed` raises; ConfigError also where the
    cluster cannot be reached, its machines differ, or the actor is lost several times at the same part.
    """
    if options.shard != (0, 1):
        raise ConfigError("--shard and --executor ray both divide the work: use one of them")
    if loading.device == "auto" and not actors.gpus:
        loading = Loading(loading.specs, "cpu", loading.load)  # a GPU that was not reserved belongs to another job
    folder = folder.absolute()  # actors have working folders of their own

    @contextmanager
    def start() -> Iterator[RayRunner]:
        with ActorPool(actors, partial(Embedder, folder, loading, options)) as pool:
            yield RayRunner(pool)

    return embed_with(start, corpus, folder, options, progress)


def _calls(numbers: Sequence[int], actors: int) -> list[tuple[int, ...]]:
    """Part numbers, grouped into calls."""
    # Eight calls or more for each actor: with fewer, some actors would have no work while the last ones run.
    size = max(1, min(PARTS_PER_CALL, len(numbers) // (8 * actors)))
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]
