"""Lines along which vectors lie, whatever their sign."""

import numpy as np
import pytest
import torch

from blindpairs.mine.lines import k_means, merged


@pytest.mark.parametrize("seed", range(3))
def test_lines_have_no_sign_and_are_numbered_by_the_vectors_that_they_were_given(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    axes = torch.eye(6)[:3]
    kinds = torch.arange(90) % 3
    signs = torch.randint(0, 2, (90, 1), generator=generator) * 2.0 - 1
    vectors = axes[kinds] * signs + 0.05 * torch.randn(90, 6, generator=generator)
    lines, nearest = k_means(torch.nn.functional.normalize(vectors, dim=1), 3, seed)
    assert torch.allclose((lines @ axes.T).abs().amax(1), torch.ones(3), atol=0.02)
    assert len({(int(kind), int(line)) for kind, line in zip(kinds, nearest, strict=True)}) == 3


@pytest.mark.parametrize("most", [1, 2, 5, 12, 40])
def test_merged_lines_are_those_of_average_linkage_over_all_their_lines(most: int) -> None:
    lines = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(2)), dim=1)
    cosines = (lines.double() @ lines.double().T).abs().numpy()
    groups = [[line] for line in range(12)]
    while len(groups) > most:
        pairs = [(one, other) for one in range(len(groups)) for other in range(one)]
        near = max(pairs, key=lambda pair: float(np.mean(cosines[np.ix_(groups[pair[0]], groups[pair[1]])])))
        groups[near[1]] += groups.pop(near[0])
    found = merged(lines.double(), most).tolist()
    assert sorted(set(found)) == list(range(len(groups)))
    assert {frozenset(line for line in range(12) if found[line] == group) for group in found} == {
        frozenset(group) for group in groups
    }
