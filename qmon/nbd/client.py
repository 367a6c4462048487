"""A blocking NBD client that reads: data and block status. It checks and bounds all that the server sends.

doc/proto.md, "Transmission" and "Structured reply chunk message". One request is on its way at a time. An
old server that has neither structured replies nor GO can be read, too.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence

from qmon.host.tls import Tls
from qmon.nbd.client_handshake import agree
from qmon.nbd.client_socket import ClientSocket, NbdError, NbdRequestError
from qmon.nbd.constants import (
    CHUNK,
    MAX_STRING,
    REPLY_FLAG_DONE,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Command,
    ReplyType,
    TransmissionFlag,
)
from qmon.nbd.filled import Filled

__all__ = ["ALLOCATION_DEPTH", "NbdClient", "NbdError", "NbdRequestError"]

ALLOCATION_DEPTH = "qemu:allocation-depth"
"""QEMU's context: 1 for data in the top layer, 2 and more for those below, 0 for none (docs/interop/nbd)."""

PATIENCE_SECONDS = 30.0
"""The time limit of one request."""

STATUS_BYTES = 1 << 30
"""The most bytes that one request for the status asks about."""

MAX_EXTENTS = 128 << 10
"""Extents in one reply: as many as QEMU sends at most."""

MAX_ERRORS = 16
"""Error chunks in one reply."""

MAX_ERROR_BYTES = MAX_STRING + 64
"""The longest error chunk: a text, and some fields."""

_ERROR_TYPE = 1 << 15
_ERROR_TAILS = {int(ReplyType.ERROR): 0, int(ReplyType.ERROR_OFFSET): 8}
_OFFSET = struct.Struct(">Q")
_HOLE = struct.Struct(">QI")
_ERROR = struct.Struct(">IH")

Extent = tuple[int, int]
"""The length of a range in bytes, and its status in a context."""


