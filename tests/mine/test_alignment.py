"""Laying fields over each other, against shifts made by numpy and loops over single patches."""

import numpy as np
import pytest
import torch
from torch import Tensor

from blindpairs.mine.alignment import IDENTITY, TRANSFORMS, Transform, choose_transforms, unmatched, warp

SHIFTED = [one for one in TRANSFORMS if one.zoom == 1]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def smooth(rows: int, columns: int) -> Tensor:
    """(3, 4, rows, columns): slopes and waves far longer than a patch, so that resampling loses little."""
    down, across = torch.meshgrid(torch.linspace(0, 2, rows), torch.linspace(0, 3, columns), indexing="ij")
    one = torch.stack([down, across, torch.sin(down + across), torch.cos(2 * across)])
    return torch.stack([one, 2 * one, one.flip(0)])


def shifted(fields: Tensor, down: int, across: int) -> Tensor:
    """What lies `down` and `across` patches further on; beyond the edge the last patch counts."""
    rows, columns = fields.shape[-2:]
    y = np.clip(np.arange(rows) + down, 0, rows - 1)
    x = np.clip(np.arange(columns) + across, 0, columns - 1)
    return fields[..., y[:, None], x[None]]


@pytest.mark.parametrize("grid", [(16, 16), (5, 9), (1, 7), (1, 1)])
@pytest.mark.parametrize(("down", "across"), [(0, 0), (1, 0), (0, -1), (1, 1), (-1, 1), (2, -3)])
def test_whole_shift_takes_the_patch_that_lies_so_far_away(grid: tuple[int, int], down: int, across: int) -> None:
    fields = noise(2, 3, *grid)
    assert torch.allclose(warp(fields, Transform(1.0, down, across)), shifted(fields, down, across), atol=1e-4)


def test_identity_gives_the_same_field() -> None:
    fields = noise(2, 3, 4, 5)
    assert TRANSFORMS[0] == IDENTITY
    assert warp(fields, IDENTITY) is fields


def test_zoom_leaves_the_centre_and_takes_the_rest_from_nearer_to_it() -> None:
    across = torch.arange(9.0).expand(1, 1, 9, 9)
    assert warp(across, Transform(0.5, 0, 0))[0, 0, 4].tolist() == pytest.approx([2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6])
    assert warp(across, Transform(2.0, 0, 0))[0, 0, 4].tolist() == pytest.approx([0, 0, 0, 2, 4, 6, 8, 8, 8])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_inverse_undoes_a_transform_where_neither_looks_beyond_the_edge(transform: Transform) -> None:
    fields = smooth(16, 16)[:1, :2]  # slopes, which resampling keeps as they are
    back = warp(warp(fields, transform), transform.inverse)
    assert torch.allclose(back[..., 5:11, 5:11], fields[..., 5:11, 5:11], atol=1e-4)
    again = transform.inverse.inverse
    assert (again.zoom, again.down, again.across) == pytest.approx((transform.zoom, transform.down, transform.across))


@pytest.mark.parametrize("transform", SHIFTED)
def test_fields_a_patch_apart_are_shifted_by_that_patch(transform: Transform) -> None:
    whole = noise(3, 8, 18, 18)
    a = whole[..., 1:17, 1:17]
    b = whole[
        ..., 1 - int(transform.down) : 17 - int(transform.down), 1 - int(transform.across) : 17 - int(transform.across)
    ]
    assert [TRANSFORMS[number] for number in choose_transforms(a, b)] == [transform] * 3


@pytest.mark.parametrize("transform", [one for one in TRANSFORMS if one.zoom != 1])
def test_fields_of_one_thing_near_and_far_are_zoomed(transform: Transform) -> None:
    b = smooth(16, 16)
    found = [TRANSFORMS[number] for number in choose_transforms(warp(b, transform), b)]
    assert {one.zoom for one in found} == {transform.zoom}


def test_fields_that_have_nothing_in_common_are_compared_in_place() -> None:
    assert choose_transforms(noise(50, 16, 16, 16), noise(50, 16, 16, 16, seed=1)).tolist() == [0] * 50


def test_fields_that_are_equal_everywhere_are_compared_in_place() -> None:
    for same in (noise(4, 8, 6, 6), torch.zeros(4, 8, 6, 6), torch.full((4, 8, 6, 6), 7.3)):
        assert choose_transforms(same, same).tolist() == [0] * 4


def test_each_pair_has_the_transform_that_it_has_alone() -> None:
    a, b = noise(40, 16, 12, 12), noise(40, 16, 12, 12, seed=1)
    b[::3] = shifted(a[::3], 0, 1)
    alone = torch.cat([choose_transforms(a[k : k + 1], b[k : k + 1]) for k in range(40)])
    assert choose_transforms(a, b).tolist() == alone.tolist()
    assert (alone > 0).tolist() == [k % 3 == 0 for k in range(40)]


def test_unmatched_is_nothing_for_equal_fields_and_for_a_shift_by_one_patch() -> None:
    fields = noise(2, 4, 7, 6)
    assert not unmatched(fields, fields).any()
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            moved = shifted(fields, down, across)
            assert not unmatched(fields, moved)[..., 1:-1, 1:-1].any()
            assert not unmatched(moved, fields).any()  # what was moved in from the edge is there, too


@pytest.mark.parametrize("grid", [(4, 5), (1, 3), (1, 1)])
def test_unmatched_is_the_least_distance_to_the_nine_patches_around(grid: tuple[int, int]) -> None:
    a, b = noise(2, 3, *grid), noise(2, 3, *grid, seed=1)
    found = unmatched(a, b)
    rows, columns = grid
    for pair in range(2):
        for y in range(rows):
            for x in range(columns):
                around = [
                    float((a[pair, :, y, x] - b[pair, :, near, beside]).square().sum())
                    for near in range(max(0, y - 1), min(rows, y + 2))
                    for beside in range(max(0, x - 1), min(columns, x + 2))
                ]
                assert float(found[pair, y, x]) == pytest.approx(min(around), rel=1e-5)
