"""Certificates of a test: an authority's, a server's and a client's, good or bad in one way."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from qmon.host.certificates import Identity, issue, make_authority
from qmon.host.tls import Tls
from qmon.machine.credentials import X509Credentials

HOSTS = ("localhost", "127.0.0.1")
CLIENT = "laptop"


class Authority:
    """Signs certificates, and makes folders of credentials in QEMU's layout."""

    def __init__(self, folder: Path, name: str = "a test's authority") -> None:
        self._folder = folder
        self._identity = make_authority(name)
        self._count = 0

    def folder(
        self, side: str = "", identity: Identity | None = None, revoked: Sequence[Identity] | None = None
    ) -> Path:
        """A new folder: the authority's certificate, for a ``side`` its identity, a list of ``revoked``."""
        self._count += 1
        made = self._folder / f"{id(self)}-{self._count}"
        made.mkdir(parents=True)
        (made / "ca-cert.pem").write_bytes(self._identity.files("ca")["ca-cert.pem"][0])
        if revoked is not None:
            (made / "ca-crl.pem").write_bytes(self._list(revoked))
        if side:
            for name, (data, _) in (identity or self.issue(side)).files(side).items():
                (made / name).write_bytes(data)
        return made

    def issue(
        self, purpose: str, names: tuple[str, ...] = (), days: int = 30, begins_in_days: int = 0
    ) -> Identity:
        return issue(self._identity, purpose, names or names_of(purpose), days, begins_in_days)

    def _list(self, revoked: Sequence[Identity]) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        signer = self._identity.certificate
        builder = x509.CertificateRevocationListBuilder().issuer_name(signer.subject)
        builder = builder.last_update(now).next_update(now + datetime.timedelta(days=1))
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
        return builder.sign(self._identity.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def names_of(purpose: str) -> tuple[str, ...]:
    return HOSTS if purpose == "server" else (CLIENT,)


def tls_of(folder: Path, endpoint: str, **options: object) -> Tls:
    """The TLS of a ``tls-creds-x509`` object, even of one that it would find bad itself."""
    given = {"dir": str(folder), "endpoint": endpoint, "sanity-check": False, **options}
    made = X509Credentials("tls-creds-x509", given)
    made.check({})
    made.complete()
    return made.tls()
