"""The commands that inject faults into a drive's requests. They are qmon's own; QMP has none."""

from __future__ import annotations

import errno
import itertools
from typing import Any

from qmon.block.faults import Operation, Rule
from qmon.errors import CommandError
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.qmp.registry import command
from qmon.qmp.target import Event

INSTALLING = "faults"
"""The reason for closing a gate while the fault filter is inserted."""

DRAIN_SECONDS = 10.0


class FaultCommands:
    """Rules belong to a drive. They are removed with it, but stay when its image is closed and reopened."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._numbers = itertools.count()
        machine.registry.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        """At the machine's end, release delayed requests: their threads are joined then."""
        if event.name == "SHUTDOWN":
            for drive in self._machine.drives.values():
                drive.stack.faults.clear()

    @command("x-qmon-fault-add")
    async def add(
        self,
        drive: str,
        operation: str,
        offset: int = 0,
        length: int | None = None,
        error: str | None = None,
        delay: int = 0,
        count: int = 0,
        after: int = 0,
    ) -> dict[str, Any]:
        """Make requests wait ``delay`` ms, fail with ``error`` (such as ``EIO``), or both.

        Returns the rule's id.
        """
        target = self._machine.disks.drive(drive)
        numbers = {"offset": offset, "length": length, "delay": delay, "count": count, "after": after}
        for parameter, value in numbers.items():
            if value is not None and value < 0:
                raise CommandError(f"Parameter '{parameter}' expects a non-negative number")
        if error is None and not delay:
            raise CommandError("A fault needs 'error' or 'delay'")
        rule = Rule(
            Operation(operation),
            offset,
            length,
            None if error is None else _errno(error),
            delay / 1000,
            count,
            after,
        )
        await self._install(target)
        name = f"fault{next(self._numbers)}"
        target.stack.faults.add(name, rule)
        return {"id": name}

    async def _install(self, drive: Drive) -> None:
        """Insert the filter. Raises CommandError if a migration uses the drive."""
        if not drive.stack.lacks_fault_filter:
            return
        self._machine.use.check_not_busy(drive)
        if not await self._machine.blocking(drive.gate.close, INSTALLING, DRAIN_SECONDS):
            raise CommandError(f"drive '{drive.id}': a request did not finish within {DRAIN_SECONDS:g} s")
        try:
            # Migrations start on the loop too, so none can start between this check and the change.
            self._machine.use.check_not_busy(drive)
            drive.stack.install_fault_filter()
        finally:
            drive.gate.open(INSTALLING)

    @command("x-qmon-fault-del")
    async def remove(self, id: str) -> dict[str, Any]:
        """Delete a rule; requests that it delays continue."""
        for drive in self._machine.drives.values():
            if id in drive.stack.faults.hits():
                drive.stack.faults.remove(id)
                return {}
        raise CommandError(f"Fault '{id}' not found")

    @command("x-qmon-query-faults")
    async def query(self) -> list[dict[str, Any]]:
        """Return each rule as it was given; ``hits`` counts the requests that it has matched."""
        return [
            _describe(name, drive, rule, hits)
            for drive in self._machine.drives.values()
            for name, (rule, hits) in drive.stack.faults.hits().items()
        ]


def _errno(name: str) -> int:
    value = getattr(errno, name, None)
    if not isinstance(value, int):
        raise CommandError(f"Parameter 'error' expects the name of an errno, such as EIO, not '{name}'")
    return value


def _describe(name: str, drive: Drive, rule: Rule, hits: int) -> dict[str, Any]:
    info = {
        "id": name,
        "drive": drive.id,
        "operation": rule.operation.value,
        "offset": rule.offset,
        "delay": round(rule.delay_seconds * 1000),
        "count": rule.count,
        "after": rule.after,
        "hits": hits,
    }
    if rule.length is not None:
        info["length"] = rule.length
    if rule.errno is not None:
        info["error"] = errno.errorcode[rule.errno]
    return info
