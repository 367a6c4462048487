"""TLS of the NBD server: the step between two options of the handshake (doc/proto.md, "TLS support")."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from qmon.host.tls import Authorize, Tls, TlsError
from qmon.nbd.handshake import Handshake, ProtocolError


@dataclass(frozen=True, slots=True)
class Security:
    """What a server demands of its clients: TLS, and perhaps a certificate of a certain name."""

    tls: Tls
    authorize: Authorize | None = None


def secure(sock: socket.socket, handshake: Handshake, security: Security, seconds: float) -> ssl.SSLSocket:
    """Do the handshake of TLS, and go on with that of NBD. Raises ProtocolError.

    A client whose certificate is good, but whose name is not authorized, is told so: all its options are
    refused, since QEMU says nothing about the first one. The caller closes both sockets.
    """
    try:
        secured = security.tls.wrap_blocking(sock, seconds=seconds)
    except TlsError as error:
        raise ProtocolError(str(error)) from error
    refusal = ""
    try:
        security.tls.check(secured, security.authorize)
    except TlsError as error:
        refusal = str(error)
    except BaseException:
        secured.close()
        raise
    handshake.secured(refusal)
    return secured
