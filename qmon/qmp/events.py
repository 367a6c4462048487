"""The event bus: passes events to their listeners, on the loop's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from qmon.host.trace import MONITOR_PROTOCOL_EVENT_EMIT
from qmon.qmp.target import Event, Listener


class EventBus:
    """Passes each event to every listener, in the order in which they subscribed."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; return a function that removes it."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def emit(self, name: str, data: Mapping[str, Any] | None = None, *, private: bool = False) -> None:
        """Pass an event to all listeners now; QMP clients do not get a private one."""
        self.pass_on(Event(name, dict(data or {}), time.time(), private))

    def pass_on(self, event: Event) -> None:
        """Pass an event that has its time already to all listeners now."""
        MONITOR_PROTOCOL_EVENT_EMIT("event=%s data=%s", event.name, event.data)
        for listener in list(self._listeners):
            listener(event)
