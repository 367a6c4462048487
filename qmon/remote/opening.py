"""Makes the connection for an address of ``-connect``."""

from __future__ import annotations

from qmon.remote.address import Domain, Kind, RemoteAddress
from qmon.remote.connection import Connection
from qmon.remote.greeting import Patience
from qmon.remote.link import Hear, Link
from qmon.remote.remote import Remote


def make_remote(address: RemoteAddress, patience: Patience) -> Remote:
    """Return a connection that is not open yet."""

    async def open_link(hear: Hear) -> Link:
        match address.kind:
            case Kind.HMP:
                from qmon.remote.hmp_link import open_hmp

                return await open_hmp(address, hear, patience)
            case Kind.LIBVIRT:
                from qmon.remote.libvirt_link import open_libvirt

                assert isinstance(address.place, Domain)
                return await open_libvirt(address.place, hear)
        from qmon.remote.qmp_link import open_qmp

        return await open_qmp(address, hear, patience)

    return Connection(address, open_link)
