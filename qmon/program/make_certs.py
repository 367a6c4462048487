"""``-make-certs``: a folder with a small authority, and a certificate for a server and one for a client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from qmon.errors import QmonError, reason

CLIENT = "client"
"""The common name in the client's certificate, so that ``tls-authz`` sees ``CN=client``."""


def make_certificates(folder: str, hosts: Sequence[str]) -> str:
    """Make the files; return what to do with them. ``hosts`` are the server's names and addresses.

    Raises QmonError; then no file is left that was not there before.
    """
    try:
        from qmon.host.certificates import issue, make_authority, write_new
    except ImportError as error:
        raise QmonError(
            "-make-certs needs the Python package cryptography: install qmon[certs], or make the files with"
            " certtool or openssl"
        ) from error
    path = Path(folder)
    authority = make_authority(f"authority of {hosts[0]}")
    try:
        server = issue(authority, "server", hosts)
    except ValueError as error:
        raise QmonError(f"-make-certs: {reason(error)}") from error
    client = issue(authority, "client", (CLIENT,))
    files = {**authority.files("ca"), **server.files("server"), **client.files("client")}
    _check_free(path, files)
    written: list[Path] = []
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        for name, (data, mode) in files.items():
            write_new(path / name, data, mode)
            written.append(path / name)
    except OSError as error:
        for each in written:
            each.unlink(missing_ok=True)
        raise QmonError(f"-make-certs: {error.filename or path}: {reason(error)}") from error
    return _advice(path, files, hosts)


def _check_free(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if (path / name).is_symlink() or (path / name).exists():
            raise QmonError(f"-make-certs: {path / name} exists already: name another folder, or remove it")


def _advice(path: Path, names: Iterable[str], hosts: Sequence[str]) -> str:
    return "\n".join(
        (
            f"made in {path}: {', '.join(names)}",
            f"copy ca-cert.pem and server-*.pem to {hosts[0]}, ca-cert.pem and client-*.pem to each client;"
            " ca-key.pem stays here",
            "server: object_add tls-creds-x509,id=tls0,dir=FOLDER,endpoint=server",
            "client: object_add tls-creds-x509,id=tls0,dir=FOLDER,endpoint=client",
        )
    )
