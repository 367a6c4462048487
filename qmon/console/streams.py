"""Stray text: text that is printed or logged without the console is shown above the prompt, line by line."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

from qmon.host.logs import TOLD_BY_EVENT, TOLD_BY_MONITOR


class LineStream(io.TextIOBase):
    """A thread-safe text stream that passes whole lines to ``show`` on the loop."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._owner = threading.get_ident()
        self._lock = threading.Lock()
        self._part = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            lines, end, self._part = (self._part + text).rpartition("\n")
        if end:
            self._hand_over(lines)
        return len(text)

    def finish(self) -> None:
        """Pass on a last line that has no line end."""
        with self._lock:
            part, self._part = self._part, ""
        if part:
            self._hand_over(part)

    def _hand_over(self, text: str) -> None:
        if threading.get_ident() == self._owner:
            self._show(text)
        else:
            self._loop.call_soon_threadsafe(self._show, text)


@contextmanager
def stray_text_to(show: Callable[[str], None], tells_events: Callable[[], bool]) -> Iterator[None]:
    """Send stdout, stderr and log handlers on them to ``show``, except what a monitor shows itself."""

    def is_news(record: logging.LogRecord) -> bool:
        known = record.__dict__.keys()
        return not (TOLD_BY_MONITOR.keys() <= known or (TOLD_BY_EVENT.keys() <= known and tells_events()))

    originals = (sys.stdout, sys.stderr)
    stream = LineStream(show)
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in originals
    ]
    with ExitStack() as stack:
        for handler in handlers:
            previous = handler.setStream(stream)
            stack.callback(handler.setStream, previous)
            handler.addFilter(is_news)
            stack.callback(handler.removeFilter, is_news)
        stack.enter_context(redirect_stdout(stream))
        stack.enter_context(redirect_stderr(stream))
        try:
            yield
        finally:
            stream.finish()
