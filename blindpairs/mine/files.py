"""The two files of a mining run: pairs.parquet, and pairs.json which says how they were found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from blindpairs.access import removed
from blindpairs.errors import ConfigError
from blindpairs.mine.images import Images
from blindpairs.mine.memory import Keeper
from blindpairs.mine.mining import Mined, mine
from blindpairs.mine.options import MiningOptions
from blindpairs.mine.running import LOCAL, Running
from blindpairs.progress import Progress, silent
from blindpairs.workspace import prepare_folder, sha256_file, stamp, sweep, write_json, written_atomically


class EmbeddingStore(Protocol):
    """What mining reads: `blindpairs.store.Store`."""

    manifest: dict[str, Any]

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the columns of vectors."""

    def iter_column(self, name: str) -> Iterator[NDArray[Any]]:
        """One encoder's vectors part by part, (rows, D) float16."""

    def metadata(self, columns: Sequence[str] = ...) -> pa.Table:
        """The rows without vectors."""

    def fingerprint(self) -> str:
        """A digest of everything in the store."""


def mine_store(
    store: EmbeddingStore,
    folder: Path,
    options: MiningOptions | None = None,
    *,
    encoders: tuple[str, str] = ("clip", "dino"),
    progress: Progress = silent,
    running: Running = LOCAL,
) -> Mined:
    """Mine a store and write `folder`/pairs.parquet, then pairs.json, which marks it complete.

    `encoders` names the blind one and the one that sees. The same store and options give the same bytes.
    """
    images, (one, other) = read_store(store, encoders, running)
    prepare_folder(folder)
    mined = mine(one, other, images, options, progress, running)
    record = folder / "pairs.json"
    removed(record)  # from here on, what it said of an older pairs.parquet would be wrong
    with written_atomically(folder / "pairs.parquet") as aside:
        pq.write_table(mined.pairs, aside, compression="zstd")
    origin = {"fingerprint": store.fingerprint(), "encoders": _specs(store.manifest, encoders)}
    write_json(record, provenance(mined, origin, running.describe(), sha256_file(folder / "pairs.parquet")))
    return mined


def read_store(
    store: EmbeddingStore, encoders: tuple[str, str], running: Running
) -> tuple[Images, tuple[NDArray[np.float16], NDArray[np.float16]]]:
    """The images of a store and their vectors in both encoders, mapped as far as memory has no room for them."""
    missing = [name for name in encoders if name not in store.encoders]
    if missing:
        have = ", ".join(store.encoders)
        raise ConfigError(f"the store has no encoder {missing[0]!r}, it has {have}: embed with it, or name another")
    if running.room is not None:
        sweep(running.room.folder)
    images = read_images(store.metadata(["image_id", "uri", "flags"]))
    keeper = Keeper(running.room, len(images))
    one, other = (
        keeper.keep(name, store.iter_column(name), (len(images), store.manifest["encoders"][name]["dimension"]))
        for name in encoders
    )
    return images, (one, other)


def read_images(metadata: pa.Table) -> Images:
    """The metadata columns image_id, uri and flags as mining takes them."""
    blank = ["low_information" in (flags or ()) for flags in metadata["flags"].to_pylist()]
    return Images(metadata["image_id"].to_pylist(), metadata["uri"].to_pylist(), np.array(blank, dtype=bool))


def provenance(mined: Mined, origin: Mapping[str, Any], join: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """Everything that pairs.json says. `complete` is True only where nothing can have been missed."""
    return {
        **stamp(),
        "options": asdict(mined.options),
        "store": dict(origin),
        "counts": asdict(mined.counts),
        "join": dict(join),
        "complete": mined.complete and join["exact"],
        "quantile_pairs": mined.quantile_pairs,
        "dino_histogram": {"first_edge": -1.0, "step": 0.01, "counts": mined.dino_histogram},
        "advice": mined.advice,
        "pairs_sha256": sha256,
    }


def _specs(manifest: Mapping[str, Any], encoders: tuple[str, str]) -> dict[str, Any]:
    return {role: {"name": name, **manifest["encoders"][name]} for role, name in zip(("a", "b"), encoders, strict=True)}
