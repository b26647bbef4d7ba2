"""The self-test of the kernels: which shapes of tile a card has room for, and whether their results there are right.

No test of this project runs on every card and compiler. So before a join uses a kernel, its results on this card are
compared with plain arithmetic, on points whose scores are whole numbers and therefore exact everywhere.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from subprocess import SubprocessError
from typing import Any

import torch
from torch import Tensor
from triton.errors import TritonError
from triton.runtime.errors import OutOfResources

from blindpairs.selfjoin.device import CannotRun
from blindpairs.selfjoin.gpu.tiles import Shape, Tiles
from blindpairs.selfjoin.gpu.tuning import PRODUCT_COST, SHAPES

# Errors of drivers, compilers and launches, which depend on the machine. Anything else is a bug of this package.
FAILURES = (RuntimeError, OSError, ImportError, SubprocessError, TritonError)


def why_kernels_fail(name: str) -> str:
    """Why a join cannot use the kernels on the device of this name, found by a small one; empty if it can."""
    try:
        tested_shapes(SHAPES, [torch.device(name)], min(PRODUCT_COST), enough=1)
    except CannotRun as error:
        return str(error)
    except FAILURES as error:
        return kernels_do_not_run(error)
    return ""


def kernels_do_not_run(error: BaseException) -> str:
    """The reason that users read for one of FAILURES, with the first line of its message, cut to 160 characters."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"the GPU's kernels do not run ({line[:160]})"


def tested_shapes(
    shapes: Sequence[Shape], devices: Sequence[torch.device], columns: int, *, enough: int
) -> list[Shape]:
    """The first of `shapes`, at most `enough`, that every device has room for at K = `columns`.

    Raises CannotRun if there is none, or if a device computes one of them wrongly.
    """
    found: list[Shape] = []
    for shape in shapes:
        if len(found) < enough and all(_has_room(device, columns, shape) for device in devices):
            # A card that is wrong for one shape is not trusted with another.
            wrong = [device for device in devices if not _computes_rightly(device, columns, shape)]
            if wrong:
                raise CannotRun(f"{wrong[0]} finds other pairs than it should in a small join")
            found.append(shape)
    if not found:
        raise CannotRun("no shape of tile has room in the shared memory of the GPU")
    return found


def _has_room(device: torch.device, columns: int, shape: Shape) -> bool:
    if device.type == "cuda":
        card: Any = torch.cuda.get_device_properties(device)
        # A torch that does not know the limit leaves it to Triton, which does.
        limit = getattr(card, "shared_memory_per_block_optin", 1 << 30)
        if shape.shared_bytes(columns, card.major) > limit:  # known without compiling the kernel
            return False
    with _current(device):
        return launches_at_all(device, columns, shape)


def _computes_rightly(device: torch.device, columns: int, shape: Shape) -> bool:
    with _current(device):
        return is_right(device, columns, shape)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Make it the current device: Triton launches on that one, even if the tensors are on another."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def launches_at_all(device: torch.device, columns: int, shape: Shape) -> bool:
    """Whether the device has the resources for this shape, as Triton finds when it launches it."""
    try:
        Tiles(whole_number_points(columns, 2 * max(shape.rows, shape.columns)).to(device), shape).find_segments(
            torch.tensor([[0, 0, 1]], dtype=torch.int32), shape.rows
        )
    except OutOfResources:
        return False
    return True


def is_right(device: torch.device, columns: int, shape: Shape) -> bool:
    """Whether both kernels list on this device what plain arithmetic lists, for this K and shape."""
    packed = whole_number_points(columns, 2 * max(shape.rows, 2 * shape.columns))  # (n, 2 K): two row blocks or more
    tiles = len(packed) // shape.columns
    # A range that leaves out the last tile, one that leaves out the first, and the last tile alone.
    items = torch.tensor([[0, 0, tiles - 1], [1, 1, tiles], [0, tiles - 1, tiles]], dtype=torch.int32)
    segments, pairs = listed_plainly(packed, items, shape)
    kernels = Tiles(packed.to(device), shape)
    count, found = kernels.find_segments(items, len(segments))
    return (
        count == len(segments)
        and torch.equal(found.cpu(), segments)
        and torch.equal(kernels.expand_segments(found).cpu(), pairs)
    )


def whole_number_points(columns: int, count: int) -> Tensor:
    """Packed points (count, 2 K) of small whole numbers, of which a few pairs in a hundred pass."""
    packed = torch.randint(-2, 3, (count, 2 * columns), generator=torch.Generator().manual_seed(0))
    packed[::3, columns:] = packed[::3, :columns]  # some are pairs with themselves, which `expand` leaves out
    packed[:, columns - 1] = -round(4.6 * columns**0.5)  # 2.3 standard deviations of the other columns' products
    packed[:, -1] = 1
    return packed.bfloat16()


def listed_plainly(packed: Tensor, items: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """The codes that `find` and `expand` must list, in order: every score is looked at, one tile after another."""
    left, right = packed.double().chunk(2, 1)
    passed = left @ right.T >= 0  # (n, n), exact: whole numbers
    segments, pairs = [], []
    for block, first, end in items.tolist():
        for row in range(block * shape.rows, (block + 1) * shape.rows):
            for column in range(first * shape.columns, end * shape.columns, shape.columns):
                hits = passed[row, column : column + shape.columns].nonzero()[:, 0] + column
                segments += [row << 32 | column] if len(hits) else []
                pairs += [row << 32 | hit for hit in hits.tolist() if hit > row]
    return torch.tensor(sorted(segments)), torch.tensor(sorted(pairs))
