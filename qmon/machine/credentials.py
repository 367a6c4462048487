"""TLS credentials: checks that the files in their folder are valid (QEMU: crypto/tlscreds*.c)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from qmon.errors import CommandError, reason
from qmon.host.small_file import read_file
from qmon.machine.secret import find_secret
from qmon.machine.user_object import UserObject

CA_CERTIFICATE = "ca-cert.pem"
PSK_FILE = "keys.psk"
DEFAULT_PSK_USER = "qemu"


class Credentials(UserObject):
    """``tls-creds-anon``, and the base of the other types."""

    @property
    def is_server(self) -> bool:
        return bool(self.options.get("endpoint") == "server")

    def file(self, name: str) -> str | None:
        """Return the path of a file in the folder, None if it does not exist. Raises CommandError."""
        if "dir" not in self.options:
            raise CommandError("Missing 'dir' property value")
        path = f"{self.options['dir']}/{name}"
        try:
            os.stat(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CommandError(f"Unable to access credentials {path}: {reason(error)}") from error
        return path

    def needed_file(self, name: str) -> str:
        """Return the path of a file in the folder. Raises CommandError if it does not exist."""
        path = self.file(name)
        if path is None:
            missing = f"{self.options['dir']}/{name}"
            raise CommandError(f"Unable to access credentials {missing}: No such file or directory")
        return path


class PskCredentials(Credentials):
    """``tls-creds-psk``: a file of lines ``USER:KEY``."""

    def complete(self) -> None:
        path = self.needed_file(PSK_FILE)
        user = self.options.get("username")
        if self.is_server:
            if user is not None:
                raise CommandError("username should not be set when endpoint=server")
            return
        user = user or DEFAULT_PSK_USER
        try:
            lines = read_file(path).splitlines()
        except OSError as error:
            raise CommandError(f"Cannot read PSK file {path}: {reason(error)}") from error
        if not any(line.startswith(f"{user}:".encode(errors="surrogateescape")) for line in lines):
            raise CommandError(f"Username {user} not found in PSK file {path}")


class X509Credentials(Credentials):
    """``tls-creds-x509``: the certificate of an authority, and this side's certificate and key."""

    _password: bytes | CommandError = b""

    def check(self, objects: Mapping[str, UserObject]) -> None:
        secret_id = self.options.get("passwordid")
        if secret_id is None:
            return
        try:
            self._password = find_secret(objects, secret_id)
        except CommandError as error:
            self._password = error  # raised only if there is a key

    def complete(self) -> None:
        side = "server" if self.is_server else "client"
        find = self.needed_file if self.is_server else self.file
        authority = self.needed_file(CA_CERTIFICATE)
        certificate, key = find(f"{side}-cert.pem"), find(f"{side}-key.pem")
        self._load(authority, certificate, key)

    def _load(self, authority: str, certificate: str | None, key: str | None) -> None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(authority)
        except OSError as error:
            raise CommandError(f"Unable to import CA certificate list {authority}") from error
        if certificate is None or key is None:
            return
        if isinstance(self._password, CommandError):
            raise self._password
        password = self._password
        try:
            context.load_cert_chain(certificate, key, lambda: password)
        except (OSError, ValueError) as error:
            said = "the key does not fit the certificate, or the password is wrong"
            if isinstance(error, FileNotFoundError | PermissionError):
                said = reason(error)
            raise CommandError(f"Unable to import certificate {certificate} and key {key}: {said}") from error
