"""TLS of migrations by the parameters tls-creds, tls-hostname and tls-authz (QEMU: migration/tls.c)."""

from __future__ import annotations

from collections.abc import Mapping

from qmon.errors import CommandError
from qmon.machine.authorization import server_authorization
from qmon.machine.credentials import find_credentials
from qmon.machine.user_object import UserObject
from qmon.migration.parameters import Parameters
from qmon.migration.wire.security import Demand, Security
from qmon.migration.wire.transport import ExecPlace, FilePlace, Place
from qmon.notation.address import InetAddress

BEGUN_OVER_TLS = "the migration has begun over TLS: set the parameter tls-creds again"


class MigrationSecurity:
    """What the parameters demand at the moment. For any thread."""

    def __init__(self, parameters: Parameters, objects: Mapping[str, UserObject]) -> None:
        self._parameters = parameters
        self._objects = objects

    @property
    def has_tls(self) -> bool:
        """Whether migrations go over TLS."""
        return bool(self._parameters["tls-creds"])

    def check_place(self, place: Place) -> None:
        """Raises CommandError if there can be no TLS at a place, and the parameters demand it."""
        if self.has_tls and isinstance(place, ExecPlace | FilePlace):
            name = "exec" if isinstance(place, ExecPlace) else "file"
            raise CommandError(f"TLS is not possible with {name}: set the parameter tls-creds to ''")

    def check_kept(self, place: Place) -> None:
        """Raises CommandError if a migration that has begun over TLS would go over the network without it.

        A command or a descriptor may be as safe by itself.
        """
        if isinstance(place, InetAddress) and not self.has_tls:
            raise CommandError(BEGUN_OVER_TLS)

    def of_source(self, address: Place) -> Security | None:
        """Return the TLS of a migration to a place, None if it has none. Raises QmonError."""
        if not self.has_tls:
            return None
        self.check_place(address)
        tls = find_credentials(self._objects, self._parameters["tls-creds"], is_server=False)
        host = address.host if isinstance(address, InetAddress) else None
        return Security(tls, tls.server_name(self._parameters["tls-hostname"] or host))

    def of_destination(self) -> Security | None:
        """Return the TLS of an incoming migration, None if it has none. Raises CommandError."""
        if not self.has_tls:
            return None
        tls = find_credentials(self._objects, self._parameters["tls-creds"], is_server=True)
        authorize = server_authorization(self._objects, tls, self._parameters["tls-authz"] or None)
        return Security(tls, authorize=authorize)

    def demand_of_source(self, address: Place, *, has_tls: bool) -> Demand:
        """Return what a migration's connections demand; with ``has_tls`` none is without TLS."""

        def demand() -> Security | None:
            security = self.of_source(address)
            if has_tls and security is None:
                raise CommandError(BEGUN_OVER_TLS)
            return security

        return demand
