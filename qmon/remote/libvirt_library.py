"""libvirt's library: its event loop and its blocking calls on threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from qmon.errors import QmonError
from qmon.host.threads import start_thread

T = TypeVar("T")

_MISSING = "libvirt's library is missing: install python3-libvirt, or qmon[libvirt] with pip"


class Library:
    """libvirt's modules, with its event loop on a thread. Made once in a process."""

    made: Library | None = None

    def __init__(self) -> None:
        """Raises QmonError."""
        try:
            self.libvirt = importlib.import_module("libvirt")
            self.qemu = importlib.import_module("libvirt_qemu")
        except ImportError as error:
            raise QmonError(_MISSING) from error
        self.libvirt.registerErrorHandler(lambda context, error: None, None)  # it would print on stderr
        self.libvirt.virEventRegisterDefaultImpl()
        start_thread(threading.Thread(target=self._run, name="libvirt-events", daemon=True))

    def _run(self) -> None:
        while True:
            self.libvirt.virEventRunDefaultImpl()

    @classmethod
    def get(cls) -> Library:
        """Return the library. Raises QmonError."""
        if cls.made is None:
            cls.made = cls()
        return cls.made


class Caller:
    """Runs blocking calls one after another on a thread that does not keep the process from ending."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        start_thread(threading.Thread(target=self._run, name="libvirt-calls", daemon=True))

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function; return what it returns, or raise what it raises."""
        outcome, ended = Future[T](), asyncio.Event()

        def call() -> None:
            try:
                outcome.set_result(function())
            except Exception as error:  # noqa: BLE001 - it is raised where the outcome is awaited
                outcome.set_exception(error)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(ended.set)

        self._calls.put(call)
        await ended.wait()
        return outcome.result()

    def end(self) -> None:
        """End the thread after the calls that are waiting."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
