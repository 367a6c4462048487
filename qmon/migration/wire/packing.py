"""Compression of DATA on the channels of a migration (the parameter multifd-compression). Pure.

A packed payload begins with the size of the data (u32), then come the compressed bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from importlib.util import find_spec

from qmon.migration.wire.stream import MAX_PAYLOAD, StreamError

_SIZE = struct.Struct(">I")

Pack = Callable[[bytes], bytes | None]
"""Returns the packed payload for some data, None if it would not be smaller."""
Unpack = Callable[[memoryview], bytes]
"""Returns the data of a packed payload. Raises StreamError."""


def why_not(method: str) -> str | None:
    """Return why a method can't be used here, None if it can."""
    if method == "zstd" and find_spec("zstandard") is None:
        return "multifd-compression zstd needs the Python package zstandard: install it, or choose zlib"
    return None


def packer(method: str, level: int) -> Pack:
    """Return what packs by a method; for one thread."""
    match method:
        case "zlib":
            return lambda data: _packed(data, zlib.compress(data, level))
        case "zstd":
            import zstandard

            compress = zstandard.ZstdCompressor(level=level).compress
            return lambda data: _packed(data, compress(data))
    return lambda data: None


def unpacker(method: str) -> Unpack:
    """Return what unpacks by a method; for one thread."""
    match method:
        case "zlib":
            return lambda payload: _unpacked(payload, _inflate)
        case "zstd":
            import zstandard

            decompressor = zstandard.ZstdDecompressor()

            def decompress(packed: memoryview, size: int) -> bytes:
                try:
                    return decompressor.decompress(packed, max_output_size=size)
                except zstandard.ZstdError as error:
                    raise StreamError(f"not a valid migration stream: {error}") from error

            return lambda payload: _unpacked(payload, decompress)
    return _refuse


def _packed(data: bytes, compressed: bytes) -> bytes | None:
    return _SIZE.pack(len(data)) + compressed if len(compressed) + _SIZE.size < len(data) else None


def _unpacked(payload: memoryview, decompress: Callable[[memoryview, int], bytes]) -> bytes:
    size = _SIZE.unpack_from(payload)[0] if len(payload) > _SIZE.size else 0
    if not 0 < size <= MAX_PAYLOAD:  # before memory is taken for it
        raise StreamError(f"not a valid migration stream: packed data of {size} bytes")
    data = decompress(payload[_SIZE.size :], size)
    if len(data) != size:
        raise StreamError(f"not a valid migration stream: {len(data)} bytes of packed data, not {size}")
    return data


def _inflate(packed: memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, size)
    except zlib.error as error:
        raise StreamError(f"not a valid migration stream: {error}") from error


def _refuse(payload: memoryview) -> bytes:
    raise StreamError("not a valid migration stream: packed data, which was not agreed on")
