"""``tls-creds-psk``: keys that both ends share, each under a user's name (QEMU: crypto/tlscredspsk.c)."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping

from qmon.errors import CommandError, reason
from qmon.host.small_file import read_file
from qmon.host.tls import Tls
from qmon.host.tls_priority import set_versions
from qmon.machine.credentials import Credentials

PSK_FILE = "keys.psk"
DEFAULT_USER = "qemu"

_CIPHERS = "kECDHEPSK:kDHEPSK:!eNULL:!SHA1"
"""For TLS 1.2: with a key of its own for each connection. TLS 1.3 has one in any case."""


class PskCredentials(Credentials):
    """A file of lines ``USER:KEY``, the key in hexadecimal digits."""

    _path = ""
    _keys: Mapping[str, bytes] = {}

    def complete(self) -> None:
        self._path = path = self.needed_file(PSK_FILE)
        user = self.options.get("username")
        if self.is_server and user is not None:
            raise CommandError("username should not be set when endpoint=server")
        try:
            lines = read_file(path).decode(errors="surrogateescape").splitlines()
        except OSError as error:
            raise CommandError(f"Cannot read PSK file {path}: {reason(error)}") from error
        pairs = (line.partition(":") for line in lines)
        texts = {name: key for name, colon, key in pairs if colon}
        if not self.is_server:
            user = user or DEFAULT_USER
            if user not in texts:
                raise CommandError(f"Username {user} not found in PSK file {path}")
            texts = {user: texts[user]}
        self._keys = {name: key for name, text in texts.items() if (key := _key(text))}

    def tls(self) -> Tls:
        if sys.version_info < (3, 13) or not ssl.HAS_PSK:
            raise CommandError(
                f"qom-type '{self.type}' needs Python 3.13 or later, with pre-shared keys in its"
                " OpenSSL: use tls-creds-x509, or another Python"
            )
        if not self._keys:
            raise CommandError(f"PSK file {self._path} has no key: write USER:KEY, in hexadecimal digits")
        keys = self._keys
        if self.is_server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_psk_server_callback(lambda name: keys.get(name or "", b""))
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False  # a certificate, which could have a name, is never taken
            ((user, key),) = keys.items()
            context.set_psk_client_callback(lambda hint: (user, key))
        context.set_ciphers(_CIPHERS)
        set_versions(context, self.options.get("priority"))
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        if self.is_server:
            context.num_tickets = 0
        return Tls(context, is_server=self.is_server, shares_keys=True)


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError:
        return b""
