"""Makes the connection for an address of ``-connect``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qmon.notation.address import UnixAddress
from qmon.remote.address import Domain, Kind, Qmon, RemoteAddress
from qmon.remote.connection import Connection
from qmon.remote.greeting import Patience
from qmon.remote.link import Hear, Link
from qmon.remote.remote import Remote

Find = Callable[[str], str]


def make_remote(address: RemoteAddress, patience: Patience, find: Find = str) -> Remote:
    """Return a connection that is not open yet.

    ``find`` returns the socket's path of a running qmon by its name; it may block, and raises QmonError. It
    is called for each attempt to connect: the qmon may have been started again.
    """

    async def open_link(hear: Hear) -> Link:
        match address.kind:
            case Kind.HMP:
                from qmon.remote.hmp_link import open_hmp

                return await open_hmp(address, hear, patience)
            case Kind.LIBVIRT:
                from qmon.remote.libvirt_link import open_libvirt

                assert isinstance(address.place, Domain)
                return await open_libvirt(address.place, hear, patience.tell)
        from qmon.remote.qmp_link import open_qmp

        if isinstance(address.place, Qmon):
            path = await asyncio.to_thread(find, address.place.name)
            return await open_qmp(RemoteAddress(Kind.QMP, UnixAddress(path)), hear, patience)
        return await open_qmp(address, hear, patience)

    return Connection(address, open_link)
