"""Mined pairs shown to people: the gallery, one page that opens from disk, and single pairs as pictures.

Read in this order: `safety` (escaping and policy, for every page), `thumbnails`, `pairs` (what is shown), `charts`,
`heat` (maps of differences in colour), `cards` (one pair on the page), `kinds` (its clusters), `gallery` (the page),
`picture` (one pair for a notebook or a slide), `mined` (all of it from a store).

The names below are loaded when they are first used, because `mined` and what it needs load torch.
"""

from typing import TYPE_CHECKING

from blindpairs.lazily import lazily

if TYPE_CHECKING:
    from blindpairs.pages.gallery import write_gallery
    from blindpairs.pages.mined import PageImages, pair_pictures, write_mined_gallery
    from blindpairs.pages.pairs import GalleryPair, GallerySummary
    from blindpairs.pages.picture import pair_picture
    from blindpairs.pages.safety import content_policy, escape_attribute, escape_text, file_link, fill_template
    from blindpairs.pages.thumbnails import Thumbnail, make_thumbnail
else:
    __getattr__ = lazily(
        __name__,
        gallery="write_gallery",
        mined="PageImages pair_pictures write_mined_gallery",
        pairs="GalleryPair GallerySummary",
        picture="pair_picture",
        safety="content_policy escape_attribute escape_text file_link fill_template",
        thumbnails="Thumbnail make_thumbnail",
    )


__all__ = [
    "GalleryPair",
    "GallerySummary",
    "PageImages",
    "Thumbnail",
    "content_policy",
    "escape_attribute",
    "escape_text",
    "file_link",
    "fill_template",
    "make_thumbnail",
    "pair_picture",
    "pair_pictures",
    "write_gallery",
    "write_mined_gallery",
]
