"""Mined pairs as pictures: a page that opens from disk (`page`), made from a store and its pairs (`mined`)."""

from blindpairs.pages.gallery import GalleryPair, GallerySummary, pair_picture, write_gallery
from blindpairs.pages.mined import PageImages, write_mined_gallery

__all__ = ["GalleryPair", "GallerySummary", "PageImages", "pair_picture", "write_gallery", "write_mined_gallery"]
