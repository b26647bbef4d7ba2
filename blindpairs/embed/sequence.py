"""The sequence of an embedding run, in this process or on Ray: lock, encoders, manifest, unfinished parts, run, report.

`embed` runs it in this process; `executors.embedding` gives `embed_with` another Runner. Promises: each image is
decoded once for all encoders; a killed run resumes where it stopped, and the store ends with the same bytes as without
the interruption; an encoder added later leaves the other vectors as they are; a failed image is a row of the failures
table and never ends the run; a store whose settings or weights differ from this run's is refused, with the differences.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from blindpairs.embed.loop import EmbedOptions, ImageEncoder, PartJob, run_jobs
from blindpairs.embed.relocate import follow_moved_corpus, refuse_shards
from blindpairs.errors import ConfigError, InputError
from blindpairs.images import Corpus
from blindpairs.progress import Progress, silent
from blindpairs.store import (
    Part,
    count_items,
    finished,
    has_items,
    has_manifest,
    has_marker,
    has_markers,
    is_imported,
    is_moving,
    items_path,
    manifest_path,
    prepare_store,
    read_manifest,
    remove_store,
    summary_of,
    write_items,
    write_manifest,
)
from blindpairs.store.moving import finish_move
from blindpairs.workspace import RunLock, canonical_json, digest, stamp

PATHS_DIGEST = "digest of the source paths"  # a key of the settings: their names alone may be the same in two places
# The options of `embed` that set a field of the settings, for the messages about it.
OPTIONS = {
    "reading.column": " (--column)",
    "reading.follow_symlinks": " (--allow symlinks)",
    "reading.allow_paths": " (--allow paths)",
    "limits.allow_truncated": " (--allow truncated)",
}

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
    seconds: float = 0.0  # from the first image to the last commit; loading the encoders is not counted
    corpus_notes: dict[str, int] = field(default_factory=dict)  # what the corpus left out, and how many
    warnings: list[str] = field(default_factory=list)

    @property
    def failure_rate(self) -> float:
        """The share of all images that failed."""
        return self.failed / max(1, self.rows + self.failed)


class Runner(Protocol):
    """Embeds parts: in this process, or in the actors of a cluster."""

    def describe(self) -> Mapping[str, Mapping[str, object]]:
        """Column name -> description of each encoder that was asked for, as the manifest records it."""

    def run(self, jobs: Sequence[PartJob], manifest: Mapping[str, Any], progress: Progress) -> int:
        """Complete and commit these parts; returns the number of rows written."""


class LocalRunner:
    """Embeds parts in this process; every encoder is loaded once."""

    def __init__(self, folder: Path, specs: Mapping[str, str], load: Loader, options: EmbedOptions) -> None:
        self._folder, self._load, self._options = folder, load, options
        self.encoders = {name: load(name, spec) for name, spec in specs.items()}

    def describe(self) -> dict[str, dict[str, object]]:
        """The descriptions of the encoders that are loaded."""
        return {name: encoder.describe() for name, encoder in self.encoders.items()}

    def run(self, jobs: Sequence[PartJob], manifest: Mapping[str, Any], progress: Progress) -> int:
        """Run the jobs. A damaged part is made again with all of its columns: missing encoders are loaded here."""
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

    Raises ConfigError if the store was made with other settings or other weights, Locked if another run is writing the
    same parts, InputError if the folder cannot be written.
    """
    local = partial(LocalRunner, folder, encoders, load, options)
    return embed_with(lambda: nullcontext(local()), corpus, folder, options, progress)


def embed_with(
    start: Callable[[], AbstractContextManager[Runner]],
    corpus: Corpus,
    folder: Path,
    options: EmbedOptions,
    progress: Progress,
) -> EmbedReport:
    """The sequence of `embed` with any Runner. `start` loads its encoders, after the checks that need none."""
    prepare_store(folder)
    report = EmbedReport(folder)
    index, shards = options.shard
    lock = RunLock(folder)
    try:
        if shards == 1:  # else only the parts of the shard, once their number is known
            lock.claim_all()
        _refuse_imported(folder, options)
        with start() as runner:
            described = runner.describe()
            with lock.planning():
                manifest = agree_on_manifest(corpus, folder, described, options, report.warnings)
            # Every n-th part, not a block of them, so that a folder of large images is shared by all.
            parts = [Part(folder, number) for number in range(index, manifest["plan"]["parts"], shards)]
            lock.claim(part.number for part in parts)
            jobs = unfinished_jobs(parts, manifest, described, report.warnings)
            started = time.monotonic()
            report.embedded = runner.run(jobs, manifest, progress)
            report.seconds = time.monotonic() - started
    finally:
        lock.release()
    # The counts are those of all parts of the shard, also of those that earlier runs finished.
    return replace(report, corpus_notes=manifest["plan"]["notes"], **summary_of(parts))


def unfinished_jobs(
    parts: Iterable[Part], manifest: Mapping[str, Any], asked: Collection[str], warnings: list[str]
) -> list[PartJob]:
    """A job for every part that lacks columns: of the encoders `asked` for, or of all if the part is damaged."""
    jobs = []
    rows, items, encoders = manifest["settings"]["part_rows"], manifest["plan"]["items"], manifest["encoders"]
    for part in parts:
        marker = finished(part)
        if marker is None and has_marker(part):
            warnings.append(f"{part.data.name} does not match its marker: it is embedded again")
        present = marker["columns"] if marker else {}
        # A damaged part loses the columns of earlier runs as well: it is made again with every encoder of the store.
        wanted = asked if marker else encoders
        columns = {name: each for name, each in encoders.items() if name in wanted and name not in present}
        if columns:  # the last part may have fewer than `rows` items
            jobs.append(PartJob(part, min(rows, items - part.number * rows), columns, marker))
    return jobs


