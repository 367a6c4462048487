"""What a migration keeps in each QEMU for a later console: an object with a text, removed at the end.

The object is of type ``authz-simple``, which does nothing unless something refers to it. Its text can be
read and changed in every state of the machine, and goes with the process.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from qmon.errors import CommandError, reason
from qmon.host.boot import boot_id
from qmon.qmp.target import Target
from qmon.remote.migration.recovery.objects import object_names
from qmon.remote.migration.wire.message import Members, MessageError

NAME = "qmon-migration"
_PATH = f"/objects/{NAME}"
_TEXT = "identity"
_SETTINGS_MAX = 1000


@dataclass(slots=True)
class Record:
    """A migration's record in one QEMU."""

    id: str
    side: str
    """``source`` or ``destination``."""
    peer: str
    """The other side's address, as it was given; at the destination the address on which it listens."""
    phase: str
    """The value of the last Phase that was recorded; ``running`` is a destination that RUN has reached."""
    runs: bool = True
    """Whether the guest is to run at the destination: it may have been stopped before it was moved."""
    is_held: bool = False
    """Whether the destination's QEMU would have run the guest by itself before."""
    capabilities: dict[str, bool] = field(default_factory=dict)
    """Capabilities as they were before."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Migration parameters as they were before."""
    server: bool = False
    """Whether the QEMU's NBD server is ours."""
    console: dict[str, Any] = field(default_factory=dict)
    """The console that keeps it: ``pid``, ``start`` (clock ticks after the boot), ``boot``, ``host``."""


def this_console() -> dict[str, Any]:
    """Return what tells this process from all others."""
    pid = os.getpid()
    return {"pid": pid, "start": _start_of(pid) or 0, "boot": boot_id(), "host": socket.gethostname()}


def lives(console: Mapping[str, Any]) -> bool:
    """Whether a record's console still runs on this host; False also if it can't be known."""
    pid = console.get("pid")
    if not isinstance(pid, int) or console.get("boot") != boot_id() or pid == os.getpid():
        return False
    start = _start_of(pid)
    return start is not None and start == console.get("start")


def _start_of(pid: int) -> int | None:
    """Return when a process started (proc(5), field 22 of stat), None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


async def read_record(target: Target) -> Record | None:
    """Return the record in a QEMU, None if it has none. Raises CommandError."""
    if NAME not in await object_names(target):
        return None
    text = await target.execute("qom-get", {"path": _PATH, "property": _TEXT})
    try:
        return _read(json.loads(text))
    except (TypeError, ValueError, RecursionError, MessageError) as error:
        raise CommandError(
            f"the object '{NAME}' holds no record of a migration ({reason(error)}): if no qmon moves this"
            f" machine, remove it with 'object_del {NAME}'"
        ) from error


def _read(value: object) -> Record:
    """Raises MessageError: anybody may have made the object."""
    members = Members(value, "the record")
    console = members.members("console", "the record's console")
    side = members.text("side")
    if side not in ("source", "destination"):
        raise MessageError("its side is neither source nor destination")
    return Record(
        id=str(UUID(members.text("id"))),
        side=side,
        peer=members.text("peer"),
        phase=members.text("phase"),
        runs=members.flag("runs"),
        is_held=members.flag("is_held"),
        capabilities=members.flags("capabilities", _SETTINGS_MAX),
        parameters=dict(members.scalars("parameters", _SETTINGS_MAX)),
        server=members.flag("server"),
        console={
            "pid": console.number("pid"),
            "start": console.number("start"),
            "boot": console.text("boot"),
            "host": console.text("host"),
        },
    )


async def write_record(target: Target, record: Record, *, is_there: bool = False) -> None:
    """Keep a record, in the place of an earlier one. Raises CommandError.

    ``is_there`` says that there is an earlier one for certain.
    """
    text = json.dumps(asdict(record))
    if is_there or NAME in await object_names(target):
        await target.execute("qom-set", {"path": _PATH, "property": _TEXT, "value": text})
    else:
        await target.execute("object-add", {"qom-type": "authz-simple", "id": NAME, _TEXT: text})


async def remove_record(target: Target) -> None:
    """Remove the record, if there is one. Raises CommandError."""
    if NAME in await object_names(target):
        await target.execute("object-del", {"id": NAME})
