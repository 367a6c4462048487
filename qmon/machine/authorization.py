"""Authorization objects: which names of certificates' owners may use a port (QEMU: authz/)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, QmonError, UsageError, reason
from qmon.host.small_file import read_file
from qmon.host.tls import Authorize, Tls
from qmon.machine.user_object import UserObject
from qmon.notation.json_text import parse_json
from qmon.notation.object_options import read_object
from qmon.notation.visit import Form

log = logging.getLogger("qmon.machine")


class Authorization(UserObject):
    """``authz-simple``: one name. The base of the others."""

    def is_allowed(self, identity: str) -> bool:
        """Whether a name is allowed. Any thread may ask; may read a file."""
        return bool(identity == self.options["identity"])


class AuthorizationList(Authorization):
    """``authz-list``: the first rule that matches decides, else the policy."""

    def is_allowed(self, identity: str) -> bool:
        return decide(self.options, identity)


class AuthorizationFile(Authorization):
    """``authz-list-file``: an ``authz-list``'s options as JSON in a file, read again when it changes."""

    _seen: tuple[int, ...] = ()
    _rules: Mapping[str, Any] | None = None
    """None while the file can't be read: then nobody is allowed."""

    def complete(self) -> None:
        path = self.options["filename"]
        try:
            self._read(path)
        except (OSError, ValueError, UsageError) as error:
            raise CommandError(f"Unable to read '{path}': {reason(error)}") from error

    def _read(self, path: str) -> None:
        text = read_file(path).decode()
        named = {"qom-type": "authz-list", "id": "file", **_as_object(parse_json(text))}
        self._rules = read_object(named, Form.JSON)

    def is_allowed(self, identity: str) -> bool:
        if self.options.get("refresh", True):
            self._refresh(self.options["filename"])
        rules = self._rules
        return rules is not None and decide(rules, identity)

    def _refresh(self, path: str) -> None:
        try:
            stat = os.stat(path)
            seen = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen or self._rules is None:
                self._read(path)
                self._seen = seen
        except (OSError, ValueError, QmonError) as error:
            self._rules = None
            log.error("%s: nobody is authorized until '%s' can be read: %s", self.type, path, reason(error))


def decide(rules: Mapping[str, Any], identity: str) -> bool:
    """Whether the options of an ``authz-list`` allow a name."""
    for rule in rules.get("rules", ()):
        is_glob = rule.get("format", "exact") == "glob"
        if _glob(rule["match"], identity) if is_glob else rule["match"] == identity:
            return bool(rule["policy"] == "allow")
    return bool(rules.get("policy", "deny") == "allow")


def _glob(pattern: str, text: str) -> bool:
    """Match ``*`` and ``?``, QEMU's only wildcards."""
    parts = (
        ".*" if char == "*" else "." if char == "?" else re.escape(char)
        for char in re.sub(r"\*+", "*", pattern)
    )
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def server_authorization(objects: Mapping[str, UserObject], tls: Tls, id: str | None) -> Authorize | None:
    """Return what decides by the object ``tls-authz`` names; it allows nobody while that is deleted.

    Raises CommandError if there is no such object, or if clients have no certificate that it could check.
    """
    if id is None:
        return None
    if not tls.verifies_peer:
        raise CommandError(
            f"tls-authz '{id}' needs certificates of the clients: use tls-creds-x509 with verify-peer=on"
        )
    _find(objects, id)

    def authorize(identity: str) -> bool:
        try:
            return _find(objects, id).is_allowed(identity)
        except CommandError as error:
            log.error("nobody is authorized: %s", error)
            return False

    return authorize


def _find(objects: Mapping[str, UserObject], id: str) -> Authorization:
    found = objects.get(id)
    if found is None or not found.completed:
        raise CommandError(f"No authorization object with id '{id}'")
    if not isinstance(found, Authorization):
        raise CommandError(f"Object with id '{id}' is not an authorization object: use one of authz-*")
    return found


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("File must contain a JSON object")
    return value
