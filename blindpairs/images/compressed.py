"""Compressed archives as streams that are read forwards: gzip, bzip2, xz and zstd, recognised by their first bytes.

Promises: several streams in one file, as `cat` makes it, are read as one; zeros between or after gzip, bzip2 and xz
streams are skipped as padding; anything else after a stream is an error, never a silent end.
"""

import bz2
import gzip
import lzma
import re
from collections.abc import Callable
from typing import IO, Any, Protocol

CHUNK = 1 << 20  # bytes read at a time
MOST_MEMORY = 512 << 20  # of an xz decoder; `xz -9` asks for 65 MiB
MAGICS = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), "zstd"),  # a data frame, or a skippable one
    (re.compile(rb"\xfd7zXZ\x00"), "xz"),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"), "bzip2"),  # with the start of a block, or of the end
)
HEAD_BYTES = 10  # the longest of these


class Readable(Protocol):
    """A stream that can be read forwards."""

    def read(self, size: int, /) -> bytes:
        """Some bytes, at most `size`; none only at the end."""

    def close(self) -> None:
        """Close it."""


def compression(head: bytes) -> str:
    """`gzip`, `bzip2`, `xz` or `zstd` by the first HEAD_BYTES of a file; "" for none of them."""
    return next((kind for magic, kind in MAGICS if magic.match(head)), "")


def decompressed(file: IO[bytes], kind: str) -> Readable:
    """The decompressed content of `file`, whose position must be its start."""
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file)
    if kind == "zstd":
        import pyarrow

        stream: Readable = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
        return stream
    if kind == "xz":
        return _Streams(file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY))
    return _Streams(file, bz2.BZ2Decompressor)


class _Streams:
    """xz or bzip2 streams one after the other. LZMAFile and BZ2File would end silently at a damaged second stream."""

    def __init__(self, file: IO[bytes], new_decoder: Callable[[], Any]) -> None:
        self.file = file
        self.new_decoder = new_decoder
        self.decoder = new_decoder()

    def read(self, size: int, /) -> bytes:
        """At most `size` decompressed bytes; none only at the end. EOFError for a stream that was cut off."""
        while True:  # a decoder may take data and give none: an empty result would mean the end
            data = b""
            if self.decoder.eof:
                data = self._next_stream()
                if not data:
                    return b""
                self.decoder = self.new_decoder()
            elif self.decoder.needs_input:
                data = self.file.read(CHUNK)
                if not data:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            part: bytes = self.decoder.decompress(data, size)
            if part:
                return part

    def _next_stream(self) -> bytes:
        """The first bytes of the next stream, without the padding before it; none at the end of the file."""
        data: bytes = self.decoder.unused_data.lstrip(b"\0")
        while not data and (more := self.file.read(CHUNK)):
            data = more.lstrip(b"\0")
        return data

    def close(self) -> None:
        """Do nothing: the caller closes the file that it opened."""
