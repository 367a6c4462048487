"""Trace events: points of the program that tell the log what happens there, each switched on by its name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

_logger = logging.getLogger("qmon.host.trace")
_logger.setLevel(logging.INFO)  # an event that is on is told, whatever else is logged


class TraceEvent:
    """One point. Where it is passed often, ``enabled`` is asked before the arguments are made."""

    __slots__ = ("enabled", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.enabled = False

    def __call__(self, text: str, *arguments: object) -> None:
        """Tell of it, when it is switched on; ``text`` and ``arguments`` are as ``logging`` has them."""
        if self.enabled:
            _logger.info(f"{self.name} {text}", *arguments)


_events: dict[str, TraceEvent] = {}


def trace_event(name: str) -> TraceEvent:
    """The event of a name; it is made when it is first asked for."""
    return _events.setdefault(name, TraceEvent(name))


HANDLE_HMP_COMMAND = trace_event("handle_hmp_command")
HANDLE_QMP_COMMAND = trace_event("handle_qmp_command")
MONITOR_QMP_RESPOND = trace_event("monitor_qmp_respond")
MONITOR_PROTOCOL_EVENT_EMIT = trace_event("monitor_protocol_event_emit")
MIGRATE_SET_STATE = trace_event("migrate_set_state")
NBD_NEGOTIATE_SUCCESS = trace_event("nbd_negotiate_success")
NBD_RECEIVE_REQUEST = trace_event("nbd_receive_request")


def find_events(name: str) -> list[TraceEvent]:
    """The events that a name or a pattern means, in the order of their names."""
    if is_pattern(name):
        return sorted(_matching(name), key=lambda event: event.name)
    return [_events[name]] if name in _events else []


def is_pattern(name: str) -> bool:
    """Whether it is one by QEMU's rule: it has a ``*``, and then ``?`` stands for any letter."""
    return "*" in name


def _matching(pattern: str) -> Iterator[TraceEvent]:
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    compiled = re.compile(expression, re.DOTALL)
    return (event for event in _events.values() if compiled.fullmatch(event.name))
