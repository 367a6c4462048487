"""``secret``: a password or a key that other objects name by its id (QEMU: crypto/secret_common.c)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from qmon.errors import CommandError, reason
from qmon.host.small_file import open_small, read_small
from qmon.machine.qom import Tree
from qmon.machine.user_object import UserObject

_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\n]")


class Secret(UserObject):
    """From ``data`` or ``file``; with ``keyid`` it is encrypted by another secret, AES-256 in CBC mode."""

    defaults: ClassVar[Mapping[str, Any]] = {
        "format": "raw",
        **dict.fromkeys(("data", "file", "keyid", "iv")),
    }

    def __init__(self, type_name: str, tree: Tree) -> None:
        super().__init__(type_name, tree)
        self.raw = b""
        """The secret itself, once it is complete."""
        self._key: bytes | None = None

    def show(self, name: str) -> Any:
        return self.completed if name == "loaded" else (super().show(name) or "")

    def check(self) -> None:
        given = [name for name in ("file", "data") if self.values[name] is not None]
        if len(given) == 2:
            raise CommandError("'file' and 'data' are mutually exclusive")
        if not given:
            raise CommandError("Either 'file' or 'data' must be provided")
        key_id = self.values["keyid"]
        self._key = None if key_id is None else find_secret(self.tree, key_id)

    def complete(self) -> None:
        data = self._read()
        if self._key is not None:
            data = self._decrypt(data, self._key)
        elif self.values["format"] == "base64":
            data = decode_base64(data)
        self.raw = data

    def _read(self) -> bytes:
        file = self.values["file"]
        if file is None:
            return str(self.values["data"]).encode(errors="surrogateescape")
        what = "Failed to open file"
        try:
            descriptor = open_small(file)
            what = "Error reading file"
            return read_small(descriptor)
        except (OSError, ValueError) as error:
            raise CommandError(f"Unable to read {file}: {what} “{file}”: {reason(error)}") from error

    def _decrypt(self, data: bytes, key: bytes) -> bytes:
        from qmon.notation.aes import (  # makes tables that few processes need
            BLOCK_BYTES,
            KEY_BYTES,
            decrypt_cbc,
        )

        if len(key) != KEY_BYTES:
            raise CommandError(f"Key should be {KEY_BYTES} bytes in length")
        iv_text = self.values["iv"]
        if iv_text is None:
            raise CommandError("IV is required to decrypt secret")
        iv = decode_base64(iv_text.encode())
        if len(iv) != BLOCK_BYTES:
            raise CommandError(f"IV should be {BLOCK_BYTES} bytes in length not {len(iv)}")
        if self.values["format"] == "base64":
            data = decode_base64(data)
        if len(data) % BLOCK_BYTES:
            raise CommandError(f"Length {len(data)} must be a multiple of block size {BLOCK_BYTES}")
        plain = decrypt_cbc(key, iv, data)
        padding = plain[-1] if plain else 0
        if padding > len(plain) or padding > BLOCK_BYTES:
            desc = f"Incorrect number of padding bytes ({padding}) found on decrypted data"
            raise CommandError(desc)
        return plain[: len(plain) - padding]


def find_secret(tree: Tree, id: str) -> bytes:
    """What a secret holds. Raises CommandError in QEMU's words."""
    secret = tree.objects.children.get(id)
    if secret is None:
        raise CommandError(f"No secret with id '{id}'")
    if not isinstance(secret, Secret):
        raise CommandError(f"Object with id '{id}' is not a secret")
    if not secret.completed:
        raise CommandError(f"Secret with id '{id}' has no data")
    return secret.raw


def decode_base64(data: bytes) -> bytes:
    """Decode; what is left over of a group of four is dropped. Raises CommandError in QEMU's words."""
    text = data.decode("latin-1")
    if _NOT_BASE64.search(text):
        raise CommandError("Base64 data contains invalid characters")
    digits = re.sub(r"[=\n]", "", text)
    whole = len(digits) - (len(digits) % 4 == 1)
    return base64.b64decode(digits[:whole] + "=" * (-whole % 4))
