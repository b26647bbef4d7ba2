"""The runs of `train-mof`, and the model of each: its newest complete checkpoint."""

import json
import re
from pathlib import Path

from blindpairs.access import listed
from blindpairs.errors import InputError

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
CONFIG = "config.json"
NAME = re.compile(r"\w[\w.-]*")  # of a run
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"


def newest_checkpoint(runs: Path, name: str) -> Path:
    """The complete checkpoint with the highest step below `runs`/`name`; InputError says what there is instead."""
    folder = runs / name
    numbered = [(int(match[1]), path) for path in listed(folder) if (match := CHECKPOINT.fullmatch(path.name))]
    for _, path in sorted(numbered, reverse=True):
        if not missing_weights(path):
            return path
    if folder.is_dir():
        raise InputError(
            f"run:{name}: {folder} has no complete checkpoint yet: run `blindpairs train-mof` to resume it"
        )
    names, _ = usable_runs(runs)
    present = f"there are {', '.join(names)}" if names else f"there are none in {runs}"
    raise InputError(f"run:{name}: there is no such run, {present}; train one with `blindpairs train-mof`")


def usable_runs(runs: Path) -> tuple[list[str], list[str]]:
    """The names of the runs that have a model, and of each other one a sentence that says why it has none."""
    usable, reasons = [], []
    for folder in listed(runs):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            newest_checkpoint(runs, folder.name)
        except InputError as error:
            reasons.append(str(error))
            continue
        if NAME.fullmatch(folder.name):
            usable.append(folder.name)
        else:
            reasons.append(f"{folder}: the name of a run has letters, digits, dots, dashes and underscores only")
    return usable, reasons


def missing_weights(folder: Path) -> list[str]:
    """The names of files without which a folder holds no model: its configuration, and every file of weights."""
    absent = [] if (folder / CONFIG).is_file() else [CONFIG]
    if (folder / INDEX).is_file():
        try:
            files = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return [*absent, f"{INDEX} (it is damaged)"]
        return absent + sorted(file for file in files if not (folder / file).is_file())
    # Pickled weights have no index that is worth reading: transformers says what is missing.
    return absent if any(map(Path.is_file, (folder / WEIGHTS, *folder.glob("pytorch_model*")))) else [*absent, WEIGHTS]
