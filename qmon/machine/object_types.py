"""The class of each type of object, and the small classes."""

from __future__ import annotations

from collections.abc import Mapping

from qmon.errors import CommandError
from qmon.machine.authorization import Authorization, AuthorizationFile, AuthorizationList
from qmon.machine.credentials import Credentials, X509Credentials
from qmon.machine.psk_credentials import PskCredentials
from qmon.machine.secret import Secret
from qmon.machine.throttle_group import ThrottleGroup
from qmon.machine.user_object import UserObject

INT64_MAX = (1 << 63) - 1


class IoThread(UserObject):
    """``iothread``: a name only, but its numbers are checked."""

    def check(self, objects: Mapping[str, UserObject]) -> None:
        for name, value in self.options.items():
            if value < 0:
                raise CommandError(f"{name} value must be in range [0, {INT64_MAX}]")


CLASSES: dict[str, type[UserObject]] = {
    "authz-list": AuthorizationList,
    "authz-list-file": AuthorizationFile,
    "authz-simple": Authorization,
    "iothread": IoThread,
    "secret": Secret,
    "throttle-group": ThrottleGroup,
    "tls-creds-anon": Credentials,
    "tls-creds-psk": PskCredentials,
    "tls-creds-x509": X509Credentials,
}
"""The class of each type of the schema (QAPI: ObjectType)."""
