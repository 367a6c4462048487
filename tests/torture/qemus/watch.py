"""What a QEMU tells all the time on a QMP socket of its own: its events, and so when its guest ran."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.qmp_client import QmpClient


@dataclass(frozen=True, slots=True)
class AtEvent:
    """When an event of a machine is heard, for MIGRATION and JOB_STATUS_CHANGE one with a status."""

    machine: str
    name: str
    status: str = ""

    def __str__(self) -> str:
        return f"{self.name}{f' {self.status}' if self.status else ''} of the {self.machine}"


class Watch:
    """Listens in a thread of its own, until the QEMU ends or ``close``."""

    def __init__(self, path: Path, machine: str, *, runs: bool) -> None:
        """``runs``: whether its guest runs already."""
        self.spans: list[list[float]] = [[-math.inf, math.inf]] if runs else []
        """When its guest ran: begin and end, by the QEMU's own clock in seconds."""
        self._machine = machine
        self._places: dict[AtEvent, Callable[[], None]] = {}
        self._client = QmpClient(path)
        self._client.socket.settimeout(None)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def has_run(self) -> bool:
        return bool(self.spans)

    @property
    def runs(self) -> bool:
        return bool(self.spans) and self.spans[-1][1] == math.inf

    def at(self, place: AtEvent, reached: Callable[[], None]) -> None:
        """Call something when a place is reached, once, in the watch's thread."""
        self._places[place] = reached

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._client.socket.shutdown(2)
        self._thread.join()
        self._client.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while line := self._client.lines.readline():
                message = json.loads(line)
                if "event" in message:
                    self._hear(message)

    def _hear(self, event: dict[str, Any]) -> None:
        name, stamp = event["event"], event["timestamp"]
        now = stamp["seconds"] + stamp["microseconds"] / 1e6
        if name == "RESUME" and not self.runs:
            self.spans.append([now, math.inf])
        elif name == "STOP" and self.runs:
            self.spans[-1][1] = now
        for place in (
            AtEvent(self._machine, name),
            AtEvent(self._machine, name, str(event.get("data", {}).get("status", ""))),
        ):
            if reached := self._places.pop(place, None):
                reached()


def both_ran(one: Watch, other: Watch) -> str:
    """Return a line if two guests ran at the same time, else ""."""
    for begin, end in one.spans:
        for first, last in other.spans:
            if begin < last and first < end:
                return (
                    f"two guests ran at the same time, from {max(begin, first):.6f} to {min(end, last):.6f}"
                )
    return ""
