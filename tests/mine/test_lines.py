"""Lines along which vectors lie, whatever their sign."""

import pytest
import torch

from blindpairs.mine.lines import k_means


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
