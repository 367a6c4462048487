"""Where events go: from who emits them to whoever listens, on the loop's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from qmon.host.trace import MONITOR_PROTOCOL_EVENT_EMIT
from qmon.qmp.target import Event, Listener


class EventBus:
    """Hands each event to every listener, in the order they came."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; calling what is returned takes it away."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def emit(self, name: str, data: Mapping[str, Any] | None = None, *, private: bool = False) -> None:
        """Tell all listeners of an event, now; a private one is not for QMP's clients."""
        event = Event(name, dict(data or {}), time.time(), private)
        MONITOR_PROTOCOL_EVENT_EMIT("event=%s data=%s", name, event.data)
        for listener in list(self._listeners):
            listener(event)
