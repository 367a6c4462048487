"""The lean path: small plain reads and writes that wait for nothing, many of them for each look at a limit.

A request is plain if it has no flags, at most PLAIN_BYTES and lies within the disk; the node must be able to
serve it at once (``read_now``, ``write_now``). All else is left to ``Connection.work``.
"""

from __future__ import annotations

from time import monotonic_ns

from qmon.block.node import Buffer, Node, ReadNow, WriteNow
from qmon.block.transfers import starter
from qmon.host.trace import NBD_RECEIVE_REQUEST
from qmon.nbd.connection import Connection
from qmon.nbd.constants import (
    DATA_CHUNK,
    EXTENDED_CHUNK,
    EXTENDED_DATA_CHUNK,
    EXTENDED_REPLY_MAGIC,
    REPLY_FLAG_DONE,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    ReplyType,
)
from qmon.nbd.plain import PLAIN_BYTES, Next
from qmon.nbd.rules import DISC, READ, WRITE

TURN = 128
"""Requests of one client before it is another's turn."""

_DATA = int(ReplyType.OFFSET_DATA)
_NONE = int(ReplyType.NONE)
_MORE, _WORK, _TURN = Next.MORE, Next.WORK, Next.TURN
_STRUCTURED, _SIMPLE, _DONE = STRUCTURED_REPLY_MAGIC, SIMPLE_REPLY_MAGIC, REPLY_FLAG_DONE
_EXTENDED_DATA_HEAD = (EXTENDED_REPLY_MAGIC, REPLY_FLAG_DONE, _DATA)
_EXTENDED_DONE_HEAD = (EXTENDED_REPLY_MAGIC, REPLY_FLAG_DONE, _NONE)
_pack_done, _pack_data = SIMPLE_REPLY.pack_into, DATA_CHUNK.pack_into
_pack_extended_done, _pack_extended_data = EXTENDED_CHUNK.pack_into, EXTENDED_DATA_CHUNK.pack_into


class Ways:
    """How a node serves plain requests, for the time inside the gate."""

    __slots__ = ("is_far", "read", "size", "write")

    def __init__(self, node: Node) -> None:
        self.size = node.size
        self.is_far = starter(node) is not None
        """Whether requests can be under way, instead."""
        self.read: ReadNow = node.read_now or _no_read
        self.write: WriteNow = node.write_now or _no_write


def _no_read(offset: int, buffer: memoryview) -> bool:
    return False


def _no_write(offset: int, data: Buffer) -> bool:
    return False


def serve_plain(connection: Connection, ways: Ways) -> Next:
    """Serve the plain requests at the front of a connection's buffer, inside its gate; add their replies."""
    requests, position, end = connection.requests, connection.start, connection.end
    replies = connection.replies
    if NBD_RECEIVE_REQUEST.enabled:
        return Next.WORK
    buffer, filled, room = replies.buffer, replies.filled, replies.room
    form = connection.form
    head, header = replies.data_header, form.size
    known, payload_flag, unpack = form.magic, form.payload_flag, form.unpack_from
    structured, extended = replies.structured, replies.extended
    size, read, write = ways.size, ways.read, ways.write
    reads = writes = read_bytes = written_bytes = 0
    outcome = _MORE
    started = monotonic_ns()
    while end - position >= header:
        magic, flags, command, cookie, offset, length = unpack(requests, position)
        if not 0 < length <= PLAIN_BYTES or offset + length > size or magic != known:
            outcome = _WORK
            break
        if filled + length > room or reads + writes >= TURN:
            outcome = _TURN
            break
        if command == READ and not flags:
            at = filled + head
            after = at + length
            if not read(offset, buffer[at:after]):
                outcome = _WORK
                break
            if extended:
                _pack_extended_data(buffer, filled, *_EXTENDED_DATA_HEAD, cookie, offset, 8 + length, offset)
            elif structured:
                _pack_data(buffer, filled, _STRUCTURED, _DONE, _DATA, cookie, 8 + length, offset)
            else:
                _pack_done(buffer, filled, _SIMPLE, 0, cookie)
            filled = after
            position += header
            reads += 1
            read_bytes += length
        elif command == WRITE and connection.writable and (not flags or flags == payload_flag):
            data = position + header
            after = data + length
            if after > end:
                break
            if not write(offset, requests[data:after]):
                outcome = _WORK
                break
            if extended:
                _pack_extended_done(buffer, filled, *_EXTENDED_DONE_HEAD, cookie, offset, 0)
                filled += EXTENDED_CHUNK.size
            else:
                _pack_done(buffer, filled, _SIMPLE, 0, cookie)
                filled += SIMPLE_REPLY.size
            position = after
            writes += 1
            written_bytes += length
        else:
            outcome = _WORK
            break
    connection.start = position
    replies.filled = filled
    if reads or writes:
        connection.counters.count_batch(reads, read_bytes, writes, written_bytes, started)
    return outcome


def next_step(connection: Connection) -> Next:
    """What a connection needs now, whose next request is not plain or waits. Raises ProtocolError."""
    request = connection.next_request()
    if request is None:
        return Next.MORE
    return Next.END if request[1] == DISC else Next.WORK
