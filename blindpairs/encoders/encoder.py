"""One image encoder, whichever library it came from: bytes of square images in, unit vectors out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blindpairs.errors import ConfigError
from blindpairs.preprocess import Preprocess


@dataclass(frozen=True)
class Tower:
    """What a library's file hands over: a vision tower, how to read it, and the facts worth recording."""

    module: nn.Module  # the vision part only, in float32, on the CPU
    pooled: Callable[[Tensor], Tensor]  # normalised pixels (B, 3, S, S) -> (B, D), not yet unit
    patch_tokens: Callable[[Tensor], Tensor]  # normalised pixels (B, 3, S, S) -> (B, N, D)
    dimension: int
    preprocess: Preprocess
    facts: dict[str, object]  # library, version, architecture, pool rule, ...; ready for JSON
    weights_hash: str


def choose_device(asked: str) -> str:
    """`auto` -> a CUDA GPU where there is one, else the CPU; anything else is checked. ConfigError for what is not."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        if reason.startswith("Expected one of"):  # torch goes on with forty names
            reason = "no such kind of device"
        raise ConfigError(f"device {asked!r} is not to be had here ({reason}); try --device auto or cpu") from error
    return asked


class Encoder:
    """A vision tower on a device. `name` is the store's column, `spec` what was asked for."""

    def __init__(self, name: str, spec: str, tower: Tower, device: str = "cpu") -> None:
        self.name = name
        self.spec = spec
        self.device = torch.device(device)
        self.dimension = tower.dimension
        self.preprocess = tower.preprocess
        self.weights_hash = tower.weights_hash
        self._tower = tower
        self._autocast = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        tower.module.requires_grad_(False).eval().to(self.device)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(tower.preprocess.mean, device=self.device).view(shape)
        self._std = torch.tensor(tower.preprocess.std, device=self.device).view(shape)

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 on the encoder's device -> (B, D) float32 of unit length; NaN rows where there is none.

        On CUDA with bfloat16 the tower runs under autocast, and rows that are not finite run once more in float32.
        """
        pixels = self._normalised(batch)
        vectors = self._run(self._tower.pooled, pixels, autocast=self._autocast)  # (B, D)
        bad = ~torch.isfinite(vectors).all(dim=1)
        if self._autocast and bool(bad.any()):
            vectors[bad] = self._run(self._tower.pooled, pixels[bad], autocast=False)
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return torch.where(torch.isfinite(norms) & (norms > 0), vectors / norms, torch.nan)

    @torch.inference_mode()
    def patches(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 -> (B, N, D) float32: the last block's patch tokens after the final norm.

        Row-major over the grid, without class and register tokens, not projected and not of unit length.
        """
        return self._run(self._tower.patch_tokens, self._normalised(batch), autocast=self._autocast)

    def describe(self) -> dict[str, object]:
        """Provenance, ready for JSON: spec, library, architecture, pool rule, preprocessing, weights, precision."""
        return {
            "spec": self.spec,
            **self._tower.facts,
            "dimension": self.dimension,
            "weights_hash": self.weights_hash,
            "precision": "bfloat16 autocast" if self._autocast else "float32",
            "preprocess": self.preprocess.describe(),
        }

    def _normalised(self, batch: Tensor) -> Tensor:
        return (batch.to(torch.float32) / 255 - self._mean) / self._std

    def _run(self, read: Callable[[Tensor], Tensor], pixels: Tensor, *, autocast: bool) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=autocast):
            return read(pixels).to(torch.float32)
