"""The sequence of an embedding run, in this process or on Ray: lock, encoders, manifest, unfinished parts, run, report.

`embed` runs it in this process; `executors.embedding` gives `embed_with` another Runner. Promises: each image is
decoded once for all encoders; a killed run resumes where it stopped and ends with the bytes of an uninterrupted one;
an encoder added later leaves the other vectors as they are; a failed image is a row of the failures table and never
ends the run; a store whose settings or weights differ from this run's is refused, with the differences.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from blindpairs.embed.loop import EmbedOptions, ImageEncoder, PartJob, run_jobs
from blindpairs.embed.relocate import OtherCorpus, refuse_shards, relocate
from blindpairs.errors import ConfigError, InputError
from blindpairs.images import Corpus
from blindpairs.progress import Progress, silent
from blindpairs.store import (
    Part,
    finished,
    has_manifest,
    has_marker,
    has_markers,
    has_plan,
    is_imported,
    is_moving,
    manifest_path,
    plan_path,
    plan_size,
    prepare_store,
    read_manifest,
    remove_store,
    summary_of,
    write_manifest,
    write_plan,
)
from blindpairs.store.moving import finish_move
from blindpairs.workspace import RunLock, canonical_json, digest, stamp

PATHS = "digest of the source paths"

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
    seconds: float = 0.0  # of computing, until the last part was committed
    corpus_notes: dict[str, int] = field(default_factory=dict)  # what the corpus left out, and how many
    warnings: list[str] = field(default_factory=list)

    @property
    def failure_rate(self) -> float:
        """Failed images among all planned."""
        return self.failed / max(1, self.rows + self.failed)

    def count(self, parts: Iterable[Part]) -> None:
        """Take the counts of the finished parts, whichever run made them."""
        for name, count in summary_of(parts).items():
            setattr(self, name, count)


class Runner(Protocol):
    """Computes: in this process, or in the actors of a cluster."""

    def describe(self) -> Mapping[str, Mapping[str, object]]:
        """Column name -> description of each encoder that was asked for, as the manifest records it."""

    def run(self, jobs: Sequence[PartJob], manifest: Mapping[str, Any], progress: Progress) -> int:
        """Complete and commit these parts; returns the number of rows written."""


class LocalRunner:
    """Computes in this process; every encoder is loaded once."""

    def __init__(self, folder: Path, specs: Mapping[str, str], load: Loader, options: EmbedOptions) -> None:
        self._folder, self._load, self._options = folder, load, options
        self.encoders = {name: load(name, spec) for name, spec in specs.items()}

    def describe(self) -> dict[str, dict[str, object]]:
        """The descriptions of the encoders that are loaded."""
        return {name: encoder.describe() for name, encoder in self.encoders.items()}

    def run(self, jobs: Sequence[PartJob], manifest: Mapping[str, Any], progress: Progress) -> int:
        """Run the jobs. A damaged part also needs encoders that nobody asked for: they are loaded here."""
        for name in sorted({name for job in jobs for name in job.columns} - self.encoders.keys()):
            self.encoders[name] = self._load(name, manifest["encoders"][name]["spec"])
            _refuse(self._folder, _other_encoders(manifest, {name: self.encoders[name].describe()}))
        return run_jobs(jobs, self.encoders, self._options, progress)


def embed(
    corpus: Corpus,
    folder: Path,
    encoders: Mapping[str, str],
    load: Loader,
    options: EmbedOptions,
    progress: Progress = silent,
) -> EmbedReport:
    """Embed `corpus` with `encoders` (column name -> spec) into the store at `folder`, or complete what is there.

    Raises ConfigError where the store was made with other settings or other weights, Locked where another run is
    writing the same parts, InputError where the folder cannot be written.
    """

    def start() -> AbstractContextManager[Runner]:
        return nullcontext(LocalRunner(folder, encoders, load, options))

    return embed_with(start, corpus, folder, options, progress)


def embed_with(
    start: Callable[[], AbstractContextManager[Runner]],
    corpus: Corpus,
    folder: Path,
    options: EmbedOptions,
    progress: Progress,
) -> EmbedReport:
    """The sequence of `embed` with any Runner, which is started once the store is locked and not refused."""
    prepare_store(folder)
    report = EmbedReport(folder)
    index, shards = options.shard
    lock = RunLock(folder)
    try:
        if shards == 1:
            lock.claim_all()
        _refuse_imported(folder, options)
        with start() as runner:
            described = runner.describe()
            with lock.planning():
                manifest = agree_on_manifest(corpus, folder, described, options, report.warnings)
            parts = [Part(folder, number) for number in range(index, manifest["plan"]["parts"], shards)]
            lock.claim(part.number for part in parts)
            jobs = unfinished_jobs(parts, manifest, described, report.warnings)
            started = time.monotonic()
            report.embedded = runner.run(jobs, manifest, progress)
            report.seconds = time.monotonic() - started
    finally:
        lock.release()
    report.corpus_notes = manifest["plan"]["notes"]
    report.count(parts)
    return report


def unfinished_jobs(
    parts: Iterable[Part], manifest: Mapping[str, Any], asked: Collection[str], warnings: list[str]
) -> list[PartJob]:
    """The parts that lack columns. A damaged part lacks all of them, whichever encoders were asked for."""
    jobs = []
    rows, items = manifest["settings"]["part_rows"], manifest["plan"]["items"]
    for part in parts:
        marker = finished(part)
        if marker is None and has_marker(part):
            warnings.append(f"{part.data.name} does not match its marker: it is embedded again")
        have = marker["columns"] if marker else {}
        want = asked if marker else manifest["encoders"]
        columns = {
            name: manifest["encoders"][name] for name in manifest["encoders"] if name in want and name not in have
        }
        if columns:
            jobs.append(PartJob(part, min(rows, items - part.number * rows), columns, marker))
    return jobs


def agree_on_manifest(
    corpus: Corpus,
    folder: Path,
    described: Mapping[str, Mapping[str, object]],
    options: EmbedOptions,
    warnings: list[str],
) -> dict[str, Any]:
    """Plan the corpus, or check that this run fits the existing store. The caller holds the planning lock."""
    settings = {
        "corpus": corpus.describe(),
        PATHS: digest([os.fsencode(path).hex() for path in corpus.paths])[:8],
        "reading": {name: value for name, value in asdict(corpus.options).items() if name != "exclude"},
        "part_rows": options.part_rows,
        "limits": asdict(options.limits),
    }
    if options.overwrite:
        _remove_for_overwrite(corpus, folder, options)
    if not has_manifest(folder):
        return _plan(corpus, folder, settings, described, warnings)
    if is_moving(folder):
        refuse_shards(folder, options.shard[1])
        finish_move(folder)
        warnings.append("an interrupted move of the store to the new place of its corpus has been completed")
    manifest = read_manifest(folder)
    place = {name: manifest["settings"].get(name) for name in ("corpus", PATHS)}
    settings_there = _differences(manifest["settings"], settings | place)
    _refuse(folder, [*settings_there, *_other_encoders(manifest, described)])
    warnings += _other_versions(manifest["encoders"], described)
    moved = place != {name: settings[name] for name in place}
    warnings += _mended_plan(None if moved else corpus, folder, manifest)
    if moved:
        refuse_shards(folder, options.shard[1])
        manifest = _follow(corpus, folder, manifest, settings, warnings)
    if corpus.fingerprint() != manifest["fingerprint"]:
        warnings.append("the corpus has changed since it was planned: new images need --overwrite")
    if not described.keys() <= manifest["encoders"].keys():
        manifest["encoders"] |= described
        write_manifest(folder, manifest)
    return manifest


def _remove_for_overwrite(corpus: Corpus, folder: Path, options: EmbedOptions) -> None:
    if options.shard[1] > 1:
        raise ConfigError(f"--overwrite would remove other shards' parts: remove {folder} yourself, then start all")
    next(corpus.items())  # raises where there is no image: a wrong path must not cost what is there
    remove_store(folder)


def _plan(
    corpus: Corpus, folder: Path, settings: dict[str, Any], described: Mapping[str, object], warnings: list[str]
) -> dict[str, Any]:
    """Write the plan, then the manifest, which makes the folder a store."""
    if has_markers(folder):
        warnings.append(f"{folder} held parts without a manifest to describe them: all are embedded again")
    remove_store(folder)  # a killed --overwrite leaves parts of another plan, without a manifest
    planned = write_plan(folder, corpus.items(), settings["part_rows"])
    manifest = stamp() | {
        "settings": settings,
        "fingerprint": corpus.fingerprint(),
        "plan": planned | {"notes": dict(corpus.notes)},
        "encoders": dict(described),
    }
    write_manifest(folder, manifest)
    return manifest


def _mended_plan(corpus: Corpus | None, folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Make a missing or damaged plan again, and say so; None for `corpus` where it is not known to be the same."""
    path, plan = manifest_path(folder), plan_path(folder)
    if not {"sha256", "items", "notes"} <= manifest["plan"].keys():
        raise InputError(f"{path} is damaged: `embed --overwrite` embeds everything again")
    done = []
    if not has_plan(folder, manifest["plan"]["sha256"]):
        if corpus is None:
            raise ConfigError(
                f"{plan} is missing or damaged, and this corpus is not the one that was planned: --overwrite embeds "
                "everything again"
            )
        write_plan(folder, corpus.items(), manifest["settings"]["part_rows"], manifest["plan"]["sha256"])
        done = [f"{plan.name} was missing or damaged: it was made again from the corpus, which has not changed"]
    if plan_size(folder) != (manifest["plan"]["items"], manifest["plan"]["parts"]):
        raise InputError(f"{path} and {plan.name} differ: `embed --overwrite` embeds everything again")
    return done


