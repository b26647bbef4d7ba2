"""One thread a core: results in order, one core each, and nothing left behind."""

import threading

import pytest
import torch

from blindpairs.cores import Cores

CPU = torch.device("cpu")


def test_each_thread_computes_on_one_core_and_ours_keeps_its_own() -> None:
    ours = torch.get_num_threads()
    with Cores(CPU) as cores:
        assert cores.count == ours
        assert {cores.start(torch.get_num_threads).result() for _ in range(8)} == {1}
    assert torch.get_num_threads() == ours


@pytest.mark.parametrize(("count", "step"), [(0, 3), (1, 3), (9, 3), (10, 3)])
def test_blocks_cover_all_rows_in_order(count: int, step: int) -> None:
    with Cores(CPU) as cores:
        parts = cores.blocks(lambda part: list(range(count))[part], count, step)
    assert [row for part in parts for row in part] == list(range(count))
    assert all(len(part) <= step for part in parts)


def test_gradients_are_off_and_errors_come_back() -> None:
    with Cores(CPU) as cores:
        assert cores.start(torch.is_grad_enabled).result() is False
        with pytest.raises(ZeroDivisionError):
            cores.start(lambda: 1 // 0).result()


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    with Cores(CPU) as cores:
        cores.start(lambda: None).result()
    assert threading.active_count() == before
