"""Migration capabilities: a table, which combinations are valid, which are on (QAPI: MigrationCapability)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qmon.errors import CommandError
from qmon.migration.parameters import NO_MEMORY, NO_PROCESSORS, NOT_PLAIN

States = Mapping[str, bool]
"""Capabilities by their QMP names."""


@dataclass(frozen=True, slots=True)
class Capability:
    """A capability's row.

    While a capability is on that qmon can't provide, migrations are refused: outgoing ones with the reason
    ``refuses_out``, incoming ones with ``refuses_in``, unless these are empty. ``later``: QEMU 10 has it and
    7.2 does not, or it is qmon's own; it is shown only if it differs from its default.
    """

    name: str
    meaning: str
    refuses_out: str = ""
    refuses_in: str = ""
    later: bool = False
    default: bool = False


RECOVER = "x-qmon-recover"
"""The capability by which a broken line pauses a migration instead of ending it."""
FORWARD = "x-qmon-forward"
"""The capability by which the requests of clients that stay are forwarded after a migration."""
BITMAPS = "dirty-bitmaps"
"""The capability by which dirty bitmaps go along."""

_COLO = "COLO is not supported: turn x-colo off"
_SNAPSHOT = "background-snapshot is not supported, as this machine has no RAM: turn background-snapshot off"
_LATE = (
    "late-block-activate is not supported, as images are locked when the migration begins:"
    " turn late-block-activate off"
)
_SEEKABLE = "Migration requires seekable transport (e.g. file)"

CAPABILITIES = (
    Capability("xbzrle", NO_MEMORY),
    Capability("rdma-pin-all", NO_MEMORY),
    Capability("auto-converge", "Slow the guests' writes step by step if they write faster than is sent"),
    Capability("zero-blocks", "No effect: zeros are never sent as data"),
    Capability("compress", NO_MEMORY),
    Capability("events", "Send a MIGRATION event at each change of state"),
    Capability("postcopy-ram", f"{NO_MEMORY}; migrate_start_postcopy is refused"),
    Capability(
        "x-colo", "Keep a second machine in step. While this is on, migrations are refused", refuses_out=_COLO
    ),
    Capability("release-ram", NO_MEMORY),
    Capability("block", "Copy the disks, as migrate -b does; with block-incremental, as migrate -i"),
    Capability(
        "return-path", "Wait for answers over exec and fd, too. Over others the destination always answers"
    ),
    Capability("pause-before-switchover", "Pause before the switchover until migrate_continue"),
    Capability("multifd", "Send data on several connections (multifd-channels)"),
    Capability(
        BITMAPS,
        "Take the disks' dirty bitmaps along; the destination needs it, too",
    ),
    Capability("postcopy-blocktime", NO_MEMORY),
    Capability(
        "late-block-activate",
        "Lock the destination's images only when the machine runs. qmon locks them before: while this is on,"
        " incoming migrations are refused",
        refuses_in=_LATE,
    ),
    Capability("x-ignore-shared", NO_MEMORY),
    Capability("validate-uuid", "Refuse a destination with a different UUID"),
    Capability(
        "background-snapshot",
        "Save guest RAM while the machine runs. While this is on, migrations are refused",
        refuses_out=_SNAPSHOT,
    ),
    Capability("zero-copy-send", NO_MEMORY),
    Capability("postcopy-preempt", NO_MEMORY),
    Capability(
        "switchover-ack", "No effect: the destination is always asked before the switchover", later=True
    ),
    Capability("dirty-limit", NO_PROCESSORS, later=True),
    Capability(
        "mapped-ram",
        "Migrate into a file with a fixed place for each page. While this is on, migrations are refused",
        refuses_out=_SEEKABLE,
        refuses_in=_SEEKABLE,
        later=True,
    ),
    Capability(
        FORWARD,
        "Work on for the clients that are connected at the end: their requests go to the destination."
        " Both sides need it",
        later=True,
        default=True,
    ),
    Capability(
        RECOVER,
        "Pause when the line breaks, and let migrate -r continue; must be on at both sides",
        later=True,
    ),
)
"""In the order in which QEMU lists them, then qmon's own."""

