"""Character devices on files, pipes, terminals and UDP, and the null device."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import tty
from collections.abc import Mapping
from typing import Any

from qmon.chardev.base import Chardev
from qmon.chardev.stream import SocketStream, Stream, has_hung_up
from qmon.errors import CommandError, reason
from qmon.host.sockets import resolve
from qmon.notation.address import InetAddress

_logger = logging.getLogger(__name__)

PTY_CHECK_SECONDS = 0.1
"""How often to check whether a pseudo-terminal has been opened."""
DATAGRAM_BYTES = 65507
STDIO_BYTES = 4096
"""A writable pipe accepts this much at once (pipe(7), PIPE_BUF)."""


class NullChardev(Chardev):
    """Discards what is written; nothing can be read from it."""

    kind = "null"

    def _attached(self) -> None:
        self.accept(Stream(None, None, self.log))


class FileChardev(Chardev):
    """Writes to the file ``out``; reads the file ``in`` up to its end."""

    kind = "file"

    async def _open(self) -> None:
        path = self.data["out"]
        try:
            write_fd = await self.open_output(path, bool(self.data.get("append")))
        except (OSError, ValueError) as error:
            raise CommandError(f"Could not open '{path}': {reason(error)}") from error
        read_fd = None
        if "in" in self.data:
            try:
                read_fd = await _open_file(self.data["in"], os.O_RDONLY | os.O_NONBLOCK)
            except CommandError:
                os.close(write_fd)
                raise
        self.accept(_FileStream(read_fd, write_fd, self.log))


class _FileStream(Stream):
    """A stream on a regular file, which epoll does not accept: it is always ready."""

    async def _until_ready(self) -> None:
        try:
            await super()._until_ready()
        except PermissionError:
            await asyncio.sleep(0)


class PipeChardev(Chardev):
    """Reads from the fifo ``device``.in and writes to ``device``.out, or does both with ``device``."""

    kind = "pipe"

    async def _open(self) -> None:
        path = self.data["device"]
        flags = os.O_RDWR | os.O_NONBLOCK
        descriptors: list[int] = []
        try:
            descriptors.append(await _open_file(f"{path}.in", flags))
            descriptors.append(await _open_file(f"{path}.out", flags))
        except CommandError:
            for descriptor in descriptors:
                os.close(descriptor)
            descriptors = [await _open_file(path, flags)] * 2
        self.accept(_FileStream(descriptors[0], descriptors[1], self.log))


class StdioChardev(Chardev):
    """Standard input and output of the process."""

    kind = "stdio"

    async def _open(self) -> None:
        self.accept(_StdioStream(os.dup(0), os.dup(1), self.log))


class _StdioStream(Stream):
    """Never sets the descriptors to non-blocking: other processes share the open file and would be affected.

    Output that standard output can't take is lost; standard input is still read, as by QEMU.
    """

    _is_told = False

    def _receive(self, limit: int) -> bytes | None:
        assert self._read_fd is not None
        if not _is_ready(self._read_fd, select.POLLIN):
            raise BlockingIOError
        return os.read(self._read_fd, limit)

    def _send(self, data: bytes | bytearray) -> int:
        assert self._write_fd is not None
        if not _is_ready(self._write_fd, select.POLLOUT):
            raise BlockingIOError
        try:
            return os.write(self._write_fd, data[:STDIO_BYTES])
        except BlockingIOError:
            raise
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                _logger.warning("can't write to standard output any more: %s", reason(error))
            return len(data)


class PtyChardev(Chardev):
    """A pseudo-terminal. Programs that open it are served one after another."""

    kind = "pty"

    def __init__(self, label: str, data: Mapping[str, Any]) -> None:
        super().__init__(label, data)
        self._master: int | None = None
        self.path = ""
        self._gone = asyncio.Event()

    @property
    def filename(self) -> str:
        return f"pty:{self.path}"

    async def _open(self) -> None:
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise CommandError(f"Failed to create PTY: {reason(error)}") from error
        self.path = os.ttyname(slave)
        tty.setraw(slave)
        os.close(slave)
        os.set_blocking(self._master, False)
        self.spawn(self._watch(self._master), "waiting for the terminal to be opened")

    async def _watch(self, master: int) -> None:
        while True:
            while has_hung_up(master):  # noqa: ASYNC110 - no event: poll(2) does not tell of an opening
                await asyncio.sleep(PTY_CHECK_SECONDS)
            self._gone.clear()
            descriptor = os.dup(master)
            self.accept(Stream(descriptor, descriptor, self.log))
            await self._gone.wait()

    def _lost(self, stream: Stream) -> None:
        self._gone.set()

    async def close(self) -> None:
        await super().close()
        if self._master is not None:
            os.close(self._master)
            self._master = None


class UdpChardev(Chardev):
    """Sends datagrams to the address ``remote``, and receives datagrams from it on ``local``."""

    kind = "udp"

    async def _open(self) -> None:
        remote, local = self.data["remote"]["data"], self.data.get("local", {}).get("data")
        there = InetAddress(remote["host"], remote["port"])
        await asyncio.to_thread(self.exposure.check_connecting, there, self.shown)
        sock = await asyncio.to_thread(_udp_socket, remote, local)
        self.accept(_DatagramStream(sock, tee=self.log))


class _DatagramStream(SocketStream):
    """A UDP stream. An empty datagram does not end it, nor the error that no process listens."""

    def _receive(self, limit: int) -> bytes | None:
        try:
            return super()._receive(DATAGRAM_BYTES) or None
        except ConnectionRefusedError:
            return None

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return super()._send(data[:DATAGRAM_BYTES])
        except ConnectionRefusedError:
            return min(len(data), DATAGRAM_BYTES)


def _udp_socket(remote: Mapping[str, Any], local: Mapping[str, Any] | None) -> socket.socket:
    """Return a connected datagram socket. Raises CommandError."""
    family, target = resolve(InetAddress(remote["host"], remote["port"]), passive=False)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if local is not None:
            sock.bind(resolve(InetAddress(local["host"], local["port"]), passive=True)[1])
        sock.connect(target)
    except OSError as error:
        sock.close()
        raise CommandError(f"Failed to bind socket: {reason(error)}") from error
    return sock


async def _open_file(path: str, flags: int) -> int:
    """Open a file; return its descriptor. Raises CommandError."""
    try:
        return await asyncio.to_thread(os.open, path, flags | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise CommandError(f"Could not open '{path}': {reason(error)}") from error


def _is_ready(descriptor: int, events: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))
