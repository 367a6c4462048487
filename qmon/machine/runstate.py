"""The machine's run states (QAPI: RunState): those that a machine of disks can be in."""

from __future__ import annotations

import enum


class RunState(enum.Enum):
    """The values are QAPI's."""

    PRELAUNCH = "prelaunch"
    """Started with -S."""
    INMIGRATE = "inmigrate"
    """Waits for a migration, or takes one in."""
    RUNNING = "running"
    PAUSED = "paused"
    FINISH_MIGRATE = "finish-migrate"
    """The source of a migration, from closing its gates until it has heard how it went."""
    POSTMIGRATE = "postmigrate"
    """The source of a migration that is complete: its disks are another machine's."""
    SHUTDOWN = "shutdown"
