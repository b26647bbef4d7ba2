"""The self-join on GPUs, fused in Triton kernels. Importing `join` loads Triton.

Read in this order: `join` (how the work is cut), `kernels`, `points` (what they read), `tiles` (their launch, and their
proof on the card at hand), `lanes` (threads and streams), `memory` (what happens where it runs out).
"""