class NbdClient:
    """Reads an export. One thread uses it; any may call ``interrupt``."""

    def __init__(
        self,
        sock: socket.socket,
        export: str,
        contexts: Sequence[str] = (),
        patience: float = PATIENCE_SECONDS,
        tls: Tls | None = None,
        hostname: str | None = None,
    ) -> None:
        """Do the handshake on a connected socket, which belongs to the client from now. Raises NbdError.

        With ``tls`` all goes under TLS, to a server with a certificate for ``hostname``.
        """
        self._wire = ClientSocket(sock, patience)
        self._cookie = 0
        try:
            needs_structured = bool(contexts)
            self._agreed = agree(
                self._wire, export, contexts, tls, hostname, needs_structured=needs_structured
            )
        except BaseException:
            self._wire.close()
            raise
        self.size = self._agreed.size
        """The size of the export in bytes."""
        self.is_read_only = TransmissionFlag.READ_ONLY in self._agreed.flags
        self.contexts = frozenset(self._agreed.contexts)
        """The contexts that the server has."""

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye and close; idempotent."""
        self._wire.close(REQUEST.pack(REQUEST_MAGIC, 0, Command.DISC, 0, 0, 0))

    def interrupt(self) -> None:
        """End the connection from another thread: a request that waits fails with NbdError."""
        self._wire.interrupt()

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``. Raises NbdError."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill the memory with the bytes at ``offset``, in requests as large as allowed. Raises NbdError."""
        self._check_range(offset, len(view))
        step = self._agreed.maximum_payload
        for start in range(0, len(view), step):
            self._read_once(offset + start, view[start : start + step])

    def block_status(self, context: str, offset: int, length: int) -> list[Extent]:
        """Return the extents from ``offset`` on, as many as the server tells at once.

        They are at least one, none is empty, and they don't go beyond ``length`` bytes. Raises NbdError.
        """
        self._check_range(offset, length)
        number = self._agreed.contexts.get(context)
        if number is None:
            raise NbdError(f"the NBD server has no metadata context {context} for this export")
        length = min(length, STATUS_BYTES)
        extents = self._status_once(number, offset, length)
        if not extents:
            raise _wrong("no extents in reply to BLOCK_STATUS")
        return extents

    def extents(self, context: str, offset: int, length: int) -> Iterator[Extent]:
        """Yield all extents of a range, in order. Raises NbdError."""
        end = offset + length
        while offset < end:
            for extent in self.block_status(context, offset, end - offset):
                offset += extent[0]
                yield extent

    def _check_range(self, offset: int, length: int) -> None:
        block = self._agreed.minimum_block
        if offset < 0 or length <= 0 or offset + length > self.size:
            raise NbdError(f"{length} bytes at {offset} are not in the export, which has {self.size} bytes")
        if offset % block or length % block:
            raise NbdError(f"{length} bytes at {offset}: the NBD server reads blocks of {block} bytes")

    # Requests

    def _request(self, command: Command, offset: int, length: int) -> None:
        self._wire.begin()
        self._cookie += 1
        self._wire.send(REQUEST.pack(REQUEST_MAGIC, 0, command, self._cookie, offset, length))

    def _chunk(self) -> tuple[bool, int, int]:
        """Receive the head of a chunk; return whether it is the last one, its type, its length in bytes."""
        magic, flags, kind, cookie, length = CHUNK.unpack(self._wire.receive(CHUNK.size))
        if magic != STRUCTURED_REPLY_MAGIC or cookie != self._cookie:
            raise _wrong("a chunk that answers no request")
        is_last = bool(flags & REPLY_FLAG_DONE)  # unknown flags are to be ignored
        if kind == ReplyType.NONE and (length or not is_last):
            raise _wrong("a chunk of type NONE that is not the empty end of a reply")
        return is_last, kind, length

    def _read_once(self, offset: int, view: memoryview) -> None:
        self._request(Command.READ, offset, len(view))
        if not self._agreed.structured:
            self._read_simply(offset, view)
            return
        filled = Filled(offset, view)
        errors: list[str] = []
        is_last = False
        while not is_last:
            is_last, kind, length = self._chunk()
            match kind:
                case ReplyType.NONE:
                    pass
                case ReplyType.OFFSET_DATA if length > _OFFSET.size:
                    (start,) = _OFFSET.unpack(self._wire.receive(_OFFSET.size))
                    self._wire.receive_into(filled.part(start, length - _OFFSET.size))
                case ReplyType.OFFSET_HOLE if length == _HOLE.size:
                    part = filled.part(*_HOLE.unpack(self._wire.receive(_HOLE.size)))
                    part[:] = bytes(len(part))
                case _:
                    self._note_error(errors, kind, length)
        _raise_first(errors, f"{len(view)} bytes at {offset} can't be read")
        filled.check()

    def _read_simply(self, offset: int, view: memoryview) -> None:
        magic, error, cookie = SIMPLE_REPLY.unpack(self._wire.receive(SIMPLE_REPLY.size))
        if magic != SIMPLE_REPLY_MAGIC or cookie != self._cookie:
            raise _wrong("a reply to no request")
        _raise_first([os.strerror(error)] if error else [], f"{len(view)} bytes at {offset} can't be read")
        self._wire.receive_into(view)

    def _status_once(self, number: int, offset: int, length: int) -> list[Extent]:
        """Return the extents of the context with this number. Raises NbdError."""
        self._request(Command.BLOCK_STATUS, offset, length)
        answers: dict[int, list[Extent]] = {}
        errors: list[str] = []
        is_last = False
        while not is_last:
            is_last, kind, size = self._chunk()
            if kind == ReplyType.BLOCK_STATUS:
                context, extents = self._receive_extents(size, length)
                if context in answers or context not in self._agreed.contexts.values():
                    raise _wrong("the status of an unknown context, or one twice")
                answers[context] = extents
            elif kind != ReplyType.NONE:
                self._note_error(errors, kind, size)
        _raise_first(errors, f"the status of {length} bytes at {offset} can't be read")
        return answers.get(number, [])

    def _receive_extents(self, size: int, length: int) -> tuple[int, list[Extent]]:
        """Receive a chunk of extents; return the context's id and the extents, cut to ``length`` bytes."""
        count, rest = divmod(size - 4, 8)
        if rest or not 0 < count <= MAX_EXTENTS:
            raise _wrong(f"{size} bytes in reply to BLOCK_STATUS")
        payload = self._wire.receive(size)
        extents: list[Extent] = []
        left = length
        for span, status in struct.iter_unpack(">II", payload[4:]):
            if not span or not left:  # only the last one may go beyond what was asked
                raise _wrong("extents that are empty or go too far")
            extents.append((min(span, left), status))
            left -= min(span, left)
        return int.from_bytes(payload[:4], "big"), extents

    def _note_error(self, errors: list[str], kind: int, length: int) -> None:
        """Receive an error chunk and note its text; raises NbdError for any other chunk.

        A type of error that is not known may have any fields behind its text.
        """
        if not kind & _ERROR_TYPE or not _ERROR.size <= length <= MAX_ERROR_BYTES:
            raise _wrong(f"a chunk of type {kind} and {length} bytes")
        error, text_length = _ERROR.unpack(self._wire.receive(_ERROR.size))
        tail = length - _ERROR.size - text_length
        wanted = _ERROR_TAILS.get(kind, tail)
        if not error or tail < 0 or tail != wanted or len(errors) == MAX_ERRORS:
            raise _wrong("an error without a number, of another length, or too many of them")
        text = self._wire.receive_text(text_length)
        self._wire.receive(tail)
        errors.append(text or os.strerror(error))


def _raise_first(errors: list[str], what: str) -> None:
    if errors:
        raise NbdRequestError(f"{what}: the NBD server says: {errors[0]}")


def _wrong(what: str) -> NbdError:
    return NbdError(f"the NBD server broke the protocol: it sent {what}")
