"""Opens a migration's connection, by the transport that its URI names."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.host.fdsets import open_file
from qmon.host.pipe_line import PipeLine
from qmon.host.sockets import connect
from qmon.host.tls import TlsError
from qmon.migration.wire.offer import Answers
from qmon.migration.wire.security import Demand, Line, Security, to_destination
from qmon.migration.wire.transport import ExecPlace, FdPlace, FilePlace, Transport
from qmon.notation.address import InetAddress, UnixAddress


class OpenError(QmonError):
    """The connection can't be made; the message says why."""


def open_line(
    transport: Transport, seconds: float, check: Callable[[], None], demand: Demand
) -> tuple[Line, Answers]:
    """Return a source's connection, and whether the other end may answer.

    ``check`` is called while that takes time. Raises OpenError, and what ``check`` or ``demand`` raises.
    """
    security, place = demand(), transport.place
    try:
        match place:
            case InetAddress() | UnixAddress():
                return _secured(connect(place, seconds, check), security, seconds), Answers.HEARD
            case ExecPlace():
                return PipeLine.of_command(place.argv), Answers.ASKED
            case FdPlace():
                return _of_descriptor(transport.descriptor(), security, seconds)
            case FilePlace():
                return _to_file(transport.descriptor(), place.offset), Answers.UNHEARD
    except TlsError as error:
        raise OpenError(f"{transport.uri if isinstance(place, FdPlace) else place}: {error}") from error
    except (OSError, ValueError) as error:
        raise OpenError(_why_not(transport, reason(error))) from error


def open_incoming(transport: Transport) -> socket.socket | PipeLine:
    """Return a destination's connection that is not accepted: a command's, a descriptor's or a file's.

    A socket may be a listening one (``is_listening``). Raises OpenError.
    """
    place = transport.place
    try:
        match place:
            case ExecPlace():
                return PipeLine.of_command(place.argv)
            case FdPlace():
                descriptor = transport.descriptor()
                return as_socket(descriptor) or PipeLine(descriptor, None)
            case FilePlace():
                return _from_file(place)
    except (OSError, ValueError) as error:
        if isinstance(place, FilePlace):
            raise OpenError(f"Could not open '{place.path}': {reason(error)}") from error
        raise OpenError(_why_not(transport, reason(error))) from error
    raise AssertionError(f"{transport.uri} is listened at")


def is_listening(line: socket.socket | PipeLine) -> bool:
    """Whether it is a socket that accepts connections."""
    if not isinstance(line, socket.socket):
        return False
    return bool(line.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _from_file(place: FilePlace) -> PipeLine:
    # O_NONBLOCK: the open of a FIFO without a writer must not wait.
    descriptor, _ = open_file(place.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
            raise OSError("it is no regular file: exec:cat reads it")
        os.lseek(descriptor, place.offset, os.SEEK_SET)
        return PipeLine(descriptor, None)
    except BaseException:
        os.close(descriptor)
        raise


def _why_not(transport: Transport, why: str) -> str:
    match transport.place:
        case ExecPlace(argv=argv):
            return f"Failed to execute '{argv[0]}': {why}"
        case FilePlace(path=path):
            return f"Could not create '{path}': {why}"
        case FdPlace():
            return f"{transport.uri}: {why}"
    return f"Failed to connect to '{transport.place}': {why}"


def _secured(sock: socket.socket, security: Security | None, seconds: float) -> Line:
    return to_destination(sock, security, seconds)


def _of_descriptor(descriptor: int, security: Security | None, seconds: float) -> tuple[Line, Answers]:
    sock = as_socket(descriptor)
    if sock is not None:
        return _secured(sock, security, seconds), Answers.HEARD if security else Answers.ASKED
    return PipeLine(None, descriptor), Answers.UNHEARD


def as_socket(descriptor: int) -> socket.socket | None:
    """Return a descriptor as a blocking socket, None if it is none. Raises OSError; then it is closed."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        sock = socket.socket(fileno=descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    sock.setblocking(True)
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise OSError("the socket is no stream socket")
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _to_file(descriptor: int, offset: int) -> PipeLine:
    """Cut the file off at ``offset``, where the stream begins, as QEMU does. Raises OpenError."""
    try:
        os.ftruncate(descriptor, offset)
        os.lseek(descriptor, offset, os.SEEK_SET)
    except (OSError, OverflowError) as error:
        os.close(descriptor)
        why = reason(error)
        raise OpenError(f"failed to truncate migration file to offset {offset}: {why}") from error
    return PipeLine(None, descriptor)
