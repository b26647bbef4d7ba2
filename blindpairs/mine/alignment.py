"""Laying one image's patches over another's: the same thing a little shifted or nearer is no difference.

A transform is a shift of at most one patch, or a zoom of 0.8 or 1.25 about the centre. It is taken only where it
explains enough of the difference in place: a tenth for a shift, two fifths for a zoom. With less, scenes that stand
half a patch apart were zoomed, because the blur of resampling hides differences: 53 instead of about 60 % of the
demo's kept pairs then differed in one thing. Beyond the edge the last patch counts, as far as it goes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

ZOOMS, SHIFTS = (0.8, 1.25), (0, -1, 1)
SHIFT_MARGIN, ZOOM_MARGIN = 0.1, 0.4  # of the difference in place, which a transform must explain to be taken


@dataclass(frozen=True)
class Transform:
    """The place (x, y) of image a is the place (zoom x + shift) of image b; shifts are patches."""

    zoom: float
    down: float
    across: float

    @property
    def inverse(self) -> "Transform":
        """The transform from b to a."""
        return Transform(1 / self.zoom, -self.down / self.zoom, -self.across / self.zoom)


IDENTITY = Transform(1.0, 0, 0)
TRANSFORMS = [
    *(Transform(1.0, down, across) for down in SHIFTS for across in SHIFTS),  # the identity comes first
    *(Transform(zoom, 0, 0) for zoom in ZOOMS),
]

_HANDICAPS = torch.tensor(
    [1.0, *(1 / (1 - (SHIFT_MARGIN if one.zoom == 1 else ZOOM_MARGIN)) for one in TRANSFORMS[1:])]
)


def warp(fields: Tensor, transform: Transform) -> Tensor:
    """(B, C, rows, columns) of images b -> the same, as seen from images a; bilinear between patches."""
    if transform == IDENTITY:
        return fields
    rows, columns = fields.shape[-2:]
    # Grid coordinates go from -1 to 1, so a patch is 2 / rows high.
    matrix = [[transform.zoom, 0, 2 * transform.across / columns], [0, transform.zoom, 2 * transform.down / rows]]
    theta = torch.tensor(matrix, dtype=fields.dtype).expand(len(fields), 2, 3)
    grid = affine_grid(theta, list(fields.shape), align_corners=False)
    return grid_sample(fields, grid, padding_mode="border", align_corners=False)


def choose_transforms(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, rows, columns) twice -> (B,) numbers of TRANSFORMS: the one under which b differs least from a."""
    errors = torch.stack([(a - warp(b, one)).square().mean(dim=(1, 2, 3)) for one in TRANSFORMS], 1)  # (B, T)
    return (errors * _HANDICAPS).argmin(1)


def unmatched(a: Tensor, b: Tensor) -> Tensor:
    """(B, C, rows, columns) twice -> (B, rows, columns): how far each patch of a is from the nearest of b around it.

    Around it means at most one patch away: figures stand a little apart where the whole picture does not.
    """
    rows, columns = a.shape[-2:]
    around = pad(b, (1, 1, 1, 1), mode="replicate")
    windows = [around[..., y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return torch.stack([(a - window).square().sum(1) for window in windows]).amin(0)