def agree_on_manifest(
    corpus: Corpus,
    folder: Path,
    described: Mapping[str, Mapping[str, object]],
    options: EmbedOptions,
    warnings: list[str],
) -> dict[str, Any]:
    """Create the store, or check that this run fits the existing one; returns its manifest.

    The caller holds the planning lock: of several shards that start together, the first creates the store.
    """
    settings = {
        "corpus": corpus.describe(),
        PATHS_DIGEST: digest([os.fsencode(path).hex() for path in corpus.paths])[:8],  # hex: names may not be UTF-8
        "reading": {name: value for name, value in asdict(corpus.options).items() if name != "exclude"},
        "part_rows": options.part_rows,
        "limits": asdict(options.limits),
    }
    if options.overwrite:
        _remove_for_overwrite(corpus, folder, options)
    if not has_manifest(folder):
        return _create(corpus, folder, settings, described, warnings)
    if is_moving(folder):
        refuse_shards(folder, options.shard[1])
        finish_move(folder)
        warnings.append("an interrupted move of the store to the new place of its corpus has been completed")
    manifest = read_manifest(folder)
    # Where the corpus is may change, and is compared last: all other settings decide what a vector means.
    place = {name: manifest["settings"].get(name) for name in ("corpus", PATHS_DIGEST)}
    other_settings = _differences(manifest["settings"], settings | place)
    _refuse(folder, [*other_settings, *_other_encoders(manifest, described)])
    warnings += _other_versions(manifest["encoders"], described)
    moved = place != {name: settings[name] for name in place}
    warnings += _repair_items(None if moved else corpus, folder, manifest)
    if moved:
        refuse_shards(folder, options.shard[1])
        manifest = follow_moved_corpus(corpus, folder, manifest, settings, warnings)
    if corpus.fingerprint() != manifest["fingerprint"]:
        warnings.append("the corpus has changed since it was planned: new images need --overwrite")
    if not described.keys() <= manifest["encoders"].keys():
        manifest["encoders"] |= described
        write_manifest(folder, manifest)
    return manifest


def _remove_for_overwrite(corpus: Corpus, folder: Path, options: EmbedOptions) -> None:
    if options.shard[1] > 1:
        raise ConfigError(f"--overwrite would remove other shards' parts: remove {folder} yourself, then start all")
    next(corpus.items())  # raises if there is no image: a wrong path must not cost the existing store
    remove_store(folder)


def _create(
    corpus: Corpus, folder: Path, settings: dict[str, Any], described: Mapping[str, object], warnings: list[str]
) -> dict[str, Any]:
    """Write the list of items, then the manifest, which makes the folder a store."""
    if has_markers(folder):
        warnings.append(f"{folder} held parts without a manifest to describe them: all are embedded again")
    remove_store(folder)  # a killed --overwrite leaves parts of another plan, without a manifest
    listed = write_items(folder, corpus.items(), settings["part_rows"])
    manifest = stamp() | {
        "settings": settings,
        "fingerprint": corpus.fingerprint(),
        "plan": listed | {"notes": dict(corpus.notes)},  # the notes are complete once all items are listed
        "encoders": dict(described),
    }
    write_manifest(folder, manifest)
    return manifest


def _repair_items(corpus: Corpus | None, folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Write the list of items again if it is missing or damaged; returns a warning about it.

    `corpus` is None if it is at another place than the store's: only `follow_moved_corpus` can prove it to be the same.
    """
    path, items = manifest_path(folder), items_path(folder)
    if not {"sha256", "items", "notes"} <= manifest["plan"].keys():
        raise InputError(f"{path} is damaged: `embed --overwrite` embeds everything again")
    repaired = []
    if not has_items(folder, manifest["plan"]["sha256"]):
        if corpus is None:
            raise ConfigError(
                f"{items} is missing or damaged, and this corpus is not where the embedded one was: --overwrite "
                "embeds everything again"
            )
        write_items(folder, corpus.items(), manifest["settings"]["part_rows"], manifest["plan"]["sha256"])
        repaired = [f"{items.name} was missing or damaged: it was made again from the corpus, which has not changed"]
    if count_items(folder) != (manifest["plan"]["items"], manifest["plan"]["parts"]):
        raise InputError(f"{path} and {items.name} differ: `embed --overwrite` embeds everything again")
    return repaired


def _refuse_imported(folder: Path, options: EmbedOptions) -> None:
    """ConfigError if the store was imported and is not to be overwritten. Loads no encoder."""
    if not options.overwrite and has_manifest(folder) and is_imported(read_manifest(folder)):
        raise ConfigError(
            f"{folder} holds imported embeddings, and embed cannot tell what they were made from: choose another "
            "--work, or import the other encoder's vectors as well with `import --second`"
        )


def _refuse(folder: Path, differences: Sequence[str]) -> None:
    if differences:
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
        raise ConfigError(
            f"{folder} was made with other settings: {shown}. Use --overwrite to embed all again, or another --work"
        )


def _other_encoders(manifest: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    """Where encoders differ from those of the manifest. A newer version of the library alone is only a warning."""
    differences: list[str] = []
    for name in sorted(described.keys() & manifest["encoders"].keys()):
        old, new = ({**encoders[name], "version": ""} for encoders in (manifest["encoders"], described))
        differences += _differences(old, new, f"encoder.{name}")
    return differences


def _other_versions(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was embedded with {old[name]['library']} {old[name]['version']} so far, now with {each['version']}"
        for name, each in new.items()
        if name in old and old[name].get("version") != each.get("version")
    ]


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The fields in which two JSON values differ, each with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif canonical_json(old) != canonical_json(new):  # as JSON: a tuple is read back as a list
        yield f"{path}{OPTIONS.get(path, '')} is {old!r} there and {new!r} now"
