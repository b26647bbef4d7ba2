"""GPUs that are absent, unfit, or out of memory, and workers that die: the same pairs, a line that says why, no hang.

None of it needs a GPU: what fails is made to fail, in the real code and its real threads.
"""

import importlib
import importlib.util
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gpu_child import DEVICE, GPU, kernel_child
from test_gpu_join import clustered, exact_cosines, small_plan
from torch import Tensor

from blindpairs.errors import ConfigError
from blindpairs.selfjoin import Hardware, PairBlock, similar_pairs
from blindpairs.selfjoin.rows import UnitRows

Pairs = list[tuple[int, int]]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
SECONDS = 60.0  # far longer than any of these joins takes


@pytest.fixture(scope="module")
def child() -> Iterator[Executor]:
    with kernel_child() as pool:
        yield pool


def wanted(vectors: Tensor) -> Pairs:
    return sorted((i, j) for i, j in (exact_cosines(vectors) >= 0.9).nonzero().tolist() if i < j)


# Cards that cannot do it

H100 = SimpleNamespace(name="H100", major=9, minor=0, shared_memory_per_block_optin=232448)
T4 = SimpleNamespace(name="Tesla T4", major=7, minor=5, shared_memory_per_block_optin=65536)


def pretend(monkeypatch: pytest.MonkeyPatch, cards: list[Any], hip: str | None = None) -> None:
    """Let torch report these cards."""

    def properties(index: int) -> Any:
        if isinstance(cards[index], Exception):
            raise cards[index]
        return cards[index]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.version, "hip", hip)


UNFIT: dict[str, tuple[list[Any], str | None, str]] = {
    "absent": ([], None, "torch sees no GPU"),
    "too old": ([T4], None, "cuda:0 (Tesla T4) has compute capability 7.5, and bfloat16 needs 8.0"),
    "made by AMD": ([H100], "6.2", "this torch is built for AMD GPUs (HIP)"),
    "taken": ([RuntimeError("CUDA error: busy\nmore")], None, "cuda:0 cannot be used (CUDA error: busy)"),
    "gone": ([AssertionError("Invalid device id")], None, "cuda:0 cannot be used (Invalid device id)"),
}


@needs_triton
@pytest.mark.parametrize("name", UNFIT)
def test_card_that_cannot_do_it_leaves_it_to_the_cpu_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    cards, hip, why = UNFIT[name]
    pretend(monkeypatch, cards, hip)
    told: list[str] = []
    hardware = Hardware("auto", told.append)
    vectors = clustered(60, 9, 0)
    found = [pair for block in similar_pairs(vectors, 0.9, hardware=hardware) for pair in pairs_of(block)]
    assert sorted(found) == wanted(vectors)
    assert len(told) == 1
    assert told[0].startswith(why)
    assert told[0].endswith(": the CPU compares the pairs")
    assert hardware.describe() == "cpu"
    with pytest.raises(ConfigError) as refused:
        Hardware("cuda")
    assert why in str(refused.value)
    assert "there is cpu, or leave out --device" in str(refused.value)


def test_driver_that_answers_for_no_card_is_told_as_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    told: list[str] = []
    Hardware("auto", told.append)
    assert told == ["torch sees no GPU: the CPU compares the pairs"]


@needs_triton
def test_cards_that_can_do_it_are_used_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [T4, H100, H100])
    assert Hardware("auto").gpus == Hardware("cuda").gpus == ("cuda:1", "cuda:2")
    assert Hardware("cuda:2").gpus == ("cuda:2",)
    assert Hardware("cpu").gpus == ()
    with pytest.raises(ConfigError, match=r"there is cuda:1, cuda:2, cpu"):
        Hardware("cuda:0")


