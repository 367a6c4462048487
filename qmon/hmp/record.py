"""A transcript: a file of the lines on all monitors, their answers, and the times."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from datetime import datetime

from qmon.errors import reason
from qmon.hmp.prompt import PROMPT
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Event

_logger = logging.getLogger(__name__)


def open_appending(path: str) -> int:
    """Open a file for appending; a new file can be read only by its owner. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)


class Transcript:
    """Writes each line at once to ``descriptor``, which it owns and closes.

    If a write fails, it logs that and writes nothing more. ``listen`` subscribes to the target's events and
    returns a function that unsubscribes.
    """

    def __init__(
        self, descriptor: int, path: str, listen: Callable[[Callable[[Event], None]], Callable[[], None]]
    ) -> None:
        self._descriptor: int | None = descriptor
        self._path = path
        self._unlisten = listen(self._event)

    def line(self, line: str) -> None:
        """Write a line that was given."""
        self._write(f"{PROMPT}{line.strip()}")

    def answer(self, text: str) -> None:
        """Write what was printed."""
        for line in text.split("\n"):
            self._write(line)

    def close(self) -> None:
        self._unlisten()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _event(self, event: Event) -> None:
        self._write(f"event {event.name} {json.dumps(dict(event.data))}".removesuffix(" {}"))

    def _write(self, text: str) -> None:
        if self._descriptor is None:
            return
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="milliseconds")
        try:
            os.write(self._descriptor, f"{now} {one_line(text)}\n".encode("utf-8", "surrogateescape"))
        except OSError as error:
            os.close(self._descriptor)
            self._descriptor = None
            _logger.warning("the transcript %s can't be written any more: %s", self._path, reason(error))
