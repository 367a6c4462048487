"""TLS credentials: reads the files in their folder and makes TLS of them (QEMU: crypto/tlscreds*.c)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from qmon.errors import CommandError, reason
from qmon.host.own_certificate import OwnCertificate, check_authority, check_own
from qmon.host.tls import Tls
from qmon.host.tls_priority import set_versions
from qmon.machine.secret import find_secret
from qmon.machine.user_object import UserObject

CA_CERTIFICATE = "ca-cert.pem"
REVOCATION_LIST = "ca-crl.pem"


class Credentials(UserObject):
    """``tls-creds-anon``, and the base of the other types."""

    @property
    def is_server(self) -> bool:
        return bool(self.options.get("endpoint") == "server")

    def tls(self) -> Tls:
        """Return the TLS that these credentials allow. Raises CommandError if there is none."""
        raise CommandError(
            f"qom-type '{self.type}' proves neither end, so it is not supported: use tls-creds-x509"
        )

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


class X509Credentials(Credentials):
    """``tls-creds-x509``: the certificate of an authority, and this side's certificate and key."""

    _password: bytes | CommandError = b""
    _context: ssl.SSLContext

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
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self.is_server else ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(authority)
        except OSError as error:
            raise CommandError(f"Unable to import CA certificate list {authority}") from error
        is_checked = self.options.get("sanity-check", True)
        if is_checked:
            check_authority(context, authority)
        if certificate is not None and key is not None:
            self._load_own(context, certificate, key)
            if is_checked:
                side = "server" if self.is_server else "client"
                check_own(OwnCertificate(side, authority, certificate, key, self._key_password))
        revoked = self.file(REVOCATION_LIST)
        if revoked is not None:
            try:
                context.load_verify_locations(revoked)
            except OSError as error:
                said = "it is no list in PEM" if isinstance(error, ssl.SSLError) else reason(error)
                raise CommandError(f"Unable to import CRL {revoked}: {said}") from error
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET  # nobody resumes a session
        if self.is_server:
            context.num_tickets = 0
        # As in QEMU, an authority in the file is trusted even if another one has signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._context = context

    def _key_password(self) -> bytes:
        if isinstance(self._password, CommandError):
            raise self._password
        return self._password

    def _load_own(self, context: ssl.SSLContext, certificate: str, key: str) -> None:
        password = self._key_password()
        try:
            context.load_cert_chain(certificate, key, lambda: password)
        except (OSError, ValueError) as error:
            said = "the key does not fit the certificate, or the password is wrong"
            if isinstance(error, FileNotFoundError | PermissionError):
                said = reason(error)
            raise CommandError(f"Unable to import certificate {certificate} and key {key}: {said}") from error

    def tls(self) -> Tls:
        context = self._context
        verifies = self.options.get("verify-peer", True)
        set_versions(context, self.options.get("priority"))
        context.check_hostname = verifies and not self.is_server
        context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
        return Tls(context, is_server=self.is_server, verifies_name=context.check_hostname)


def find_credentials(
    objects: Mapping[str, UserObject],
    id: str,
    *,
    is_server: bool,
    other_end: str = "Expecting TLS credentials with a {side} endpoint",
) -> Tls:
    """Return the TLS of a credentials object, for this end. Raises CommandError with QEMU's messages.

    ``other_end`` is the message for credentials of the other end.
    """
    found = objects.get(id)
    if found is None or not found.completed:
        raise CommandError(f"No TLS credentials with id '{id}'")
    if not isinstance(found, Credentials):
        raise CommandError(f"Object with id '{id}' is not TLS credentials")
    if found.is_server != is_server:
        raise CommandError(other_end.format(side="server" if is_server else "client"))
    return found.tls()
