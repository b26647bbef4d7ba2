"""What the device of a training run is, how fast it multiplies, and in what precision each part of a model is kept."""

import time
from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import nn

from blindpairs.system import physical_memory


@dataclass(frozen=True)
class Device:
    """The device that this process trains on."""

    name: str  # for people
    kind: str  # "cuda" or "cpu"
    memory: int  # bytes
    peak: float  # operations a second of a large product, in the precision of training: measured

    @property
    def frozen_bytes(self) -> int:
        """Bytes of a frozen weight."""
        return 2 if self.kind == "cuda" else 4


def this_device() -> Device:
    """Measures the device, in a fraction of a second."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return Device(properties.name, "cuda", properties.total_memory, _measured("cuda", torch.bfloat16, 8192))
    name = f"CPU, {torch.get_num_threads()} threads"
    return Device(name, "cpu", physical_memory(), _measured("cpu", torch.float32, 1024))


def _measured(kind: str, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a square product: the best of some, because others may use the device, too."""
    left, right = (torch.randn(side, side, device=kind, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        _wait(kind)
        start = time.perf_counter()
        left @ right
        _wait(kind)
        seconds.append(time.perf_counter() - start)
    return float(2 * side**3 / min(seconds[1:]))  # the first one sets the library up


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()


def to_precision(model: nn.Module, trained: Container[str], kind: str) -> None:
    """On a GPU, frozen weights in bfloat16; what is trained stays in float32, and computes in bfloat16 by autocast."""
    if kind == "cuda":
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(torch.float32 if name in trained else torch.bfloat16)
