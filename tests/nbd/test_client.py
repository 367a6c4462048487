"""The NBD client against servers that break the protocol: it fails with one line."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.nbd.client import MAX_ERRORS, MAX_EXTENTS, NbdClient, NbdError, NbdRequestError
from qmon.nbd.constants import (
    CHUNK,
    GREETING,
    IHAVEOPT,
    INIT_PASSWD,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    REQUEST_MAGIC,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
    ReplyType,
    TransmissionFlag,
)
from qmon.notation.plain_text import one_line

SIZE = 64 << 10
DATA = bytes(range(256)) * (SIZE // 256)
CONTEXT = "base:allocation"
DONE = 1

Outcome = TypeVar("Outcome")


def greeting(flags: int = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES) -> bytes:
    return GREETING.pack(INIT_PASSWD, IHAVEOPT, flags)


def answer(option: int, kind: int = OptionReply.ACK, data: bytes = b"") -> bytes:
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def export(size: int = SIZE, flags: int = TransmissionFlag.HAS_FLAGS | TransmissionFlag.READ_ONLY) -> bytes:
    return answer(Option.GO, OptionReply.INFO, struct.pack(">HQH", Info.EXPORT, size, flags))


def blocks(minimum: int, preferred: int, maximum: int) -> bytes:
    data = struct.pack(">HIII", Info.BLOCK_SIZE, minimum, preferred, maximum)
    return answer(Option.GO, OptionReply.INFO, data)


def context(name: str = CONTEXT, number: int = 7) -> bytes:
    data = struct.pack(">I", number) + name.encode()
    return answer(Option.SET_META_CONTEXT, OptionReply.META_CONTEXT, data)


STRUCTURED = greeting() + answer(Option.STRUCTURED_REPLY)
SELECTED = STRUCTURED + context() + answer(Option.SET_META_CONTEXT)
READY = SELECTED + export() + answer(Option.GO)


def chunk(kind: int, payload: bytes = b"", *, flags: int = 0, cookie: int = 1) -> bytes:
    return CHUNK.pack(STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload)) + payload


def data(offset: int, length: int, *, flags: int = 0) -> bytes:
    payload = struct.pack(">Q", offset) + DATA[offset : offset + length]
    return chunk(ReplyType.OFFSET_DATA, payload, flags=flags)


def hole(offset: int, length: int, *, flags: int = 0) -> bytes:
    return chunk(ReplyType.OFFSET_HOLE, struct.pack(">QI", offset, length), flags=flags)


def status(*extents: tuple[int, int], number: int = 7, flags: int = DONE) -> bytes:
    payload = struct.pack(">I", number) + b"".join(struct.pack(">II", *each) for each in extents)
    return chunk(ReplyType.BLOCK_STATUS, payload, flags=flags)


def error(text: bytes = b"no such sector", code: int = 5, *, flags: int = DONE) -> bytes:
    return chunk(ReplyType.ERROR, struct.pack(">IH", code, len(text)) + text, flags=flags)


class Sender:
    """A server that sends what it is told without listening, and then closes."""

    def __init__(self, sent: bytes) -> None:
        self.client_end, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(sent,))
        self._thread.start()

    def _run(self, sent: bytes) -> None:
        with contextlib.suppress(OSError):  # the client has enough of it
            self._end.sendall(sent)
            self._end.shutdown(socket.SHUT_WR)

    def __enter__(self) -> socket.socket:
        return self.client_end

    def __exit__(self, *_: object) -> None:
        self.client_end.close()
        self._thread.join()
        self._end.close()


def read(sent: bytes, length: int = SIZE) -> bytes:
    with Sender(sent) as sock, NbdClient(sock, "d0", [CONTEXT]) as client:
        return client.read(0, length)


def ask_status(sent: bytes, length: int = SIZE) -> list[tuple[int, int]]:
    with Sender(sent) as sock, NbdClient(sock, "d0", [CONTEXT]) as client:
        return client.block_status(CONTEXT, 0, length)


def test_a_read_arrives_in_pieces_of_any_order() -> None:
    pieces = data(SIZE // 2, SIZE // 2) + hole(0, 512) + data(512, SIZE // 2 - 512)
    assert read(READY + pieces + chunk(ReplyType.NONE, flags=DONE)) == bytes(512) + DATA[512:]


def test_extents_are_cut_to_what_was_asked() -> None:
    assert ask_status(READY + status((512, 0), (1 << 31, 3)), 4096) == [(512, 0), (3584, 3)]


def test_a_refused_request_leaves_the_connection_usable() -> None:
    refusal = error(b"bad\nsector\x1b[1m")
    head = CHUNK.pack(STRUCTURED_REPLY_MAGIC, DONE, ReplyType.OFFSET_DATA, 2, 8 + 512)
    sent = READY + refusal + head + bytes(8) + DATA[:512]
    with Sender(sent) as sock, NbdClient(sock, "d0", [CONTEXT]) as client:
        with pytest.raises(NbdRequestError) as refused:
            client.read(0, 512)
        assert str(refused.value).endswith("the NBD server says: bad\\x0asector\\x1b[1m")
        assert client.read(0, 512) == DATA[:512]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server answers there"),
        (b"hello, who are you?", "it is not an NBD server"),
        (greeting(0), "too old"),
        (greeting() + answer(Option.STRUCTURED_REPLY, OptionReply.ERR_UNSUP), "STRUCTURED_REPLY: ERR_UNSUP"),
        (greeting() + answer(Option.STRUCTURED_REPLY, (1 << 31) + 77, b"not\ntoday"), "not\\x0atoday"),
        (greeting() + answer(Option.STRUCTURED_REPLY, data=b"x"), "an ACK with 1 bytes"),
        (greeting() + answer(Option.LIST), "another option"),
        (greeting() + OPTION_REPLY.pack(OPTION_REPLY_MAGIC, 8, 3, 1 << 30), "a reply of 1073741824 bytes"),
        (STRUCTURED + context("other:thing"), "not asked for"),
        (STRUCTURED + context() + context(), "twice"),
        (SELECTED + answer(Option.GO), "no size"),
        (SELECTED + export(flags=0) + answer(Option.GO), "no size"),
        (SELECTED + export(1 << 63) + answer(Option.GO), "a size of"),
        (SELECTED + export() + export() + answer(Option.GO), "twice"),
        (SELECTED + export() + blocks(3, 4096, 65536) + answer(Option.GO), "impossible block sizes"),
        (SELECTED + export() + blocks(512, 4096, 0) + answer(Option.GO), "impossible block sizes"),
        (SELECTED + export(513) + blocks(512, 4096, 65536) + answer(Option.GO), "a size of 513"),
        (SELECTED + answer(Option.GO, OptionReply.INFO, b"\0\1d0") * 65, "more than 64 replies"),
        (READY, "closed the connection"),
        (READY + data(0, SIZE, flags=DONE)[:-1], "closed the connection"),
        (READY + data(0, SIZE // 2, flags=DONE), "less data"),
        (READY + data(0, 1024) + data(512, 512), "data twice"),
        (READY + hole(SIZE - 512, 1024), "not asked for"),
        (READY + hole(1 << 40, 1), "not asked for"),
        (READY + hole(0, 0), "not asked for"),
        (READY + chunk(ReplyType.NONE), "type NONE"),
        (READY + chunk(ReplyType.OFFSET_DATA, bytes(8)), "a chunk of type 1 and 8 bytes"),
        (READY + chunk(ReplyType.OFFSET_DATA, bytes(520), cookie=2), "answers no request"),
        (READY + chunk(99, flags=DONE), "a chunk of type 99"),
        (READY + error(code=0), "an error without a number"),
        (READY + error(flags=0) * (MAX_ERRORS + 1), "too many"),
        (READY + error(bytes(5000)), "a chunk of type 32769"),
        (READY + status((SIZE, 0)), "a chunk of type 5"),
    ],
)
def test_a_read_from_a_server_that_breaks_the_protocol_fails(sent: bytes, said: str) -> None:
    with pytest.raises(NbdError, match=said.replace("\\", "\\\\")):
        read(sent)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (status(), "4 bytes in reply"),
        (status((0, 0)), "empty"),
        (status((SIZE, 0), (1, 0)), "go too far"),
        (status((SIZE, 0), number=8), "unknown context"),
        (status((SIZE, 0), flags=0) + status((SIZE, 0)), "twice"),
        (chunk(ReplyType.NONE, flags=DONE), "no extents"),
        (data(0, SIZE, flags=DONE), "a chunk of type 1"),
        (status(*[(1, 0)] * (MAX_EXTENTS + 1)), "bytes in reply"),
        (error(), "the NBD server says: no such sector"),
    ],
)
def test_a_status_from_a_server_that_breaks_the_protocol_fails(sent: bytes, said: str) -> None:
    with pytest.raises(NbdError, match=said):
        ask_status(READY + sent)


def test_unknown_flags_and_kinds_of_errors_are_no_reason_to_hang_up() -> None:
    assert read(READY + data(0, SIZE, flags=DONE | 0x40)) == DATA
    strange = chunk(0x8077, struct.pack(">IH", 5, 3) + b"bad" + bytes(16), flags=DONE)
    with pytest.raises(NbdRequestError, match="the NBD server says: bad"):
        read(READY + strange)


UNSUP = answer(Option.STRUCTURED_REPLY, OptionReply.ERR_UNSUP)
NO_GO = answer(Option.GO, OptionReply.ERR_UNSUP)
CHOSEN = struct.pack(">QH", SIZE, TransmissionFlag.HAS_FLAGS)


def simple(error: int = 0, cookie: int = 1) -> bytes:
    return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)


@pytest.mark.parametrize(
    "old",
    [
        greeting() + UNSUP + export() + answer(Option.GO),
        greeting() + UNSUP + NO_GO + CHOSEN,
        greeting(HandshakeFlag.FIXED_NEWSTYLE) + UNSUP + NO_GO + CHOSEN + bytes(124),
        greeting(0) + CHOSEN + bytes(124),
    ],
    ids=["no structured replies", "no GO", "zeroes", "not fixed"],
)
def test_an_old_server_is_read_with_simple_replies(old: bytes) -> None:
    sent = old + simple(5) + simple(cookie=2) + DATA
    with Sender(sent) as sock, NbdClient(sock, "d0") as client:
        with pytest.raises(NbdRequestError, match="can't be read"):
            client.read(0, 512)
        assert client.read(0, SIZE) == DATA


def test_an_old_server_can_be_refused() -> None:
    with pytest.raises(NbdError, match="too old"):
        read(greeting(0))
    with Sender(greeting() + UNSUP + NO_GO) as sock, pytest.raises(NbdError, match="did not accept the name"):
        NbdClient(sock, "d0")


def test_a_silent_server_is_given_up() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(NbdError, match=r"has not answered within 0\.2 s"):
        NbdClient(ours, "d0", patience=0.2)


def test_a_client_that_waits_can_be_interrupted() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(READY)
    with theirs, NbdClient(ours, "d0", [CONTEXT]) as client:

        def interrupt() -> None:
            received = b""
            while REQUEST_MAGIC.to_bytes(4, "big") not in received:
                received += theirs.recv(4096)
            client.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(NbdError, match="closed the connection"):
            client.read(0, 512)
        thread.join()


def test_a_range_outside_of_the_export_is_not_asked_for() -> None:
    with Sender(READY) as sock, NbdClient(sock, "d0", [CONTEXT]) as client:
        for offset, length in ((SIZE, 1), (0, SIZE + 1), (-1, 1), (0, 0)):
            with pytest.raises(NbdError, match="not in the export"):
                client.read(offset, length)
        with pytest.raises(NbdError, match="no metadata context"):
            client.block_status("qemu:allocation-depth", 0, 1)


def tried(attempt: Callable[[], Outcome]) -> Outcome | None:
    """What an attempt returns; None if it fails with a line that may be shown."""
    try:
        return attempt()
    except NbdError as error:
        line = str(error)
    assert line == one_line(line)
    return None


@given(st.binary(max_size=300))
def test_any_bytes_in_the_handshake_give_one_line(sent: bytes) -> None:
    for beginning in (b"", greeting(), STRUCTURED, SELECTED):
        assert tried(partial(read, beginning + sent)) is None


VALID = READY + data(0, 4096) + hole(4096, 4096) + chunk(ReplyType.NONE, flags=DONE)
VALID_STATUS = READY + status((512, 0), (3584, 3), (60 << 10, 1))


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """A valid stream with some bytes replaced, removed or put in."""

    def damage(edits: list[tuple[int, int, bytes]]) -> bytes:
        stream = valid
        for at, removed, added in edits:
            stream = stream[:at] + added + stream[at + removed :]
        return stream

    edit = st.tuples(st.integers(0, len(valid)), st.integers(0, 12), st.binary(max_size=12))
    return st.lists(edit, min_size=1, max_size=3).map(damage)


@given(damaged(VALID))
def test_a_damaged_reply_to_a_read_gives_one_line_or_as_many_bytes_as_were_asked_for(sent: bytes) -> None:
    content = tried(lambda: read(sent, 8192))
    assert content is None or len(content) == 8192


@given(damaged(VALID_STATUS))
def test_a_damaged_status_gives_one_line_or_extents_of_what_was_asked_for(sent: bytes) -> None:
    extents = tried(lambda: ask_status(sent))
    if extents is not None:
        assert 0 < sum(length for length, _ in extents) <= SIZE
        assert all(length for length, _ in extents)
