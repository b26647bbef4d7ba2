"""A corpus and some encoders in, a store of unit vectors out.

Read in this order: `sequence` (what a run does, step by step), `loop` (images through the encoders into parts),
`relocate` (the corpus has moved).

One image passes through these files, from the command line to the part that is committed: `cli/embed`;
`images/corpus`, `sources` and `item` (it is listed); `embed/sequence` and `store/manifest` (the list is written, and
cut into parts); `embed/loop` and `images/workers` (it is read in a process of its own); `images/decode`, `header`,
`samples` and `preprocess` (its bytes become the encoders' input); `encoders/encoder`; `store/parts`.
"""

from blindpairs.embed.loop import EmbedOptions, ImageEncoder
from blindpairs.embed.sequence import EmbedReport, embed

__all__ = ["EmbedOptions", "EmbedReport", "ImageEncoder", "embed"]
