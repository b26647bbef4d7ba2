"""The three Triton kernels of the join on a GPU: find, expand, dots. Nothing of size N x N is ever written.

    find     every tile of the pair matrix: one bf16 product; of each row of a tile only whether anything in it passed
    expand   the few row pieces that did: which of their columns passed
    dots     the few pairs that did: their dot products in float64, on the whole vectors

**Layout.** Every row of `points` holds 2 K bf16: [y, 1, 1, -t, -t'] for where it is the row of a pair, and
[y, -h, -h', 1, 1] for where it is the column (zeros between the coordinates and the last four). With t + t' the row's
threshold and h + h' half its squared norm, each as a high and a low bf16, the product alone is the whole test: its sign
says whether the pair passed (`points.py` derives the bound). Columns cost nothing, float32 subtractions would.

**Lists.** A list of codes is one int64 tensor: [count, capacity, codes...], a code being row << 32 | column. A list
that is full takes nothing more, but its count runs on and tells.

**What limits `find`, counted on an H200** (132 multiprocessors, 128 lanes each, 1.98 GHz, 989 TFLOP/s of dense bf16 by
the datasheet, about 790 sustained on random data). Per pair and K = 64:
    tensor cores   2 * 64 = 128 flop: 0.129 ps at the datasheet's rate, 0.16 ps at the sustained one
    CUDA cores     132 * 128 * 1.98e9 = 33.5e12 lane slots a second: 0.030 ps per instruction and pair. Integer logic
                   runs at half rate and takes three operands, so that one ANDs two more signs: 0.030 ps a pair.
                   A subtraction, a maximum (half rate too) and a comparison would be 0.15 ps: as long as the product,
                   and the two overlap only where another block of the multiprocessor is in its product.
    L2             the 128 bytes of a column feed BM pairs: 1 byte a pair at BM = 128, 5.5 TB/s: 0.18 ps; 256: half
    device memory  the columns are read once per wave of blocks (some 400 of them): under 1 % of the time
so the floor is that of the tensor cores, and L2 is next to it. 1,281,167 rows are 8.2e11 pairs: 0.106 s at 0.129 ps;
10 million are 5.0e13: 6.5 s. A Triton kernel whose product is only four steps deep and whose result is consumed at
once will not keep the tensor cores fed as a large matrix product does: 40 to 60 % of the sustained rate is what to
expect (0.2 to 0.35 s, and 13 to 20 s). `tests/benchmarks/bench_selfjoin_gpu.py` measures it.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import threading

import triton
import triton.language as tl

# Given at every launch, because the default changes from one Triton to the next. Fused or not, the numbers are the same
# wherever they decide: a product of two bfloat16 is exact in float32, one of two float32 is exact in float64, and so a
# multiply-add rounds only its sum either way. Fused is one instruction less.
FUSED = {"enable_fp_fusion": True}
LAUNCH = threading.Lock()  # held for a launch, which may compile: Triton does not promise that for two threads
PAIRS = tl.constexpr(8)  # decided by one program
BLOCK = tl.constexpr(128)  # of their dimensions at a time: ACCUMULATORS of `cosine.py`

# Triton reads the source of these functions: their parameters are device pointers and compile-time constants.


@triton.jit
def _and(a, b) -> tl.tensor:
    return a & b


@triton.jit
def _append(codes_list, codes, wanted) -> None:
    count = tl.sum(wanted, 0)
    if count > 0:
        # Relaxed: the counter only deals out places, no two the same, and orders nothing. Counter and codes are read
        # after the kernel has ended. The default (acq_rel) is a fence and an emptied L1 cache at every append.
        base = tl.atomic_add(codes_list, count.to(tl.int64), sem="relaxed")
        place = base + tl.cumsum(wanted, 0) - 1
        tl.store(codes_list + 2 + place, codes, mask=(wanted > 0) & (place < tl.load(codes_list + 1)))


@triton.jit
def find(points, items, segments, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr) -> None:
    """One item (row block, first column tile, end tile), int32: lists row << 32 | first column of what passed.

    `points` is padded to whole tiles with rows that never pass, so that no load needs a mask.
    """
    item = items + tl.program_id(0) * 3
    rows = tl.load(item).to(tl.int64) * BM + tl.arange(0, BM)
    depth = tl.arange(0, K)
    y = tl.load(points + rows[:, None] * (2 * K) + depth[None, :])  # (BM, K): stays in shared memory for the strip
    for tile in range(tl.load(item + 1), tl.load(item + 2)):
        columns = tile * BN + tl.arange(0, BN).to(tl.int64)
        x = tl.load(points + K + columns[None, :] * (2 * K) + depth[:, None])  # (K, BN)
        score = tl.dot(y, x)  # (BM, BN) float32
        # The sign bits alone: set in the AND of a row only if every pair of it was rejected.
        signs = tl.reduce(score.to(tl.int32, bitcast=True), 1, _and)
        _append(segments, (rows << 32) | tile * BN, (signs >= 0).to(tl.int32))


@triton.jit
def expand(points, segments, pairs, K: tl.constexpr, BN: tl.constexpr) -> None:
    """One segment: lists its pairs with column > row. `pairs` must have room for BN of every segment."""
    segment = tl.load(segments + tl.program_id(0))
    row, first = segment >> 32, segment & 0xFFFFFFFF
    columns = first + tl.arange(0, BN)
    depth = tl.arange(0, K)
    y = tl.load(points + row * (2 * K) + depth).to(tl.float32)
    x = tl.load(points + K + columns[:, None] * (2 * K) + depth[None, :]).to(tl.float32)  # (BN, K)
    score = tl.sum(x * y[None, :], 1)
    _append(pairs, (row << 32) | columns, ((score >= 0) & (columns > row)).to(tl.int32))


@triton.jit
def dots(vectors, names, out, D: tl.constexpr) -> None:
    """PAIRS pairs: the float64 dot products of rows of `vectors` (?, D), in the order of `cosine.py`.

    `names` is (2, n), `out` is (n,) float64, n a multiple of PAIRS.
    """
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    count = tl.num_programs(0) * PAIRS
    x = vectors + tl.load(names + pair)[:, None] * D
    y = vectors + tl.load(names + count + pair)[:, None] * D
    total = tl.zeros((PAIRS, BLOCK), tl.float64)
    for start in range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = column < D
        a = tl.load(x + column, mask=inside, other=0.0).to(tl.float64)
        b = tl.load(y + column, mask=inside, other=0.0).to(tl.float64)
        total += a * b
    # A sum over 128 accumulators would be in an order of Triton's own; one over two has but one.
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 64)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 32)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 16)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 8)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 4)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 2)), 1)
    tl.store(out + pair, tl.sum(total, 1))
