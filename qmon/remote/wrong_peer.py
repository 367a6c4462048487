"""What is said of a program that is not the monitor that was asked for. Pure."""

from __future__ import annotations

import re

from qmon.notation.strangers import excerpt, protocol_of

_HUMAN_MONITOR = re.compile(rb"\A(?:QEMU|qmon) \S+ monitor - ")
_EVENT = re.compile(rb"""\A\s*\{\s*["'](?:timestamp|event)["']""")
_QMP = re.compile(rb"""\A\s*\{\s*["']QMP["']""")


def is_human_monitor(first: bytes) -> bool:
    """Whether a peer that begins with these bytes is a human monitor."""
    return _HUMAN_MONITOR.match(first) is not None


def is_qmp(first: bytes) -> bool:
    """Whether a peer that begins with these bytes is a QMP monitor."""
    return _QMP.match(first) is not None


def is_event(first: bytes) -> bool:
    """Whether these are the first bytes of an event of QMP."""
    return _EVENT.match(first) is not None


def not_qmp(address: str, first: bytes) -> str:
    """Return the error of ``-connect ADDRESS`` for a peer that begins with these bytes."""
    if is_human_monitor(first):
        return f"a human monitor answers, not a QMP monitor: write -connect hmp:{address}"
    return _other(first, "a QMP monitor")


def not_human(address: str, first: bytes) -> str:
    """Return the error of ``-connect hmp:ADDRESS`` for a peer that begins with these bytes."""
    if is_qmp(first):
        return f"a QMP monitor answers, not a human monitor: write -connect {address}"
    return _other(first, "a human monitor")


def _other(first: bytes, wanted: str) -> str:
    protocol = protocol_of(first)
    who = f"{protocol} server answers" if protocol is not None else f"the answer begins with {excerpt(first)}"
    return f"{who}: this is not {wanted}"
