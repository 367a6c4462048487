"""Bytes both ways between the loop and one peer: a socket's, a terminal's or a pipe's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
from collections.abc import Callable

from qmon.chardev.telnet import GREETING, TelnetDecoder, encode
from qmon.host.descriptors import DescriptorSocket

READ_BYTES = 1024
"""So many at once, for what is done with them to keep the loop for a short time only."""
UNSENT_LOW = 64 << 10
UNSENT_MAX = 64 << 20
"""When all peers together leave so much unread, the one that leaves the most is given up."""

_logger = logging.getLogger(__name__)


_behind: set[Stream] = set()
"""Those that have not taken all that was sent to them."""


class Stream:
    """What serves a peer reads and writes here. Made on the loop; the descriptors are its own from now on.

    ``read_fd`` is None where nothing ever comes from, ``write_fd`` where all is taken at once. ``tee`` is
    given what is written, for a log.
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
        """Whether it was closed, or its peer can't be written to any more."""
        self.take_descriptor: Callable[[], int | None] = lambda: None
        """Takes the file descriptor that the peer has handed over last (``qmon.host.descriptors``)."""
        self.on_break: Callable[[], None] = lambda: None

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """Wait for bytes and return at most ``limit`` of them; nothing at the end, or once it was closed.

        Raises OSError. One task may read at a time.
        """
        await asyncio.sleep(0)  # others' turn, however fast the peer sends
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
        """Send as soon as the peer takes it; ``drain`` waits for that. A peer that is gone gets nothing."""
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
                _logger.warning("a client that reads nothing is given up")
                max(_behind, key=lambda peer: len(peer._unsent))._lose()

    async def drain(self, left: int = UNSENT_LOW) -> None:
        """Wait until at most ``left`` bytes are still to be sent, or the peer is gone."""
        while len(self._unsent) > left and not self.closed:
            await self._future()

    @property
    def hung_up(self) -> bool:
        """Whether the peer is known to be gone, unread bytes or not."""
        return self.closed or (self._read_fd is not None and has_hung_up(self._read_fd))

    def close(self) -> None:
        """End it; what the peer did not take yet is lost."""
        if not self._ended:
            self._ended = True
            self._lose()
            self._close_descriptors()

    def _receive(self, limit: int) -> bytes | None:
        """Read what there is; None for what holds no text. Raises BlockingIOError when there is nothing."""
        if self._read_fd is None:
            raise BlockingIOError
        return os.read(self._read_fd, limit)

    def _send(self, data: bytes | bytearray) -> int:
        """Give to the peer what it takes now; return how much that was."""
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
        """Wait until anything happens."""
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
        except PermissionError:  # epoll takes no file that never blocks
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
            _logger.debug("nothing more can be sent: %s", error)
            self._lose()
            return 0

    def _lose(self) -> None:
        """Leave the loop alone with it from now on."""
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
    """Whether nobody is at the other end any more."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


class SocketStream(Stream):
    """A connection. With ``telnet`` the peer is a telnet client, and hears first what QEMU tells one."""

    def __init__(
        self, sock: socket.socket, *, telnet: bool = False, tee: Callable[[bytes], None] | None = None
    ) -> None:
        sock.setblocking(False)
        super().__init__(sock.fileno(), sock.fileno(), tee)
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
        with contextlib.suppress(OSError):  # not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