@needs_triton
@pytest.mark.parametrize(
    "asked", ["cuda:7", "cuda:-1", "cuda:", "cuda:1:2", "gpu", "mps", "", "CUDA", "cuda:\u0663", "cpu:1"]
)
def test_device_that_cannot_be_had_is_refused_with_what_can(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    pretend(monkeypatch, [H100])
    with pytest.raises(ConfigError, match=r"there is cuda:0, cpu, or leave out --device") as refused:
        Hardware(asked)
    assert repr(asked) in str(refused.value)


def pairs_of(block: PairBlock) -> Pairs:
    return list(zip(block.i.tolist(), block.j.tolist(), strict=True))


def other_of(block: PairBlock) -> Tensor:
    assert block.other is not None  # asked for
    return block.other


def on_pretended_gpu(told: list[str]) -> Hardware:
    """This machine's CPU, taken for a GPU."""
    hardware = Hardware("cpu", told.append)
    hardware.gpus = (DEVICE,)
    return hardware


@needs_triton
@pytest.mark.skipif(GPU, reason="the driver of a real GPU is loaded once, and stays")
def test_triton_without_a_compiler_leaves_it_to_the_cpu_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = importlib.import_module("triton.runtime.driver")  # the package calls the object in it alike

    def no_compiler() -> None:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    monkeypatch.setattr(runtime.driver, "_default", None)
    monkeypatch.setattr(runtime.driver, "_active", None)
    monkeypatch.setattr(runtime, "_create_driver", no_compiler)
    told: list[str] = []
    vectors = clustered(60, 9, 0)
    hardware = on_pretended_gpu(told)
    for _ in range(2):  # the second join does not try again
        found = [pair for block in similar_pairs(vectors, 0.9, hardware=hardware) for pair in pairs_of(block)]
        assert sorted(found) == wanted(vectors)
    assert len(told) == 1
    assert told[0].startswith("the GPU's kernels do not run (Failed to find C compiler.")
    assert hardware.describe() == "cpu"


# In the child: the kernels run, and something fails


def joined(fault: Callable[[Any], None], vectors: Tensor, **options: Any) -> tuple[Pairs, list[str], str]:
    """The pairs, what was told, and what did it, where `fault` breaks something; TimeoutError for a join that hangs."""
    told: list[str] = []
    result: list[Any] = []

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            try:
                fault(patch)
                hardware = on_pretended_gpu(told)
                from blindpairs.selfjoin.gpu import join as gpu

                plan = replace(small_plan(), **options)
                patch.setattr(gpu, "GpuPlan", lambda: plan)
                blocks = similar_pairs(UnitRows(vectors), 0.9, other=UnitRows(vectors), hardware=hardware)
                found = [
                    (*pair, other)
                    for block in blocks
                    for pair, other in zip(pairs_of(block), (other_of(block) - block.similarity).tolist(), strict=True)
                ]
                assert all(abs(difference) < 1e-14 for *_, difference in found)
                result.append((sorted((i, j) for i, j, _ in found), told, hardware.describe()))
            except BaseException as error:
                result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        raise TimeoutError("the join hangs")
    if isinstance(result[0], BaseException):
        raise result[0]
    answer: tuple[Pairs, list[str], str] = result[0]
    return answer


def threads_left() -> int:
    return threading.active_count()


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def no_stream(patch: pytest.MonkeyPatch) -> None:
    from blindpairs.selfjoin.gpu import streams

    patch.setattr(streams, "own_stream", raising(RuntimeError("no stream to be had")))


def a_bug(patch: pytest.MonkeyPatch) -> None:
    from blindpairs.selfjoin.gpu.join import DeviceJoin

    patch.setattr(DeviceJoin, "blocks", raising(ZeroDivisionError("a bug")))


def an_exit(patch: pytest.MonkeyPatch) -> None:
    from blindpairs.selfjoin.gpu.join import DeviceJoin

    patch.setattr(DeviceJoin, "blocks", raising(SystemExit("somebody exits")))


def a_silent_death(patch: pytest.MonkeyPatch) -> None:
    from blindpairs.selfjoin.gpu.streams import StreamWorker

    patch.setattr(StreamWorker, "_work", lambda worker: None)


def no_second_thread(patch: pytest.MonkeyPatch) -> None:
    from blindpairs.selfjoin.gpu import join as gpu

    made: list[Any] = []

    def worker(*arguments: Any) -> Any:
        if made:
            raise RuntimeError("can't start new thread")
        made.append(real(*arguments))
        return made[0]

    real = vars(gpu)["StreamWorker"]
    patch.setattr(gpu, "StreamWorker", worker)


@needs_triton
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (no_stream, "no stream to be had"),
        (a_bug, "a bug"),
        (an_exit, "somebody exits"),
        (a_silent_death, "ended without a result"),
        (no_second_thread, "can't start new thread"),
    ],
)
def test_worker_that_dies_ends_the_join_with_its_error(child: Executor, fault: Any, said: str) -> None:
    before = child.submit(threads_left).result()
    with pytest.raises(BaseException, match=said):
        child.submit(joined, fault, clustered(70, 9, 0)).result(SECONDS + 30)
    assert child.submit(threads_left).result() == before


