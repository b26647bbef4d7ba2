"""Mining arrays without a store: row numbers as ids, any memory layout, and a sentence for arrays that do not fit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exact_cosines import exact_cosines
from test_mine import Vectors, spread

from blindpairs.errors import InputError
from blindpairs.mine import Images, MiningOptions, mine

LOOSE = MiningOptions(clip_min=0.8, dino_max=0.5)


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 120])
def test_arrays_alone_are_mined_by_their_row_numbers(count: int) -> None:
    a, b = spread(count, 16, 4, 0.1, 2), spread(count, 16, 30, 0.05, 3)
    mined = mine(a, b, options=LOOSE)
    clip, dino = exact_cosines(a), exact_cosines(b)
    assert mined.counts.images == count
    for row in mined.pairs.to_pylist():
        i, j = int(row["image_id_a"]), int(row["image_id_b"])
        assert i < j
        assert (row["clip_sim"], row["dino_sim"]) == (clip[i, j], dino[i, j])
    ids = Images.numbered(count).ids
    assert list(ids) == sorted(ids)
    assert [int(one) for one in ids] == list(range(count))


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((3, 4)),
        np.ones((3, 4), np.int64),
        np.ones(3, np.float32),
        np.ones((3, 4, 1), np.float32),
        np.float32(1),
        np.ones((3, 4), ">f4"),
        np.ones((3, 0), np.float32),
        [[1.0, 0.0], [0.0, 1.0]],
        [],
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_arrays_of_another_shape_or_type_are_refused_in_a_sentence(wrong: Any, swapped: bool) -> None:
    right = np.ones((3, 4), np.float32)
    with pytest.raises(InputError, match="float16 or float32") as refused:
        mine(*((wrong, right) if swapped else (right, wrong)))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "view",
    [
        lambda rows: np.repeat(rows, 2, axis=0)[::2],
        lambda rows: rows[::-1].copy()[::-1],
        lambda rows: rows[:, ::-1].copy()[:, ::-1],
        np.asfortranarray,
        torch.from_numpy,
    ],
)
def test_arrays_are_mined_however_they_lie_in_memory(view: Callable[[Vectors], Any]) -> None:
    a, b = spread(60, 16, 3, 0.1, 2), spread(60, 16, 30, 0.05, 3)
    expected = mine(a, b, options=LOOSE).pairs
    assert mine(view(a), view(b), options=LOOSE).pairs == expected
    assert len(expected) > 5
