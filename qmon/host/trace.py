"""Trace events: points of the program that log what happens there, each switched on by its name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

_logger = logging.getLogger("qmon.host.trace")
_logger.setLevel(logging.INFO)  # an enabled event is logged whatever the log level is


class TraceEvent:
    """One trace event. Where it happens often, callers check ``enabled`` before they make the arguments."""

    __slots__ = ("enabled", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.enabled = False

    def __call__(self, text: str, *arguments: object) -> None:
        """Log the event if it is enabled; ``text`` and ``arguments`` are those of ``logging``."""
        if self.enabled:
            _logger.info(f"{self.name} {text}", *arguments)


_events: dict[str, TraceEvent] = {}


def trace_event(name: str) -> TraceEvent:
    """Return the event with this name; the first call makes it."""
    return _events.setdefault(name, TraceEvent(name))


HANDLE_HMP_COMMAND = trace_event("handle_hmp_command")
HANDLE_QMP_COMMAND = trace_event("handle_qmp_command")
MONITOR_QMP_RESPOND = trace_event("monitor_qmp_respond")
MONITOR_PROTOCOL_EVENT_EMIT = trace_event("monitor_protocol_event_emit")
MIGRATE_SET_STATE = trace_event("migrate_set_state")
NBD_NEGOTIATE_SUCCESS = trace_event("nbd_negotiate_success")
NBD_RECEIVE_REQUEST = trace_event("nbd_receive_request")


def find_events(name: str) -> list[TraceEvent]:
    """Return the events that a name or pattern matches, sorted by name."""
    if is_pattern(name):
        return sorted(_matching(name), key=lambda event: event.name)
    return [_events[name]] if name in _events else []


def is_pattern(name: str) -> bool:
    """Whether the name is a pattern by QEMU's rule: it contains ``*``; then ``?`` matches one character."""
    return "*" in name


def _matching(pattern: str) -> Iterator[TraceEvent]:
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    compiled = re.compile(expression, re.DOTALL)
    return (event for event in _events.values() if compiled.fullmatch(event.name))
