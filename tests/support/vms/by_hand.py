"""The plain sequence that moves a guest and its disks between two QEMUs, over QMP and without a console.

It is what a careful person would do by hand. It looks at nothing beforehand, and does not clean up after a
failure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.qmp_client import QmpClient

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Figures:
    """What it took, in seconds."""

    copied: float
    """Until all disks were ready."""
    stood_still: float
    """From the source's stop, as it was heard of, to the destination's start."""
    total: float


class Failed(Exception):  # noqa: N818 - it is an outcome
    """A mirror or the migration has failed; the message says why."""


class _Side:
    """One QEMU: commands and events."""

    def __init__(self, qmp: QmpClient) -> None:
        self._qmp = qmp

    def run(self, command: str, **arguments: Any) -> Any:
        return self._qmp.run(command, **arguments)

    def wait(self, name: str, **wanted: Sequence[str]) -> dict[str, Any]:
        """Wait for an event since the beginning whose members are among those wanted; return its data."""
        seen = 0
        while True:
            for event in self._qmp.events[seen:]:
                data: dict[str, Any] = event.get("data", {})
                if event["event"] == name and all(data.get(key) in values for key, values in wanted.items()):
                    return data
            seen = len(self._qmp.events)
            self._qmp.events.append(self._qmp.read())

    def enable(self, *capabilities: str, state: bool = True) -> None:
        listed = [{"capability": capability, "state": state} for capability in capabilities]
        self.run("migrate-set-capabilities", capabilities=listed)

    def drives(self) -> list[str]:
        """The names of the writable disks that a guest has: by drive, else by node."""
        return [drive["device"] or drive["inserted"]["node-name"] for drive in self._writable()]

    def nodes(self) -> list[str]:
        return [drive["inserted"]["node-name"] for drive in self._writable()]

    def _writable(self) -> list[dict[str, Any]]:
        return [
            drive
            for drive in self.run("query-block")
            if "qdev" in drive and "inserted" in drive and not drive["inserted"]["ro"]
        ]


def migrate_by_hand(
    source: Path, destination: Path, *, inc: bool = False, copy_mode: str = "background"
) -> Figures:
    """Move the guest by the QMP sockets of the two QEMUs. Raises Failed, CommandError."""
    with QmpClient(source) as here, QmpClient(destination) as there:
        return _migrate(_Side(here), _Side(there), inc=inc, copy_mode=copy_mode)


def _migrate(source: _Side, destination: _Side, *, inc: bool, copy_mode: str) -> Figures:
    begun = time.monotonic()
    source.enable("events", "return-path", "pause-before-switchover")
    destination.enable("events", "return-path")
    destination.run("stop")
    jobs = _mirror(source, destination, sync="top" if inc else "full", copy_mode=copy_mode)
    for job in jobs:
        _wait_ready(source, job)
    copied = time.monotonic()
    stopped = _move_memory(source, destination, jobs)
    source.enable("events", "return-path", "pause-before-switchover", state=False)
    destination.enable("events", "return-path", state=False)
    return Figures(copied - begun, time.monotonic() - stopped, time.monotonic() - begun)


def _mirror(source: _Side, destination: _Side, *, sync: str, copy_mode: str) -> list[str]:
    """Begin to copy each disk; return the jobs."""
    port = str(free_port())
    destination.run("nbd-server-start", addr={"type": "inet", "data": {"host": HOST, "port": port}})
    jobs = []
    for number, (drive, node) in enumerate(zip(source.drives(), destination.nodes(), strict=True)):
        job, target, export = f"hand-job{number}", f"hand-target{number}", f"hand-export{number}"
        destination.run("block-export-add", type="nbd", id=export, name=export, node_name=node, writable=True)
        server = {"type": "inet", "host": HOST, "port": port}
        source.run(
            "blockdev-add", driver="nbd", node_name=target, export=export, server=server, discard="unmap"
        )
        source.run(
            "blockdev-mirror",
            job_id=job,
            device=drive,
            target=target,
            sync=sync,
            copy_mode=copy_mode,
            on_source_error="report",
            on_target_error="report",
            auto_dismiss=False,
        )
        jobs.append(job)
    return jobs


def _move_memory(source: _Side, destination: _Side, jobs: Sequence[str]) -> float:
    """Move the memory, end the mirrors while the guest stands still, let it run; return when it stopped."""
    port = free_port()
    destination.run("migrate-incoming", uri=f"tcp:{HOST}:{port}")
    source.run("migrate", uri=f"tcp:{HOST}:{port}")
    _reach(source, "pre-switchover")
    stopped = time.monotonic()
    for job in jobs:
        source.run("block-job-cancel", device=job, force=False)
    for job in jobs:
        _end_mirror(source, job)
    destination.run("nbd-server-stop")
    source.run("migrate-continue", state="pre-switchover")
    _reach(source, "completed")
    _reach(destination, "completed")
    destination.run("cont")
    destination.wait("RESUME")
    return stopped


def _wait_ready(source: _Side, job: str) -> None:
    source.wait("JOB_STATUS_CHANGE", id=[job], status=["ready", "concluded"])
    _check(source, job)


def _check(source: _Side, job: str) -> None:
    (found,) = (each for each in source.run("query-jobs") if each["id"] == job)
    if "error" in found:
        raise Failed(f"{job}: {found['error']}")


def _end_mirror(source: _Side, job: str) -> None:
    source.wait("JOB_STATUS_CHANGE", id=[job], status=["concluded"])
    _check(source, job)
    source.run("job-dismiss", id=job)
    source.run("blockdev-del", node_name=job.replace("job", "target"))


def _reach(side: _Side, status: str) -> None:
    data = side.wait("MIGRATION", status=[status, "failed", "cancelled", "completed"])
    if data["status"] != status:
        raise Failed(f"migration {data['status']}: {side.run('query-migrate').get('error-desc')}")
