"""What a model's files were when it was evaluated, so that the same command again need not load it to find that out.

    results/<benchmark>/<model>-<hash>/loaded.json

Promises: results are used again without loading the model only where nothing it is loaded from has changed; a file that
is missing or damaged means that the model is loaded, never an error.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from blindpairs.access import present
from blindpairs.encoders.origins import origin_of, seen_at, still_the_same
from blindpairs.errors import BlindpairsError, InputError
from blindpairs.workspace import read_json, stamp, write_json

LOADED = "loaded.json"


class SeenWeights:
    """The files of a model, looked at before it is loaded. Nothing is remembered of what cannot be looked at.

    `origin` is the folder of a model that is no encoder; that of an encoder follows from its spec.
    """

    def __init__(self, spec: str, origin: Path | None = None) -> None:
        self._spec = spec
        self._origin = origin.resolve() if origin else origin_of(spec)
        self._seen = seen_at(self._origin) if self._origin else None

    def remember(self, folder: Path, found: Path | None = None) -> None:
        """Write them to the folder of the results, unless they have changed.

        `found` is where the library found a model that its spec only names.
        """
        place = self._origin or found
        seen = self._seen or (seen_at(place) if place else None)
        if place and seen and still_the_same(seen, place):
            with suppress(InputError):  # the results are written: without this file, the next run only takes longer
                write_json(folder / LOADED, {**stamp(), "spec": self._spec, **seen})


def as_remembered(folder: Path, spec: str, origin: Path | None = None) -> bool:
    """Whether the model of a spec is what it was when the results in `folder` were made, as far as can be told."""
    seen = _read(folder)
    if seen.get("spec") != spec:
        return False
    try:
        place = origin.resolve() if origin else origin_of(spec)
        return still_the_same(seen, place or Path(str(seen.get("origin"))))
    except (BlindpairsError, OSError):
        return False  # loading it says what is wrong


def _read(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / LOADED) if present(folder / LOADED) else {}
    except InputError:
        return {}
