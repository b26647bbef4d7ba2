"""What every foreign format gives: what was written or read, and what it could not carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blindpairs.benchmark.model import Benchmark


@dataclass(frozen=True)
class Exported:
    """A benchmark as it was written in a foreign format."""

    folder: Path
    pairs: int
    refused: Mapping[str, str]  # pair id -> what this format cannot carry
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ImportedBenchmark:
    """A benchmark as it was read from a foreign format."""

    benchmark: Benchmark
    notes: tuple[str, ...]  # what was odd, one sentence each
