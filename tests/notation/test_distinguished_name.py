"""The name of a certificate's owner, as GnuTLS writes it; and certificates that are none."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.notation.distinguished_name import subject
from tests.support.peers import lack
from tests.support.thoroughness import examples

KEY = ec.generate_private_key(ec.SECP256R1())
KINDS = [
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.EMAIL_ADDRESS,
    NameOID.USER_ID,
    NameOID.DOMAIN_COMPONENT,
    NameOID.SERIAL_NUMBER,
    NameOID.COUNTRY_NAME,
    NameOID.DN_QUALIFIER,
    NameOID.GIVEN_NAME,
    NameOID.POSTAL_CODE,
    NameOID.JURISDICTION_COUNTRY_NAME,
    NameOID.SURNAME,
    NameOID.TITLE,
    NameOID.UNSTRUCTURED_NAME,
    NameOID.ORGANIZATION_IDENTIFIER,
    x509.ObjectIdentifier("2.5.4.20"),
    x509.ObjectIdentifier("1.2.3.4"),
]
texts = st.text(st.sampled_from(' ,+"\\<>;#=aé√.'), min_size=1, max_size=6)
attributes = st.builds(
    lambda kind, text: x509.NameAttribute(kind, text, x509.name._ASN1Type.UTF8String, _validate=False),
    st.sampled_from(KINDS),
    texts,
)
names = st.lists(attributes, max_size=4).map(x509.Name)


def certificate(name: x509.Name) -> bytes:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


class Datum(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


@pytest.fixture(scope="module")
def gnutls() -> ctypes.CDLL:
    found = ctypes.util.find_library("gnutls")
    if found is None:
        lack("libgnutls")
    return ctypes.CDLL(found)


def as_gnutls(gnutls: ctypes.CDLL, der: bytes) -> str:
    """What QEMU compares: gnutls_x509_crt_get_dn."""
    handle = ctypes.c_void_p()
    gnutls.gnutls_x509_crt_init(ctypes.byref(handle))
    assert gnutls.gnutls_x509_crt_import(handle, ctypes.byref(Datum(der, len(der))), 0) == 0
    text, size = ctypes.create_string_buffer(4096), ctypes.c_size_t(4096)
    assert gnutls.gnutls_x509_crt_get_dn(handle, text, ctypes.byref(size)) == 0
    gnutls.gnutls_x509_crt_deinit(handle)
    return text.value.decode()


@pytest.mark.filterwarnings("ignore:Attribute:UserWarning")
@given(name=names)
@settings(max_examples=examples(100), deadline=None)
def test_a_name_is_written_as_gnutls_writes_it(gnutls: ctypes.CDLL, name: x509.Name) -> None:
    der = certificate(name)
    if list(name):  # of an empty name GnuTLS says that there is none
        assert subject(der) == as_gnutls(gnutls, der)


WHOLE = certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "laptop")]))


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), end=st.integers(0, len(WHOLE)))
def test_what_is_no_certificate_is_a_value_error(at: int, byte: int, end: int) -> None:
    changed = bytearray(WHOLE)
    changed[at] = byte
    with contextlib.suppress(ValueError):
        assert isinstance(subject(bytes(changed[:end])), str)
