"""The self-join on Ray: actors run its tasks, and the blocks of pairs keep the order that they have without Ray.

The pairs of a task depend on how the rows were sorted into cells, and the sorting depends on the last bits of sums,
which another processor or a GPU rounds differently. If each actor sorted for itself, the tasks of two actors could
overlap or leave gaps, and pairs would be lost. So the driver sorts once and writes the result to the store's folder
(about 160 bytes a row), where actors map it into memory. Actors read the vectors from the store, and each runs its
tasks with the best engine of its own machine.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blindpairs.access import present
from blindpairs.cores import Cores
from blindpairs.errors import InputError
from blindpairs.executors.actors import ActorPool, Actors, not_shared
from blindpairs.progress import Progress, silent
from blindpairs.selfjoin import JoinPlan, PairBlock, UnitRows
from blindpairs.selfjoin.bound import Points
from blindpairs.selfjoin.cells import Cells, SortedRows
from blindpairs.selfjoin.join import Prepared, engine_of, in_order, prepare, tasks_of
from blindpairs.selfjoin.rows import refuse_unfit
from blindpairs.store import Store
from blindpairs.workspace import aside_name

TASKS_PER_CALL = 64  # at most; about a second of work for one core
AHEAD = 4  # for each actor, this many results of later calls may be held until an earlier one arrives

Block = dict[str, Any]  # a PairBlock's fields as NumPy arrays, which Ray transfers without a copy


@dataclass(frozen=True)
class RayJoin:
    """A `selfjoin.Join` of the columns of a store that Ray actors run, with the pairs of `similar_pairs`.

    Every machine must see `folder` under this path. Every actor holds the columns and runs `actors.cpus` threads.
    """

    actors: Actors
    folder: Path  # of the store
    column: str
    other: str = ""
    plan: JoinPlan | None = None  # None: chosen for the rows

    def __call__(
        self,
        rows: UnitRows,
        minimum: float,
        *,
        other: UnitRows | None = None,
        progress: Progress = silent,
    ) -> Iterator[PairBlock]:
        """See `selfjoin.Join`; `rows` and `other` are the same rows of the two columns.

        Raises InputError where they are not, where the store changes during the join or an actor cannot read it, and
        what `ActorPool.run` raises.
        """
        refuse_unfit(rows, minimum, other)
        if rows.count < 2:
            return
        folder = self.folder.absolute()  # actors have working folders of their own
        store = Store.open(folder)
        fingerprint = store.fingerprint()
        _refuse_unlike_column(store, self.column, rows)
        if other:
            _refuse_unlike_column(store, self.other, other)
            _refuse_other_choice(rows, other)
        with Cores(rows.device) as cores:
            prepared = prepare(rows, minimum, cores, plan=self.plan, other=other)
        # Driver and actors number the tasks alike: tasks_of depends only on `prepared`, which they share.
        total = sum(1 for _ in tasks_of(prepared))
        device = "cuda" if self.actors.gpus else "cpu"
        columns = (self.column, self.other if other else "")
        with (
            _on_disk(prepared, folder) as preparation,
            ActorPool(self.actors, partial(JoinActor, folder, columns, fingerprint, preparation, device)) as pool,
        ):
            task_ranges = _task_ranges(total, pool.count)
            progress(0, total)
            results = _in_task_order(pool.run(task_ranges, ahead=AHEAD * pool.count))
            for (_, stop), blocks in zip(task_ranges, results, strict=True):
                yield from map(_as_block, blocks)
                progress(stop, total)

    def describe(self) -> Mapping[str, Any]:
        """What pairs.json says of the join."""
        return {"method": "exact", "exact": True, "executor": "ray", "device": "cuda" if self.actors.gpus else "cpu"}


class JoinActor:
    """The worker of an actor: the vectors, the driver's sorted rows, and the tasks that the actor runs."""

    def __init__(
        self, folder: Path, columns: tuple[str, str], fingerprint: str, preparation: Path, device: str
    ) -> None:
        if not present(preparation):
            raise not_shared(folder)
        store = Store.open(folder)
        if store.fingerprint() != fingerprint:
            raise InputError(f"the embeddings at {folder} changed while they were mined: mine them again")
        vectors = [torch.from_numpy(store.column(name)).to(device) if name else None for name in columns]
        self._cores = Cores(torch.device(device))  # never closed: the actor is killed at the end of the join
        self._prepared = _loaded(preparation, vectors, device, self._cores)
        self._tasks = list(tasks_of(self._prepared))

    def describe(self) -> Mapping[str, Any]:
        """Nothing: everything that must be equal in all actors comes from the driver."""
        return {}

    def run_task(self, task_range: tuple[int, int]) -> list[Block]:
        """The pairs of some consecutive tasks, in order."""
        tasks = deque(self._tasks[slice(*task_range)])
        results = in_order(self._prepared.engine, tasks, self._cores)
        return [_as_arrays(block) for blocks, _ in results for block in blocks]


