"""Spec string -> Encoder: whose eyes look, with which weights, through which preprocessing.

`load_encoder("clip", "open_clip:ViT-L-14/openai")` gives an `Encoder` whose vectors equal those of the library's own
pipeline. One file per library; open_clip, transformers and timm are imported only when a spec asks for them (each takes
seconds).
"""

from blindpairs.encoders.encoder import Encoder, choose_device
from blindpairs.encoders.load import load_encoder

__all__ = ["Encoder", "choose_device", "load_encoder"]
