"""Makes the connection for an address of ``-connect``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qmon.notation.address import UnixAddress
from qmon.remote.address import Domain, Kind, Qmon, RemoteAddress
from qmon.remote.connection import Connection
from qmon.remote.greeting import Patience
from qmon.remote.link import Hear, Link
from qmon.remote.secured import Secure

Find = Callable[[str], str]


def make_remote(
    address: RemoteAddress,
    patience: Patience,
    find: Find = str,
    *,
    is_brief: bool = False,
    secure: Secure | None = None,
) -> Connection:
    """Return a connection that is not open yet.

    ``find`` returns the socket's path of a running qmon by its name; it may block, and raises QmonError. It
    is called for each attempt to connect: the qmon may have been started again. With ``is_brief`` each
    command has a connection of its own (``qmon.remote.brief``). ``secure`` begins TLS on each.
    """

    async def open_link(hear: Hear, known: frozenset[str] = frozenset()) -> Link:
        current = Patience() if known else patience
        match address.kind:
            case Kind.HMP:
                from qmon.remote.hmp_link import open_hmp

                return await open_hmp(address, hear, current, secure)
            case Kind.LIBVIRT:
                from qmon.remote.libvirt_link import open_libvirt

                assert isinstance(address.place, Domain)
                return await open_libvirt(address.place, hear, current.tell)
        from qmon.remote.qmp_link import open_qmp

        if isinstance(address.place, Qmon):
            path = await asyncio.to_thread(find, address.place.name)
            return await open_qmp(RemoteAddress(Kind.QMP, UnixAddress(path)), hear, current, known)
        return await open_qmp(address, hear, current, known, secure)

    async def open_brief_link(hear: Hear) -> Link:
        from qmon.remote.brief import open_brief

        return await open_brief(open_link, hear)

    return Connection(address, open_brief_link if is_brief else open_link)
