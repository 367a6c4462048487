"""What all character devices share: a name, a log, and a front end that serves whoever is there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from qmon.chardev.stream import Stream
from qmon.errors import CommandError, reason
from qmon.host.descriptors import TAKE_RECEIVED

Create = Callable[[str], int]
"""Opens a file for writing, made where it is not; returns its descriptor. Raises OSError or ValueError."""

Serve = Callable[[Stream], Awaitable[None]]
"""A front end: it serves one peer, and returns when it has done with it. It may raise OSError."""

LAST_WORDS_SECONDS = 1.0
"""How long a device that ends lets a peer take what was said to it before."""

_logger = logging.getLogger(__name__)


class Chardev:
    """A character device; ``data`` is what QAPI's ChardevBackend holds for its kind (qapi/char.json).

    Made and used on the loop.
    """

    kind: ClassVar[str]

    def __init__(self, label: str, data: Mapping[str, Any]) -> None:
        self.label = label
        self.data = data
        self.create: Create = create_file
        self.serve: Serve | None = None
        self.users = 0
        """How many front ends and other devices hold it."""
        self.frontend_open = False
        self._log_fd: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: list[Stream] = []

    @property
    def filename(self) -> str:
        """How QEMU names what is behind it."""
        return self.kind

    async def open(self) -> None:
        """Begin to exist. Raises CommandError in QEMU's words; then nothing is left."""
        path = self.data.get("logfile")
        if path is not None:
            try:
                self._log_fd = await self.open_output(path, bool(self.data.get("logappend")))
            except (OSError, ValueError) as error:
                raise CommandError(f"Could not create '{path}': {reason(error)}") from error
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise

    async def open_output(self, path: str, append: bool) -> int:
        """Open a file for writing, emptied unless ``append``. Raises OSError or ValueError."""
        descriptor = await asyncio.to_thread(self.create, path)
        if append:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
        elif stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.truncate(descriptor, 0)
        return descriptor

    async def _open(self) -> None:
        """What its kind needs. Raises CommandError."""

    def attach(self, serve: Serve) -> None:
        """Have a front end serve each peer, those that are there already included. Raises CommandError."""
        if self.users:
            raise CommandError(f"Device '{self.label}' is in use")
        self.users += 1
        self.begin_serving(serve)

    def begin_serving(self, serve: Serve) -> None:
        """Have a front end serve each peer, whoever else holds the device."""
        self.serve = serve
        self.frontend_open = True
        for stream in self._streams:
            self._begin(stream)
        self._attached()

    def _attached(self) -> None:
        """Called when a front end has come."""

    def send_break(self) -> None:
        """Send a break; only a serial line has such a thing."""

    async def close(self) -> None:
        """End it, and its peers' connections."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in list(self._streams):
            self.release(stream)
        if self._log_fd is not None:
            os.close(self._log_fd)
            self._log_fd = None

    def accept(self, stream: Stream) -> None:
        """Take in a peer: it is served at once, or when there is a front end."""
        self._streams.append(stream)
        if self.serve is not None:
            self._begin(stream)

    def release(self, stream: Stream) -> None:
        """Let go of a peer."""
        if stream in self._streams:
            self._streams.remove(stream)
            stream.close()
            self._lost(stream)

    def _lost(self, stream: Stream) -> None:
        """Called when a peer is gone."""

    def log(self, data: bytes) -> None:
        """Note what was written in the log file, if there is one."""
        if self._log_fd is not None:
            try:
                os.write(self._log_fd, data)
            except OSError as error:
                _logger.warning("chardev '%s': its log ends here: %s", self.label, reason(error))
                os.close(self._log_fd)
                self._log_fd = None

    def spawn(self, work: Awaitable[None], name: str) -> None:
        """Run something that ends with the device."""

        async def run() -> None:
            try:
                await work
            except Exception:
                _logger.exception("chardev '%s': %s failed by a fault of qmon's own", self.label, name)

        task = asyncio.create_task(run(), name=f"chardev {self.label}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, stream: Stream) -> None:
        self.spawn(self._serve(stream), "client")

    async def _serve(self, stream: Stream) -> None:
        assert self.serve is not None
        TAKE_RECEIVED.set(stream.take_descriptor)
        try:
            await self.serve(stream)
            await stream.drain(0)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await stream.drain(0)
            raise
        except OSError as error:
            _logger.debug("chardev '%s': a client is gone: %s", self.label, error)
        except MemoryError as error:
            _logger.warning("chardev '%s': a client is sent away: %s", self.label, reason(error))
        except Exception:
            _logger.exception("chardev '%s': a client is sent away by a fault of qmon's own", self.label)
        finally:
            self.release(stream)


def create_file(path: str) -> int:
    """A Create that knows of no file that it must spare."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
