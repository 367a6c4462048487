"""The client's side of the protocol, as plain as it gets: what is sent and received is what a test says."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import NamedTuple

from qmon.nbd.constants import (
    CHUNK,
    CLIENT_FLAGS,
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
    command: int, offset: int = 0, length: int = 0, *, cookie: int = 0, flags: int = 0, data: bytes = b""
) -> bytes:
    """A request; the length of a write is that of its data."""
    length = len(data) if data else length
    return REQUEST.pack(REQUEST_MAGIC, flags, command, cookie, offset, length) + data


class Reply(NamedTuple):
    """A whole reply: the error, the data of a read, the extents of a block status."""

    cookie: int
    error: int
    data: bytes = b""
    extents: tuple[tuple[int, int], ...] = ()


class NbdClient:
    """Speaks NBD on a connected socket, or on a new one to a path, one step at a time."""

    def __init__(self, to: socket.socket | Path, timeout: float = PATIENCE) -> None:
        self.socket = connected(to) if isinstance(to, Path) else to
        self.structured = False
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

    def go(self, name: str, *, structured: bool = False, allocation: bool = False) -> NbdClient:
        """The whole handshake, up to the transmission phase. Raises OSError when it is refused."""
        self.greet()
        self.structured = structured
        if structured:
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
        self.send(request(command, offset, length, flags=flags, data=data))
        return self.reply(length if command == Command.READ else 0)

    def reply(self, read_length: int = 0) -> Reply:
        """Take one reply; without structured ones, ``read_length`` says what a read asked for."""
        (magic,) = struct.unpack(">I", self.receive(4))
        if magic == SIMPLE_REPLY_MAGIC:
            _, error, cookie = SIMPLE_REPLY.unpack(struct.pack(">I", magic) + self.receive(12))
            assert not (self.structured and read_length), "a simple reply to a structured read"
            return Reply(cookie, error, b"" if error else self.receive(read_length))
        assert magic == STRUCTURED_REPLY_MAGIC
        assert self.structured, "a structured reply that nobody asked for"
        _, flags, kind, cookie, length = CHUNK.unpack(struct.pack(">I", magic) + self.receive(16))
        payload = self.receive(length)
        pieces = []
        while not flags & REPLY_FLAG_DONE:  # a read's, of which more follows
            assert (kind, flags) == (ReplyType.OFFSET_DATA, 0)
            pieces.append(payload[8:])
            magic, flags, kind, of_cookie, length = CHUNK.unpack(self.receive(CHUNK.size))
            assert (magic, of_cookie) == (STRUCTURED_REPLY_MAGIC, cookie)
            payload = self.receive(length)
        match kind:
            case ReplyType.NONE:
                assert not payload
                return Reply(cookie, 0)
            case ReplyType.OFFSET_DATA:
                assert len(payload) > 8
                return Reply(cookie, 0, b"".join((*pieces, payload[8:])))
            case ReplyType.BLOCK_STATUS:
                pairs = [struct.unpack_from(">II", payload, at) for at in range(4, length, 8)]
                return Reply(cookie, 0, extents=tuple((span, status) for span, status in pairs))
            case ReplyType.ERROR:
                error, text_length = struct.unpack_from(">IH", payload)
                assert len(payload) == 6 + text_length
                return Reply(cookie, error)
        raise AssertionError(f"unknown chunk type {kind}")
