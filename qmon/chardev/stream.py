"""A byte stream in both directions between the loop and one peer: a socket, a terminal or a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
from collections.abc import Callable

from qmon.chardev.secure import SecureEnd
from qmon.host.descriptors import DescriptorSocket
from qmon.notation.telnet import GREETING, TelnetDecoder, encode

READ_BYTES = 1024
"""Bytes of one read. A small number, so that handling them keeps the loop only briefly."""
UNSENT_LOW = 64 << 10
UNSENT_MAX = 64 << 20
"""Limit of unread output of all peers together. Above it, the peer with the most is disconnected."""

_logger = logging.getLogger(__name__)


_behind: set[Stream] = set()
"""Streams whose peers have not yet read all output."""


class Stream:
    """The stream of one peer, for its front end. Made on the loop; it owns the descriptors.

    ``read_fd`` is None if nothing can be read, ``write_fd`` if writing never blocks. ``tee`` gets a copy of
    all output, for a log.
    """

    def __init__(
        self, read_fd: int | None, write_fd: int | None, tee: Callable[[bytes], None] | None = None
    ) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._tee = tee
        self._unsent = bytearray()
        self._waiting: set[asyncio.Future[None]] = set()
        self._ended = False
        self.closed = False
        """Whether it was closed, or writing to its peer has failed."""
        self.take_descriptor: Callable[[], int | None] = lambda: None
        """Returns the file descriptor that the peer has sent, or None (``qmon.host.descriptors``)."""
        self.on_break: Callable[[], None] = lambda: None

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """Wait for bytes and return at most ``limit`` of them; empty at the end, or when it was closed.

        Raises OSError. One task may read at a time.
        """
        await asyncio.sleep(0)  # let other tasks run, however fast the peer sends
        while not self.closed:
            try:
                data = self._receive(limit)
            except (BlockingIOError, InterruptedError):
                await self._until_ready()
                continue
            if data is not None:
                return data
        return b""

    def write(self, data: bytes) -> None:
        """Send bytes as soon as the peer accepts them, without waiting. Does nothing for a closed stream."""
        if self.closed or not data:
            return
        if self._tee is not None:
            self._tee(data)
        data = self._encode(data)
        if not self._unsent:
            data = data[self._try_send(data) :]
            if data and not self.closed:
                self._send_when_ready()
        if data and not self.closed:
            self._unsent += data
            _behind.add(self)
            if sum(len(peer._unsent) for peer in _behind) > UNSENT_MAX:
                _logger.warning("a client was disconnected: it does not read its output")
                max(_behind, key=lambda peer: len(peer._unsent))._lose()

    async def drain(self, left: int = UNSENT_LOW) -> None:
        """Wait until at most ``left`` bytes remain to be sent, or the peer has disconnected."""
        while len(self._unsent) > left and not self.closed:
            await self._future()

    @property
    def hung_up(self) -> bool:
        """Whether the peer has hung up, even if bytes from it are still unread."""
        return self.closed or (self._read_fd is not None and has_hung_up(self._read_fd))

    def close(self) -> None:
        """Close the stream; output that the peer has not accepted yet is lost."""
        if not self._ended:
            self._ended = True
            self._lose()
            self._close_descriptors()

    def _receive(self, limit: int) -> bytes | None:
        """Read available bytes; None if they contain no text. Raises BlockingIOError if there are none."""
        if self._read_fd is None:
            raise BlockingIOError
        return os.read(self._read_fd, limit)

    def _send(self, data: bytes | bytearray) -> int:
        """Send what the peer accepts now; return how many bytes."""
        return len(data) if self._write_fd is None else os.write(self._write_fd, data)

    def _encode(self, data: bytes) -> bytes:
        return data

    def _close_descriptors(self) -> None:
        for descriptor in {self._read_fd, self._write_fd}:
            if descriptor is not None:
                os.close(descriptor)

    async def _until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        if self._read_fd is not None:
            loop.add_reader(self._read_fd, self._wake)
        try:
            await self._future()
        finally:
            if self._read_fd is not None and not self._ended:
                loop.remove_reader(self._read_fd)

    async def _future(self) -> None:
        """Wait until ``_wake`` is called."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _send_when_ready(self) -> None:
        assert self._write_fd is not None
        loop = asyncio.get_running_loop()
        try:
            loop.add_writer(self._write_fd, self._send_more)
        except PermissionError:  # epoll does not accept a regular file
            loop.call_soon(self._send_steadily)

    def _send_steadily(self) -> None:
        self._send_more()
        if self._unsent:
            asyncio.get_running_loop().call_soon(self._send_steadily)

    def _send_more(self) -> None:
        del self._unsent[: self._try_send(self._unsent)]
        if not self._unsent:
            _behind.discard(self)
            if not self.closed and self._write_fd is not None:
                asyncio.get_running_loop().remove_writer(self._write_fd)
        if len(self._unsent) <= UNSENT_LOW:
            self._wake()

    def _try_send(self, data: bytes | bytearray) -> int:
        try:
            return self._send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            _logger.debug("the peer has disconnected: %s", error)
            self._lose()
            return 0

    def _lose(self) -> None:
        """Remove the descriptors from the loop."""
        self.closed = True
        self._unsent.clear()
        _behind.discard(self)
        loop = asyncio.get_running_loop()
        if self._read_fd is not None:
            loop.remove_reader(self._read_fd)
        if self._write_fd is not None:
            loop.remove_writer(self._write_fd)
        self._wake()


def has_hung_up(descriptor: int) -> bool:
    """Whether the other end of a descriptor is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


class SocketStream(Stream):
    """A socket connection, perhaps with TLS on it.

    With ``telnet`` the peer is a telnet client, and gets QEMU's greeting of one.
    """

    def __init__(
        self,
        sock: socket.socket | SecureEnd,
        *,
        telnet: bool = False,
        tee: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(sock.fileno(), sock.fileno(), tee)
        if isinstance(sock, SecureEnd):
            self._socket: DescriptorSocket | SecureEnd = sock
        else:
            sock.setblocking(False)
            self._socket = DescriptorSocket(sock)
            self.take_descriptor = self._socket.received.take
        self._telnet = TelnetDecoder() if telnet else None

    def greet(self) -> None:
        """Begin the negotiation with a telnet client."""
        if self._telnet is not None:
            self._try_send(GREETING)

    def _receive(self, limit: int) -> bytes | None:
        data = self._socket.recv(limit)
        if self._telnet is None or not data:
            return data
        breaks = self._telnet.breaks
        text = self._telnet.feed(data)
        for _ in range(self._telnet.breaks - breaks):
            self.on_break()
        return text or None

    def _send(self, data: bytes | bytearray) -> int:
        return self._socket.send(data)

    def _encode(self, data: bytes) -> bytes:
        return encode(data) if self._telnet is not None else data

    def _close_descriptors(self) -> None:
        if isinstance(self._socket, DescriptorSocket):
            with contextlib.suppress(OSError):  # already disconnected
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
