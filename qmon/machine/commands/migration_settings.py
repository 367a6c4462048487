"""The commands of migration parameters and capabilities."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.machine.migration.migrations import Migrations
from qmon.machine.migration.settings import UNDER_WAY
from qmon.migration.capabilities import CAPABILITIES
from qmon.migration.parameters import PARAMETERS, ROWS, Kind, Parameter
from qmon.qmp.registry import command

_KEEPS_TLS = "tls-creds can't be cleared while a migration over TLS is awaited: name other credentials"


def _words(row: Parameter) -> tuple[str, ...]:
    return ("off", "on") if row.kind is Kind.SWITCH else row.choices


class SettingsCommands:
    """For the settings of a machine's migrations."""

    def __init__(self, migrations: Migrations) -> None:
        self._incoming = migrations.incoming
        self._outgoing = migrations.outgoing
        self._parameters = migrations.settings.parameters
        self._capabilities = migrations.settings.capabilities

    @command("migrate-set-parameters")
    async def set_parameters(self, **given: Any) -> dict[str, Any]:
        for name, value in given.items():
            if value is None and ROWS[name].kind is Kind.TEXT:
                given[name] = ""
        if given.get("tls-creds") == "" and self._parameters["tls-creds"] and self._incoming.is_awaited:
            raise CommandError(_KEEPS_TLS)
        self._parameters.set(given, zero_copy=self._capabilities["zero-copy-send"])
        return {}

    @command("query-migrate-parameters")
    async def query_parameters(self) -> dict[str, Any]:
        return self._parameters.shown()

    @command("migrate-set-capabilities")
    async def set_capabilities(self, capabilities: list[dict[str, Any]]) -> dict[str, Any]:
        if self._outgoing.is_under_way:
            raise CommandError(UNDER_WAY)
        changes = {each["capability"]: each["state"] for each in capabilities}
        if self._incoming.is_awaited:
            for row in CAPABILITIES:
                if row.refuses_in and changes.get(row.name):
                    raise CommandError(row.refuses_in)
        self._capabilities.set(changes, plain=self._parameters.is_plain)
        return {}

    @command("query-migrate-capabilities")
    async def query_capabilities(self) -> list[dict[str, Any]]:
        return [{"state": state, "capability": name} for name, state in self._capabilities.shown().items()]

    @command("x-qmon-query-migrate-settings")
    async def query_settings(self) -> dict[str, Any]:
        """Return what each setting means, a parameter's unit, default and words, a capability's state."""
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
            "capabilities": [
                {"name": row.name, "meaning": row.meaning, "state": self._capabilities[row.name]}
                for row in CAPABILITIES
            ],
        }
