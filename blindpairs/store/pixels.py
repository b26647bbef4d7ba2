"""The images of a store, read again from the corpus by their ids: the bytes as they were embedded, and their pixels.

Promises: bytes are checked against the content hash that is the id, so that a replaced file never passes for the
embedded image; an image that cannot be had is yielded with the reason, never left out; every container (tar, Parquet
file) is opened once and read in order; one image is in memory at a time.
"""

from collections.abc import Collection, Iterator

from blindpairs.errors import Undecodable
from blindpairs.images import Limits, image_id, read_many
from blindpairs.images.decode import decode
from blindpairs.images.samples import Pixels
from blindpairs.store.store import Store


def images_of(store: Store, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
    """The encoded bytes of each image, or why there are none: every distinct id once, plain files
    first, then container by container.

    Of several copies of an image the first in the store is read. Undecodable has the codes of `images.read_item`, and
    `changed` where the bytes have another hash than the id (imported `uri:` ids carry none: those bytes are taken as
    they are), `not_in_store` where the store has no such id. Raises what `Store.metadata` raises.
    """
    references = _references(store, set(image_ids))
    for unknown in sorted(set(image_ids) - references.keys()):
        yield unknown, Undecodable("not_in_store", "the store has no image with this id")
    ids = list(references)
    for position, data in read_many(references.values()):
        expected = ids[position]
        if isinstance(data, bytes) and not expected.startswith("uri:") and image_id(data) != expected:
            yield expected, Undecodable("changed", "the file is no longer the image that was embedded")
        else:
            yield expected, data


def pixels_of(store: Store, image_ids: Collection[str]) -> Iterator[tuple[str, Pixels | Undecodable]]:
    """The pixels of each image, (H, W, 3) uint8 RGB, upright; order and errors as `images_of`.

    Decoded under the limits that the store was embedded with. Undecodable also has the codes of `images.decode`, and
    `out_of_memory`.
    """
    limits = Limits(**store.manifest["settings"].get("limits", {}))  # stores imported by older releases have none
    for key, data in images_of(store, image_ids):
        try:
            yield key, data if isinstance(data, Undecodable) else decode(data, limits).pixels
        except Undecodable as error:
            yield key, error
        except MemoryError:
            yield key, Undecodable("out_of_memory", "there was not enough memory to decode it")


def _references(store: Store, wanted: set[str]) -> dict[str, tuple[str, bytes | None]]:
    """image_id -> (uri, uri_bytes) of its first row."""
    references: dict[str, tuple[str, bytes | None]] = {}
    for row in store.metadata(["image_id", "uri", "uri_bytes"]).to_pylist():
        if row["image_id"] in wanted:
            references.setdefault(row["image_id"], (row["uri"], row["uri_bytes"]))
    return references
