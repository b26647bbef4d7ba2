"""What the kernels list, before anything decides on it, against integer arithmetic; and mutants that must be caught.

A kernel that lists too much loses no pair, because the decision behind it repairs that, and so no test of the join sees
it. These tests see it, and the mutants prove that they do.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
import torch
from exact_cosines import exact_cosines
from gpu_child import DEVICE, GPU, TILE, kernel_child
from torch import Tensor

from blindpairs.selfjoin import UnitRows

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed: it is what the join on a GPU is written in", allow_module_level=True)

KERNEL = Path(__file__).parents[3] / "blindpairs" / "selfjoin" / "gpu" / "kernels.py"
COLUMNS = 64 if GPU else 16
ITEMS = [[0, 0, 4], [1, 1, 4], [2, 3, 4], [0, 4, 6]]  # row block, first tile, end tile

MUTANTS = {
    "every row is row 0": ("y = tl.load(points + rows[:, None] * (2 * K)", "y = tl.load(points + rows[:, None] * 0"),
    "every column is column 0": ("points + K + columns[None, :] * (2 * K)", "points + K + columns[None, :] * 0"),
    "the threshold's sign is wrong": ("(signs >= 0)", "(signs < 0)"),
    "a row passes only as a whole": ("return a & b", "return a | b"),
    "the last tile is dropped": ("tl.load(item + 2)):", "tl.load(item + 2) - 1):"),
    "the first tile is dropped": ("range(tl.load(item + 1),", "range(tl.load(item + 1) + 1,"),
    "tiles are named by their neighbours": ("| tile * BN,", "| (tile + 1) * BN,"),
    "places are off by one": ("tl.cumsum(wanted, 0) - 1", "tl.cumsum(wanted, 0)"),
    "half of the columns are read twice": ("tl.arange(0, BN).to(tl.int64)", "(tl.arange(0, BN) // 2).to(tl.int64)"),
    "columns are read as rows": ("x = tl.load(points + K + columns[None", "x = tl.load(points + columns[None"),
    "expand: the threshold's sign is wrong": ("(score >= 0)", "(score <= 0)"),
    "expand: half of the columns": ("first + tl.arange(0, BN)", "first + tl.arange(0, BN) // 2"),
    "expand: every row is row 0": ("points + row * (2 * K)", "points + row * 0"),
    "expand: a row is its own pair": ("(columns > row)", "(columns >= row)"),
    "expand: every row segment is the first": ("segments + tl.program_id(0))", "segments)"),
    "dots: a row with itself": ("b = tl.load(y + column", "b = tl.load(x + column"),
    "dots: the first dimensions alone": ("range(0, D, BLOCK)", "range(0, BLOCK, BLOCK)"),
    "dots: float32 products": ("total += a * b", "total += (a.to(tl.float32) * b.to(tl.float32)).to(tl.float64)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def child() -> Iterator[Executor]:
    with kernel_child() as pool:
        yield pool


def integer_points(count: int, columns: int, seed: int) -> Tensor:
    """(count, 2 K) whole numbers, which every arithmetic adds up alike; some hundredths of the pairs pass."""
    points = torch.randint(-3, 4, (count, 2 * columns), generator=torch.Generator().manual_seed(seed))
    points[::3, columns:] = points[::3, :columns]  # some are pairs with themselves, which are none
    points[:, columns - 1], points[:, -1] = -round(8 * columns**0.5), 1
    return points


def slow_lists(points: Tensor, rows: int, columns: int) -> tuple[list[int], list[int]]:
    """The row segments and the pairs of ITEMS, one score at a time."""
    k = points.shape[1] // 2
    left, right = points[:, :k].tolist(), points[:, k:].tolist()
    segments, pairs = [], []
    for block, first, end in ITEMS:
        for row in range(block * rows, block * rows + rows):
            for tile in range(first, end):
                hits = [
                    column
                    for column in range(tile * columns, tile * columns + columns)
                    if sum(a * b for a, b in zip(left[row], right[column], strict=True)) >= 0
                ]
                segments += [row << 32 | tile * columns] if hits else []
                pairs += [row << 32 | column for column in hits if column > row]
    return sorted(segments), sorted(pairs)


def use_kernels(folder: Path, mutant: tuple[str, str] | None) -> None:
    """Load kernels.py, changed in one place, and let everything that launches kernels have it."""
    from blindpairs.selfjoin.gpu import points, tiles

    source = KERNEL.read_text(encoding="utf-8")
    if mutant is not None:
        assert source.count(mutant[0]) == 1, mutant
        source = source.replace(*mutant)
    file = folder / "mutated_kernels.py"  # Triton reads a kernel's source from its file
    file.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"mutated_kernel_{abs(hash(source))}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    launched: dict[str, Any] = {"find": tiles, "expand": tiles, "dots": points}
    for name, user in launched.items():
        setattr(user, name, getattr(module, name))


def wrong_lists(folder: Path, mutant: tuple[str, str] | None) -> list[str]:
    """What these kernels do wrong: of the segments, the pairs, the cosines, and the proof that the join itself runs."""
    from blindpairs.selfjoin.gpu.points import DeviceRows
    from blindpairs.selfjoin.gpu.selftest import is_right
    from blindpairs.selfjoin.gpu.tiles import Shape, Tiles

    use_kernels(folder, mutant)
    shape = Shape() if GPU else Shape(TILE, TILE, 1, 1)
    points = integer_points(6 * TILE, COLUMNS, 1)
    segments, pairs = slow_lists(points, shape.rows, shape.columns)
    assert 10 < len(segments) < 0.9 * TILE * sum(end - first for _, first, end in ITEMS)  # some pass, some do not
    tiles = Tiles(points.bfloat16().to(DEVICE), shape)
    count, found = tiles.find_segments(torch.tensor(ITEMS, dtype=torch.int32), 10_000)
    vectors = torch.randn(20, 150, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 21)[:, None]
    i, j = torch.triu_indices(20, 20, 1)
    rows = UnitRows(vectors)
    cosines = DeviceRows(rows, torch.device(DEVICE), True).cosines(i.to(DEVICE), j.to(DEVICE)).cpu()
    wrong = {
        "segments": (count, found.tolist()) != (len(segments), segments),
        "pairs": tiles.expand_segments(torch.tensor(segments, device=DEVICE)).tolist() != pairs,
        "cosines": cosines.tolist() != exact_cosines(vectors.numpy())[i, j].tolist(),
        "proof": not is_right(torch.device(DEVICE), COLUMNS, shape),
    }
    return [name for name, is_wrong in wrong.items() if is_wrong]


def test_shipped_kernels_list_what_integer_arithmetic_lists(child: Executor, tmp_path: Path) -> None:
    assert child.submit(wrong_lists, tmp_path, None).result() == []


@pytest.mark.parametrize("name", MUTANTS)
def test_kernel_that_is_wrong_in_one_place_is_caught(child: Executor, tmp_path: Path, name: str) -> None:
    wrong = child.submit(wrong_lists, tmp_path, MUTANTS[name]).result()
    which = "cosines" if name.startswith("dots") else "pairs" if name.startswith("expand") else "segments"
    assert which in wrong
    assert ("proof" in wrong) == (which != "cosines")  # the join would have refused this kernel


def full_list() -> tuple[int, list[int], list[int]]:
    from blindpairs.selfjoin.gpu.tiles import Shape, Tiles, empty_list

    shape = Shape() if GPU else Shape(TILE, TILE, 1, 1)
    points = integer_points(6 * TILE, COLUMNS, 1)
    segments, _ = slow_lists(points, shape.rows, shape.columns)
    codes = torch.cat([empty_list(7, torch.device(DEVICE)), torch.full((5,), -1, device=DEVICE)])
    Tiles(points.bfloat16().to(DEVICE), shape).launch_find(torch.tensor(ITEMS, dtype=torch.int32, device=DEVICE), codes)
    assert set(codes[2:9].tolist()) <= set(segments)
    return int(codes[0]), segments, codes[9:].tolist()


def test_full_list_takes_nothing_more_and_still_counts(child: Executor, tmp_path: Path) -> None:
    child.submit(use_kernels, tmp_path, None).result()
    count, segments, behind = child.submit(full_list).result()
    assert count == len(segments) > 7
    assert behind == [-1] * 5


COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from blindpairs.selfjoin.gpu.tuning import SHAPES
from blindpairs.selfjoin.gpu.kernels import FUSED, find

aligned = [["tt.divisibility", 16]]
found = []
types = {"points": "*bf16", "items": "*i32", "segments": "*i64", "K": "constexpr", "BM": "constexpr", "BN": "constexpr"}
cases = [(90, 128, shape) for shape in SHAPES] + [(90, 64, SHAPES[0]), (89, 128, SHAPES[1]), (89, 64, SHAPES[0])]
for capability, columns, shape in cases:
    values = {"K": columns, "BM": shape.rows, "BN": shape.columns}
    source = ASTSource(find, types, constexprs=values, attrs={(0,): aligned, (2,): aligned})
    options = {"num_warps": shape.warps, "num_stages": shape.stages_at(columns), **FUSED}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    found.append([made.metadata.shared, shape.shared_bytes(columns, capability // 10)])
json.dump(found, sys.stdout)
"""


def test_shared_memory_of_every_shape_is_what_the_compiler_asks_for(tmp_path: Path) -> None:
    """No GPU is needed: Triton compiles for any, and brings its assembler."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False, env=environment, timeout=240
    )
    if "ASTSource" in done.stderr or "GPUTarget" in done.stderr:
        pytest.skip("this Triton compiles ahead of time in another way")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 7
    assert [asked for asked, _ in found] == [reckoned for _, reckoned in found]