def _refuse_unlike_column(store: Store, name: str, rows: UnitRows) -> None:
    """Raise InputError unless `rows` choose from exactly the vectors that actors read from the store."""
    start, equal = 0, True
    for block in store.iter_column(name):
        part = rows.vectors[start : start + len(block)].cpu().numpy()
        # NaN is equal to NaN here: it makes a vector unfit for the join, but only if that is chosen.
        equal = equal and np.array_equal(part, block, equal_nan=True)
        start += len(block)
    if not equal or start != len(rows.vectors):
        raise InputError(
            f"the rows to join are not the {name!r} vectors of {store.folder}, which is what actors read: join on Ray "
            "only vectors as they are stored, not centred or changed in another way"
        )


def _refuse_other_choice(rows: UnitRows, other: UnitRows) -> None:
    """Raise InputError unless both choose the same row numbers: actors are sent those of `rows` alone."""
    numbers, other_numbers = (
        torch.arange(each.count) if each.chosen is None else each.chosen.cpu() for each in (rows, other)
    )
    if not torch.equal(numbers, other_numbers):
        raise InputError("the other vectors choose other rows than those to join: choose the same rows of both columns")


def _as_arrays(block: PairBlock) -> Block:
    return {name: None if column is None else column.cpu().numpy() for name, column in vars(block).items()}


def _as_block(arrays: Block) -> PairBlock:
    # Copied, because arrays from Ray are read-only.
    columns: dict[str, Any] = {name: None if array is None else torch.tensor(array) for name, array in arrays.items()}
    return PairBlock(**columns)


def _task_ranges(total: int, actors: int) -> list[tuple[int, int]]:
    """Ranges (start, stop) of task numbers below `total`, one for each call."""
    size = max(1, min(TASKS_PER_CALL, total // (8 * actors)))
    return [(start, min(start + size, total)) for start in range(0, total, size)]


def _in_task_order(results: Iterator[tuple[int, list[Block]]]) -> Iterator[list[Block]]:
    """Results in the order of their tasks; one that comes early is held until its turn."""
    early: dict[int, list[Block]] = {}
    due = 0
    for index, result in results:
        early[index] = result
        while due in early:
            yield early.pop(due)
            due += 1


@contextmanager
def _on_disk(prepared: Prepared, folder: Path) -> Iterator[Path]:
    """A file with all of `prepared` except the vectors; deleted at the exit of the context.

    It has the name of an unfinished file, so a later `prepare_folder` removes it if this process is killed.
    """
    path = folder / aside_name("join")
    join = prepared.join
    content = {
        "chosen": join.rows.chosen,
        "cells": vars(join.cells),
        "points": vars(join.points),
        "minimum": join.minimum,
        "plan": vars(prepared.plan),
    }
    try:
        try:
            torch.save(content, path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
            raise InputError(f"cannot write {path}: {error}; mining on Ray needs room in the store's folder") from error
        yield path
    finally:
        path.unlink(missing_ok=True)


def _loaded(path: Path, vectors: list[torch.Tensor | None], device: str, cores: Cores) -> Prepared:
    """What `_on_disk` wrote, together with the vectors. It is mapped, so actors on one machine share its memory."""
    content = torch.load(path, map_location=device, weights_only=True, mmap=True)
    rows, other = (None if column is None else UnitRows(column, content["chosen"]) for column in vectors)
    assert rows is not None
    cells, points, plan = Cells(**content["cells"]), Points(**content["points"]), JoinPlan(**content["plan"])
    join = SortedRows(rows, other, cells, points, content["minimum"])
    # The engine is chosen here and not by the driver: each machine has its own compiler, processor and GPUs.
    return Prepared(join, plan, engine_of(join, plan, cores))
