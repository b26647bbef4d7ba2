"""The images of a store, read again from the corpus by their ids: the bytes as they were embedded, and their pixels.

Promises: bytes are checked against the id, which is a hash of the content, so that a replaced file is never taken for
the embedded image; an image that cannot be read is yielded with the reason, never left out; every container (tar,
Parquet file) is opened once and read in order; one image is in memory at a time.
"""

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from blindpairs.errors import Undecodable
from blindpairs.images import Limits, image_id, read_many
from blindpairs.images.decode import decode_pixels
from blindpairs.images.samples import Pixels
from blindpairs.store.store import Store


def images_of(store: Store, image_ids: Collection[str]) -> Iterator[tuple[str, bytes | Undecodable]]:
    """The file content of each image, or why there is none: each distinct id once, plain files first, then containers.

    Of several copies of an image, the first in the store is read. Undecodable has the codes of `images.read_item`, and
    `changed` if the bytes have another hash than the id (not checked for `uri:` ids of imported images, which are no
    hash of the content), `not_in_store` if the store has no such id. Raises what `Store.metadata` raises.
    """
    known = references(store, image_ids)
    for unknown in sorted(set(image_ids) - known.keys()):
        yield unknown, Undecodable("not_in_store", "the store has no image with this id")
    ids = list(known)  # `read_many` answers in an order of its own, by position
    for position, data in read_many(known.values()):
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
            yield key, data if isinstance(data, Undecodable) else decode_pixels(data, limits)[0]
        except Undecodable as error:
            yield key, error
        except MemoryError:
            yield key, Undecodable("out_of_memory", "there was not enough memory to decode it")


def references(store: Store, image_ids: Collection[str]) -> dict[str, tuple[str, bytes | None]]:
    """image_id -> (uri, uri_bytes) of its first row, in the order of the store; ids that it lacks are left out."""
    table = store.metadata(["image_id", "uri", "uri_bytes"])
    wanted = pc.is_in(table["image_id"], pa.array(sorted(image_ids), pa.string()))
    found: dict[str, tuple[str, bytes | None]] = {}
    for row in table.filter(wanted).to_pylist():
        found.setdefault(row["image_id"], (row["uri"], row["uri_bytes"]))
    return found
