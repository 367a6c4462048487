"""What is said of a program that is not the monitor that was asked for. Pure."""

from __future__ import annotations

import re

from qmon.notation.address import Address
from qmon.notation.strangers import excerpt, protocol_of

SILENCE_SECONDS = 1.0
"""After this time without a greeting a person is told."""
GIVE_UP_SECONDS = 10.0
"""After this time without a greeting a script fails."""

_HUMAN_MONITOR = re.compile(rb"\A(?:QEMU|qmon) \S+ monitor - ")
_QMP = re.compile(rb"""\A\s*\{\s*["']QMP["']""")


def is_human_monitor(first: bytes) -> bool:
    """Whether a peer that begins with these bytes is a human monitor."""
    return _HUMAN_MONITOR.match(first) is not None


def is_qmp(first: bytes) -> bool:
    """Whether a peer that begins with these bytes is a QMP monitor."""
    return _QMP.match(first) is not None


def not_qmp(address: Address, first: bytes) -> str:
    """Return the error of ``-connect ADDRESS`` for a peer that has begun with these bytes."""
    if is_human_monitor(first):
        return f"{address} is a human monitor, not a QMP monitor: write -connect hmp:{address}"
    return _other(address, first, "a QMP monitor")


def not_human(address: Address, first: bytes) -> str:
    """Return the error of ``-connect hmp:ADDRESS`` for a peer that has begun with these bytes."""
    if is_qmp(first):
        return f"{address} is a QMP monitor, not a human monitor: write -connect {address}"
    return _other(address, first, "a human monitor")


def _other(address: Address, first: bytes, wanted: str) -> str:
    protocol = protocol_of(first)
    if protocol is not None:
        return f"{address} is {protocol} server, not {wanted}"
    return f"{address} begins with {excerpt(first)}, so it is not {wanted}"


def silent(address: Address, option: str) -> str:
    """Say why a peer does not greet, and what helps; ``option`` is that of another monitor, ``-qmp``."""
    return (
        f"{address} sends no greeting: another program holds this monitor, which serves one at a time."
        f" End that program, or start QEMU with a second {option}"
        " (Proxmox: args: in the VM's configuration; Incus: raw.qemu)"
    )
