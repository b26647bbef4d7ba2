"""A corpus and some encoders in, a store of unit vectors out.

Read in this order: `sequence` (what a run does, step by step), `loop` (images through the encoders into parts),
`relocate` (the corpus has moved).
"""

from blindpairs.embed.loop import EmbedOptions, ImageEncoder
from blindpairs.embed.sequence import EmbedReport, embed

__all__ = ["EmbedOptions", "EmbedReport", "ImageEncoder", "embed"]
