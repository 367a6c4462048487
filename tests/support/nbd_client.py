"""The client's side of the protocol, as plain as it gets: what is sent and received is what a test says."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from qmon.nbd.constants import (
    CHUNK,
    CLIENT_FLAGS,
    EXTENDED_CHUNK,
    EXTENDED_REPLY_MAGIC,
    EXTENDED_REQUEST,
    EXTENDED_REQUEST_MAGIC,
    GREETING,
    IHAVEOPT,
    OPTION,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    REPLY_FLAG_DONE,
    REQUEST,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Command,
    CommandFlag,
    HandshakeFlag,
    Option,
    OptionReply,
    ReplyType,
)
from tests.support.waiting import PATIENCE, connected


def string(text: str) -> bytes:
    """A string with its length, as option data holds it."""
    return struct.pack(">I", len(text.encode())) + text.encode()


def option(number: int, data: bytes = b"") -> bytes:
    """An option, as a client sends it."""
    return OPTION.pack(IHAVEOPT, number, len(data)) + data


def go_data(name: str, *infos: int) -> bytes:
    """The data of INFO and GO."""
    return string(name) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def context_data(name: str, *queries: str) -> bytes:
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT."""
    return string(name) + struct.pack(">I", len(queries)) + b"".join(map(string, queries))


def request(
    command: int,
    offset: int = 0,
    length: int = 0,
    *,
    cookie: int = 0,
    flags: int = 0,
    data: bytes = b"",
    extended: bool = False,
) -> bytes:
    """A request; the length of one with data is that of its data."""
    length = len(data) if data else length
    if not extended:
        return REQUEST.pack(REQUEST_MAGIC, flags, command, cookie, offset, length) + data
    if data or command == Command.WRITE:
        flags |= CommandFlag.PAYLOAD_LEN
    return EXTENDED_REQUEST.pack(EXTENDED_REQUEST_MAGIC, flags, command, cookie, offset, length) + data


class Chunk(NamedTuple):
    """One chunk; ``asked`` is the request's offset, which only extended ones repeat."""

    flags: int
    kind: int
    cookie: int
    asked: int
    payload: bytes