class Scarce:
    """Steps run out of memory: each with this chance, or as long as they are larger than `most` row segments."""

    def __init__(self, chance: float, most: int | None = None) -> None:
        self.chance, self.most = chance, most

    def __call__(self, patch: pytest.MonkeyPatch) -> None:
        from blindpairs.selfjoin.gpu import join as gpu
        from blindpairs.selfjoin.gpu.points import DeviceRows
        from blindpairs.selfjoin.gpu.tiles import Tiles

        draw = random.Random(self.chance)

        def scarce(work: Callable[..., Any], size: Callable[..., int]) -> Callable[..., Any]:
            def run(*arguments: Any) -> Any:
                fails = draw.random() < self.chance if self.most is None else size(*arguments) > self.most
                if fails:
                    raise draw.choice(
                        [torch.OutOfMemoryError("full"), RuntimeError("Triton Error [CUDA]: out of memory")]
                    )
                return work(*arguments)

            return run

        def ready(*arguments: Any) -> Any:
            joins = prepared(*arguments)
            patch.setattr(Tiles, "find_segments", scarce(Tiles.find_segments, lambda tiles, items, capacity: capacity))
            patch.setattr(
                Tiles, "expand_segments", scarce(Tiles.expand_segments, lambda tiles, segments: len(segments))
            )
            patch.setattr(DeviceRows, "cosines", scarce(DeviceRows.cosines, lambda rows, i, j: len(i) // 16))
            return joins

        prepared = gpu.prepare_within_memory
        patch.setattr(gpu, "prepare_within_memory", ready)


@needs_triton
@pytest.mark.parametrize("fault", [Scarce(0.05), Scarce(0.3), Scarce(0.7), Scarce(0, 100), Scarce(0, 2)], ids=str)
def test_steps_that_run_out_of_memory_are_done_again_smaller_and_every_pair_comes_once(
    child: Executor, fault: Scarce
) -> None:
    vectors = clustered(100, 9, 0)
    found, told, _ = child.submit(joined, fault, vectors, block_pairs=40 * 16).result(SECONDS + 30)
    assert found == wanted(vectors)
    assert len(told) >= 1
    assert all("memory" in line and "\n" not in line for line in told)


@needs_triton
def test_gpu_without_any_memory_leaves_the_rest_to_the_cpu(child: Executor) -> None:
    vectors = clustered(100, 9, 0)
    found, told, device = child.submit(joined, Scarce(1.0), vectors).result(SECONDS + 30)
    assert found == wanted(vectors)
    assert told[-1].endswith("has no memory left for the smallest step: the CPU does the rest")
    assert device == ("cuda:0 and cpu" if GPU else "cpu")


class NoRoomFor:
    """Preparing runs out of memory, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, patch: pytest.MonkeyPatch) -> None:
        from blindpairs.selfjoin.gpu import join as gpu

        calls: list[int] = []

        def pack(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) <= self.times:
                raise torch.OutOfMemoryError("full")
            return packed(*arguments)

        packed = vars(gpu)["pack_points"]
        patch.setattr(gpu, "pack_points", pack)


@needs_triton
@pytest.mark.parametrize(
    ("times", "lines"),
    [
        (1, ["the GPU ran out of memory with the vectors in it: they stay where they are"]),
        (
            2,
            [
                "the GPU ran out of memory with the vectors in it: they stay where they are",
                "the GPU has too little memory for a join of these vectors: the CPU compares the pairs",
            ],
        ),
    ],
)
def test_vectors_that_do_not_fit_are_fetched_and_points_that_do_not_fit_leave_it_to_the_cpu(
    child: Executor, times: int, lines: list[str]
) -> None:
    vectors = clustered(60, 9, 0)
    found, told, _ = child.submit(joined, NoRoomFor(times), vectors).result(SECONDS + 30)
    assert found == wanted(vectors)
    assert told == lines


def no_shared_memory(patch: pytest.MonkeyPatch) -> None:
    from triton.runtime.errors import OutOfResources

    from blindpairs.selfjoin.gpu.tiles import Tiles

    patch.setattr(Tiles, "launch_find", raising(OutOfResources(135168, 101376, "shared memory")))


def a_wrong_kernel(patch: pytest.MonkeyPatch) -> None:
    from blindpairs.selfjoin.gpu.tiles import Tiles

    patch.setattr(Tiles, "expand_segments", lambda tiles, segments: segments)


def a_broken_triton(patch: pytest.MonkeyPatch) -> None:
    import sys

    patch.setitem(sys.modules, "blindpairs.selfjoin.gpu.join", None)


@needs_triton
@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (no_shared_memory, "no shape of tile has room in the shared memory of the GPU"),
        (a_wrong_kernel, "finds other pairs than it should in a small join"),
    ],
)
def test_gpu_that_fails_its_trial_leaves_it_to_the_cpu(child: Executor, fault: Any, line: str) -> None:
    vectors = clustered(60, 9, 0)
    found, told, device = child.submit(joined, fault, vectors).result(SECONDS + 30)
    assert (found, device) == (wanted(vectors), "cpu")
    assert len(told) == 1
    assert line in told[0]
    assert told[0].endswith(": the CPU compares the pairs")


def test_triton_that_does_not_import_leaves_it_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    a_broken_triton(monkeypatch)
    told: list[str] = []
    vectors = clustered(60, 9, 0)
    blocks = similar_pairs(vectors, 0.9, hardware=on_pretended_gpu(told))
    assert sorted(pair for block in blocks for pair in pairs_of(block)) == wanted(vectors)
    assert len(told) == 1
    assert told[0].startswith("Triton does not import")


def chosen_shapes(limit: int, major: int) -> list[tuple[int, int]]:
    from blindpairs.selfjoin.gpu.tuning import SHAPES

    return [(one.rows, one.columns) for one in SHAPES if one.shared_bytes(128, major) <= limit]


@needs_triton
def test_shapes_that_a_card_has_no_room_for_are_known_beforehand(child: Executor) -> None:
    assert child.submit(chosen_shapes, 99 << 10, 8).result() == [(128, 128), (256, 128), (128, 256), (128, 64)]
    assert child.submit(chosen_shapes, 99 << 10, 9).result() == [(128, 128), (128, 64)]
    assert len(child.submit(chosen_shapes, 227 << 10, 9).result()) == 4
    assert child.submit(chosen_shapes, 48 << 10, 8).result() == []
