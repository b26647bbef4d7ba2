"""A corpus and some encoders in, a store of unit vectors out.

Promises: each image is decoded once for all encoders; a run that was killed goes on where it stood and ends with the
bytes of an uninterrupted one; an encoder added later leaves the others' vectors as they are; an image that fails is a
row of the failures table and never the end of the run.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.embed.manifest import agree_on_manifest, refuse_imported, refuse_other_encoder
from blindpairs.embed.run import EmbedOptions, ImageEncoder, PartJob, run
from blindpairs.images import Corpus
from blindpairs.progress import Progress, silent
from blindpairs.store import Part, finished, summarise
from blindpairs.workspace import RunLock, prepare_folder, read_json

__all__ = ["EmbedOptions", "EmbedReport", "ImageEncoder", "Progress", "embed"]

Loader = Callable[[str, str], ImageEncoder]  # column name, spec


@dataclass
class EmbedReport:
    """What a run did, and what the parts of its shard hold now."""

    folder: Path
    rows: int = 0
    failed: int = 0
    failures_by_code: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    embedded: int = 0  # images, by this run
    seconds: float = 0.0  # from the first image to the last commit
    corpus_notes: dict[str, int] = field(default_factory=dict)  # what the corpus left out, and how many
    warnings: list[str] = field(default_factory=list)

    @property
    def failure_rate(self) -> float:
        """Failed images among all planned."""
        return self.failed / max(1, self.rows + self.failed)

    def finish(self, manifest: Mapping[str, Any], parts: Iterable[Part]) -> None:
        """Add what the corpus left out, and what the finished parts of this run's shard hold, whoever made them."""
        self.corpus_notes = manifest["plan"]["notes"]
        for name, count in summarise([read_json(part.marker) for part in parts]).items():
            setattr(self, name, count)


def embed(
    corpus: Corpus,
    folder: Path,
    encoders: Mapping[str, str],
    load: Loader,
    options: EmbedOptions = EmbedOptions(),
    progress: Progress = silent,
) -> EmbedReport:
    """Embed `corpus` with `encoders` (column name -> spec) into the store at `folder`, or finish what is missing there.

    Raises ConfigError where the store was made with other settings or other weights, Locked where another run is
    writing the same parts, InputError where the folder cannot be written.
    """
    prepare_folder(folder)
    prepare_folder(folder / "failures")
    report = EmbedReport(folder)
    index, shards = options.shard
    lock = RunLock(folder)
    try:
        if shards == 1:
            lock.claim_all()
        refuse_imported(folder, options)
        loaded = {name: load(name, spec) for name, spec in encoders.items()}
        described = {name: encoder.describe() for name, encoder in loaded.items()}
        with lock.planning():
            manifest = agree_on_manifest(corpus, folder, described, options, report.warnings)
        parts = [Part(folder, number) for number in range(index, manifest["plan"]["parts"], shards)]
        lock.claim(part.number for part in parts)
        jobs = missing(parts, manifest, loaded, report.warnings)
        for name in sorted({name for job in jobs for name in job.columns} - loaded.keys()):
            loaded[name] = load(name, manifest["encoders"][name]["spec"])
            refuse_other_encoder(folder, manifest, name, loaded[name])
        started = time.monotonic()
        report.embedded = run(jobs, loaded, options, progress)
        report.seconds = time.monotonic() - started
    finally:
        lock.release()
    report.finish(manifest, parts)
    return report


def missing(
    parts: Iterable[Part], manifest: Mapping[str, Any], asked: Collection[str], warnings: list[str]
) -> list[PartJob]:
    """The parts that lack something. A part that is damaged lacks everything, whichever encoders were asked for."""
    jobs = []
    rows, items = manifest["settings"]["part_rows"], manifest["plan"]["items"]
    for part in parts:
        marker = finished(part)
        if marker is None and present(part.marker):
            warnings.append(f"{part.data.name} is not what its marker says: it is embedded again")
        have = marker["columns"] if marker else {}
        want = asked if marker else manifest["encoders"]
        columns = {
            name: manifest["encoders"][name] for name in manifest["encoders"] if name in want and name not in have
        }
        if columns:
            jobs.append(PartJob(part, min(rows, items - part.number * rows), columns, marker))
    return jobs
