"""The parameters and capabilities of a machine's migrations, and their checks before one starts."""

from __future__ import annotations

from qmon.errors import CommandError
from qmon.migration.capabilities import Capabilities
from qmon.migration.parameters import Parameters
from qmon.migration.wire.offer import Mode

UNDER_WAY = "There's a migration process in progress"


class MigrationSettings:
    """What both directions go by."""

    def __init__(self) -> None:
        self.parameters = Parameters()
        self.capabilities = Capabilities()
        self._borrowed = False
        """Whether the flags of ``migrate`` have changed settings."""

    def begin(self, blk: bool, inc: bool) -> Mode:
        """Return the mode of an outgoing migration with these flags of its command. Call ``end`` after it.

        During the migration the flags show as the capability ``block`` and the parameter
        ``block-incremental``. Raises CommandError if the settings don't allow the migration.
        """
        if blk or inc:
            if self.capabilities["x-colo"]:
                raise CommandError("No disk migration is required in COLO mode")
            if self.capabilities["block"] or self.parameters["block-incremental"]:
                raise CommandError("Command options are incompatible with current migration capabilities")
        self._refuse(self.capabilities.refusal())
        if (mode := self.parameters["mode"]) != "normal":
            raise CommandError(f"Migration mode '{mode}' is not supported: set the parameter mode to normal")
        if blk or inc:
            self.capabilities.set({"block": True})
            self.parameters.set({"block-incremental": inc})
            self._borrowed = True
        if not self.capabilities["block"]:
            return Mode.SHARED
        return Mode.INCREMENTAL if self.parameters["block-incremental"] else Mode.FULL

    def end(self) -> None:
        """Undo the changes that the flags have made, after the migration."""
        if self._borrowed:
            self._borrowed = False
            self.capabilities.set({"block": False})
            self.parameters.set({"block-incremental": False})

    def check_incoming(self) -> None:
        """Raises CommandError if the settings don't allow an incoming migration."""
        self._refuse(self.capabilities.refusal(incoming=True))

    def _refuse(self, reason: str) -> None:
        if reason:
            raise CommandError(reason)
