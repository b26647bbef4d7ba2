"""One image encoder, whichever library it came from: images in, unit vectors or patch tokens out.

`load_encoder` reads the spec, calls the `from_LIBRARY.py` that it names for a `Tower`, and puts the tower on a device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from blindpairs.encoders.specs import Spec, parse_spec, without_demo
from blindpairs.encoders.tokens import Layer, Tokens, Transformer, no_patches
from blindpairs.errors import ConfigError
from blindpairs.images.preprocess import Preprocess


@dataclass(frozen=True)
class Tower:
    """What `from_LIBRARY.py` returns: a vision tower, how to get vectors and tokens from it, and its origin."""

    module: nn.Module  # the vision part only, in float32, on the CPU
    pooled: Callable[[Tensor], Tensor]  # normalised pixels (B, 3, S, S) -> (B, D), not yet unit
    transformer: Transformer | None  # gives the tokens; None for a network without tokens, such as a ResNet
    dimension: int
    preprocess: Preprocess
    facts: dict[str, object]  # library, version, architecture, pool rule, ...; ready for JSON
    weights_hash: str
    origin: Path | None = None  # the file of the weights, where the library finds it by a name


def choose_device(asked: str) -> str:
    """`auto` -> "cuda" if there is a CUDA GPU, else "cpu". ConfigError for a device that is not available."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        if reason.startswith("Expected one of"):  # torch lists forty kinds
            reason = "unknown kind of device"
        raise ConfigError(
            f"device {asked!r} is not available on this machine ({reason}); try --device auto or cpu"
        ) from error
    return asked


class Encoder:
    """A vision tower on a device. `name` is its column in the store, `spec` the string that it was loaded from.

    `exact` keeps it in float32 on CUDA, too: for comparisons that the rounding of bfloat16 would decide.
    """

    def __init__(self, name: str, spec: str, tower: Tower, device: str = "cpu", *, exact: bool = False) -> None:
        self.name = name
        self.spec = spec
        self.device = torch.device(device)
        self.dimension = tower.dimension
        self.preprocess = tower.preprocess
        self.weights_hash = tower.weights_hash
        self.origin = tower.origin
        self._tower = tower
        on_cuda = self.device.type == "cuda"
        self._autocast = on_cuda and not exact and torch.cuda.is_bf16_supported(including_emulation=False)
        tower.module.requires_grad_(False).eval().to(self.device)
        self._mean = torch.tensor(tower.preprocess.mean, device=self.device).view(1, 3, 1, 1)  # over (B, 3, H, W)
        self._std = torch.tensor(tower.preprocess.std, device=self.device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 on the encoder's device -> (B, D) float32 of unit length; NaN for a zero vector.

        On CUDA with bfloat16 the tower runs under autocast, and rows that are not finite run once more in float32.
        """
        (vectors,) = self._read(lambda pixels: [self._tower.pooled(pixels)], batch)  # (B, D)
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)  # (B, 1)
        # NaN, not an error: one image without a direction becomes one failure, and the batch goes on.
        return torch.where(torch.isfinite(norms) & (norms > 0), vectors / norms, torch.nan)

    def tokens(self, batch: Tensor, layer: int = -1, *, norm: bool = True) -> Tokens:
        """(B, 3, H, W) uint8 on the encoder's device -> the patch tokens of one layer, as `tokens_of` reads them."""
        return self.tokens_of(batch, [Layer(layer, norm)])[0]

    @torch.no_grad()  # not inference_mode: what is trained on top of the tokens keeps them for its backward pass
    def tokens_of(self, batch: Tensor, layers: Sequence[Layer]) -> list[Tokens]:
        """(B, 3, H, W) uint8 on the encoder's device -> the tokens of each layer, in that order, from one forward pass.

        Patches are (B, rows * columns, D) float32, not projected and not of unit length. Layer 0 is the input of the
        first block, k is the output of block k, -1 that of the last block. H and W are the preprocessing's size, or
        other multiples of the patch size if the tower takes them. Blocks after the last layer that is asked for are not
        run. ConfigError: no such layer or size, or no tokens.
        """
        transformer = self.transformer
        hidden = self._read(lambda pixels: transformer.hidden(pixels, layers), batch)
        grid = transformer.grid(*batch.shape[-2:])
        return [transformer.split(tokens, grid) for tokens in hidden]

    @property
    def parameters(self) -> int:
        """The number of weights of the vision tower."""
        return sum(weight.numel() for weight in self._tower.module.parameters())

    @property
    def transformer(self) -> Transformer:
        """Depth, patch size, grid and hidden states. ConfigError for an encoder without patch tokens."""
        if self._tower.transformer is None:
            raise no_patches(self.spec)
        return self._tower.transformer

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
        """(B, 3, H, W) uint8 -> float32 with the mean and std that the tower was trained with."""
        return (batch.to(torch.float32) / 255 - self._mean) / self._std

    def _read(self, read: Callable[[Tensor], list[Tensor]], batch: Tensor) -> list[Tensor]:
        """The results of `read` for a batch of bytes, each (B, ...) float32."""
        pixels = self._normalised(batch)
        results = self._run(read, pixels, autocast=self._autocast)
        if self._autocast and results:
            # If one layer of an image is not finite, all of them run again: they belong to one forward pass.
            finite = torch.stack([torch.isfinite(result.flatten(1)).all(dim=1) for result in results])  # (layers, B)
            failed = ~finite.all(dim=0)  # (B,)
            if bool(failed.any()):
                for result, exact in zip(results, self._run(read, pixels[failed], autocast=False), strict=True):
                    result[failed] = exact
        return results

    def _run(self, read: Callable[[Tensor], list[Tensor]], pixels: Tensor, *, autocast: bool) -> list[Tensor]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=autocast):
            return [result.to(torch.float32) for result in read(pixels)]


def load_encoder(name: str, spec: str, *, device: str = "cpu", exact: bool = False) -> Encoder:
    """Load the vision tower that `spec` names, and nothing else of its model, on `device`.

    `name` is the encoder's column in the store; for `exact` see `Encoder`. ConfigError: not a spec, no such model,
    broken weights. AssetMissing: no local weights, and the download failed.
    """
    return Encoder(name, spec, _tower(parse_spec(spec)), device, exact=exact)


def _tower(asked: Spec) -> Tower:
    spec = without_demo(asked)
    # Imported here, one at a time: each library takes seconds to load, and its file imports `Tower` from this one.
    if spec.library == "open_clip":
        from blindpairs.encoders.from_open_clip import load_open_clip

        return load_open_clip(spec)
    if spec.library == "timm":
        from blindpairs.encoders.from_timm import load_timm

        return load_timm(spec)
    from blindpairs.encoders.from_transformers import load_transformers

    return load_transformers(spec)
