"""The machine's run states: the subset of QAPI's RunState that this machine can have."""

from __future__ import annotations

import enum


class RunState(enum.Enum):
    """Run states; the values are QAPI's."""

    PRELAUNCH = "prelaunch"
    """Started with -S."""
    INMIGRATE = "inmigrate"
    """Waits for an incoming migration, or receives it."""
    RUNNING = "running"
    PAUSED = "paused"
    FINISH_MIGRATE = "finish-migrate"
    """The source of a migration, from closing the gates until it knows the result."""
    POSTMIGRATE = "postmigrate"
    """The source of a completed migration: another machine has its disks."""
    SAVE_VM = "save-vm"
    """A snapshot of a running machine is being taken."""
    RESTORE_VM = "restore-vm"
    """A snapshot is being loaded into a running machine."""
    SHUTDOWN = "shutdown"
