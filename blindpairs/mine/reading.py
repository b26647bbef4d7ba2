"""Reading the pairs of a mining run, as `files.py` wrote them. Loads nothing that mining itself needs."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from blindpairs.access import present, reading
from blindpairs.errors import InputError
from blindpairs.mine.maps import RECORD
from blindpairs.workspace import PAIRS, read_json


def read_pairs(folder: Path) -> pa.Table:
    """The pairs that `mine_store` wrote to `folder`, in rank order, checked against the sha256 in pairs.json.

    Raises InputError where a file is missing, damaged, or of another run than the other, and Refused where it may not
    be read.
    """
    path, record = folder / PAIRS, folder / RECORD
    if not present(record):
        what = f"{path} is incomplete ({RECORD} is missing)" if present(path) else f"no pairs at {folder}"
        raise InputError(f"{what}: run `blindpairs mine`")
    if not present(path):
        raise InputError(f"{path} is missing: run `blindpairs mine` again")
    expected = read_json(record).get("pairs_sha256")
    with reading(path):
        content = path.read_bytes()  # hashed and parsed from one reading: another run may replace the file at any time
    if hashlib.sha256(content).hexdigest() != expected:
        raise InputError(f"{path} is not the file that {RECORD} describes: run `blindpairs mine` again")
    try:
        return pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a Parquet file: run `blindpairs mine` again") from error
