"""The self-join on GPUs, fused in Triton kernels. Importing `join` loads Triton.

Read in this order: `join` (how the work is cut), `kernels`, `points` (what they read), `tiles` (their launch, and their
check on this card), `streams` (threads and CUDA streams), `memory` (what happens when memory runs out).
"""
