"""``-make-certs``: what is made, for whom, and what is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.processes import CHECKOUT, QMON
from tests.support.waiting import PATIENCE

FILES = {f"{side}-{kind}.pem" for side in ("ca", "server", "client") for kind in ("cert", "key")}


def make(*words: str, argv: tuple[str, ...] = tuple(QMON)) -> tuple[int, str, str]:
    done = subprocess.run(
        [*argv, "-make-certs", *words],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs") / "pki"
    status, told, wrong = make(str(folder), "localhost", "127.0.0.1", "*.example.org")
    assert (status, wrong) == (0, "")
    assert told.splitlines()[2:] == [
        "server: object_add tls-creds-x509,id=tls0,dir=FOLDER,endpoint=server",
        "client: object_add tls-creds-x509,id=tls0,dir=FOLDER,endpoint=client",
    ]
    return folder


def test_only_the_owner_may_read_the_keys(folder: Path) -> None:
    assert set(os.listdir(folder)) == FILES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in FILES:
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        assert mode == 0o600 if "key" in name else mode & 0o022 == 0


@pytest.mark.parametrize("side", ["server", "client"])
def test_each_side_has_a_certificate_for_its_purpose_alone(folder: Path, side: str) -> None:
    require("openssl")
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-CAfile", "ca-cert.pem", "-purpose", purpose, f"{side}-cert.pem"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert (done.returncode == 0) == purpose.endswith(side), done.stderr


def test_the_server_has_all_the_names(folder: Path) -> None:
    require("openssl")
    command = ["openssl", "x509", "-in", "server-cert.pem", "-noout", "-ext", "subjectAltName"]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "DNS:localhost, IP Address:127.0.0.1, DNS:*.example.org" in told


def test_nothing_is_overwritten(folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}
    status, told, wrong = make(str(folder), "localhost")
    assert (status, told) == (1, "")
    expected = f"-make-certs: {folder}/ca-cert.pem exists already: name another folder, or remove it"
    assert wrong == f"qmon: {expected}\n"
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pki"], "-make-certs: name the server: -make-certs DIR HOST..."),
        (["pki", "a b"], "-make-certs: 'a b' can't be the name of a host"),
        (["nosuch/pki", "a"], "-make-certs: nosuch/pki: No such file or directory"),
        (["pki", "a", "-S"], "-S: not possible with -make-certs, which starts no machine"),
    ],
)
def test_what_can_not_be_made_leaves_nothing(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make(*words) == (1, "", f"qmon: {told}\n")
    assert not os.listdir(tmp_path)


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    without = (
        "import sys; sys.modules['cryptography'] = None; from qmon.program.cli import main; sys.exit(main())"
    )
    status, _, wrong = make(str(tmp_path / "pki"), "a", argv=(sys.executable, "-c", without))
    assert status == 1
    assert wrong == (
        "qmon: -make-certs needs the Python package cryptography: install qmon[certs], or make the files with"
        " certtool or openssl\n"
    )
