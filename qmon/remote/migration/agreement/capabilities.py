"""What QEMU's own migration settings must be while the guest moves with its disks. Pure.

The memory goes through one connection that is made by the consoles (``migrate fd:``), and a migration that
fails must leave the guest at the source. What each capability does there was tried with QEMU 7.2 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

ON = ("events", "return-path")
"""What both sides need. Without a return path a source completes although its destination can't load."""

ON_AT_SOURCE = ("pause-before-switchover",)

OFF: Mapping[str, str] = {
    "multifd": "the memory goes through one connection",
    "zero-copy-send": "it needs multifd",
    "mapped-ram": "it needs a file",
    "compress": "both sides must have it",
    "postcopy-ram": "the guest must be whole on one side",
    "postcopy-preempt": "it needs postcopy-ram",
    "release-ram": "the source keeps the guest's memory until the guest runs at the destination",
    "x-ignore-shared": "all memory must be sent",
    "block": "the disks are copied by mirror jobs",
    "dirty-bitmaps": "bitmaps are not copied",
}
"""Capabilities that are switched off while the guest moves, and why."""

_REFUSED = {
    "x-colo": "it keeps two guests in step, and ends no migration",
    "background-snapshot": "it saves a snapshot, and needs a migration without return path",
}
"""Capabilities that mean another purpose: a person has switched them on for it."""


def wanted(*, is_source: bool) -> dict[str, bool]:
    """Return what the capabilities of one side must be. Some QEMUs don't have all of them."""
    on = ON + (ON_AT_SOURCE if is_source else ())
    return dict.fromkeys(on, True) | dict.fromkeys(OFF, False)


def refusals(capabilities: Mapping[str, bool], parameters: Mapping[str, str | int | bool]) -> Iterator[str]:
    """Yield a line for each setting of one side with which no migration may begin."""
    for name, why in _REFUSED.items():
        if capabilities.get(name):
            yield f"migration capability {name} is on: {why}: 'migrate_set_capability {name} off'"
    mode = parameters.get("mode", "normal")
    if mode != "normal":
        yield f"migration parameter mode is '{mode}': 'migrate_set_parameter mode normal'"


def switched_off(capabilities: Mapping[str, bool]) -> Iterator[str]:
    """Yield a sentence for each capability of one side that is switched off while the guest moves."""
    for name, why in OFF.items():
        if capabilities.get(name):
            yield f"migration capability {name} is off while the guest moves: {why}"
