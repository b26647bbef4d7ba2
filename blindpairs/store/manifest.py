"""The manifest of a store: what it was asked to hold. A folder is a store only if it has a manifest.

    manifest.json   settings (corpus, limits, rows of a part), fingerprint of the corpus, counts, encoders

Promises: a manifest that is returned has been checked; a store whose corpus move was interrupted is recognised.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.errors import InputError, Refused
from blindpairs.workspace import read_json, write_json

IMPORTED = "clip-retrieval"  # the spec of imported vectors: no encoder here can produce more of them
MOVED = "moved"  # subfolder of a store: the files of a move in progress


def manifest_path(folder: Path) -> Path:
    """Where the manifest of a store is, for messages."""
    return folder / "manifest.json"


def has_manifest(folder: Path) -> bool:
    """Whether the folder is a store; Refused where the system does not say."""
    return present(manifest_path(folder))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a store. InputError where it is damaged, with the price of going on without it."""
    path = manifest_path(folder)
    if path.is_dir():
        raise InputError(f"{path} is a folder where a file should be (move it away)")
    try:
        manifest = read_json(path)
        plan, encoders = manifest["plan"], manifest["encoders"]
        numbers = [plan["parts"], plan.get("items", 0), *(each["dimension"] for each in encoders.values())]
        sound = all(type(number) is int and number >= 0 for number in numbers)
        sound &= isinstance(manifest["settings"], dict) and isinstance(manifest["fingerprint"], str)
    except Refused:
        raise
    except (InputError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise InputError(
            f"{path} is damaged: `embed --overwrite` embeds everything again; `import` takes another --work"
        )
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write or replace the manifest, atomically."""
    write_json(manifest_path(folder), dict(manifest))


def is_imported(manifest: Mapping[str, Any]) -> bool:
    """Whether another tool computed the vectors, so that `embed` cannot add to them."""
    return any(encoder.get("spec") == IMPORTED for encoder in manifest["encoders"].values())


def is_moving(folder: Path) -> bool:
    """Whether an interrupted run has left the store between two places of its corpus; `finish_move` completes it."""
    return has_manifest(folder) and has_manifest(folder / MOVED)
