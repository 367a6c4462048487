"""Where a new console takes up a migration, by its record and by what the QEMU says of itself. Pure.

Each function returns the phase to begin in, and the event to begin with; None: wait for what the phase waits
for.
"""

from __future__ import annotations

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import Event

Start = tuple[Phase, Event | None]

_UNDER_WAY = frozenset("setup wait-unplug active pre-switchover device cancelling".split())


def resumed_source(recorded: str, status: str, run_state: str) -> Start:
    """Say where a source's new console begins.

    ``recorded`` is the phase in the record. ``status`` is that of the QEMU's migration, ``none`` without one.
    ``run_state`` is that of its machine.
    """
    if recorded == Phase.COMPLETED.value:
        # The guest is known to run at the destination, which may have forgotten the migration.
        return Phase.DOUBT, Event.RELEASE
    if status == "completed" and run_state == "postmigrate":
        return Phase.HANDED, Event.LOST
    if status in _UNDER_WAY:
        # The guardian has died, too. RUN was not sent, so the guest can be brought back.
        return Phase.SWITCHING, Event.LOST
    return Phase.COPYING, Event.FAIL


def resumed_destination(recorded: str, status: str, run_state: str) -> Start:
    """Say where a destination's new console begins; as ``resumed_source``."""
    if recorded == Phase.REFUSED.value or status in ("failed", "cancelled"):
        return Phase.REFUSED, None
    if run_state == "inmigrate":
        is_reading = status in _UNDER_WAY or recorded == Phase.MOVING.value
        return (Phase.MOVING, None) if is_reading else (Phase.COPYING, Event.LOST)
    if run_state == "running" or recorded in (Phase.COMPLETED.value, Phase.SETTLED.value):
        return Phase.COMPLETED, Event.LOST
    if recorded == Phase.RUNNING.value:
        # RUN had arrived, but the guest was perhaps not started. In another state it has run.
        return (Phase.ARRIVED, Event.RUN) if run_state == "paused" else (Phase.COMPLETED, Event.LOST)
    return Phase.ARRIVED, Event.LOST
