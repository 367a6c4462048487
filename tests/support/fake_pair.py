"""A connection to a QEMU whose console can move the guest with its disks, as far as lines see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError
from qmon.hmp.monitor import Monitor
from qmon.qmp.events import EventBus
from qmon.qmp.target import Arguments, Listener
from qmon.remote.migration.rates.settings import described

HELP_10 = """\
cont|c  -- resume emulation\r
help|? [cmd] -- show the help\r
info [subcommand] -- show various information about the system state\r
migrate [-d] [-r] uri -- migrate to URI (using -d to not wait for completion)\r
\t\t\t -r to resume a paused postcopy migration\r
migrate_cancel  -- cancel the current VM migration\r
migrate_continue state -- Continue migration from the given paused state\r
migrate_incoming uri -- Continue an incoming migration from an -incoming defer\r
migrate_set_capability capability state -- Enable/Disable the usage of a capability for migration\r
migrate_set_parameter parameter value -- Set the parameter for migration\r
quit|q  -- quit the emulator\r
stop|s  -- stop emulation\r
"""
HELP_7 = HELP_10.replace("migrate [-d] [-r] uri", "migrate [-d] [-b] [-i] [-r] uri")
INFO = """\
info migrate  -- show migration status\r
info migrate_parameters  -- show current migration parameters\r
info status  -- show the current VM status (running|paused)\r
"""
PARAMETER_LINES = """\
announce-initial: 50 ms\r
max-bandwidth: 1 bytes/second\r
downtime-limit: 2 ms\r
mode: normal\r
"""
PARAMETERS: dict[str, Any] = {
    "announce-initial": 50,
    "max-bandwidth": 5 << 20,
    "downtime-limit": 300,
    "x-qmon-verify-copy": "sample",
    "x-qmon-copy-mode": "auto",
}

MIB = 1 << 20


def _disk(drive: str, total: int, remaining: int, transferred: int, by: str) -> dict[str, Any]:
    """An entry of ``x-qmon-disks``, given in MiB."""
    sizes = {"total": total, "remaining": remaining, "transferred": transferred}
    return {"drive": drive, "matched-by": by, **{name: size * MIB for name, size in sizes.items()}}


RUNNING: dict[str, Any] = {
    "status": "active",
    "x-qmon-side": "source",
    "x-qmon-id": "4f2e",
    "x-qmon-peer": "tcp:there:4444",
    "total-time": 3_000,
    "disk": {"total": 300 * MIB, "remaining": 100 * MIB, "transferred": 210 * MIB},
    "ram": {
        "total": 100 * MIB,
        "remaining": 100 * MIB,
        "transferred": 0,
        "dirty-pages-rate": 256,
        "page-size": 4096,
    },
    "x-qmon-disks": [
        _disk("d0", 200, 0, 200, "device id"),
        _disk("d1", 100, 100, 10, "order"),
    ],
    "x-qmon-send-rate": 10 * MIB,
    "x-qmon-guest-write-rate": 2 * MIB,
    "x-qmon-remaining-time": 20_000,
    "x-qmon-line": "descriptors",
    "x-qmon-stays-behind": ["drive 'cd0' has no medium on both sides"],
    "x-qmon-waits": False,
}
DONE: dict[str, Any] = {
    **RUNNING,
    "status": "completed",
    "total-time": 31_400,
    "downtime": 40,
    "disk": {"total": 300 * MIB, "remaining": 0, "transferred": 310 * MIB},
    "ram": {"total": 100 * MIB, "remaining": 0, "transferred": 60 * MIB, "page-size": 4096},
    "x-qmon-verified": "samples of each disk were compared",
}
LISTENING: dict[str, Any] = {
    "x-qmon-side": "destination",
    "socket-address": [{"type": "inet", "host": "0.0.0.0", "port": "4444"}],
}


class FakePair:
    """A Target. Lines of the QEMU's own go to ``passed``, and QMP commands of interest to ``calls``."""

    def __init__(self, help_text: str = HELP_10, *, is_destination: bool = False) -> None:
        self.passed: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refused = ""
        """Why ``migrate blk`` is refused."""
        self.answers = ""
        """What the QEMU's own monitor answers to other lines."""
        self.trial: dict[str, Any] = {}
        """What ``migrate -n blk`` answers, and what is said before a migration."""
        self.status = "running"
        self.migration: list[dict[str, Any]] = [{}]
        """What query-migrate answers, one after another; the last one stays."""
        self.events = EventBus()
        self._answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "human-monitor-command": lambda given: self._line(given["command-line"]),
            "query-status": lambda given: {"running": self.status == "running", "status": self.status},
            "query-migrate": lambda given: self.migration.pop(0) if self.migration[1:] else self.migration[0],
            "query-migrate-parameters": lambda given: dict(PARAMETERS),
            "query-migrate-capabilities": lambda given: [],
            "query-name": lambda given: {},
            "query-block-jobs": lambda given: self.jobs,
            "query-block": lambda given: self.blocks,
            "migrate-set-parameters": lambda given: self._note("migrate-set-parameters", given),
            "migrate-continue": lambda given: self._note("migrate-continue", given),
            "migrate_cancel": lambda given: self._note("migrate_cancel", given),
            "cont": self._cont,
            "x-qmon-migrate-disks": self._migrate_disks,
            "x-qmon-migrate-resolve": lambda given: self._note("x-qmon-migrate-resolve", given),
            "x-qmon-query-migrate-settings": lambda given: described(),
        }
        self.jobs: list[dict[str, Any]] = []
        self.blocks: list[dict[str, Any]] = []
        self._help = help_text
        if is_destination:
            self._answers["x-qmon-migrate-incoming"] = self._listen

    def commands(self) -> frozenset[str]:
        return frozenset(self._answers)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self.events.subscribe(listener)

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        if command not in self._answers:
            raise CommandNotFoundError(command)
        return self._answers[command](dict(arguments or {}))

    def _note(self, command: str, given: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((command, given))
        return {}

    def _line(self, line: str) -> str:
        known = {"help": self._help, "info": INFO, "info migrate_parameters": PARAMETER_LINES}
        if line in known:
            return known[line]
        self.passed.append(line)
        return self.answers

    def _cont(self, given: dict[str, Any]) -> Any:
        if self.status == "postmigrate" and not given.get("x-qmon-force"):
            raise CommandError("The guest runs at tcp:there:4444 now: 'cont -f' runs it here too")
        return self._note("cont", given)

    def _migrate_disks(self, given: dict[str, Any]) -> Any:
        if self.refused:
            raise CommandError(self.refused)
        self._note("x-qmon-migrate-disks", given)
        return self.trial

    def _listen(self, given: dict[str, Any]) -> Any:
        if self.refused:
            raise CommandError(self.refused)
        return self._note("x-qmon-migrate-incoming", given)


async def met(pair: FakePair) -> Monitor:
    """A monitor that knows the pair's commands."""
    monitor = Monitor(pair)
    await monitor.meet_target()
    return monitor
