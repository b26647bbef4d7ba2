"""The files of a model when it was evaluated, so that the same command again need not load an unchanged model.

    results/<benchmark>/<model>-<hash>/loaded.json

Promises: results are used again without loading the model only where nothing it is loaded from has changed; a file that
is missing or damaged means that the model is loaded, never an error.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.encoders.origins import file_record, is_unchanged, origin_of
from blindpairs.errors import BlindpairsError, InputError
from blindpairs.workspace import read_json, stamp, write_json

LOADED = "loaded.json"


class LoadedFiles:
    """The files of a model, read before it is loaded. A model whose files nobody can find is loaded every time.

    `origin` is the folder of a model that is no encoder; that of an encoder follows from its spec.
    """

    def __init__(self, spec: str, origin: Path | None = None) -> None:
        self._spec = spec
        self._origin = origin.resolve() if origin else origin_of(spec)
        self._files = file_record(self._origin) if self._origin else None

    def record(self, folder: Path, library_origin: Path | None = None) -> None:
        """Write them to the folder of the results, unless they have changed since they were read.

        `library_origin` is where the library found a model that its spec only names.
        """
        origin = self._origin or library_origin
        files = self._files or (file_record(origin) if origin else None)
        if origin and files and is_unchanged(files, origin):
            with suppress(InputError):  # the results are written: without this file, the next run only takes longer
                write_json(folder / LOADED, {**stamp(), "spec": self._spec, **files})


def unchanged_since(folder: Path, spec: str, origin: Path | None = None) -> bool:
    """Whether the model of a spec is what it was when the results in `folder` were made, as far as can be told."""
    recorded = _read(folder)
    if recorded.get("spec") != spec:
        return False
    try:
        now = origin.resolve() if origin else origin_of(spec)
        return is_unchanged(recorded, now or Path(str(recorded.get("origin"))))
    except (BlindpairsError, OSError):
        return False  # loading it says what is wrong


def _read(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / LOADED) if present(folder / LOADED) else {}
    except InputError:
        return {}
