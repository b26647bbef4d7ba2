"""Puts an imported benchmark together: ids from the bytes of the images, pairs that fit, and sentences about the rest.

A second item about the same two images gets the pair id with `-2`, the third `-3`, and so on, because an id names one
question of one pair. What must be left out is named in a note; nothing disappears in silence.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blindpairs.benchmark.folders import FolderImages, id_of_file
from blindpairs.benchmark.foreign import ImportedBenchmark
from blindpairs.benchmark.model import Benchmark, BenchmarkPair
from blindpairs.benchmark.sidecar import SidecarEntry
from blindpairs.errors import InputError
from blindpairs.images.item import printable_uri
from blindpairs.mine import pair_id


class Assembly:
    """Pairs, notes and the paths of images, as they are found."""

    def __init__(self) -> None:
        self.pairs: list[BenchmarkPair] = []
        self.notes: list[str] = []
        self._paths: dict[str, Path] = {}
        self._ids: dict[Path, str] = {}  # of files that were read: one image may be in many pairs
        self._taken: dict[str, int] = {}

    def add(
        self,
        paths: tuple[Path, Path],
        fields: Mapping[str, Any],
        entries: tuple[SidecarEntry | None, SidecarEntry | None] = (None, None),
    ) -> BenchmarkPair:
        """Add the pair of two image files with fields of its own, and the id and fields of its sidecar entries."""
        a, b = (self._image(path) for path in paths)
        name = pair_id(a, b)
        entry_a, entry_b = entries
        if entry_a and entry_b:
            fields = {**entry_a.fields, **fields}
            if (entry_a.image_id, entry_b.image_id) == (a, b):
                name = entry_a.pair_id
            else:
                self.notes.append(f"An image of pair {entry_a.pair_id} was changed after the export: it is now {name}.")
        if a == b:
            self.notes.append(f"Both images of pair {name} are the same file, byte for byte.")
        uri_a, uri_b = (printable_uri(str(path))[0] for path in paths)
        pair = BenchmarkPair(self._unused(name), a, b, uri_a, uri_b, **fields)
        self.pairs.append(pair)
        return pair

    def leave_out(self, what: str, why: str) -> None:
        """Say that a pair is not in the benchmark."""
        self.notes.append(f"{what} is left out: {why}.")

    def imported(self, path: Path, name: str, **fields: Any) -> ImportedBenchmark:
        """The benchmark of all pairs that were added; InputError if there is none."""
        if not self.pairs:
            reason = f": {self.notes[0]}" if self.notes else ""
            raise InputError(f"{path} has no pair that can be used{reason}")
        return ImportedBenchmark(
            Benchmark(name, tuple(self.pairs), FolderImages(self._paths), **fields), tuple(self.notes)
        )

    def _image(self, path: Path) -> str:
        if path not in self._ids:
            self._ids[path] = id_of_file(path)
            # Files with the same bytes are one image, which is read from the first of them.
            self._paths.setdefault(self._ids[path], path)
        return self._ids[path]

    def _unused(self, name: str) -> str:
        self._taken[name] = self._taken.get(name, 0) + 1
        return name if self._taken[name] == 1 else f"{name}-{self._taken[name]}"
