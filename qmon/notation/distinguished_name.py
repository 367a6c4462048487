"""The name of a certificate's owner as GnuTLS writes it, and so as QEMU's ``tls-authz`` compares it. Pure.

RFC 4514's notation in the certificate's own order: ``C=GB,O=Example,CN=laptop``. Measured on GnuTLS 3.7.
"""

from __future__ import annotations

from qmon.notation.der import (
    BMP,
    IA5,
    PRINTABLE,
    SEQUENCE,
    SET,
    UNIVERSAL,
    UTF8,
    Element,
    children,
    elements,
    identifier,
)

_SPECIAL = frozenset(',+"\\<>;')
_TEXTS = {UTF8: "utf-8", PRINTABLE: "ascii", IA5: "ascii", BMP: "utf-16-be", UNIVERSAL: "utf-32-be"}
_NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "surName",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.41": "name",
    "2.5.4.42": "givenName",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "EMAIL",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionOfIncorporationLocalityName",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionOfIncorporationStateOrProvinceName",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionOfIncorporationCountryName",
}
"""GnuTLS's name of each type that it knows; another one is written as its number."""

_OF_ONE_TYPE = {
    "2.5.4.5": PRINTABLE,
    "2.5.4.6": PRINTABLE,
    "2.5.4.46": PRINTABLE,
    "0.9.2342.19200300.100.1.25": IA5,
    "1.3.6.1.4.1.311.60.2.1.3": PRINTABLE,
    "1.2.840.113549.1.9.1": IA5,
}
"""Types whose value GnuTLS decodes from this encoding only (RFC 5280, appendix A)."""

_NAMED_ONLY = {"2.5.4.20": "telephoneNumber"}
"""Types whose value GnuTLS does not decode."""


def subject(certificate: bytes) -> str:
    """Return the name of the owner of a certificate in DER (RFC 5280, 4.1). Raises ValueError."""
    (whole,) = elements(certificate)
    signed, *_ = children(whole, SEQUENCE)
    fields = children(signed, SEQUENCE)
    has_version = bool(fields) and fields[0].tag == 0xA0
    # serialNumber, signature, issuer, validity, subject
    if len(fields) < 5 + has_version:
        raise ValueError("not a certificate: it has no subject")
    parts = children(fields[4 + has_version], SEQUENCE)
    return ",".join("+".join(map(_attribute, children(part, SET))) for part in parts)


def _attribute(element: Element) -> str:
    kind, value = children(element, SEQUENCE)
    number = identifier(kind)
    encoding = _TEXTS.get(value.tag)
    is_text = number in _NAMES and _OF_ONE_TYPE.get(number, value.tag) == value.tag
    if not is_text or encoding is None:
        name = _NAMES.get(number) or _NAMED_ONLY.get(number, number)
        return f"{name}=#{value.whole.hex()}"
    return f"{_NAMES[number]}={_escaped(value.content.decode(encoding))}"


def _escaped(text: str) -> str:
    last = len(text) - 1
    return "".join(
        "\\00"
        if char == "\0"
        else f"\\{char}"
        if char in _SPECIAL or (char == "#" and at == 0) or (char == " " and at in (0, last))
        else char
        for at, char in enumerate(text)
    )