def _follow(
    corpus: Corpus, folder: Path, manifest: dict[str, Any], settings: dict[str, Any], warnings: list[str]
) -> dict[str, Any]:
    """Move the store to where its corpus is now, and return its manifest; ConfigError for another corpus."""
    old, new = manifest["settings"]["corpus"], settings["corpus"]
    try:
        moved = relocate(corpus, folder, manifest, settings)
    except OtherCorpus as error:
        raise ConfigError(
            f"{folder} was made of another corpus: corpus is {old} there and {new} now, and it has not just moved "
            f"({error}). Use --overwrite to embed anew, or another --work"
        ) from error
    if moved["settings"] != manifest["settings"]:
        warnings.append(
            f"the corpus has moved from {old} to {new}: its {moved['plan']['items']:,} images are the same, and the "
            "store now has their new uris; run `mine` again, because pairs and gallery still have the old ones"
        )
    return moved


def _refuse_imported(folder: Path, options: EmbedOptions) -> None:
    """ConfigError where the store was imported and is not to be overwritten, before encoders are loaded."""
    if not options.overwrite and has_manifest(folder) and is_imported(read_manifest(folder)):
        raise ConfigError(
            f"{folder} holds imported embeddings, and embed cannot tell what they were made from: choose another "
            "--work, or import the other encoder's vectors as well with `import --second`"
        )


def _refuse(folder: Path, differences: Sequence[str]) -> None:
    if differences:
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
        raise ConfigError(
            f"{folder} was made with other settings: {shown}. Use --overwrite to embed anew, or another --work"
        )


def _other_encoders(manifest: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """Where encoders differ from those of the manifest. A newer version of the library alone is only a warning."""
    differences: list[str] = []
    for name in sorted(described.keys() & manifest["encoders"].keys()):
        old, new = ({**side[name], "version": ""} for side in (manifest["encoders"], described))
        differences += _differences(old, new, f"encoder.{name}")
    return differences


def _other_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was embedded with {old[name]['library']} {old[name]['version']} so far, now with {each['version']}"
        for name, each in new.items()
        if name in old and old[name].get("version") != each.get("version")
    ]


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ, each with both sides."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif canonical_json(old) != canonical_json(new):
        yield f"{path} is {old} there and {new} now"
