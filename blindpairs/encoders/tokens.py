"""Patch tokens of any layer of a vision transformer, with their grid, whichever library built it.

Layers are numbered as in transformers' `hidden_states`, for every library: 0 is the input of the first block, k the
output of block k, -1 the output of the last block. Each can be read before or after the tower's final norm.

Words: `Layer` says what to read, `Tokens` is what `Encoder.tokens_of` returns, `Transformer` is the tower read from.

Promises: the library's own forward runs once, unchanged, for all layers that are asked for, and the pooled vectors of
`pool=cls` and `pool=mean` come from that same forward; if all layers lie before the last block, the forward ends once
they are read, with the same bits; class token and registers are never among the patches; patches are row-major over the
grid, from the top left corner, and number rows * columns. A model whose tokens do not fit this is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import get_ident

from torch import Tensor, nn

from blindpairs.errors import ConfigError

CHOOSE = "choose a plain vision transformer, such as open_clip:ViT-B-16/openai or hf:facebook/dinov2-base"


class _AllRead(Exception):
    """Ends a forward pass once all layers are read: a hook raises it, and it never leaves this module."""


@dataclass(frozen=True)
class Layer:
    """Which hidden states to read: after block `index` (0: before the first), with or without the final norm."""

    index: int = -1
    norm: bool = True


@dataclass(frozen=True)
class Tokens:
    """The tokens of one layer for a batch of B images; `patches[:, r * columns + c]` is at row r, column c."""

    patches: Tensor  # (B, N, D) float32, N == rows * columns
    grid: tuple[int, int]  # (rows, columns)
    class_token: Tensor | None  # (B, D) float32; None where the tower has none, such as a SigLIP


@dataclass(frozen=True)
class Transformer:
    """A vision transformer of any library: its forward and its blocks. P prefix tokens come before the N patches."""

    spec: str  # for error messages
    forward: Callable[[Tensor], Tensor]  # normalised pixels (B, 3, H, W) -> (B, P + N, D) after the final norm
    blocks: Sequence[nn.Module]
    norm: nn.Module | None  # None where the norm comes after the pooling
    width: int  # D
    prefix: int  # P: class token, if any, then registers
    has_class_token: bool
    patch_size: tuple[int, int]
    size: int  # the side of the square images that it was loaded for
    any_size: bool  # whether its positions follow images of other sizes

    @property
    def depth(self) -> int:
        """The number of blocks: layers go from 0 to `depth`."""
        return len(self.blocks)

    def pooled(self, pixels: Tensor, pool: str) -> Tensor:
        """(B, 3, H, W) -> (B, D): the class token (`cls`) or the mean of the patches (`mean`), as `forward` has them.

        They are after the final norm if the tower has one for its tokens.
        """
        tokens = self._final(pixels)
        return tokens[:, 0] if pool == "cls" else tokens[:, self.prefix :].mean(dim=1)

    def hidden(self, pixels: Tensor, layers: Iterable[Layer]) -> list[Tensor]:
        """(B, 3, H, W) -> all tokens (B, P + N, D) of each layer, from one forward pass; see `split`."""
        wanted = [self._resolved(layer) for layer in layers]
        last = Layer(self.depth, norm=True)
        rows, columns = self.grid(*pixels.shape[-2:])
        shape = (len(pixels), self.prefix + rows * columns, self.width)
        indices = {layer.index for layer in wanted if layer != last}
        seen, final = self._run(pixels, indices, whole=any(layer.index == self.depth for layer in wanted))
        if final is None and any(not isinstance(tokens, Tensor) or tokens.shape != shape for tokens in seen.values()):
            seen, final = self._run(pixels, indices, whole=True)  # the final tokens say whether these can be used
        if final is not None and final.shape[1] != shape[1]:
            raise ConfigError(f"{self.spec}: its {final.shape[1]} tokens do not form a grid of patches; {CHOOSE}")
        read: list[Tensor] = []
        for layer in wanted:
            tokens = final if layer == last else seen.get(layer.index)  # (B, P + N, D) where it is usable
            if not isinstance(tokens, Tensor) or (final is not None and tokens.shape != final.shape):
                raise ConfigError(
                    f"{self.spec}: layer {layer.index} has other tokens than the last layer after the norm; read the "
                    "last layer, or " + CHOOSE
                )
            read.append(self.norm(tokens) if layer.norm and layer != last and self.norm is not None else tokens)
        return read

    def split(self, tokens: Tensor, grid: tuple[int, int]) -> Tokens:
        """(B, P + N, D) -> the patches and the class token; registers are dropped."""
        return Tokens(tokens[:, self.prefix :], grid, tokens[:, 0] if self.has_class_token else None)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the patches of an image of that size; ConfigError for a size that the tower cannot take.

        Other sizes than the loaded one must be whole patches: a library would silently drop the remainder.
        """
        patch_height, patch_width = self.patch_size
        if (height, width) != (self.size, self.size):
            if not self.any_size:
                raise ConfigError(
                    f"{self.spec}: it takes images of {self.size} x {self.size}, not of {height} x {width}; "
                    "?size= loads it for another square"
                )
            if height % patch_height or width % patch_width or not height or not width:
                raise ConfigError(
                    f"{self.spec}: images of {height} x {width} are not whole patches of "
                    f"{patch_height} x {patch_width}; resize them"
                )
        return height // patch_height, width // patch_width

    def _resolved(self, layer: Layer) -> Layer:
        index = layer.index + self.depth + 1 if layer.index < 0 else layer.index
        if not 0 <= index <= self.depth:
            first = -self.depth - 1
            raise ConfigError(
                f"{self.spec}: there is no layer {layer.index}; layers are 0 to {self.depth}, or {first} to -1"
            )
        if layer.norm and self.norm is None:
            raise ConfigError(
                f"{self.spec}: its final norm comes after its pooling; ask for the patch tokens with norm=False"
            )
        return Layer(index, layer.norm)

    def _final(self, pixels: Tensor) -> Tensor:
        tokens = self.forward(pixels)
        if not isinstance(tokens, Tensor) or tokens.ndim != 3:  # maps of a convolutional or a windowed network
            raise no_patches(self.spec)
        return tokens

    def _run(self, pixels: Tensor, indices: set[int], *, whole: bool) -> tuple[dict[int, object], Tensor | None]:
        """The hidden states of these layers, and the last tokens; None for those if the forward ended before them.

        Unless it is to run `whole`, the forward ends as soon as the last of the layers is there.
        """
        final: Tensor | None = None
        with self._recorded(indices, whole=whole) as seen, suppress(_AllRead):
            final = self._final(pixels)
        return seen, final

    @contextmanager
    def _recorded(self, indices: set[int], *, whole: bool) -> Iterator[dict[int, object]]:
        """Record the hidden states of these layers while the forward runs in this thread.

        By hooks, so that the library's own forward runs unchanged. Unless it is to run `whole`, the last of them raises
        `_AllRead`.
        """
        seen: dict[int, object] = {}
        thread = get_ident()

        def record(index: int, passed: object) -> None:
            if get_ident() != thread:  # hooks belong to the module: another thread's forward calls them too
                return
            seen[index] = passed[0] if isinstance(passed, tuple) and passed else passed
            if not whole and len(seen) == len(indices):
                raise _AllRead

        def before_block(_module: nn.Module, arguments: tuple[object, ...]) -> None:
            record(0, arguments)

        def after_block(_module: nn.Module, _arguments: object, output: object, *, index: int) -> None:
            record(index, output)

        handles = []
        try:
            for index in indices if self.blocks else ():
                handles.append(
                    self.blocks[index - 1].register_forward_hook(partial(after_block, index=index))
                    if index
                    else self.blocks[0].register_forward_pre_hook(before_block)
                )
            yield seen
        finally:
            for handle in handles:
                handle.remove()


def no_patches(spec: str) -> ConfigError:
    """The error for a tower without patch tokens."""
    return ConfigError(f"{spec}: this encoder has no patch tokens; {CHOOSE}")
