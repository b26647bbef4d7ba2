"""The embedding loop: images from the decode workers, through every encoder, into parts.

A batch holds consecutive usable images of one part, so that the vectors of a part do not depend on where a run began.
(Exception: where memory ran out and the batch was halved, vectors may differ in their last bits.) Other processes
decode images ahead; a GPU computes one batch while the previous one is stored and committed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blindpairs.cores import Cores, usable_cores
from blindpairs.errors import ConfigError, InputError
from blindpairs.images import Item
from blindpairs.images.decode import Limits
from blindpairs.images.item import Image, Outcome
from blindpairs.images.preprocess import Geometry, Preprocess
from blindpairs.images.workers import DecodePool, Decoding
from blindpairs.progress import Progress
from blindpairs.store import METADATA, Failure, Part, read_failures, read_ids, read_items, read_vectors, write_part
from blindpairs.workspace import digest

AHEAD = 384  # images decoded ahead, at least: hides the pauses of the decoding processes
SLICE = 16  # images that one core encodes at a time
PART_ROWS = 1024  # a killed run repeats at most this many: a second's work of a large GPU, minutes of a laptop


class ImageEncoder(Protocol):
    """What embedding needs of an encoder."""

    dimension: int
    preprocess: Preprocess
    device: torch.device

    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 on the encoder's device -> (B, D) float32 unit vectors; NaN for a zero vector."""

    def describe(self) -> dict[str, object]:
        """Everything that the vectors depend on, as JSON values."""


