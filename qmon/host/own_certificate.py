"""Checks one's own certificate as a peer will: by a handshake in memory (QEMU: ``sanity-check``)."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from qmon.errors import CommandError

_NO_ISSUER = frozenset((2, 7, 18, 19, 20, 21, 30))
"""The X509_V_ERR_* (x509_vfy.h) of a certificate that no known authority has signed."""
_NOT_YET, _EXPIRED, _PURPOSE = 9, 10, 26
_ROUNDS = 10
"""Messages of a handshake each way are at most 3."""


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """The files of one side, ``server`` or ``client``, and what gives the key's password."""

    side: str
    authority: str
    certificate: str
    key: str
    password: Callable[[], bytes]


def check_authority(context: ssl.SSLContext, path: str) -> None:
    """Check that the authorities in a context may sign, today. Raises CommandError with QEMU's message."""
    authorities = context.get_ca_certs()
    if not authorities:
        raise CommandError(f"The certificate {path} basic constraints do not show a CA")
    now = time.time()
    for each in authorities:
        if ssl.cert_time_to_seconds(str(each["notAfter"])) < now:
            raise CommandError(f"The CA certificate {path} has expired")
        if ssl.cert_time_to_seconds(str(each["notBefore"])) > now:
            raise CommandError(f"The CA certificate {path} is not yet active")


def check_own(own: OwnCertificate) -> None:
    """Check a certificate against its authority, for its purpose and dates. Raises CommandError."""
    try:
        _shake_hands(own)
    except ssl.SSLCertVerificationError as error:
        raise CommandError(_words(own, error)) from error
    except OSError as error:
        text = f"Our own certificate {own.certificate} can't be used for TLS: {error.strerror or error}"
        raise CommandError(text) from error


def _words(own: OwnCertificate, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return f"The {own.side} certificate {own.certificate} has expired"
    if error.verify_code == _NOT_YET:
        return f"The {own.side} certificate {own.certificate} is not yet active"
    if error.verify_code == _PURPOSE:
        return (
            f"The certificate {own.certificate} is for another purpose: it needs the extended key usage of a"
            f" TLS {own.side}"
        )
    known = error.verify_code in _NO_ISSUER
    said = "The certificate hasn't got a known issuer" if known else error.verify_message
    return f"Our own certificate {own.certificate} failed validation against {own.authority}: {said}"


def _shake_hands(own: OwnCertificate) -> None:
    """Raises SSLCertVerificationError if a peer with this authority would refuse the certificate."""
    is_server = own.side == "server"
    shows, checks = (ssl.SSLContext(_PROTOCOLS[role]) for role in (is_server, not is_server))
    for context in (shows, checks):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for context in (shows, shows if is_server else checks):  # a server needs a certificate in any case
        context.load_cert_chain(own.certificate, own.key, own.password)
    checks.verify_mode = ssl.CERT_REQUIRED
    checks.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    checks.load_verify_locations(own.authority)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    showing = shows.wrap_bio(there, back, server_side=is_server)
    checking = checks.wrap_bio(back, there, server_side=not is_server)
    for _ in range(_ROUNDS):
        with contextlib.suppress(ssl.SSLWantReadError):
            showing.do_handshake()
        with contextlib.suppress(ssl.SSLWantReadError):
            checking.do_handshake()
            return
    raise ssl.SSLError("the handshake did not end")


_PROTOCOLS = {True: ssl.PROTOCOL_TLS_SERVER, False: ssl.PROTOCOL_TLS_CLIENT}
