"""The commands of migration parameters and capabilities, and their checks before a migration starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmon.errors import CommandError
from qmon.migration.capabilities import CAPABILITIES, Capabilities
from qmon.migration.parameters import PARAMETERS, ROWS, Kind, Parameter, Parameters
from qmon.migration.wire.offer import Mode
from qmon.qmp.registry import command

UNDER_WAY = "There's a migration process in progress"

_NO_TLS = "TLS is not supported yet, so migrations are refused while tls-creds is set: set tls-creds to ''"


def _words(row: Parameter) -> tuple[str, ...]:
    return ("off", "on") if row.kind is Kind.SWITCH else row.choices


class MigrationSettings:
    """The parameters and capabilities of one machine."""

    def __init__(self, is_migrating: Callable[[], bool], is_awaiting: Callable[[], bool]) -> None:
        """``is_migrating``: an outgoing migration is in progress. ``is_awaiting``: one is awaited."""
        self.parameters = Parameters()
        self.capabilities = Capabilities()
        self._is_migrating = is_migrating
        self._is_awaiting = is_awaiting
        self._borrowed = False

    @command("migrate-set-parameters")
    async def set_parameters(self, **given: Any) -> dict[str, Any]:
        for name, value in given.items():
            if value is None and ROWS[name].kind is Kind.TEXT:
                given[name] = ""
        if given.get("tls-creds") and self._is_awaiting():
            raise CommandError(_NO_TLS)
        self.parameters.set(given, zero_copy=self.capabilities["zero-copy-send"])
        return {}

    @command("query-migrate-parameters")
    async def query_parameters(self) -> dict[str, Any]:
        return self.parameters.shown()

    @command("migrate-set-capabilities")
    async def set_capabilities(self, capabilities: list[dict[str, Any]]) -> dict[str, Any]:
        if self._is_migrating():
            raise CommandError(UNDER_WAY)
        changes = {each["capability"]: each["state"] for each in capabilities}
        if self._is_awaiting():
            for row in CAPABILITIES:
                if row.refuses_in and changes.get(row.name):
                    raise CommandError(row.refuses_in)
        self.capabilities.set(changes, plain=self.parameters.is_plain)
        return {}

    @command("query-migrate-capabilities")
    async def query_capabilities(self) -> list[dict[str, Any]]:
        return [{"state": state, "capability": name} for name, state in self.capabilities.shown().items()]

    @command("x-qmon-query-migrate-settings")
    async def query_settings(self) -> dict[str, Any]:
        """Return what each parameter and capability means, and a parameter's unit, default and words."""
        return {
            "parameters": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "default": row.default,
                    "meaning": row.meaning,
                    "values": list(_words(row)),
                }
                for row in PARAMETERS
            ],
            "capabilities": [{"name": row.name, "meaning": row.meaning} for row in CAPABILITIES],
        }

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
        if self.parameters["tls-creds"]:
            raise CommandError(_NO_TLS)
