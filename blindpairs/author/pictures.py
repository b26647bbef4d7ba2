"""The images of pairs for the pages, by id, and the maps of where they differ, as PNG, JPEG and nothing else.

Promises: an image is addressed by its id alone, never by a path; what is sent was decoded here as the encoders' input
is (EXIF orientation applied, transparency on white), so that a hostile file never reaches the browser; an image that
cannot be read is named with its reason; a container (tar, Parquet) is searched once; memory stays bounded, by the
cache and by one large image at a time.
"""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from blindpairs.author.database import AuthoringDatabase
from blindpairs.errors import BlindpairsError, Undecodable
from blindpairs.images import Item, Limits, image_id, read_item
from blindpairs.images.by_uri import Reference, container_of, located
from blindpairs.images.decode import decode_pixels, pixels_held
from blindpairs.mine.maps import MAPS, DifferenceMap, read_maps
from blindpairs.pages.heat import heat_image
from blindpairs.store import Store, references
from blindpairs.workspace import Workspace

LARGEST_SIDE = 2048  # of a picture on a page, in pixels: as much as a screen shows of one of two images
SMALL_SIDE = 256  # up to here a picture is sent without loss, since single pixels are seen
CACHE_BYTES = 32 << 20  # of encoded pictures
LARGE = 16_000_000  # pixels held while an image is decoded: 4 bytes each, 6 in a progressive JPEG


@dataclass(frozen=True)
class Picture:
    """An encoded picture and its media type."""

    data: bytes
    media_type: str


class Pictures:
    """Encoded pictures of images by id; for several threads. `read` gives the bytes of an image file.

    Raises Undecodable for what cannot be shown.
    """

    def __init__(self, read: Callable[[str], bytes], limits: Limits, cache_bytes: int = CACHE_BYTES) -> None:
        self._read, self._limits = read, limits
        self._cache: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._room = cache_bytes
        self._lock = threading.Lock()
        self._large = threading.Lock()  # held while a large image is decoded

    def picture(self, key: str, side: int = LARGEST_SIDE) -> Picture:
        """The image with this id, its longest side at most `side` pixels; never enlarged."""
        with self._lock:
            if found := self._cache.get((key, side)):
                self._cache.move_to_end((key, side))
                return found
        made = self._made(self._read(key), side)
        with self._lock:
            if (key, side) not in self._cache:
                self._cache[key, side] = made
                self._room -= len(made.data)
            while self._room < 0 and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._room += len(oldest.data)
        return made

    def _made(self, data: bytes, side: int) -> Picture:
        with self._large if pixels_held(data) > LARGE else nullcontext():
            pixels, _ = decode_pixels(data, self._limits, at_least=side)
        return _encoded(Image.fromarray(pixels), side)


class CorpusImages:
    """Reads image files by id from where the corpus has them; for several threads."""

    def __init__(self, references: Callable[[], Mapping[str, Reference]]) -> None:
        self._references = references
        self._known: Mapping[str, Reference] = {}
        self._items: dict[str, Item | Undecodable] = {}
        self._lock = threading.Lock()

    def __call__(self, key: str) -> bytes:
        """The bytes of the image with this id, which they are checked against; Undecodable for why there are none."""
        with self._lock:
            item = self._item(key)
        if isinstance(item, Undecodable):
            raise item
        data = read_item(item)
        # An id of an imported image is its address and no hash of the content.
        if not key.startswith("uri:") and image_id(data) != key:
            raise Undecodable("changed", "the file is no longer the image that was embedded")
        return data

    def _item(self, key: str) -> Item | Undecodable:
        if key not in self._known:
            self._known = self._references()  # pairs may have been added since
        if key not in self._known:
            return Undecodable("unknown", "no pair has an image with this id")
        if key not in self._items:
            self._locate(key)
        return self._items[key]

    def _locate(self, key: str) -> None:
        """Find an image, and with it all others of its container: searching a container takes one pass, or many."""
        container = container_of(*self._known[key])
        names = [key]
        if container is not None:
            names = [name for name, reference in self._known.items() if container_of(*reference) == container]
        for position, item in located(self._known[name] for name in names):
            self._items[names[position]] = item


class Maps:
    """The maps of differences in the folder of the pairs, read again when the file is another one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int] | None = None
        self._maps: Mapping[str, DifferenceMap] = {}
        self._lock = threading.Lock()

    def of(self, pair_id: str) -> DifferenceMap | None:
        """The map of a pair; None where there is none, or none that can be read."""
        with self._lock:
            try:
                status = (self._folder / MAPS).stat()
                seen = (status.st_mtime_ns, status.st_size)
            except OSError:
                return None
            if seen != self._seen:
                try:
                    self._maps = read_maps(self._folder)
                except BlindpairsError:  # being written again just now, or damaged: the pages do without
                    return None
                self._seen = seen
            return self._maps.get(pair_id)

    def picture(self, pair_id: str, side: str) -> Picture:
        """The map on image a or b as PNG, a pixel a cell, transparent where little differs; Undecodable without one."""
        found = self.of(pair_id)
        if found is None:
            raise Undecodable("no_map", "this pair has no map of differences")
        out = io.BytesIO()
        heat_image(found.a if side == "a" else found.b).save(out, "PNG", bits=4, optimize=True)
        return Picture(out.getvalue(), "image/png")


def pictures_of(space: Workspace) -> Pictures:
    """The images of all pairs in the database of a work folder: where its store has them, which follows a corpus that
    moved, else where they were when the pairs were mined.
    """
    try:
        store = Store.open(space.embeddings)
    except BlindpairsError:  # pairs can be decided on without their store
        store = None

    def find() -> Mapping[str, Reference]:
        uris: dict[str, Reference] = {}
        with AuthoringDatabase(space.authoring) as database:
            for pair in database.pairs():
                uris |= {pair.image_id_a: (pair.uri_a, None), pair.image_id_b: (pair.uri_b, None)}
        try:
            return uris | references(store, uris) if store else uris
        except BlindpairsError:  # damaged since
            return uris

    limits = store.manifest["settings"].get("limits", {}) if store else {}
    return Pictures(CorpusImages(find), Limits(**limits))


def _encoded(image: Image.Image, side: int) -> Picture:
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    out = io.BytesIO()
    if max(image.size) <= SMALL_SIDE:
        image.save(out, "PNG")
        return Picture(out.getvalue(), "image/png")
    image.save(out, "JPEG", quality=90, subsampling=0)
    return Picture(out.getvalue(), "image/jpeg")
