"""TLS on a connected socket, for every protocol: the handshake and the check of the peer.

OpenSSL verifies certificates within the handshake: their authority, dates, purpose, revocation and, at a
client, the name of the server. TLS 1.2 is the oldest version.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable

from qmon.errors import QmonError
from qmon.host.tls_failures import explain, explain_handshake
from qmon.notation.distinguished_name import subject
from qmon.notation.plain_text import one_line

Authorize = Callable[[str], bool]
"""Whether the owner of a certificate may use something; takes the distinguished name as GnuTLS writes it."""

HANDSHAKE_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
"""How long to wait, after a failure, for the peer to read why or to say why."""


class TlsError(QmonError):
    """There is no TLS with this peer; the line says what is wrong, and what would be right."""


class Tls:
    """TLS with the credentials of one end. Any thread may use it; each connection has a socket of its own."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        is_server: bool,
        verifies_name: bool = False,
        shares_keys: bool = False,
    ) -> None:
        """``verifies_name``: the certificate of the server must have the name that the client connects to.

        ``shares_keys``: keys that both ends have take the place of certificates.
        """
        self.is_server = is_server
        self.verifies_name = verifies_name
        self._shares_keys = shares_keys
        self._context = context

    @property
    def peer(self) -> str:
        """What the other end is: ``client`` or ``server``."""
        return "client" if self.is_server else "server"

    @property
    def verifies_peer(self) -> bool:
        """Whether the peer must prove who it is by a certificate."""
        return self._context.verify_mode == ssl.CERT_REQUIRED

    def context(self) -> ssl.SSLContext:
        """Return the settings of OpenSSL, for asyncio's streams. Call ``check`` after the handshake."""
        return self._context

    def server_name(self, hostname: str | None) -> str | None:
        """Return the name that a client verifies, for ``server_hostname``. Raises TlsError if it has none."""
        if self.is_server or not self.verifies_name:
            return None
        if not hostname or hostname.startswith("."):
            raise TlsError(
                "TLS needs a host name to compare with the server's certificate: give it as tls-hostname"
            )
        return hostname

    def explain(self, error: BaseException, hostname: str | None) -> str:
        """Return the line for a handshake that failed; a client has connected to ``hostname``."""
        return explain_handshake(error, self.peer, hostname, shares_keys=self._shares_keys)

    def wrap_blocking(
        self,
        sock: socket.socket,
        *,
        hostname: str | None = None,
        authorize: Authorize | None = None,
        seconds: float = HANDSHAKE_SECONDS,
    ) -> ssl.SSLSocket:
        """Do the handshake on a connected socket; return the secured one, blocking. Raises TlsError.

        ``hostname`` is what a client compares with the certificate; a server takes ``authorize``. ``sock``
        stays open, so that any thread may shut it down to end the connection. The caller closes both.
        """
        name = self.server_name(hostname)
        try:
            secured = self._context.wrap_socket(
                sock.dup(), self.is_server, do_handshake_on_connect=False, server_hostname=name
            )
        except (OSError, ValueError) as error:  # ValueError: the name can't be one of a host
            raise TlsError(self.explain(error, hostname)) from error
        try:
            secured.settimeout(seconds)
            secured.do_handshake()
            self.check(secured, authorize)
            secured.settimeout(None)
        except TlsError:
            close(secured)
            raise
        except (OSError, ValueError) as error:
            line = self.explain(error, hostname)
            _let_it_read(secured)
            raise TlsError(line) from error
        return secured

    def check(self, secured: ssl.SSLSocket | ssl.SSLObject, authorize: Authorize | None) -> None:
        """Check after the handshake that the peer is authorized. Raises TlsError."""
        if authorize is None:
            return
        name = self.peer_name(secured)
        if name is None:
            raise TlsError("TLS: the client sent no certificate, so tls-authz can't check its name")
        if not authorize(name):
            raise TlsError(
                f"TLS: the {self.peer}'s certificate of '{one_line(name)}' is not authorized: use another"
                " certificate, or add the name to the tls-authz object"
            )

    def peer_name(self, secured: ssl.SSLSocket | ssl.SSLObject) -> str | None:
        """Return the distinguished name in the peer's certificate, None without one. Raises TlsError."""
        certificate = secured.getpeercert(binary_form=True)
        if certificate is None:
            return None
        try:
            return subject(certificate)
        except ValueError as error:
            raise TlsError(f"TLS: the {self.peer}'s certificate can't be read: {error}") from error


def said_before(secured: socket.socket, error: OSError, peer: str) -> str | None:
    """Return the line for why the peer has closed, if writing or reading failed and it has said so before."""
    if isinstance(secured, ssl.SSLSocket) and isinstance(error, ssl.SSLEOFError | ConnectionError):
        try:
            secured.settimeout(_GOODBYE_SECONDS)
            secured.recv(1)
        except OSError as said:
            if isinstance(said, ssl.SSLError):
                return explain(said, peer)
    return None


def _let_it_read(secured: ssl.SSLSocket) -> None:
    """Close so that the peer can read the alert: closing with bytes unread would take it away again."""
    with secured, contextlib.suppress(OSError, ValueError):  # the peer has gone
        deadline = time.monotonic() + _GOODBYE_SECONDS
        raw = socket.socket(fileno=os.dup(secured.fileno()))
        with raw:
            raw.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                raw.settimeout(left)
                if not raw.recv(1 << 14):
                    return


def close(secured: ssl.SSLSocket) -> None:
    """Tell the peer that there is no more to come, if that is possible at once, and close."""
    with contextlib.suppress(OSError, ValueError):  # the peer has gone, or the handshake was not ended
        secured.settimeout(0)
        secured.unwrap()
    secured.close()
