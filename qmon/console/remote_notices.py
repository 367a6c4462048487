"""Notices on a connected console: of the connection, and of what happens to a machine that others use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.hmp.jobs import is_hidden
from qmon.notation.plain_text import in_one_line
from qmon.qmp.target import Event

Data = Mapping[str, Any]


def connection_news(event: Event) -> str | None:
    """Return a notice for an event of the connection itself, None for any other."""
    say = _CONNECTION.get(event.name) if event.private else None
    return None if say is None else say(in_one_line(dict(event.data)))


def machine_news(event: Event) -> str | None:
    """Return a notice for what a guest or another client has done to the machine, None if it needs none."""
    say = None if is_hidden(event.data.get("id")) else _MACHINE.get(event.name)
    return None if say is None else say(in_one_line(dict(event.data)))


def _lost(data: Data) -> str:
    if data.get("shut-down"):
        return f"The machine at {data['address']} has ended"
    if data.get("ended"):
        return f"The connection to {data['address']} has ended: {data['reason']}"
    return f"The connection to {data['address']} is lost: {data['reason']}: qmon connects again when it can"


def _shutdown(data: Data) -> str:
    return f"The machine shuts down: {data.get('reason', 'no reason given')}"


def _device(what: str) -> Callable[[Data], str]:
    def say(data: Data) -> str:
        return f"Device '{data.get('device') or data.get('path') or ''}' {what}"

    return say


def _said(text: str) -> Callable[[Data], str]:
    return lambda data: text


_CONNECTION: dict[str, Callable[[Data], str]] = {
    "X_QMON_CONNECTION_LOST": _lost,
    "X_QMON_CONNECTION_BACK": lambda data: f"Connected to {data['address']} again",
}

_MACHINE: dict[str, Callable[[Data], str]] = {
    "BLOCK_EXPORT_DELETED": lambda data: f"Export '{data.get('id', '')}' was removed",
    "BLOCK_IMAGE_CORRUPTED": lambda data: f"An image is corrupt: {data.get('msg', 'no reason given')}",
    "BLOCK_WRITE_THRESHOLD": lambda data: (
        f"Node '{data.get('node-name', '')}' has passed its write threshold"
    ),
    "DEVICE_DELETED": _device("was removed"),
    "DEVICE_UNPLUG_GUEST_ERROR": _device("was not removed: the guest refused"),
    "DUMP_COMPLETED": lambda data: (
        "The dump " + (f"failed: {data['error']}" if data.get("error") else "is done")
    ),
    "GUEST_CRASHLOADED": _said("The guest has panicked and loads its crash kernel"),
    "GUEST_PANICKED": lambda data: f"The guest has panicked: action {data.get('action', 'unknown')}",
    "MEMORY_FAILURE": lambda data: f"A memory failure: action {data.get('action', 'unknown')}",
    "POWERDOWN": _said("The guest is asked to power down"),
    "QUORUM_FAILURE": lambda data: f"Quorum '{data.get('reference', '')}' has failed",
    "RESET": _said("The machine was reset"),
    "RESUME": _said("The machine runs"),
    "SHUTDOWN": _shutdown,
    "STOP": _said("The machine is stopped"),
    "SUSPEND": _said("The guest is suspended"),
    "SUSPEND_DISK": _said("The guest is suspended to its disk"),
    "WAKEUP": _said("The guest has woken up"),
    "WATCHDOG": lambda data: f"The watchdog has expired: action {data.get('action', 'unknown')}",
}
