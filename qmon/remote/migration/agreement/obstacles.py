"""Why a side can't take part in a migration at all: how the console reaches its QEMU, or who manages that."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from qmon.notation.address import InetAddress
from qmon.remote.address import Domain, RemoteAddress
from qmon.remote.migration.agreement.managers import libvirt, look_for_manager
from qmon.remote.migration.recovery.record import lives, read_record, this_console
from qmon.remote.remote import Remote


async def look_for_obstacles(remote: Remote) -> tuple[str, ...]:
    """Return a line for each. Raises CommandError."""
    found = [await asyncio.to_thread(_why_not_reached, remote.address)]
    if not isinstance(remote.address.place, Domain):
        found.append(await look_for_manager(remote))
        found.append(await _other_console(remote))
    return tuple(filter(None, found))


async def _other_console(remote: Remote) -> str:
    """Return why another console's migration is in the way, "" if there is none."""
    record = await read_record(remote)
    if record is None or record.console == this_console():
        return ""
    if lives(record.console):
        return f"another qmon (process {record.console.get('pid')}) is moving this guest: leave that to it"
    return "an earlier qmon has left a migration here: start qmon on this QEMU again, which takes it up"


def _why_not_reached(address: RemoteAddress) -> str:
    place = address.place
    if isinstance(place, Domain):
        return libvirt(place.name)
    if isinstance(place, InetAddress) and not _is_own(place.host):
        return f"the QEMU runs on another host, {place.host}: run qmon there, with -connect unix:PATH"
    return ""


def _is_own(host: str) -> bool:
    """Whether an address is one of this host's."""
    with suppress(OSError):
        for family, kind, _, _, place in socket.getaddrinfo(host or "localhost", 0, type=socket.SOCK_STREAM):
            with suppress(OSError), socket.socket(family, kind) as sock:
                sock.bind(place)
                return True
    return False
