"""The self-join on GPUs, with fused Triton kernels. Importing `join` loads Triton.

Read in this order: `join` (what happens from the vectors to the pairs), `launches` (how the pair matrix is cut),
`kernels`, `points` (the arrays that they read), `tiles` (how they are launched). Then `tuning` (the numbers that change
the speed), `selftest` (the kernels are checked on the card before a join), `streams` (threads and CUDA streams) and
`memory` (what happens when memory runs out).
"""