_NOT_WITH_SNAPSHOT = tuple(
    """
    postcopy-ram dirty-bitmaps postcopy-blocktime late-block-activate return-path multifd
    pause-before-switchover auto-converge release-ram rdma-pin-all compress xbzrle x-colo validate-uuid
    zero-copy-send
    """.split()
)

_PLAIN = "plain"
"""``Parameters.is_plain``, which the rules below treat as if it were a capability."""

_RULES: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("postcopy-ram", "x-ignore-shared"), (), "Postcopy is not compatible with ignore-shared"),
    *(
        (("background-snapshot", other), (), f"Background-snapshot is not compatible with {other}")
        for other in _NOT_WITH_SNAPSHOT
    ),
    (("zero-copy-send",), ("multifd",), NOT_PLAIN),
    (("zero-copy-send",), (_PLAIN,), NOT_PLAIN),
    (("zero-copy-send", "compress"), (), NOT_PLAIN),
    (("zero-copy-send", "xbzrle"), (), NOT_PLAIN),
    (("postcopy-preempt",), ("postcopy-ram",), "Postcopy preempt requires postcopy-ram"),
    (("postcopy-preempt", "compress"), (), "Postcopy preempt not compatible with compress"),
    (("multifd", "compress"), (), "Multifd is not compatible with compress"),
    (
        ("switchover-ack",),
        ("return-path",),
        "Capability 'switchover-ack' requires capability 'return-path'",
    ),
    (
        ("dirty-limit", "auto-converge"),
        (),
        "dirty-limit conflicts with auto-converge either of then available currently",
    ),
    (("dirty-limit",), (), "dirty-limit requires KVM with accelerator property 'dirty-ring-size' set"),
    (("mapped-ram", "xbzrle"), (), "Mapped-ram migration is incompatible with xbzrle"),
    (("mapped-ram", "postcopy-ram"), (), "Mapped-ram migration is incompatible with postcopy"),
)
"""Invalid combinations: these are all on, these are all off, and the error; in QEMU's order."""


class Capabilities:
    """Which capabilities are on. For the loop's thread."""

    def __init__(self) -> None:
        self._states = {row.name: row.default for row in CAPABILITIES}

    def set(self, changes: States, *, plain: bool = True) -> None:
        """Turn capabilities on and off, all of them or none; ``plain`` is ``Parameters.is_plain``.

        Raises CommandError for an invalid combination.
        """
        changed = {**self._states, **changes}
        states = {**changed, _PLAIN: plain}
        for on, off, said in _RULES:
            if all(states[name] for name in on) and not any(states[name] for name in off):
                raise CommandError(said)
        self._states = changed

    def __getitem__(self, name: str) -> bool:
        return self._states[name]

    def shown(self) -> dict[str, bool]:
        """Return QEMU 7.2's capabilities, in its order, and later ones that differ from their default."""
        return {
            row.name: self._states[row.name]
            for row in CAPABILITIES
            if self._states[row.name] != row.default or not row.later
        }

    def in_words(self) -> list[str]:
        """Return the names of those that are on, and ``NAME off`` for one that is on by default."""
        on = [row.name for row in CAPABILITIES if self._states[row.name] and not row.default]
        return on + [f"{row.name} off" for row in CAPABILITIES if row.default and not self._states[row.name]]

    def refusal(self, *, incoming: bool = False) -> str:
        """Return why no migration is possible with the capabilities that are on, or ""."""
        on = [row for row in CAPABILITIES if self._states[row.name]]
        reasons = [row.refuses_in if incoming else row.refuses_out for row in on]
        return next(filter(None, reasons), "")
