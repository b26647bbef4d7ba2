"""How the pair matrix is cut: tiles that may hold a pair, work items made of tiles, and launches made of items.

The rows are ordered along their first axis, so the partners of a block of rows form one range of places: rows that are
farther than `reach` apart on that axis alone cannot be a pair, and their tiles are not computed. Only places after a
row's own place are visited, so each pair comes once.

An item is (row block, first tile, end tile) int32: one block of rows against adjacent tiles of columns. `spans` gives
the whole range of each row block as one item, and `launches` cuts it into strips.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from blindpairs.selfjoin.gpu.points import DevicePoints
from blindpairs.selfjoin.gpu.tiles import Shape

# Row blocks that pass over a strip of columns together. The strip is read once from memory and then from the L2 cache.
GROUP_BLOCKS = 512


def spans(points: DevicePoints, shape: Shape) -> Tensor:
    """The items (row blocks, 3) of all columns within reach of each block of rows, and not before it."""
    first_coordinates = points.first_coordinates  # (N,) ascending
    starts = torch.arange(0, len(first_coordinates), shape.rows)  # (row blocks,) the first place of each
    last_row = (starts + shape.rows).clamp(max=len(first_coordinates)) - 1
    ends = torch.searchsorted(first_coordinates, first_coordinates[last_row] + points.reach, right=True)
    # Rounded outwards to whole tiles. The first tile may begin before the block: `expand` drops columns <= row.
    tiles = torch.stack([starts // shape.rows, starts // shape.columns, -(-ends // shape.columns)], 1)
    return tiles.int()


def tile_count(items: Tensor) -> int:
    """How many tiles the `items` (n, 3) have together."""
    return int((items[:, 2] - items[:, 1]).sum())


def launches(all_spans: Tensor, strip: int, launch_tiles: int) -> Iterator[Tensor]:
    """The items of `all_spans` cut into strips of `strip` tiles, (n, 3) for each launch of about `launch_tiles` tiles.

    They come in the order that reuses the L2 cache.
    """
    for group in all_spans.split(GROUP_BLOCKS):
        # Strips start at multiples of `strip`, for all row blocks alike, so that row blocks share them.
        strips = torch.arange(int(group[:, 1].min()) // strip, -(-int(group[:, 2].max()) // strip))
        strip_starts = (strips * strip)[:, None]  # (strips, 1) in tiles
        first = torch.maximum(group[:, 1], strip_starts)  # (strips, row blocks): neighbours in a launch share a strip
        end = torch.minimum(group[:, 2], strip_starts + strip)
        items = torch.stack([group[:, 0].expand_as(first), first, end], 2)[first < end].int()  # (n, 3)
        yield from items.split(max(1, launch_tiles // strip))


def split(items: Tensor, parts: int) -> list[Tensor]:
    """`items` (n, 3) in at most `parts` parts, in order. A single item is cut into two ranges of tiles."""
    if len(items) > 1:
        return list(items.chunk(parts))
    row_block, first, end = items[0].tolist()
    middle = (first + end) // 2
    return [items.new_tensor([[row_block, first, middle]]), items.new_tensor([[row_block, middle, end]])]
