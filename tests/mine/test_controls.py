"""Controls differ as blind pairs do, except that CLIP tells them apart; each is the same in any order of the images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from blindpairs.mine.candidates import Groups, Pairs
from blindpairs.mine.controls import ControlRequest, Controls, Pool, find_controls, without_linear_part
from blindpairs.selfjoin import UnitRows, pair_cosines

CONTEXTS, BITS = 6, 5
REQUEST = ControlRequest(max_per_image=2, clip_max=0.8, dino_tolerance=0.1, axes=BITS)
Floats = NDArray[np.float32]


class World:
    """Images with a context, which both encoders see, and hidden bits, which only DINOv2 sees: all combinations."""

    def __init__(self, order: NDArray[np.int64] | None = None) -> None:
        generator = np.random.default_rng(0)
        values = np.array(list(np.ndindex(CONTEXTS, *[2] * BITS)))
        self.context, self.bits = values[:, 0], values[:, 1:]
        names = generator.normal(size=(CONTEXTS, 16))
        hidden = (2 * self.bits - 1) @ generator.normal(size=(BITS, 24))
        noise = generator.normal(size=(len(values), 24))
        self.clip = (names[self.context] + 0.02 * generator.normal(size=(len(values), 16))).astype(np.float32)
        seen = 1.5 * names[self.context] @ generator.normal(size=(16, 24)) / 4
        self.dino = (hidden + seen + 0.1 * noise).astype(np.float32)
        self.ids = [f"image-{row:04d}" for row in range(len(values))]
        if order is not None:
            self.context, self.bits, self.clip, self.dino = (
                each[order] for each in (self.context, self.bits, self.clip, self.dino)
            )
            self.ids = [self.ids[row] for row in order]

    @property
    def vectors(self) -> tuple[UnitRows, UnitRows]:
        return UnitRows(self.clip), UnitRows(self.dino)

    def blind_pairs(self, count: int = 12) -> Pairs:
        """Pairs of one context that differ in one bit, by their ids."""
        row_of = {name: row for row, name in enumerate(self.ids)}
        rows = [row_of[name] for name in sorted(self.ids)]
        found = [
            (min(a, b), max(a, b))
            for place, a in enumerate(rows)
            for b in rows[place + 1 :]
            if self.context[a] == self.context[b] and (self.bits[a] != self.bits[b]).sum() == 1
        ]
        return self.pairs(found[:: len(found) // count][:count])

    def pairs(self, rows: list[tuple[int, int]]) -> Pairs:
        i, j = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).T
        clip_sim, dino_sim = (pair_cosines(each, i, j).numpy() for each in self.vectors)
        return Pairs(i.numpy(), j.numpy(), clip_sim, dino_sim)

    def differing(self, pairs: Pairs) -> NDArray[np.int64]:
        return np.asarray((self.bits[pairs.i] != self.bits[pairs.j]).sum(1), np.int64)

    def find(self, blind: Pairs, request: ControlRequest = REQUEST, pool: Pool | None = None) -> Controls:
        pool = pool or Pool(np.arange(len(self.ids)), self.dino)
        return find_controls(self.vectors, self.ids, blind, pool, Groups(len(self.ids)), request)

    def named(self, controls: Controls) -> list[tuple[int, list[str]]]:
        ends = zip(controls.pairs.i, controls.pairs.j, strict=True)
        names = [sorted((self.ids[i], self.ids[j])) for i, j in ends]
        return list(zip(controls.control_of.tolist(), names, strict=True))


def test_controls_are_told_apart_by_clip_and_alike_for_dino() -> None:
    world = World()
    blind = world.blind_pairs()
    controls = world.find(blind)
    assert len(controls) == len(blind)
    assert (controls.pairs.i < controls.pairs.j).all()
    assert controls.pairs.clip_sim.max() <= REQUEST.clip_max
    away = np.abs(controls.pairs.dino_sim - blind.dino_sim[controls.control_of])
    assert away.max() <= REQUEST.dino_tolerance
    assert (world.context[controls.pairs.i] != world.context[controls.pairs.j]).all()


def test_controls_differ_in_as_few_hidden_things_as_blind_pairs() -> None:
    world = World()
    blind = world.blind_pairs()
    assert world.differing(world.find(blind).pairs).mean() <= 1.3  # 2.5 for random pairs; the blind pairs have 1


def test_the_cosines_are_those_of_the_join() -> None:
    world = World()
    controls = world.find(world.blind_pairs()).pairs
    again = world.pairs(list(zip(controls.i.tolist(), controls.j.tolist(), strict=True)))
    np.testing.assert_array_equal(again.clip_sim, controls.clip_sim)
    np.testing.assert_array_equal(again.dino_sim, controls.dino_sim)


@pytest.mark.parametrize("features", [True, False])
def test_the_order_of_the_images_does_not_matter(features: bool) -> None:
    found = []
    for order in (None, np.random.default_rng(1).permutation(CONTEXTS * 2**BITS)):
        world = World(order)
        examples = world.blind_pairs(60)
        if order is not None:
            examples = examples.take(np.random.default_rng(2).permutation(len(examples)))
        pool = Pool(np.arange(len(world.ids)), world.dino if features else None, examples)
        found.append(world.named(world.find(world.blind_pairs(), pool=pool)))
    assert found[0] == found[1]
    assert found[0]


def test_no_image_and_no_pair_of_groups_is_used_too_often() -> None:
    world = World()
    controls = world.find(world.blind_pairs(40), replace(REQUEST, max_per_image=1)).pairs
    assert np.bincount(np.concatenate([controls.i, controls.j])).max() == 1


def test_images_of_one_group_count_as_one() -> None:
    world = World()
    groups = Groups(len(world.ids))
    rows = np.arange(len(world.ids))
    groups.unite(rows, world.context)  # row c becomes the root of context c
    pool = Pool(rows, world.dino)
    controls = find_controls(world.vectors, world.ids, world.blind_pairs(40), pool, groups, REQUEST)
    assert len(controls) <= CONTEXTS * REQUEST.max_per_image // 2


def test_a_pair_without_a_possible_control_has_none() -> None:
    world = World()
    blind = world.blind_pairs()
    assert len(world.find(blind, replace(REQUEST, clip_max=-1.0))) == 0
    far = Pairs(blind.i, blind.j, blind.clip_sim, np.where(np.arange(len(blind)) == 3, -5.0, blind.dino_sim))
    assert 3 not in world.find(far).control_of
    assert len(world.find(far)) == len(blind) - 1


def test_no_pairs_and_no_pool_give_no_controls() -> None:
    world = World()
    assert len(world.find(world.pairs([]))) == 0
    assert len(world.find(world.blind_pairs(), pool=Pool(np.empty(0, np.int64)))) == 0


def test_controls_come_from_the_pool_alone() -> None:
    world = World()
    rows = np.arange(0, len(world.ids), 2)
    controls = world.find(world.blind_pairs(), pool=Pool(rows, world.dino[rows])).pairs
    assert len(controls)
    assert np.isin(np.concatenate([controls.i, controls.j]), rows).all()


def test_the_linear_part_is_removed() -> None:
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(500, 6, generator=generator)
    hidden = torch.randn(500, 3, generator=generator)
    rest = without_linear_part(torch.cat([given @ torch.randn(6, 3, generator=generator), hidden], 1), given)
    assert float(rest[:, :3].var()) < 0.05  # of about 6
    assert float(rest[:, 3:].var()) > 0.9
