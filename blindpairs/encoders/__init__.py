"""Spec string -> Encoder: a vision tower with its weights and its preprocessing.

`load_encoder("clip", "open_clip:ViT-L-14/openai")` gives an `Encoder` whose vectors equal those of the library's own
pipeline. `encoder.tokens(batch, layer=-2, norm=False)` gives its patch tokens (B, rows * columns, D) at any layer, with
their grid; `encoder.tokens_of(batch, [Layer(1), Layer(-1)])` reads several layers in one forward pass (see tokens.py).

`load_text_encoder` gives the text side of the same model (see texts.py).

Read in this order: `specs` (the string), `encoder` (loading, and what every library gives), `tokens` (patch tokens),
`texts`, then one file per library: `from_open_clip`, `from_transformers` with `texts_from_transformers`, `from_timm`,
with `weights` for all of them. `text_side` and `origins` tell of a model without loading it.

The libraries are imported only when a spec asks for them, because each takes seconds, and the names below only when
they are first used, because they load torch.
"""

from typing import TYPE_CHECKING

from blindpairs.defaults import DEMO_ENCODERS, PAPER_ENCODERS
from blindpairs.lazily import lazily

if TYPE_CHECKING:
    from blindpairs.encoders.encoder import Encoder, choose_device, load_encoder
    from blindpairs.encoders.texts import TextEncoder, load_text_encoder
    from blindpairs.encoders.tokens import Layer, Tokens, Transformer
else:
    __getattr__ = lazily(
        __name__,
        encoder="Encoder choose_device load_encoder",
        texts="TextEncoder load_text_encoder",
        tokens="Layer Tokens Transformer",
    )

__all__ = [
    "DEMO_ENCODERS",
    "PAPER_ENCODERS",
    "Encoder",
    "Layer",
    "TextEncoder",
    "Tokens",
    "Transformer",
    "choose_device",
    "load_encoder",
    "load_text_encoder",
]
