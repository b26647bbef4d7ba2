"""Mined pairs shown to people: the gallery, one page that opens from disk, and single pairs as pictures.

Read in this order: `safety` (escaping and policy, for every page), `thumbnails`, `pairs` (what is shown), `charts`,
`heat` (maps of differences in colour), `cards` (one pair on the page), `kinds` (its clusters), `gallery` (the page),
`picture` (one pair for a notebook or a slide), `mined` (all of it from a store).

The names below are loaded when they are first used, because `mined` and what it needs load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blindpairs.pages.gallery import write_gallery
    from blindpairs.pages.mined import PageImages, pair_pictures, write_mined_gallery
    from blindpairs.pages.pairs import GalleryPair, GallerySummary
    from blindpairs.pages.picture import pair_picture
    from blindpairs.pages.safety import content_policy, escape_attribute, escape_text, file_link, fill_template
    from blindpairs.pages.thumbnails import Thumbnail, make_thumbnail
else:
    _PLACES = {
        "GalleryPair": "pairs",
        "GallerySummary": "pairs",
        "PageImages": "mined",
        "Thumbnail": "thumbnails",
        "content_policy": "safety",
        "escape_attribute": "safety",
        "escape_text": "safety",
        "file_link": "safety",
        "fill_template": "safety",
        "make_thumbnail": "thumbnails",
        "pair_picture": "picture",
        "pair_pictures": "mined",
        "write_gallery": "gallery",
        "write_mined_gallery": "mined",
    }

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


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
