"""The class of each type of object, and the small classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, UsageError, reason
from qmon.host.small_file import read_file
from qmon.machine.credentials import Credentials, PskCredentials, X509Credentials
from qmon.machine.secret import Secret
from qmon.machine.throttle_group import ThrottleGroup
from qmon.machine.user_object import UserObject
from qmon.notation.json_text import parse_json
from qmon.notation.object_options import read_object
from qmon.notation.visit import Form

INT64_MAX = (1 << 63) - 1


class AuthorizationFile(UserObject):
    """``authz-list-file``: a file with the options of an ``authz-list`` as JSON."""

    def complete(self) -> None:
        path = self.options["filename"]
        try:
            text = read_file(path).decode()
            named = {"qom-type": "authz-list", "id": "file", **_as_object(parse_json(text))}
            self.rules: dict[str, Any] = read_object(named, Form.JSON)
        except (OSError, ValueError, UsageError) as error:
            raise CommandError(f"Unable to read '{path}': {reason(error)}") from error


class IoThread(UserObject):
    """``iothread``: a name only, but its numbers are checked."""

    def check(self, objects: Mapping[str, UserObject]) -> None:
        for name, value in self.options.items():
            if value < 0:
                raise CommandError(f"{name} value must be in range [0, {INT64_MAX}]")


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("File must contain a JSON object")
    return value


CLASSES: dict[str, type[UserObject]] = {
    "authz-list": UserObject,
    "authz-list-file": AuthorizationFile,
    "authz-simple": UserObject,
    "iothread": IoThread,
    "secret": Secret,
    "throttle-group": ThrottleGroup,
    "tls-creds-anon": Credentials,
    "tls-creds-psk": PskCredentials,
    "tls-creds-x509": X509Credentials,
}
"""The class of each type of the schema (QAPI: ObjectType)."""
