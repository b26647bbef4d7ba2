"""The text side of a CLIP or SigLIP: texts in, unit vectors out, in the space of its images' vectors.

`load_text_encoder("open_clip:ViT-L-14/openai")` takes the spec strings of `load_encoder`; the cosine of its vectors and
those of the image encoder is the similarity that the model was trained for.

Promises: the vectors equal those of the library's own pipeline, its cleaning, lower-casing and padding included; a text
that is longer than the model reads is an error that names it, and never cut; a spec without a text side, or whose image
vectors are in another space than the texts, is an error that says so. Texts are encoded in float32 on any device.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blindpairs.encoders.specs import Spec, parse_spec, without_demo
from blindpairs.errors import ConfigError

BATCH = 64  # texts
Inputs = Mapping[str, Tensor]  # what a tokenizer gives: (n, L) each


@dataclass(frozen=True)
class TextTower:
    """What `from_LIBRARY.py` returns: a text tower with its tokenizer, and its origin."""

    module: nn.Module  # the model without its image tower, in float32, on the CPU
    tokens: Callable[[list[str]], Inputs]  # n texts -> their tokens, padded as in training
    vectors: Callable[[Inputs], Tensor]  # -> (n, D), not yet unit
    count: Callable[[str], int]  # the tokens of a text, uncut, with those that begin and end it
    context: int  # the most tokens that the tower reads
    dimension: int
    logit_scale: float  # what the model multiplies its cosines by, before a softmax
    facts: dict[str, object]  # architecture, tokenizer; ready for JSON
    weights_hash: str


class TextEncoder:
    """A text tower on a device. `spec` is the string that it was loaded from."""

    def __init__(self, spec: str, tower: TextTower, device: str = "cpu") -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.dimension = tower.dimension
        self.context = tower.context
        self.logit_scale = tower.logit_scale
        self._tower = tower
        tower.module.requires_grad_(False).eval().to(self.device)

    @property
    def parameters(self) -> int:
        """The number of weights of the model without its image tower."""
        return sum(weight.numel() for weight in self._tower.module.parameters())

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """n texts -> (n, D) float32 of unit length, on the CPU. ConfigError for a text that is too long."""
        for text in texts:
            if (count := self._tower.count(text)) > self.context:
                raise ConfigError(
                    f"{self.spec}: {text!r} has {count} tokens, and the model reads {self.context}: shorten the "
                    "statement or the template, because the end would be cut off"
                )
        batches = [self._encoded(list(texts[start : start + BATCH])) for start in range(0, len(texts), BATCH)]
        return torch.cat(batches) if batches else torch.empty(0, self.dimension)

    def describe(self) -> dict[str, object]:
        """Provenance, ready for JSON: architecture, tokenizer, context, weights."""
        return {
            **self._tower.facts,
            "context": self.context,
            "logit_scale": self.logit_scale,
            "weights_hash": self._tower.weights_hash,
        }

    def _encoded(self, texts: list[str]) -> Tensor:
        inputs = {name: values.to(self.device) for name, values in self._tower.tokens(texts).items()}
        vectors = self._tower.vectors(inputs).to(torch.float32)  # (n, D)
        return torch.nn.functional.normalize(vectors, dim=1).cpu()


def load_text_encoder(spec: str, *, device: str = "cpu") -> TextEncoder:
    """Load the text side of the model that `spec` names, on `device`.

    ConfigError: what `load_encoder` refuses, a model without a text side, and `?pool=` other than the space that the
    texts share. AssetMissing: no local weights or tokenizer, and the download failed.
    """
    return TextEncoder(spec, _tower(parse_spec(spec)), device)


def _tower(asked: Spec) -> TextTower:
    spec = without_demo(asked)
    # Imported here, one at a time: each library takes seconds to load, and its file imports `TextTower` from this one.
    if spec.library == "open_clip":
        from blindpairs.encoders.from_open_clip import load_open_clip_text

        return load_open_clip_text(spec)
    if spec.library == "hf":
        from blindpairs.encoders.texts_from_transformers import load_transformers_text

        return load_transformers_text(spec)
    raise no_texts(spec)


def no_texts(spec: Spec, why: str = "") -> ConfigError:
    """The error for an encoder that cannot compare images with texts."""
    return ConfigError(
        f"{spec.text}: this encoder has no text side{why}; choose a CLIP or a SigLIP, such as "
        "open_clip:ViT-L-14/openai or hf:google/siglip-base-patch16-224"
    )


def check_shared_space(spec: Spec, pool: str) -> None:
    """ConfigError for `?pool=` unless it is `pool`, whose image vectors share the space of the texts."""
    if spec.pool not in (None, pool):
        raise ConfigError(
            f"{spec.text}: image vectors of pool={spec.pool} are not in the space of the texts; leave pool= out"
        )