@dataclass(frozen=True)
class EmbedOptions:
    """How a run computes. Only `limits` and `part_rows` change what is written.

    `suited_to` has the defaults of `batch` and `workers`, because they depend on the device.
    """

    batch: int  # images
    workers: int  # decoding processes
    limits: Limits = Limits()
    part_rows: int = PART_ROWS
    timeout: float = Decoding.timeout  # seconds to decode one image
    shard: tuple[int, int] = (0, 1)  # this run's index, and how many runs share the work
    overwrite: bool = False

    @classmethod
    def suited_to(cls, device: str) -> "EmbedOptions":
        """The default options for `device`, on a machine with as many usable cores as this one."""
        cores = usable_cores()
        if device == "cpu":  # encoding takes the other half of the cores
            return cls(batch=128, workers=max(1, cores // 2))
        return cls(batch=256, workers=cores)


class PartJob:
    """One part, the columns that it lacks, and the results so far.

    `size` is the number of its items. `marker` is that of a finished part to which columns are added: its rows and
    vectors stay, except that an image whose bytes have changed becomes a failure.
    """

    def __init__(
        self, part: Part, size: int, columns: Mapping[str, Any], marker: Mapping[str, Any] | None = None
    ) -> None:
        self.part = part
        self.columns = columns  # name -> the encoder's description
        self.failures = read_failures(part) if marker else []
        self.to_decode = size - len(self.failures)
        self._marker = marker
        # `row` is an item's index in the part. The tables have other indices, because failures have no row in them.
        self._images: list[tuple[int, Item, Image]] = []  # (row, item, image without pixels)
        self._vectors: dict[str, list[npt.NDArray[np.float16]]] = {name: [] for name in columns}  # (B, D) each
        self._ids = read_ids(part) if marker else {}  # row -> image_id, of the rows already stored

    def rows(self, size: int) -> list[int]:
        """The rows to decode: those that have not failed in an earlier run."""
        failed = {failure.row for failure in self.failures}
        return [row for row in range(size) if row not in failed]

    def items(self) -> list[Item]:
        """The items to decode, in order."""
        items = read_items(self.part.folder, self.part.number)
        return [items[row] for row in self.rows(len(items))]

    def accept(self, row: int, item: Item, outcome: Outcome) -> bool:
        """Record the outcome of one item; returns whether it goes to the encoders."""
        if isinstance(outcome, Image):
            if self._ids.get(row, outcome.image_id) == outcome.image_id:
                return True
            self._fail(row, item, "changed", "its bytes are not those that were embedded before", outcome.image_id)
            return False
        if self._marker and outcome.code != "changed":
            # It was readable once, and may be so again: a disk that is not mounted must not cost finished vectors.
            raise InputError(
                f"{item.uri} is in the store but cannot be read now ({outcome.message}): nothing was changed; "
                "bring the corpus back, then run the same command again"
            )
        self._fail(row, item, outcome.code, outcome.message, outcome.image_id)
        return False

    def take(self, images: Sequence[tuple[int, Item, Image]], vectors: Mapping[str, Tensor]) -> None:
        """Keep the vectors of a batch, (B, D) a column. An image with a non-finite value in any column is a failure."""
        # The only conversion to float16: what is tested for overflow here is what is stored.
        arrays = {name: block.cpu().numpy().astype(np.float16) for name, block in vectors.items()}
        finite = np.ones(len(images), bool)  # (B,)
        for block in arrays.values():
            finite &= np.isfinite(block).all(axis=1)
        for name, block in arrays.items():
            self._vectors[name].append(block[finite])
        for (row, item, image), usable in zip(images, finite, strict=True):
            if usable:
                self._images.append((row, item, image))
            else:
                self._fail(row, item, "non_finite", "an encoder gave it no finite vector", image.image_id)

    def commit(self) -> int:
        """Write the part; returns the number of its rows."""
        kept = [row for row, _, _ in self._images]  # ascending: batches come in order
        vectors = {name: np.concatenate(blocks) for name, blocks in self._vectors.items()}
        columns = {name: digest(description) for name, description in self.columns.items()}
        if self._marker:
            # Images that failed only now (changed, non-finite) lose their old vectors: a row has every column or none.
            stored = read_vectors(self.part, self._marker["columns"])
            index = {row: at for at, row in enumerate(self._ids)}  # row -> index in the stored table
            old = {name: block[[index[row] for row in kept]] for name, block in stored.items()}
            vectors, columns = old | vectors, self._marker["columns"] | columns
        metadata: dict[str, list[Any]] = {name: [] for name in METADATA.names}
        for _, item, image in self._images:
            for name, values in metadata.items():
                values.append(getattr(item if name in ("uri", "uri_bytes") else image, name))
        failures = sorted(self.failures, key=lambda failure: failure.row)
        write_part(self.part, metadata, vectors, failures, columns)
        return len(kept)

    def _fail(self, row: int, item: Item, code: str, message: str, image_id: str | None) -> None:
        self.failures.append(Failure(row, item.uri, item.uri_bytes, code, message, image_id))


@dataclass
class _Batch:
    """Consecutive usable images of one part; `last` is true for the batch that completes it, which may be empty."""

    job: PartJob
    images: list[tuple[int, Item, Image]]
    pixels: dict[Geometry, Tensor]  # (B, 3, S, S) uint8 each; encoders with the same preprocessing share one
    last: bool = False


def run_jobs(
    jobs: Sequence[PartJob],
    encoders: Mapping[str, ImageEncoder],
    options: EmbedOptions,
    progress: Progress,
) -> int:
    """Run the jobs, and commit each part when it is complete; returns the number of rows written."""
    total = sum(job.to_decode for job in jobs)
    needed = (encoders[name].preprocess for job in jobs for name in job.columns)
    preprocesses = {preprocess.geometry: preprocess for preprocess in needed}
    decoding = Decoding(tuple(preprocesses.values()), options.limits, options.timeout)
    # Fewer processes for few images: each takes a third of a second to start.
    processes = max(1, min(options.workers, total // 64))
    written = done = failed = 0
    launched: tuple[_Batch, dict[str, Tensor]] | None = None  # computing on the GPU, and not stored yet
    if not jobs:
        return 0
    with (
        DecodePool(decoding, processes, ahead=max(AHEAD, 2 * options.batch)) as pool,
        Cores(torch.device("cpu")) as cores,
    ):
        encode_batch = BatchEncoder(options.batch, cores)
        progress(done, total, failed)
        for batch in _batches(pool, jobs, preprocesses, options.batch):
            # On a GPU this returns before the vectors are computed: storing the batch before overlaps with it.
            encoded = encode_batch({name: encoders[name] for name in batch.job.columns}, batch.pixels)
            if launched:
                written += _store(*launched)
            launched = (batch, encoded)
            done += len(batch.images)
            failed += len(batch.job.failures) if batch.last else 0
            progress(done, total, failed)
        if launched:
            written += _store(*launched)
    return written


def _store(batch: _Batch, vectors: Mapping[str, Tensor]) -> int:
    batch.job.take(batch.images, vectors)
    return batch.job.commit() if batch.last else 0


def _batches(
    pool: DecodePool, jobs: Sequence[PartJob], preprocesses: Mapping[Geometry, Preprocess], size: int
) -> Iterator[_Batch]:
    """The batches of all jobs, from one stream of images: decoding does not pause between parts."""
    outcomes = pool.outcomes(item for job in jobs for item in job.items())
    for job in jobs:
        rows = iter(job.rows(job.to_decode + len(job.failures)))
        batch = _empty_batch(job, preprocesses, size)
        for _ in range(job.to_decode):
            item, outcome = next(outcomes)
            row = next(rows)
            if not job.accept(row, item, outcome):
                continue
            if len(batch.images) == size:
                yield batch
                batch = _empty_batch(job, preprocesses, size)
            assert isinstance(outcome, Image)
            # Copied at once: the pixels are a view of shared memory, and the next image overwrites it.
            for pixels, target in zip(outcome.pixels, batch.pixels.values(), strict=True):
                target.numpy()[len(batch.images)] = pixels
            batch.images.append((row, item, replace(outcome, pixels=())))
        batch.pixels = {geometry: buffer[: len(batch.images)] for geometry, buffer in batch.pixels.items()}
        batch.last = True
        yield batch


def _empty_batch(job: PartJob, preprocesses: Mapping[Geometry, Preprocess], size: int) -> _Batch:
    pinned = torch.cuda.is_available()  # page-locked memory lets the copy to the device overlap with computing
    shapes = {geometry: (size, 3, rules.size, rules.size) for geometry, rules in preprocesses.items()}
    return _Batch(job, [], {g: torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for g, shape in shapes.items()})


class BatchEncoder:
    """Runs batches through encoders. If memory runs out, it halves the size of a step, for this and all later batches.

    On a CPU a batch is cut into slices, each encoded on one core: a small product that is spread over all cores waits
    for the slowest of them (measured: 92 images/s with two threads a product, 383 with one, next to one busy process).
    Slices do not depend on the number of cores, so neither do the vectors.
    """

    def __init__(self, size: int, cores: Cores) -> None:
        self.size = size
        self._cores = cores

    def __call__(self, encoders: Mapping[str, ImageEncoder], pixels: Mapping[Geometry, Tensor]) -> dict[str, Tensor]:
        """geometry -> (B, 3, S, S) uint8 on the CPU; returns column -> (B, D) float32 on the encoder's device."""
        while True:
            try:
                return self._encoded(encoders, pixels)
            except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises the plain class
                if "memory" not in str(error).lower():
                    raise
            self._halve(next(iter(encoders.values())).device)

    def _encoded(self, encoders: Mapping[str, ImageEncoder], pixels: Mapping[Geometry, Tensor]) -> dict[str, Tensor]:
        # All encoders are started before the first result is waited for: otherwise cores idle at the end of each.
        running: dict[str, list[Callable[[], Tensor]]] = {}
        for name, encoder in encoders.items():
            at_once = min(self.size, SLICE) if encoder.device.type == "cpu" else self.size
            running[name] = [
                self._started(encoder, part) for part in pixels[encoder.preprocess.geometry].split(at_once) if len(part)
            ]
        nothing = {name: torch.empty((0, encoder.dimension)) for name, encoder in encoders.items()}
        return nothing | {name: torch.cat([part() for part in parts]) for name, parts in running.items() if parts}

    def _started(self, encoder: ImageEncoder, part: Tensor) -> Callable[[], Tensor]:
        if encoder.device.type == "cpu":
            return self._cores.start(lambda: encoder.encode(part)).result
        vectors = encoder.encode(part.to(encoder.device, non_blocking=True))
        return lambda: vectors

    def _halve(self, device: torch.device) -> None:
        if self.size == 1:
            raise ConfigError(f"{device} has too little memory for one image: try a smaller encoder or --device cpu")
        # A CPU already computes in slices: only a size below a slice uses less memory.
        self.size = min(self.size, SLICE if device.type == "cpu" else self.size) // 2 or 1
        if device.type == "cuda":
            torch.cuda.empty_cache()
