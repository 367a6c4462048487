"""``secret``: a password or key that other objects refer to by its id (QEMU: crypto/secret_common.c)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from qmon.errors import CommandError, reason
from qmon.host.small_file import open_small, read_small
from qmon.machine.user_object import UserObject

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\n]")


class Secret(UserObject):
    """A secret from ``data`` or ``file``, plain or in base64."""

    raw = b""
    """The secret, once the object is complete."""

    def check(self, objects: Mapping[str, UserObject]) -> None:
        if "file" in self.options and "data" in self.options:
            raise CommandError("'file' and 'data' are mutually exclusive")
        if "file" not in self.options and "data" not in self.options:
            raise CommandError("Either 'file' or 'data' must be provided")

    def complete(self) -> None:
        data = self._read()
        self.raw = decode_base64(data) if self.options.get("format") == "base64" else data

    def _read(self) -> bytes:
        file = self.options.get("file")
        if file is None:
            return str(self.options["data"]).encode(errors="surrogateescape")
        what = "Failed to open file"
        try:
            descriptor = open_small(file)
            what = "Error reading file"
            return read_small(descriptor)
        except (OSError, ValueError) as error:
            raise CommandError(f"Unable to read {file}: {what} “{file}”: {reason(error)}") from error


def find_secret(objects: Mapping[str, UserObject], id: str) -> bytes:
    """Return the bytes of a secret. Raises CommandError with QEMU's message."""
    secret = objects.get(id)
    if secret is None:
        raise CommandError(f"No secret with id '{id}'")
    if not isinstance(secret, Secret):
        raise CommandError(f"Object with id '{id}' is not a secret")
    if not secret.completed:
        raise CommandError(f"Secret with id '{id}' has no data")
    return secret.raw


def decode_base64(data: bytes) -> bytes:
    """Decode base64; an incomplete last group of four is dropped. Raises CommandError with QEMU's message."""
    text = data.decode("latin-1")
    if _NOT_BASE64.search(text):
        raise CommandError("Base64 data contains invalid characters")
    digits = re.sub(r"[=\n]", "", text)
    whole = len(digits) - (len(digits) % 4 == 1)
    return base64.b64decode(digits[:whole] + "=" * (-whole % 4))
