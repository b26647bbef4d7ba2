"""A child process in which the GPU's kernels run: on a GPU where there is one, else in Triton's interpreter.

Triton decides at its import whether it interprets, and no other test may notice, so all of it happens in a child.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

GPU = torch.cuda.is_available()
TILE = 128 if GPU else 16
DEVICE = "cuda:0" if GPU else "cpu"


@contextmanager
def kernel_child() -> Iterator[Executor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=interpret) as pool:
        yield pool


def interpret() -> None:
    """The first thing that the child does."""
    torch.set_num_threads(1)
    if not GPU:
        os.environ["TRITON_INTERPRET"] = "1"
        decode_bfloat16()


def decode_bfloat16() -> None:
    """Make the interpreter's `tl.dot` multiply numbers: it takes the bits of a bfloat16 for an integer, never below 0.

    Every score is then positive and every row piece passes, and a kernel may read what it likes.
    """
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    as_it_is = interpreter.InterpreterBuilder.create_dot

    def decoded(operand: Any) -> Any:
        if operand.dtype.scalar != tl.bfloat16 or operand.data.dtype != np.uint16:
            return operand
        numbers = (operand.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(numbers, tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return as_it_is(self, decoded(a), decoded(b), *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot
