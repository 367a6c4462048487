"""Compressed clusters: finds and decompresses them.

QEMU, docs/interop/qcow2, "Compressed Clusters Descriptor".
"""

from __future__ import annotations

import errno
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.header import Compression, Header, Qcow2Error

_SECTOR = 512
_KEPT_BYTES = 4 << 20
_OFFSET_LIMIT = 1 << 56


def place(entry: int, cluster_bits: int) -> tuple[int, int]:
    """Return (offset, length) in the file of an L2 entry's compressed data, extended to a sector's end."""
    split = 62 - (cluster_bits - 8)
    offset = entry & ((1 << split) - 1)
    more_sectors = (entry & ((1 << 62) - 1)) >> split
    return offset, (more_sectors + 1) * _SECTOR - offset % _SECTOR


def clusters(entry: int, cluster_bits: int) -> range:
    """Return the clusters of the file that a compressed cluster touches; it has one reference to each."""
    offset, length = place(entry, cluster_bits)
    return range(offset >> cluster_bits, ((offset + length - 1) >> cluster_bits) + 1)


class Decompressor:
    """Reads compressed clusters and keeps the last few. Thread-safe."""

    def __init__(self, file: ImageFile, header: Header) -> None:
        self._file = file
        self._bits = header.cluster_bits
        self._unpack = _unpack_zlib if header.compression is Compression.ZLIB else _zstd_unpacker()
        self._max_kept = max(1, min(64, _KEPT_BYTES >> header.cluster_bits))
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def cluster(self, entry: int) -> bytes:
        """Return the decompressed cluster of an L2 entry. Raises OSError; EIO for damaged data.

        The result may be cached as long as the image is open: qmon never writes compressed data.
        """
        with self._lock:
            content = self._kept.get(entry)
            if content is not None:
                self._kept.move_to_end(entry)
                return content
        offset, length = place(entry, self._bits)
        if offset >= min(_OFFSET_LIMIT, self._file.size):
            raise OSError(errno.EIO, f"a compressed cluster lies outside the image file: {offset:#x}")
        packed = bytearray(length)
        self._file.read_into(offset, memoryview(packed))
        content = self._unpack(bytes(packed), 1 << self._bits)
        if len(content) != 1 << self._bits:
            raise OSError(errno.EIO, f"the compressed cluster at {offset:#x} of the image file is damaged")
        with self._lock:
            self._kept[entry] = content
            while len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        return content


def _unpack_zlib(packed: bytes, length: int) -> bytes:
    """Decompress raw deflate data and ignore bytes after its end; damaged data gives another length."""
    try:
        return zlib.decompressobj(-15).decompress(packed, length)
    except zlib.error:
        return b""


def _zstd_unpacker() -> Callable[[bytes, int], bytes]:
    try:
        import zstandard
    except ImportError:
        raise Qcow2Error("the image is compressed with zstd: install the Python package zstandard") from None

    def unpack(packed: bytes, length: int) -> bytes:
        try:
            with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
                return bytes(reader.read(length))
        except zstandard.ZstdError:
            return b""

    return unpack
