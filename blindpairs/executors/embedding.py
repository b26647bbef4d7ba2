"""Embedding on Ray: the parts of a store shared out to actors, and the store that comes of it as if made here.

The driver holds the lock, plans the corpus and counts; it loads no encoder and touches no image. Actors get part
numbers, read the plan and the images from the disk, and commit finished parts there: the work folder and the corpus
have to be on disks that every machine sees under the same path. A part's bytes depend on its images and encoders alone,
so that they are those of a run on one machine of the same kind; who makes a part, and how often, does not matter.
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.embed import EmbedOptions, EmbedReport, ImageEncoder, missing
from blindpairs.embed.manifest import agree_on_manifest, refuse_imported
from blindpairs.embed.run import run
from blindpairs.encoders import choose_device, load_encoder
from blindpairs.errors import ConfigError, InputError
from blindpairs.executors.actors import ActorPool, Actors
from blindpairs.images import Corpus
from blindpairs.progress import Progress, silent
from blindpairs.store import Part, summarise
from blindpairs.workspace import RunLock, prepare_folder, read_json

PARTS_A_CALL = 8  # at most: an actor starts its decoding processes once a call, a third of a second

Loader = Callable[[str, str, str], ImageEncoder]  # column name, spec, device


def load_on(name: str, spec: str, device: str) -> ImageEncoder:
    """Load an encoder on a device of the machine that this runs on; `auto` is its first GPU, or its CPU."""
    return load_encoder(name, spec, device=choose_device(device))


@dataclass(frozen=True)
class Loading:
    """Which encoders every actor loads, and how. It travels, so `load` is a function that can be imported there."""

    specs: Mapping[str, str]  # column name -> spec
    device: str = "auto"
    load: Loader = load_on


class Embedder:
    """An actor's side: the encoders, loaded once, and the parts that it is told to make."""

    def __init__(self, folder: Path, loading: Loading, options: EmbedOptions) -> None:
        self._folder, self._loading, self._options = folder, loading, options
        self._encoders = {name: loading.load(name, spec, loading.device) for name, spec in loading.specs.items()}
        self._manifest: dict[str, Any] = {}

    def describe(self) -> Mapping[str, Any]:
        """What the vectors depend on, by column: the manifest keeps it, and no actor may differ."""
        return {name: encoder.describe() for name, encoder in self._encoders.items()}

    def run_task(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Make what is missing of these parts; the rows and failures that their markers count then."""
        if not self._manifest:
            self._arrive()
        parts = [Part(self._folder, number) for number in numbers]
        jobs = missing(parts, self._manifest, self._encoders, [])
        for name in sorted({name for job in jobs for name in job.columns} - self._encoders.keys()):
            spec = self._manifest["encoders"][name]["spec"]  # of a damaged part: it lacks what nobody asked for
            self._encoders[name] = self._loading.load(name, spec, self._loading.device)
        run(jobs, self._encoders, self._options, silent)
        made = summarise([read_json(part.marker) for part in parts])
        return made["rows"], made["failed"]

    def _arrive(self) -> None:
        """Look at the store, on the first task: the driver has planned by then."""
        if not present(self._folder / "manifest.json"):
            raise InputError(
                f"{self._folder} is not to be seen on {socket.gethostname()}: give a --work folder on a disk that all "
                "machines of the cluster share"
            )
        prepare_folder(self._folder)  # also sweeps what a killed actor left on this machine
        self._manifest = read_json(self._folder / "manifest.json")


def embed_on_ray(
    corpus: Corpus,
    folder: Path,
    loading: Loading,
    options: EmbedOptions,
    actors: Actors,
    progress: Progress = silent,
) -> EmbedReport:
    """Do what `embed.embed` does, with the encoders in Ray actors; the same arguments resume, add and refuse the same.

    `options.workers` are decoding processes for each actor. Raises what `embed` raises; ConfigError also where the
    cluster cannot be reached, its machines differ, or a part is lost with its actor again and again.
    """
    if options.shard != (0, 1):
        raise ConfigError("--shard and --executor ray both share the work out: use one of them")
    if loading.device == "auto" and not actors.gpus:
        loading = Loading(loading.specs, "cpu", loading.load)  # a GPU that was not reserved is somebody else's
    folder = folder.absolute()  # actors have working folders of their own
    prepare_folder(folder)
    prepare_folder(folder / "failures")
    report = EmbedReport(folder)
    lock = RunLock(folder)
    try:
        lock.claim_all()
        refuse_imported(folder, options)
        with ActorPool(actors, partial(Embedder, folder, loading, options)) as pool:
            described = pool.describe()
            with lock.planning():
                manifest = agree_on_manifest(corpus, folder, described, options, report.warnings)
            parts = [Part(folder, number) for number in range(manifest["plan"]["parts"])]
            jobs = missing(parts, manifest, described, report.warnings)
            started = time.monotonic()
            planned, failed = sum(job.to_decode for job in jobs), 0
            progress(0, planned)
            for _, made in pool.run(_calls([job.part.number for job in jobs], pool.count)):
                report.embedded, failed = report.embedded + made[0], failed + made[1]
                progress(report.embedded, planned, failed)
            report.seconds = time.monotonic() - started
    finally:
        lock.release()
    report.finish(manifest, parts)
    return report


def _calls(numbers: Sequence[int], actors: int) -> list[tuple[int, ...]]:
    """Part numbers, a call's worth each: one while there are few, so that every actor has some to the end."""
    size = max(1, min(PARTS_A_CALL, len(numbers) // (8 * actors)))
    return [tuple(numbers[start : start + size]) for start in range(0, len(numbers), size)]