class Reply(NamedTuple):
    """A whole reply: the error, the data of a read, the extents of a block status.

    Two are equal if these are; the rest says how the reply was sent.
    """

    cookie: int
    error: int
    data: bytes = b""
    extents: tuple[tuple[int, int], ...] = ()
    text: str = ""
    at: int | None = None
    asked: int = 0
    chunks: tuple[Chunk, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and self[:4] == other[:4]

    def __hash__(self) -> int:
        return hash(self[:4])


class NbdClient:
    """Speaks NBD on a connected socket, or on a new one to a path, one step at a time."""

    def __init__(self, to: socket.socket | Path, timeout: float = PATIENCE) -> None:
        self.socket = connected(to) if isinstance(to, Path) else to
        self.structured = False
        self.extended = False
        self.socket.settimeout(timeout)

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def receive(self, length: int) -> bytes:
        """Exactly so many bytes; ConnectionError when the server closes before."""
        received = bytearray()
        while len(received) < length:
            piece = self.socket.recv(length - len(received))
            if not piece:
                raise ConnectionError(f"closed after {len(received)} of {length} bytes")
            received += piece
        return bytes(received)

    def at_end(self) -> bool:
        """Wait for the server to close; whether it did so without another byte."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def greet(self, flags: int = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES) -> None:
        """Take the greeting and send the client's flags."""
        GREETING.unpack(self.receive(GREETING.size))
        self.socket.sendall(CLIENT_FLAGS.pack(flags))

    def option(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option; return its replies, each as type and data, the final one last."""
        self.socket.sendall(option(number, data))
        replies: list[tuple[int, bytes]] = []
        while True:
            magic, answered, kind, length = OPTION_REPLY.unpack(self.receive(OPTION_REPLY.size))
            assert (magic, answered) == (OPTION_REPLY_MAGIC, number)
            replies.append((kind, self.receive(length)))
            if kind == OptionReply.ACK or kind >> 31:
                return replies

    def go(
        self, name: str, *, structured: bool = False, extended: bool = False, allocation: bool = False
    ) -> NbdClient:
        """The whole handshake, up to the transmission phase. Raises OSError when it is refused."""
        self.greet()
        self.structured = structured or extended
        self.extended = extended
        if extended:
            assert self.option(Option.EXTENDED_HEADERS) == [(OptionReply.ACK, b"")]
        elif structured:
            assert self.option(Option.STRUCTURED_REPLY)[-1][0] == OptionReply.ACK
        if allocation:
            replies = self.option(Option.SET_META_CONTEXT, context_data(name, "base:allocation"))
            assert [kind for kind, _ in replies] == [OptionReply.META_CONTEXT, OptionReply.ACK]
        kind, text = self.option(Option.GO, go_data(name))[-1]
        if kind != OptionReply.ACK:
            raise OSError(f"the NBD server refused the export: {text.decode(errors='replace')}")
        return self

    def send(self, *requests: bytes) -> None:
        """Send requests at once."""
        self.socket.sendall(b"".join(requests))

    def ask(
        self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0, data: bytes = b""
    ) -> Reply:
        """Send one request and wait for its reply."""
        self.send(request(command, offset, length, flags=flags, data=data, extended=self.extended))
        return self.reply(length if command == Command.READ else 0)

    def reply(self, read_length: int | Mapping[int, int] = 0) -> Reply:
        """Take one reply; without structured ones, ``read_length`` says what a read, or each one, asked for.

        Holes are filled in, and the extents of several contexts joined.
        """
        (magic,) = struct.unpack(">I", self.receive(4))
        if magic == SIMPLE_REPLY_MAGIC:
            _, error, cookie = SIMPLE_REPLY.unpack(struct.pack(">I", magic) + self.receive(12))
            if not isinstance(read_length, int):
                read_length = read_length[cookie]
            assert not self.extended, "a simple reply in spite of extended headers"
            assert not (self.structured and read_length), "a simple reply to a structured read"
            return Reply(cookie, error, b"" if error else self.receive(read_length))
        chunks = [self.chunk(magic)]
        while not chunks[-1].flags & REPLY_FLAG_DONE:
            chunks.append(self.chunk(*struct.unpack(">I", self.receive(4))))
        assert len({(chunk.cookie, chunk.asked) for chunk in chunks}) == 1
        whole = Reply(chunks[0].cookie, 0)
        for chunk in chunks:
            whole = _joined(whole, chunk)
        data = b"" if whole.error else b"".join(map(_data, chunks))
        return whole._replace(data=data, asked=chunks[0].asked, chunks=tuple(chunks))

    def chunk(self, magic: int) -> Chunk:
        """Take the rest of a chunk whose magic number was received."""
        assert self.structured, "a chunk that nobody asked for"
        first = struct.pack(">I", magic)
        if self.extended:
            assert magic == EXTENDED_REPLY_MAGIC
            head = EXTENDED_CHUNK.unpack(first + self.receive(EXTENDED_CHUNK.size - 4))
            _, flags, kind, cookie, asked, length = head
        else:
            assert magic == STRUCTURED_REPLY_MAGIC
            _, flags, kind, cookie, length = CHUNK.unpack(first + self.receive(CHUNK.size - 4))
            asked = 0
        return Chunk(flags, kind, cookie, asked, self.receive(length))


def _data(chunk: Chunk) -> bytes:
    """The data of a chunk, or the zeros of its hole."""
    if chunk.kind == ReplyType.OFFSET_HOLE:
        return bytes(struct.unpack(">QI", chunk.payload)[1])
    return chunk.payload[8:] if chunk.kind == ReplyType.OFFSET_DATA else b""


def _joined(whole: Reply, chunk: Chunk) -> Reply:
    """Add what a chunk says, but for its data."""
    payload = chunk.payload
    match chunk.kind:
        case ReplyType.NONE:
            assert not payload
            assert chunk.flags == REPLY_FLAG_DONE
        case ReplyType.OFFSET_DATA:
            assert len(payload) > 8
        case ReplyType.OFFSET_HOLE:
            _, length = struct.unpack(">QI", payload)
            assert length
        case ReplyType.BLOCK_STATUS:
            return whole._replace(extents=whole.extents + tuple(struct.iter_unpack(">II", payload[4:])))
        case ReplyType.BLOCK_STATUS_EXT:
            found = tuple(struct.iter_unpack(">QQ", payload[8:]))
            assert struct.unpack_from(">I", payload, 4) == (len(found),)
            return whole._replace(extents=whole.extents + found)
        case ReplyType.ERROR | ReplyType.ERROR_OFFSET:
            error, text_length = struct.unpack_from(">IH", payload)
            tail = payload[6 + text_length :]
            assert error
            assert len(tail) == (8 if chunk.kind == ReplyType.ERROR_OFFSET else 0)
            text = payload[6 : 6 + text_length].decode()
            return whole._replace(error=error, text=text, at=int.from_bytes(tail) if tail else None)
        case _:
            raise AssertionError(f"unknown chunk type {chunk.kind}")
    return whole
