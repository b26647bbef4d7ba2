"""The folder of a training run: what it holds, and what is whole in it.

    config.toml             the recipe
    run.json                what it was given: hashes of data and weights, versions
    metrics.jsonl           a line a step, of both stages
    stage1/, stage2/        checkpoint-STEP to resume from, with the trained parts only; done.json; trained.safetensors
    checkpoint-STEP/        the model at the end, as transformers loads it
    done.json               how the run ended
    README.md               the model card

Promises: a folder under its final name is whole; one process writes at a time; the log has each step once, however
often the run was killed; a run of another recipe, other data or other weights is refused with the differences.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blindpairs.access import listed, present, reading, remove, unwritable
from blindpairs.errors import ConfigError, InputError
from blindpairs.mof.recipe import Recipe, differences, parse_recipe, read_toml, to_toml
from blindpairs.workspace import (
    RunLock,
    flush,
    prepare_folder,
    read_json,
    rename_durably,
    stamp,
    write_json,
    write_text,
)

CONFIG, FACTS, METRICS, DONE, CARD = "config.toml", "run.json", "metrics.jsonl", "done.json", "README.md"
TRAINED = "trained.safetensors"  # of a stage: every tensor that it trained
# A folder that is being written; one name, because every process of a distributed run writes into it.
SAVING = ".saving"
_NO_ROOM = re.compile("os error (?:27|28|122)\\b|PytorchStreamWriter|inline_container")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class Run:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(self, number: int) -> Path:
        """The folder of a stage."""
        return self.folder / f"stage{number}"

    def recipe(self) -> Recipe:
        """What the run was started with. InputError where the folder is no run."""
        path = self.folder / CONFIG
        if not present(path):
            raise InputError(f"{self.folder} is no run: it has no {CONFIG}")
        with reading(path):
            return parse_recipe(read_toml(path.read_bytes(), str(path)), str(path))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; Locked if another process does. What a killed run left half written is removed."""
        prepare_folder(self.folder)
        lock = RunLock(self.folder)
        try:
            lock.claim_all()
            for place in (self.folder, self.stage(1), self.stage(2)):
                _remove_folder(place / SAVING)
            yield
        finally:
            lock.release()

    def start(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        """Record what the run is, or check that it is the same as what was recorded: ConfigError with what differs.

        What no step was made with may be mended: the data and settings of a stage that has not begun, and all of a run
        of which no stage has.
        """
        pending = [number for number in (1, 2) if not self.begun(number)]
        if len(pending) == 2 or not present(self.folder / CONFIG):
            self._write(recipe, {**stamp(), **facts})
            return
        recorded, differing = read_json(self.folder / FACTS), differences(self.recipe(), recipe)
        # Of a stage that starts later the data may be new; what was recorded must be the same.
        differing += [
            f"{kind} {name} has changed"
            for kind in ("data", "weights")
            for name, value in facts.get(kind, {}).items()
            if recorded.get(kind, {}).get(name, value) != value
        ]
        # Which rows are left out is recorded for each stage.
        free = tuple(
            f"{word}{number}{end}" for number in pending for word, end in (("stage", "."), ("data stage", " "))
        )
        free += ("skip ",) if pending else ()
        if changed := [one for one in differing if not one.startswith(free)]:
            shown = "; ".join(changed[:4]) + (f"; and {len(changed) - 4} more" if len(changed) > 4 else "")
            raise ConfigError(f"{self.folder} is a run of another recipe: {shown}\nname another run, with --run NAME")
        for kind in ("data", "weights"):
            recorded[kind] = {**recorded.get(kind, {}), **facts.get(kind, {})}
        for number in pending if differing else ():
            recorded.get("checked", {}).pop(f"stage{number}", None)
        self._write(recipe, recorded)

    def _write(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        write_json(self.folder / FACTS, facts)
        write_text(self.folder / CONFIG, to_toml(recipe))

    def begun(self, number: int) -> bool:
        """Whether a step of a stage is recorded."""
        logged = any(row["stage"] == number for row in self.rows())
        return logged or self.checkpoint(number) is not None or self.ended(number) is not None

    def record(self, facts: Mapping[str, Any]) -> None:
        """Add to what the run was given."""
        write_json(self.folder / FACTS, {**self.facts(), **facts})

    def facts(self) -> dict[str, Any]:
        """What the run was given."""
        return read_json(self.folder / FACTS)

    @contextmanager
    def saving(self, folder: Path) -> Iterator[Path]:
        """A folder beside `folder` to write into, which gets its name when the block ends well."""
        aside = folder.parent / SAVING
        try:
            _remove_folder(aside)
            aside.mkdir(parents=True)
            with writing(folder):
                yield aside
            self.commit(aside, folder)
        except OSError as error:
            raise unwritable(folder, error) from error

    @staticmethod
    def commit(aside: Path, folder: Path) -> None:
        """Give a written folder its final name, durably."""
        for path in sorted(aside.rglob("*")):
            flush(path)
        _remove_folder(folder)
        rename_durably(aside, folder)

    def checkpoint(self, number: int) -> Path | None:
        """The newest checkpoint of a stage that it can resume from; None where there is none."""
        numbered = _numbered(self.stage(number))
        return numbered[-1][1] if numbered else None

    def drop_checkpoints(self, number: int, keep: Path | None = None) -> None:
        """Remove the checkpoints of a stage, but one."""
        for _, path in _numbered(self.stage(number)):
            if path != keep:
                _remove_folder(path)

    def ended(self, number: int) -> dict[str, Any] | None:
        """How a stage ended; None for one that has not."""
        path = self.stage(number) / DONE
        return read_json(path) if present(path) else None

    def end(self, number: int, figures: Mapping[str, Any]) -> None:
        """Mark a stage as done. Its last checkpoint goes: what it trained is in trained.safetensors."""
        write_json(self.stage(number) / DONE, {**stamp(), **figures})
        self.drop_checkpoints(number)
        _remove_folder(self.stage(number) / SAVING)

    def model(self) -> Path | None:
        """The folder of the model at the end; None before that."""
        numbered = _numbered(self.folder)
        return numbered[-1][1] if numbered else None

    def rows(self) -> list[dict[str, Any]]:
        """The lines of the log; a last one that was cut off is left out. InputError names any other that is damaged."""
        path = self.folder / METRICS
        if not present(path):
            return []
        with reading(path):
            *lines, _ = path.read_bytes().split(b"\n")  # after the last line break there is nothing, or a torn line
        return [_row(path, number, line) for number, line in enumerate(lines, 1)]

    def rewind(self, number: int, step: int) -> None:
        """Take the steps after `step` of a stage out of the log: they will be done again."""
        kept = [row for row in self.rows() if (row["stage"], row["step"]) <= (number, step)]
        write_text(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in kept))

    def log(self, rows: list[dict[str, Any]]) -> None:
        """Append lines to the log."""
        path = self.folder / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        except OSError as error:
            raise unwritable(path, error) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Goes around a library's saving call: a full disk is an InputError, whatever the library makes of it."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
    except Exception as error:  # torch raises RuntimeError, safetensors one of its own
        if not _NO_ROOM.search(str(error)):
            raise
        raise unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
        if isinstance(row, dict) and isinstance(row.get("stage"), int) and isinstance(row.get("step"), int):
            return row
        why = "it is not the line of a step"
    except (ValueError, RecursionError) as error:
        why = str(error)[:80]
    raise InputError(f"{path}, line {number:,} is damaged ({why}): repair it, or remove it")


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = ((match, path) for path in listed(folder) if (match := _CHECKPOINT.fullmatch(path.name)))
    return sorted((int(match[1]), path) for match, path in found)


def _remove_folder(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        # Renamed first: a checkpoint whose removal is cut short must not look whole.
        gone = folder.with_name(SAVING + "-gone")
        shutil.rmtree(gone, ignore_errors=True)
        folder.replace(gone)
        shutil.rmtree(gone)
    else:
        remove(folder)
