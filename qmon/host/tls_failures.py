"""Failures of TLS in one line: what is wrong with which end, and what would be right."""

from __future__ import annotations

import re
import ssl

from qmon.errors import reason
from qmon.notation.plain_text import one_line

_AUTHORITY = (
    "the {peer}'s certificate is not signed by the authority in ca-cert.pem: use certificates of one"
    " authority at both ends"
)
_NAME = (
    "the server's certificate is not for '{hostname}': connect to a name that it holds, or give that name as"
    " tls-hostname"
)
_VERIFY: dict[int, str] = {
    2: _AUTHORITY,
    3: "ca-crl.pem has no list of the authority that signed the {peer}'s certificate: add its list",
    7: _AUTHORITY,
    9: "the {peer}'s certificate is not valid yet: compare the clocks of both hosts",
    10: "the {peer}'s certificate has expired: make a new one",
    11: "the list ca-crl.pem is not valid yet: compare the clocks of both hosts",
    12: "the list ca-crl.pem has expired: get a new one",
    18: _AUTHORITY,
    19: _AUTHORITY,
    20: _AUTHORITY,
    21: _AUTHORITY,
    23: "the {peer}'s certificate has been revoked (ca-crl.pem): use another one",
    24: "what signed the {peer}'s certificate is not an authority: make it with basic constraints CA",
    26: "the {peer}'s certificate is for another purpose: it needs the extended key usage of a TLS {peer}",
    30: _AUTHORITY,
    62: _NAME,
    64: _NAME,
}
"""By OpenSSL's X509_V_ERR_* (x509_vfy.h)."""

_ALERTS: dict[str, str] = {
    "BAD_CERTIFICATE": "the {peer} does not accept our certificate: its log says why",
    "BAD_RECORD_MAC": "the {peer} has another key: compare keys.psk at both ends",
    "CERTIFICATE_EXPIRED": "the {peer} says that our certificate has expired: make a new one",
    "CERTIFICATE_REQUIRED": "the {peer} wants a certificate, and we have none: put {own}-cert.pem and"
    " {own}-key.pem in the credentials' folder",
    "CERTIFICATE_REVOKED": "the {peer} says that our certificate has been revoked: use another one",
    "CERTIFICATE_UNKNOWN": "the {peer} refused our certificate: its log says why",
    "DECRYPT_ERROR": "the {peer} can't verify the handshake: compare the keys at both ends",
    "HANDSHAKE_FAILURE": "the {peer} found nothing in common: it may want a certificate, a user of its"
    " keys.psk, or other ciphers",
    "ILLEGAL_PARAMETER": "the {peer} has another key for our user name: compare keys.psk at both ends",
    "INSUFFICIENT_SECURITY": "the {peer} wants stronger ciphers: compare the priorities of both ends",
    "PROTOCOL_VERSION": "the {peer} speaks other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    "UNKNOWN_CA": "the {peer} does not trust the authority that signed our certificate: use certificates of"
    " one authority at both ends",
    "UNKNOWN_PSK_IDENTITY": "the {peer} has no key for our user name: compare keys.psk at both ends",
    "UNSUPPORTED_CERTIFICATE": "the {peer} says that our certificate is for another purpose: it needs the"
    " extended key usage of a TLS {own}",
}
"""What the peer told (RFC 8446, 6.2), by the end of OpenSSL's reason."""

_NO_TLS = "the {peer} does not speak TLS: turn TLS on there, or off here"
_REASONS: dict[str, str] = {
    "BAD_PSK_IDENTITY": "the {peer} has no key for our user name: compare keys.psk at both ends",
    "BINDER_DOES_NOT_VERIFY": "the {peer} has another key for this user name: compare keys.psk at both ends",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "the {peer} has another key: compare keys.psk at both ends",
    "HTTPS_PROXY_REQUEST": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "the {peer}'s user name is not in keys.psk, or it has other types of"
    " credentials: compare the credentials of both ends",
    "NO_SHARED_CIPHER": "no common cipher: compare the types and priorities of the credentials at both ends",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the {peer} sent no certificate: it needs one of the authority in"
    " ca-cert.pem",
    "PSK_IDENTITY_NOT_FOUND": "the {peer}'s user name is not in keys.psk: compare keys.psk at both ends",
    "RECORD_LAYER_FAILURE": "the {peer} has another key: compare keys.psk at both ends",
    "UNEXPECTED_EOF_WHILE_READING": "the {peer} closed the connection within the handshake: its log says why",
    "UNSUPPORTED_PROTOCOL": "the {peer} speaks only other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    "VERSION_TOO_LOW": "the {peer} speaks only other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    "WRONG_SSL_VERSION": "the {peer} speaks other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    "WRONG_VERSION_NUMBER": _NO_TLS,
}
"""What OpenSSL found itself, by its reason."""


_CLOSED_WITH_KEYS = (
    "the {peer} closed the connection within the handshake: compare the user name and key in keys.psk at both"
    " ends, or see its log"
)

_UNNAMED = re.compile(r"\[SSL\] | \(_ssl\.c:\d+\)")
"""What is around the text of an alert that Python has no name for."""


def explain(error: BaseException, peer: str) -> str:
    """Return the line for a failure of a TLS connection; ``peer`` is the other end, ``client`` or ``server``.

    With TLS 1.3 a client learns only by its first read that the server refused it, so what reads and writes
    needs this too. An error that is not of TLS is told as by ``reason``.
    """
    return _line(error, _text(error), peer, None)


def explain_handshake(
    error: BaseException, peer: str, hostname: str | None, *, shares_keys: bool = False
) -> str:
    """As ``explain``, for the handshake, in which a client has connected to ``hostname``.

    ``shares_keys``: this end has keys.psk in place of certificates.
    """
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        # GnuTLS closes without an alert if the peer has another key.
        text: str | None = _CLOSED_WITH_KEYS if shares_keys else _REASONS["UNEXPECTED_EOF_WHILE_READING"]
    elif isinstance(error, TimeoutError):
        text = "the {peer} did not end the handshake in time: does it speak TLS?"
    elif isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
        text = "'{hostname}' is not the name of a host: give one as tls-hostname"
    else:
        text = _text(error)
    return _line(error, text, peer, hostname)


def _line(error: BaseException, text: str | None, peer: str, hostname: str | None) -> str:
    if text is None:
        return reason(error)
    own = "client" if peer == "server" else "server"
    return f"TLS: {text.format(peer=peer, own=own, hostname=one_line(hostname or ''))}"


def _text(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _VERIFY.get(error.verify_code)
        return known or f"the {{peer}}'s certificate is not valid: {_literal(error.verify_message)}"
    if not isinstance(error, ssl.SSLError):
        return None
    name = error.reason or _UNNAMED.sub("", error.strerror or "").upper().replace(" ", "_")
    if name in _REASONS:
        return _REASONS[name]
    alert = name.partition("ALERT_")[2]
    if alert in _ALERTS:
        return _ALERTS[alert]
    return _literal(name.replace("_", " ").lower() or reason(error))


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
