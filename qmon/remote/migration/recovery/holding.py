"""Which commands a migration forbids, and why ``cont`` is refused: two guests must never run. Pure."""

from __future__ import annotations

from qmon.remote.migration.phases import Phase

FORBIDDEN = frozenset(
    """
    migrate migrate-continue migrate-incoming migrate-pause migrate-recover migrate-set-capabilities
    migrate-start-postcopy
    """.split()
)
"""QMP commands that would break a migration that is under way."""

BUSY = "There's a migration process in progress"
"""QEMU's words for such a command."""

_HANDING_OVER = "The guest is being handed over to {peer}: it runs there in a moment, or here again"
_CALLING_OFF = "The migration is being called off: the guest runs here again in a moment"
_ON_ITS_WAY = "The guest is on its way: it runs here when it has arrived"
_SOURCE = {
    Phase.PAUSED: _HANDING_OVER,
    Phase.SWITCHING: _HANDING_OVER,
    Phase.HANDED: _HANDING_OVER,
    Phase.DOUBT: (
        "It is not known whether the guest runs at {peer}: look there. If it does not run there and never"
        " will, 'migrate_resolve keep' runs it here"
    ),
    Phase.UNDOING: _CALLING_OFF,
    Phase.CANCELLING: _CALLING_OFF,
}
_DESTINATION = {
    Phase.COPYING: _ON_ITS_WAY,
    Phase.MOVING: _ON_ITS_WAY,
    Phase.ARRIVED: (
        "The guest has arrived, and runs here as soon as the source hands it over. If it does not run at the"
        " source and never will, 'migrate_resolve keep' runs it here"
    ),
    Phase.RUNNING: "The guest starts here at this moment",
    Phase.REFUSED: "The guest has stayed at the source: this machine must not run it, 'quit' ends it",
}
"""Phases in which ``cont`` is refused, also with ``-f``."""

_GONE = (
    "The guest has moved{where}: it must not run twice. If it does not run there and never will, 'cont -f'"
    " runs it here as it was when it moved"
)


def why_not_run(
    side: str, phase: Phase | None, run_state: str, peer: str = "", *, force: bool = False
) -> str | None:
    """Return why the guest must not run on this side, None if it may.

    ``side`` and ``phase`` are those of this console's migration, "" and None without one; ``run_state`` is
    QEMU's (QAPI: RunState); ``force`` is that of ``cont -f``.
    """
    if phase is not None:
        refusals = _SOURCE if side == "source" else _DESTINATION
        if phase in refusals:
            return refusals[phase].format(peer=peer or "the destination")
    if run_state == "postmigrate" and not force:
        return _GONE.format(where=f" to {peer}" if side == "source" and peer else " to another host")
    return None
