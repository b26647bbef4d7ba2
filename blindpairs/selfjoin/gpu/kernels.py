"""The three Triton kernels of the join on a GPU: find, expand, dots. Nothing of size N x N is ever written to memory.

    find     for every tile of the pair matrix, one bf16 product; lists the row segments in which a score passed
    expand   for each of these few row segments, which of its columns passed
    dots     for these few pairs, their dot products in float64, on the whole vectors

A row segment is one row of one tile. `tiles.py` and `points.py` launch the kernels.

**Layout.** Every row of `points` holds 2 K bf16: [y, 1, 1, -t, -t'] as the row of a pair, then [y, -h, -h', 1, 1] as
the column, with zeros between the coordinates y and the last four. t + t' is the threshold of the row and h + h' half
its squared norm, each as a high and a low bf16. So the product of the two sides is the whole test: its sign says
whether the pair passed (`selfjoin/bound.py` derives the bound). The four columns take the place of four axes, which
costs next to nothing; subtracting the norms in float32 would take as long as the product.

**Lists.** A list is one int64 tensor: [count, capacity, codes...]. A code is row << 32 | column, both of them places.
What does not fit into the capacity is not written, but is still counted: a count above the capacity shows that codes
are missing.

**What limits `find`, computed for an H200** (132 multiprocessors, 128 lanes each, 1.98 GHz, 989 TFLOP/s of dense bf16
by the datasheet, about 790 sustained on random data). Per pair, with K = 64:
    tensor cores   2 * 64 = 128 flop: 0.129 ps at the datasheet's rate, 0.16 ps at the sustained one
    CUDA cores     132 * 128 * 1.98e9 = 33.5e12 lane slots a second: 0.030 ps for each instruction. Integer logic runs
                   at half rate and takes three operands, so one instruction ANDs two more signs: 0.030 ps.
                   A subtraction, a maximum (half rate too) and a comparison would take 0.15 ps, as long as the
                   product, and overlap with it only where another block of the multiprocessor is in its product.
    L2             the 128 bytes of a column serve BM pairs: 1 byte a pair at BM = 128 and 5.5 TB/s is 0.18 ps; at
                   BM = 256, half of that
    device memory  the columns are read once for each wave of blocks (some 400 blocks): under 1 % of the time
So the tensor cores set the limit, and L2 is close to it. 1,281,167 rows are 8.2e11 pairs: 0.106 s at 0.129 ps. 10
million rows are 5.0e13 pairs: 6.5 s. A Triton kernel whose product has only four steps over K, and whose result is
consumed at once, cannot keep the tensor cores as busy as a large matrix product does. Expect 40 to 60 % of the
sustained rate: 0.2 to 0.35 s, and 13 to 20 s. `tests/benchmarks/bench_selfjoin_gpu.py` measures it.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import threading

import triton
import triton.language as tl

# Given at every launch, because the default differs between versions of Triton. Fusing changes no result that decides:
# a product of two bfloat16 is exact in float32 and one of two float32 is exact in float64, so a multiply-add rounds
# only its sum either way. Fused, it is one instruction less.
FUSED = {"enable_fp_fusion": True}
# Held during a launch, because a launch may compile, and Triton does not promise that two threads may compile at once.
LAUNCH = threading.Lock()
PAIRS = tl.constexpr(8)  # whose dot products one program computes
BLOCK = tl.constexpr(128)  # dimensions at a time, one for each accumulator: ACCUMULATORS of `cosine.py`

# Triton reads the source of these functions: their parameters are device pointers and compile-time constants.


@triton.jit
def _and(a, b) -> tl.tensor:
    return a & b


@triton.jit
def _append(codes_list, codes, wanted) -> None:
    count = tl.sum(wanted, 0)
    if count > 0:
        # Relaxed: the counter hands out distinct positions and need not order any other memory access, since counter
        # and codes are read after the kernel has ended. The default (acq_rel) fences and empties the L1 cache.
        base = tl.atomic_add(codes_list, count.to(tl.int64), sem="relaxed")
        place = base + tl.cumsum(wanted, 0) - 1
        tl.store(codes_list + 2 + place, codes, mask=(wanted > 0) & (place < tl.load(codes_list + 1)))


@triton.jit
def find(points, items, segments, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr) -> None:
    """Each program takes one of `items` (n, 3) int32, (row block, first tile, end tile), and lists its row segments.

    Listed as row << 32 | first column are those in which a score passed. A tile is BM rows x BN columns.
    `points` is padded to whole tiles with rows that never pass, so that no load needs a mask.
    """
    item = items + tl.program_id(0) * 3
    rows = tl.load(item).to(tl.int64) * BM + tl.arange(0, BM)
    depth = tl.arange(0, K)
    y = tl.load(points + rows[:, None] * (2 * K) + depth[None, :])  # (BM, K): read once for all tiles
    for tile in range(tl.load(item + 1), tl.load(item + 2)):
        columns = tile * BN + tl.arange(0, BN).to(tl.int64)
        x = tl.load(points + K + columns[None, :] * (2 * K) + depth[:, None])  # (K, BN)
        score = tl.dot(y, x)  # (BM, BN) float32
        # (BM,) int32. Only the sign bit counts: after the AND it is set if every score of the row was negative.
        signs = tl.reduce(score.to(tl.int32, bitcast=True), 1, _and)
        _append(segments, (rows << 32) | tile * BN, (signs >= 0).to(tl.int32))


@triton.jit
def expand(points, segments, pairs, K: tl.constexpr, BN: tl.constexpr) -> None:
    """Each program takes one row segment and lists its pairs that passed, as row << 32 | column.

    Only those with column > row, so that a pair comes once. `pairs` must have room for BN pairs of every segment.
    """
    segment = tl.load(segments + tl.program_id(0))
    row, first = segment >> 32, segment & 0xFFFFFFFF
    columns = first + tl.arange(0, BN)
    depth = tl.arange(0, K)
    y = tl.load(points + row * (2 * K) + depth).to(tl.float32)
    x = tl.load(points + K + columns[:, None] * (2 * K) + depth[None, :]).to(tl.float32)  # (BN, K)
    # Summed in another order than `find` did: the bound allows for any order, and each pair that passes is decided.
    score = tl.sum(x * y[None, :], 1)  # (BN,) float32
    _append(pairs, (row << 32) | columns, ((score >= 0) & (columns > row)).to(tl.int32))


@triton.jit
def dots(vectors, index, out, D: tl.constexpr) -> None:
    """The float64 dot products of pairs of rows of `vectors` (?, D), PAIRS in each program, in `cosine.py`'s order.

    `index` is (2, n), the two rows of each pair; `out` is (n,) float64; n is a multiple of PAIRS.
    """
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    count = tl.num_programs(0) * PAIRS
    x = vectors + tl.load(index + pair)[:, None] * D  # (PAIRS, 1) addresses
    y = vectors + tl.load(index + count + pair)[:, None] * D
    total = tl.zeros((PAIRS, BLOCK), tl.float64)  # the accumulators
    for start in range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = column < D
        a = tl.load(x + column, mask=inside, other=0.0).to(tl.float64)
        b = tl.load(y + column, mask=inside, other=0.0).to(tl.float64)
        total += a * b
    # Upper half onto lower half. `tl.sum` over 128 adds in an order that Triton chooses; over two there is only one.
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 64)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 32)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 16)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 8)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 4)), 1)
    total = tl.sum(tl.reshape(total, (PAIRS, 2, 2)), 1)
    tl.store(out + pair, tl.sum(total, 1))
