"""The way back after the disks have moved, in the same words wherever it is named."""

from __future__ import annotations

WAY_BACK = "if the destination does not run, cont -f runs this machine with the old disks"
"""It is for a source whose migration has completed, also after a restart."""


WAITING = "x-qmon-waiting-clients"
"""The member of a MigrationInfo that counts the clients whose requests wait until cont."""


def unconfirmed(*, is_over: bool, clients: int = 0) -> str:
    """Return what follows from a migration to something that can't answer; ``is_over`` after cont."""
    if is_over:
        return f"nobody could confirm it, and this machine was continued: {_BACKUP}"
    wait = f", and {clients} client{'s wait' if clients != 1 else ' waits'}" if clients else ""
    return (
        f"nobody could confirm it: this machine stays paused with its disks, also after a restart{wait}."
        " 'cont' continues it here"
    )


_BACKUP = (
    "what was sent is a copy of the disks at that moment. It may be restored as a backup, but must not run as"
    " the same guest beside this machine"
)

CONTINUED_HERE = f"warning: nobody has confirmed the migration, and this machine goes on: {_BACKUP}"
"""After cont, where all was sent to something that can't answer."""


def moved(peer: str | None) -> str:
    """Return the line that says where the disks have moved, if that is known, and the way back."""
    return f"The disks have moved to {peer or 'another host'}: {WAY_BACK}"
