"""A target and a person for monitors under test: QMP commands that note their calls, and a list of lines."""

from __future__ import annotations

import asyncio
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.person import Progress
from qmon.hmp.tables.table import Tables
from qmon.qmp.registry import Registry

NODE: dict[str, Any] = {
    "node-name": "#block001",
    "file": "d0.img",
    "drv": "raw",
    "ro": False,
    "encrypted": False,
    "detect_zeroes": "off",
    "backing_file_depth": 0,
    "cache": {"writeback": True, "direct": False, "no-flush": False},
    "image": {"filename": "d0.img", "format": "raw", "virtual-size": 16 << 20, "actual-size": 1 << 20},
    **dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0),
}


class FakeMachine:
    """A registry whose commands note what they were given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.registry = Registry()
        self.running = True
        self.migration: list[dict[str, Any]] = [{"status": "completed"}]
        """What query-migrate answers, one after another; the last one stays."""
        self.blocks: list[dict[str, Any]] = [
            {
                "device": "d0",
                "type": "unknown",
                "removable": True,
                "locked": False,
                "tray_open": False,
                "inserted": NODE,
            }
        ]
        add = self.registry.add
        add("query-status", self._query_status)
        add("stop", self._stop)
        add("cont", self._cont)
        add("quit", self._quit)
        add("query-name", self._query_name)
        add("query-uuid", self._query_uuid)
        add("query-version", self._query_version)
        add("query-block", self._query_block)
        add("x-qmon-drive-add", self._drive_add)
        add("x-qmon-drive-del", self._drive_del)
        add("nbd-server-start", self._nbd_server_start)
        add("nbd-server-add", self._nbd_server_add)
        add("nbd-server-remove", self._nbd_server_remove)
        add("nbd-server-stop", self._nbd_server_stop)
        add("migrate", self._migrate)
        add("query-migrate", self._query_migrate)
        add("migrate_cancel", self._migrate_cancel)
        add("migrate-incoming", self._migrate_incoming)
        add("migrate-set-parameters", self._set_parameters)
        add("query-migrate-parameters", self._query_parameters)
        add("query-migrate-capabilities", self._query_capabilities)

    def _note(self, command: str, /, **arguments: Any) -> None:
        self.calls.append((command, {key: value for key, value in arguments.items() if value is not None}))

    async def _query_status(self) -> dict[str, Any]:
        return {"running": self.running, "status": "running" if self.running else "paused"}

    async def _stop(self) -> None:
        self.running = False

    async def _cont(self) -> None:
        self.running = True

    async def _quit(self) -> None:
        self._note("quit")

    async def _query_name(self) -> dict[str, str]:
        return {"name": "web1"}

    async def _query_uuid(self) -> dict[str, str]:
        return {"UUID": "00000000-0000-0000-0000-000000000000"}

    async def _query_version(self) -> dict[str, Any]:
        return {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"}

    async def _query_block(self) -> list[dict[str, Any]]:
        return self.blocks

    async def _drive_add(
        self,
        file: str,
        id: str | None = None,
        format: str | None = None,
        if_: str | None = None,
        readonly: bool | None = None,
    ) -> None:
        if id == "d0":
            raise CommandError("Duplicate ID 'd0' for drive")
        self._note("x-qmon-drive-add", file=file, id=id, format=format, readonly=readonly)

    async def _drive_del(self, id: str) -> None:
        if id not in [block["device"] for block in self.blocks]:
            raise CommandError(f"Device '{id}' not found")
        self._note("x-qmon-drive-del", id=id)

    async def _nbd_server_start(self, addr: dict[str, Any]) -> None:
        self._note("nbd-server-start", addr=addr)

    async def _nbd_server_add(self, device: str, name: str | None = None, writable: bool = False) -> None:
        if device == "bad":
            raise CommandError("Cannot find device='bad' nor node-name='bad'")
        self._note("nbd-server-add", device=device, name=name, writable=writable)

    async def _nbd_server_remove(self, name: str, mode: str = "safe") -> None:
        self._note("nbd-server-remove", name=name, mode=mode)

    async def _nbd_server_stop(self) -> None:
        self._note("nbd-server-stop")

    async def _migrate(
        self, uri: str, blk: bool | None = None, inc: bool | None = None, resume: bool | None = None
    ) -> None:
        if ":" not in uri:
            raise CommandError("Parameter 'uri' expects a valid migration protocol")
        self._note("migrate", uri=uri, blk=blk, inc=inc, resume=resume)

    async def _query_migrate(self) -> dict[str, Any]:
        return self.migration.pop(0) if len(self.migration) > 1 else self.migration[0]

    async def _migrate_cancel(self) -> None:
        self._note("migrate_cancel")

    async def _migrate_incoming(self, uri: str) -> None:
        self._note("migrate-incoming", uri=uri)

    async def _set_parameters(
        self,
        max_bandwidth: int | None = None,
        downtime_limit: int | None = None,
    ) -> None:
        named = {"max-bandwidth": max_bandwidth, "downtime-limit": downtime_limit}
        self._note("migrate-set-parameters", **named)

    async def _query_capabilities(self) -> list[dict[str, Any]]:
        return [{"capability": name, "state": False} for name in ("xbzrle", "events")]

    async def _query_parameters(self) -> dict[str, Any]:
        return {"max-bandwidth": 134217728, "downtime-limit": 300, "tls-creds": ""}


class FakeProgress:
    def __init__(self) -> None:
        self.updates: list[tuple[int, int]] = []
        self.updated = asyncio.Event()
        self.closed = 0

    def update(self, done: int, total: int, note: str | None = None) -> None:
        self.updates.append((done, total))
        self.updated.set()

    def close(self) -> None:
        self.closed += 1


class FakePerson:
    """Keeps what was printed; ``comments`` and ``interactive`` are a terminal's unless told otherwise."""

    def __init__(self, interactive: bool = True, comments: bool = True) -> None:
        self.interactive = interactive
        self.comments = comments
        self.history: list[str] = []
        self.printed: list[str] = []
        self.shown = FakeProgress()

    def print(self, text: str) -> None:
        self.printed.append(text)

    async def ask(self, question: str) -> bool:
        return True

    def progress(self, title: str) -> Progress:
        return self.shown

    def said(self) -> str:
        """All that was printed since last asked."""
        text = "\n".join(self.printed)
        self.printed.clear()
        return text


def one_command(args_type: str, name: str = "cmd") -> Tables:
    """Tables of a single command that nobody handles."""
    text = f'{{ .name = "{name}", .args_type = "{args_type}", .cmd = hmp_nothing, }},'
    return Tables.parse(text, {})


class Deciding(FakePerson):
    """Answers what is asked, and notes the question."""

    def __init__(self, answer: bool, interactive: bool = True) -> None:
        super().__init__(interactive)
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer


class Hinted(FakePerson):
    """Has room for hints, as a terminal has."""

    def __init__(self) -> None:
        super().__init__()
        self.hints: list[str] = []

    def hint(self, text: str) -> None:
        self.hints.append(text)
