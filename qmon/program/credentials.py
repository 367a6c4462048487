"""The TLS credentials of a console on another program: each is an ``-object`` of its own."""

from __future__ import annotations

from functools import cached_property

from qmon.errors import UsageError
from qmon.host.tls import Authorize, Tls
from qmon.machine.authorization import server_authorization
from qmon.machine.credentials import find_credentials
from qmon.machine.object_types import CLASSES
from qmon.machine.user_object import UserObject
from qmon.notation.address import InetAddress
from qmon.notation.object_options import read_object
from qmon.notation.visit import Form
from qmon.program.options import Options
from qmon.remote.address import RemoteAddress
from qmon.remote.secured import Secure, Secured


class OwnCredentials:
    """The objects of the command line (``qmon.remote.migration.security.Credentials``)."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @cached_property
    def _objects(self) -> dict[str, UserObject]:
        """Raises QmonError."""
        objects: dict[str, UserObject] = {}
        for given in self._options.objects:
            arguments = read_object(given, Form.JSON)
            kind, id = arguments.pop("qom-type"), arguments.pop("id")
            made = CLASSES[kind](kind, arguments)
            made.check(objects)
            made.complete()
            made.completed = True
            objects[id] = made
        return objects

    def has(self, id: str) -> bool:
        return any(given["id"] == id for given in self._options.objects)

    def tls(self, id: str, *, is_server: bool) -> Tls:
        return find_credentials(self._objects, id, is_server=is_server)

    def authorization(self, tls: Tls, id: str | None) -> Authorize | None:
        return server_authorization(self._objects, tls, id)


def make_secure(credentials: OwnCredentials, address: RemoteAddress) -> Secure:
    """Return the TLS of ``-connect HOST:PORT,tls-creds=ID``. Raises QmonError."""
    creds, place = address.tls_creds, address.place
    if creds is None or not isinstance(place, InetAddress):
        raise UsageError("-connect: tls-creds is for HOST:PORT")
    tls = credentials.tls(creds, is_server=False)
    hostname = tls.server_name(address.tls_hostname or place.host or "localhost")
    return lambda sock: Secured(sock, tls, hostname)
