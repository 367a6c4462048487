"""A console on a machine of a few lines, to be run in a terminal by the tests.

``python -m tests.support.console_program FOLDER``: the history is FOLDER/history. A file that appears there
makes something happen: ``fail`` and ``complete`` end the migration, ``device`` brings it to its last phase,
``doubt`` leaves it there, ``log`` and ``thread`` log a warning, ``client`` brings an NBD client, ``broken``
an I/O error, ``shutdown`` quits the machine. With a file ``catches-interrupts`` SIGINT is the console's, as
in qmon itself; with ``says-yes`` it has the option ``-y``; with ``impatient`` every migration is a long one.
The line ``ask`` asks before it answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from qmon.console import attention
from qmon.console.session import Console
from qmon.errors import CommandError
from qmon.hmp.commands import migration
from qmon.hmp.line.reading import Reading
from qmon.hmp.monitor import Monitor
from qmon.hmp.origin import Origin
from qmon.hmp.person import Person
from qmon.qmp.registry import Registry, command

TOTAL = 256 << 20


class Machine:
    """Answers what the tests ask, and pretends to migrate half a disk, a tenth more at each question."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.registry.add_from(self)
        self.status = "running"
        self.migration: dict[str, Any] = {}

    @command("query-status")
    async def query_status(self) -> dict[str, Any]:
        return {"status": self.status, "running": self.status == "running", "singlestep": False}

    @command("stop")
    async def stop(self) -> None:
        self.status = "paused"
        self.registry.events.emit("STOP")

    @command("cont")
    async def cont(self) -> None:
        self.status = "running"
        self.registry.events.emit("RESUME")

    @command("x-qmon-migrate-resolve")
    async def migrate_resolve(self, action: Literal["keep", "release"]) -> None:
        self.end("completed" if action == "release" else "failed", "this side keeps the disks")

    @command("quit")
    async def quit(self) -> None:
        self.registry.events.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})

    @command("migrate")
    async def migrate(self, uri: str, blk: bool = False, inc: bool = False, detach: bool = False) -> None:
        if self.migration.get("status") == "active":
            raise CommandError("There's a migration process in progress")
        if not uri.startswith(("tcp:", "unix:")):
            raise CommandError("Parameter 'uri' expects a valid migration protocol")
        self.migration = {"status": "active"}
        self.done = 0
        self.registry.events.emit("MIGRATION", {"status": "setup"})

    @command("query-migrate")
    async def query_migrate(self) -> dict[str, Any]:
        if self.migration.get("status") == "active":
            self.done = min(TOTAL // 2, self.done + TOTAL // 10)
            sizes = {"transferred": self.done, "remaining": TOTAL - self.done, "total": TOTAL, "mbps": 800.0}
            return {**self.migration, "total-time": 1000, "disk": sizes, "ram": sizes}
        return self.migration

    @command("migrate_cancel")
    async def migrate_cancel(self) -> None:
        self.end("cancelled")

    def end(self, status: str, why: str = "") -> None:
        self.migration = {"status": status, **({"error-desc": why} if why else {})}
        self.registry.events.emit("MIGRATION", {"status": status})


class AskingMonitor(Monitor):
    """Has a command that is in no table, since none in it asks."""

    async def run(self, reading: Reading, person: Person, origin: Origin | None = None) -> str | None:
        if reading.text != "ask":
            return await super().run(reading, person, origin)
        answer = await person.ask("Throw it away?")
        if answer:
            person.print("thrown away")
        return None if answer else "kept"


async def watch(folder: Path, machine: Machine) -> None:
    """Do what the files that appear ask for."""
    while True:
        for trigger in (
            "fail",
            "complete",
            "device",
            "doubt",
            "log",
            "thread",
            "client",
            "broken",
            "shutdown",
        ):
            if (folder / trigger).exists():
                (folder / trigger).unlink()
                match trigger:
                    case "fail":
                        machine.end("failed", "Connection reset by peer")
                    case "complete":
                        machine.end("completed")
                    case "device":
                        machine.end("device")
                    case "doubt":
                        machine.end("device", "it is not known whether the destination runs")
                    case "log":
                        logging.getLogger("qmon.nbd").warning("client 7 has gone")
                    case "thread":
                        await asyncio.to_thread(logging.getLogger("qmon").warning, "anybody may connect")
                    case "client":
                        client = {"export": "d0", "address": "127.0.0.1:5000", "clients": 1}
                        machine.registry.events.emit("X_QMON_NBD_CLIENT_CONNECTED", client)
                    case "broken":
                        error = {"device": "d0", "operation": "write", "reason": "Input/output error"}
                        machine.registry.events.emit("BLOCK_IO_ERROR", error)
                    case "shutdown":
                        await machine.quit()
        await asyncio.sleep(0.01)


async def main() -> int:
    folder = Path(sys.argv[1])
    logging.basicConfig(format="%(message)s")
    machine = Machine()
    watcher = asyncio.create_task(watch(folder, machine))
    monitor = AskingMonitor(machine.registry)
    console = Console(
        monitor,
        history_path=folder / "state" / "history",
        greeting="hello",
        assume_yes=(folder / "says-yes").exists(),
    )
    if (folder / "catches-interrupts").exists():
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, console.interrupt_program)
    migration.NOTICE_SECONDS = math.inf  # a test of a busy machine may watch one for longer
    if (folder / "impatient").exists():
        attention.LONG_SECONDS = 0.0
    (folder / "pid").write_text(str(os.getpid()))
    status = await console.run()
    watcher.cancel()
    (folder / "status").write_text(str(status))
    return status


if __name__ == "__main__":
    status = asyncio.run(main())
    print(f"ended with {status}")
    sys.exit(status)
