"""The base of all character devices: a name, a log, and a front end that serves each client."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from qmon.chardev.secure import FindSecurity, no_objects
from qmon.chardev.stream import Stream
from qmon.errors import CommandError, reason
from qmon.host.descriptors import TAKE_RECEIVED
from qmon.host.exposure import Exposure
from qmon.host.secure_line import SecurityLostError

Create = Callable[[str], int]
"""Opens a file for writing, creates it if missing; returns its descriptor. Raises OSError or ValueError."""

TakeDescriptor = Callable[[str], int]
"""Returns a descriptor by its name or number; the caller owns it from now on. Raises CommandError."""

Serve = Callable[[Stream], Awaitable[None]]
"""A front end: it serves one peer, and returns when the conversation is over. It may raise OSError."""

LAST_WORDS_SECONDS = 1.0
"""How long a device that is closed waits for a peer to read what was sent before."""

_logger = logging.getLogger(__name__)


class Chardev:
    """A character device; ``data`` is the part of QAPI's ChardevBackend for its kind (qapi/char.json).

    Made and used on the loop.
    """

    kind: ClassVar[str]

    def __init__(self, label: str, data: Mapping[str, Any]) -> None:
        self.label = label
        self.data = data
        self.create: Create = create_file
        self.take_descriptor: TakeDescriptor = no_descriptor
        self.exposure = Exposure()
        self.find_security: FindSecurity = no_objects
        self.serve: Serve | None = None
        self.users = 0
        """How many front ends and other devices use it."""
        self.frontend_open = False
        self._log_fd: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: list[Stream] = []

    @property
    def filename(self) -> str:
        """QEMU's name of the file or address behind the device."""
        return self.kind

    async def open(self) -> None:
        """Open the device. Raises CommandError with QEMU's message; then nothing stays open."""
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
        """Open a file for writing; truncate it unless ``append``. Raises OSError or ValueError."""
        descriptor = await asyncio.to_thread(self.create, path)
        if append:
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)
        elif stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.truncate(descriptor, 0)
        return descriptor

    async def _open(self) -> None:
        """Open what a device of this kind needs. Raises CommandError."""

    @property
    def shown(self) -> str:
        """What it is called in an error or a warning."""
        return f"character device '{self.label}'"

    def attach(self, serve: Serve) -> None:
        """Let a front end serve each present and future peer. Raises CommandError if the device is in use."""
        if self.users:
            raise CommandError(f"Device '{self.label}' is in use")
        self.users += 1
        self.begin_serving(serve)

    def begin_serving(self, serve: Serve) -> None:
        """Let a front end serve each peer, even if something else uses the device."""
        self.serve = serve
        self.frontend_open = True
        for stream in self._streams:
            self._begin(stream)
        self._attached()

    def _attached(self) -> None:
        """Called when a front end was attached."""

    def send_break(self) -> None:
        """Send a break; does nothing, since only a serial line has breaks."""

    async def close(self) -> None:
        """Close the device and its peers' connections."""
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
        """Add a peer: it is served now, or as soon as a front end is attached."""
        self._streams.append(stream)
        if self.serve is not None:
            self._begin(stream)

    def release(self, stream: Stream) -> None:
        """Remove a peer."""
        if stream in self._streams:
            self._streams.remove(stream)
            stream.close()
            self._lost(stream)

    def _lost(self, stream: Stream) -> None:
        """Called when a peer has disconnected."""

    def log(self, data: bytes) -> None:
        """Append output to the device's log file, if it has one."""
        if self._log_fd is not None:
            try:
                os.write(self._log_fd, data)
            except OSError as error:
                _logger.warning("chardev '%s': can't write its log any more: %s", self.label, reason(error))
                os.close(self._log_fd)
                self._log_fd = None

    def spawn(self, work: Awaitable[None], name: str) -> None:
        """Run a task that is cancelled when the device is closed."""

        async def run() -> None:
            try:
                await work
            except Exception:
                _logger.exception("chardev '%s': %s failed by an internal error", self.label, name)

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
        except SecurityLostError as error:
            _logger.warning("%s: %s", self.shown, error)
        except OSError as error:
            _logger.debug("chardev '%s': a client has disconnected: %s", self.label, error)
        except MemoryError as error:
            _logger.warning("chardev '%s': a client was disconnected: %s", self.label, reason(error))
        except Exception:
            _logger.exception("chardev '%s': a client was disconnected by an internal error", self.label)
        finally:
            self.release(stream)


def no_descriptor(name: str) -> int:
    """A ``TakeDescriptor`` that has none."""
    raise CommandError(f"File descriptor named '{name}' has not been found")


def create_file(path: str) -> int:
    """A ``Create`` that may overwrite any file."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
