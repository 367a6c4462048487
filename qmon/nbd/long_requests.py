"""Serves the reads and writes that are larger than a connection's buffers, piece by piece.

Pieces are received and sent outside the gate: a client that stops reading or sending holds up nobody.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Iterator
from time import monotonic_ns

from qmon.block.node import Node
from qmon.nbd.constants import Error
from qmon.nbd.rules import DF, FUA, READ, WRITE
from qmon.nbd.session import Session
from qmon.nbd.sparse import read_parts

_EINVAL, _ESHUTDOWN = int(Error.EINVAL), int(Error.ESHUTDOWN)


def take_long_payload(
    session: Session, command: int, flags: int, cookie: int, offset: int, length: int
) -> None:
    """Serve a write that is larger than the buffer.

    All data is received even after an error: the next request begins only after it. Other commands take no
    such data, and are refused.
    """
    session.trace(flags, command, cookie, offset, length)
    view, header = session.requests, session.form.size
    started = monotonic_ns()
    have = session.end - session.start - header
    view[:have] = view[session.start + header : session.end]
    session.start = session.end = 0
    error = 0 if command == WRITE else _EINVAL
    done = failed = 0
    while done < length:
        piece = min(length - done, session.piece)
        while have < piece:
            have += _receive(session.socket, view[have:piece], session.wait_all)
        if not error:
            error = _write_piece(session, flags, offset, length, done, view[:piece])
            failed = done
        done += piece
        have -= piece
        view[:have] = view[piece : piece + have]
    if error:
        at = offset + failed if failed else None
        session.replies.add_error(cookie, command, error, offset, at=at)
    else:
        session.replies.add_done(cookie, WRITE, offset)
        session.counters.count_write(length, started)


def serve_long_read(session: Session, flags: int, cookie: int, offset: int, length: int) -> None:
    """Serve a read that is larger than the buffer."""
    session.trace(flags, READ, cookie, offset, length)
    session.start += session.form.size
    started = monotonic_ns()
    send = _send_in_chunks if session.replies.structured and not flags & DF else _send_as_a_whole
    error, failed = send(session, flags, cookie, offset, length)
    if error:
        at = offset + failed if failed else None
        session.replies.add_error(cookie, READ, error, offset, at=at)
    else:
        session.counters.count_read(length, started)


def _receive(sock: socket.socket, view: memoryview, flags: int) -> int:
    while True:
        try:
            received = sock.recv_into(view, 0, flags)
        except BlockingIOError:  # a worker's patience; the rest of the request must come
            _wait_for_bytes(sock)
            continue
        if not received:
            raise ConnectionResetError(errno.ECONNRESET, "the client disconnected within a request")
        return received


def _wait_for_bytes(sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.poll()


def _send_in_chunks(session: Session, flags: int, cookie: int, offset: int, length: int) -> tuple[int, int]:
    """Answer with chunks for each piece; return the error for a last chunk, or 0, and its place."""
    replies = session.replies
    for done, size in _pieces(session, length):
        place = offset + done
        is_last = done + size == length

        def read(node: Node, place: int = place, size: int = size, is_last: bool = is_last) -> None:
            read_parts(node, replies, cookie, place, size, offset, is_last=is_last)

        if error := _visit(session, READ, flags, offset, length, read):
            return error, done
        session.socket.sendall(replies.take())
    return 0, length


def _send_as_a_whole(session: Session, flags: int, cookie: int, offset: int, length: int) -> tuple[int, int]:
    """Answer with a single reply and return 0, or return the error to reply with, and its place.

    After the header is sent, a failure can only close the connection (ConnectionAbortedError). So data
    that does not fit the buffer is read twice: first to its end as a check, then to be sent.
    """
    replies = session.replies

    def read_at(done: int, size: int) -> int:
        view = replies.rest(size)
        return _visit(session, READ, flags, offset, length, lambda node: node.read_into(offset + done, view))

    for done, size in _pieces(session, length):
        if error := read_at(done, size):
            return error, done
    replies.begin_data(cookie, offset, length)
    for done, size in _pieces(session, length):
        if read_at(done, size):
            raise ConnectionAbortedError(errno.ECONNABORTED, "a read failed after its reply had begun")
        replies.filled += size
        session.socket.sendall(replies.take())
    return 0, length


def _pieces(session: Session, length: int) -> Iterator[tuple[int, int]]:
    """Yield (position, length) of each piece of a long request."""
    piece = session.piece
    return ((done, min(piece, length - done)) for done in range(0, length, piece))


def _write_piece(session: Session, flags: int, offset: int, length: int, done: int, piece: memoryview) -> int:
    def write(node: Node) -> None:
        node.write(offset + done, piece)
        if flags & FUA and done + len(piece) == length:
            node.flush()

    return _visit(session, WRITE, flags, offset, length, write)


def _visit(
    session: Session, command: int, flags: int, offset: int, length: int, act: Callable[[Node], None]
) -> int:
    """Do one piece of a request inside the gate; return an NBD error value or 0."""
    node = session.enter()
    if node is None:
        return _ESHUTDOWN
    try:
        error = session.refusal(command, flags, offset, length, node.size)
        if not error:
            act(node)
    except (OSError, MemoryError) as failure:
        error = session.failures.tell(failure, command, offset, length)
    finally:
        session.gate.leave()
    return error
