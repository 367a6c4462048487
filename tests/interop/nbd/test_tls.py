"""TLS with QEMU's and libnbd's programs, which use GnuTLS: they at qmon's server, our client at theirs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.host.sockets import connect
from qmon.nbd.client import NbdClient, NbdError
from qmon.notation.address import InetAddress
from tests.support.certificates import Authority, tls_of
from tests.support.images import KIB, MIB, blank, drive, filled, noise, same
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import Lab, Qmon
from tests.support.waiting import PATIENCE, eventually

QEMUS: dict[str, list[str]] = {"7.2": [], "10": ["/opt/qemu10/run"]}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"))


class Secured:
    """A qmon whose NBD server requires TLS and the name of our client."""

    def __init__(self, lab: Lab, authority: Authority) -> None:
        image = filled(lab.folder / "disk.img", 8 * MIB)
        self.image, self.port = image, free_port()
        self.qmon: Qmon = lab.start("secured", *drive(image))
        self.qmon.quietly(
            f"object_add tls-creds-x509,id=tls0,dir={authority.folder('server')},endpoint=server",
            "object_add authz-simple,id=who,identity=CN=laptop",
        )
        self.qmon.quietly(f"nbd_server_start -a -w -t tls0 -z who 127.0.0.1:{self.port}")

    def img(self, qemu: str, folder: Path, command: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Run qemu-img on the export with the credentials of a folder."""
        credentials = ["--object", f"tls-creds-x509,id=c,dir={folder},endpoint=client"]
        export = f"driver=nbd,host=localhost,port={self.port},export=d0,tls-creds=c"
        line = [*QEMUS[qemu], "qemu-img", command, *credentials, "--image-opts", *map(str, words), export]
        return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def secured(ours: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with Lab(tmp_path_factory.mktemp("secured")) as lab:
        yield Secured(lab, ours)


@pytest.mark.parametrize("qemu", QEMUS)
def test_qemu_img_compares_over_tls(secured: Secured, ours: Authority, qemu: str) -> None:
    require(*(QEMUS[qemu] or ["qemu-img"]))
    local = f"driver=file,filename={secured.image}"
    done = secured.img(qemu, ours.folder("client"), "compare", "-U", local)
    assert (done.returncode, done.stdout) == (0, "Images are identical.\n"), done.stderr


@pytest.mark.parametrize("qemu", QEMUS)
def test_qemu_without_its_certificate_is_refused_in_one_line(
    secured: Secured, ours: Authority, other: Authority, qemu: str
) -> None:
    require(*(QEMUS[qemu] or ["qemu-img"]))
    for folder, told, logged in (
        (
            ours.folder(),
            "",
            "TLS: the client sent no certificate: it needs one of the authority in ca-cert.pem",
        ),
        (
            other.folder("client"),
            "The certificate hasn't got a known issuer",
            "TLS: the client's certificate is not signed by the authority in ca-cert.pem",
        ),
        (
            ours.folder("client", ours.issue("client", ("desktop",))),
            "server reported: TLS: the client's certificate of 'CN=desktop' is not authorized",
            "was refused: TLS: the client's certificate of 'CN=desktop' is not authorized",
        ),
    ):
        done = secured.img(qemu, folder, "info")
        assert done.returncode == 1
        assert told in done.stderr
        secured.qmon.wait_log(logged)


def test_libnbd_copies_both_ways_over_tls(secured: Secured, ours: Authority, tmp_path: Path) -> None:
    require("nbdcopy", "nbdinfo")
    uri = f"nbds://localhost:{secured.port}/d0?tls-certificates={ours.folder('client')}"
    content = filled(tmp_path / "new.img", 8 * MIB, seed=7)
    subprocess.run(["nbdcopy", "--flush", str(content), uri], check=True, timeout=PATIENCE)
    back = tmp_path / "back.img"
    subprocess.run(["nbdcopy", uri, str(back)], check=True, timeout=PATIENCE)
    assert same(back, content)
    told = subprocess.run(
        ["nbdinfo", uri], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout
    assert told.startswith("protocol: newstyle-fixed with TLS, using ")


def test_a_plain_client_of_libnbd_or_qemu_is_told_that_tls_is_required(secured: Secured) -> None:
    require("nbdinfo", "qemu-img")
    export = f"nbd://localhost:{secured.port}/d0"
    for line in (["qemu-img", "info", export], ["nbdinfo", export]):
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1
    assert "server reported: this server requires TLS: connect with TLS credentials" in subprocess.run(
        ["qemu-img", "info", export], capture_output=True, text=True, timeout=PATIENCE
    ).stderr.replace("\n", " ")
    secured.qmon.wait_log("was refused: it did not start TLS, which this server requires")


def test_a_tls_client_of_libnbd_or_qemu_at_a_plain_server(ours: Authority, tmp_path: Path) -> None:
    require("nbdinfo", "qemu-img")
    with Lab(tmp_path) as lab:
        qmon = lab.start("plain", *drive(blank(tmp_path / "d.img", MIB)))
        port = free_port()
        qmon.quietly(f"nbd_server_start 127.0.0.1:{port}", "nbd_server_add d0")
        folder = ours.folder("client")
        export = f"driver=nbd,host=localhost,port={port},export=d0,tls-creds=c"
        credentials = ["--object", f"tls-creds-x509,id=c,dir={folder},endpoint=client"]
        line = ["qemu-img", "info", *credentials, "--image-opts", export]
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
        assert "server reported: this server has no TLS: start it with tls-creds, or connect" in done.stderr
        qmon.wait_log("was refused: it wants TLS, and this server was started without tls-creds")


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@contextlib.contextmanager
def qemu_nbd(qemu: str, image: Path, folder: Path | None) -> Iterator[int]:
    """A qemu-nbd with an image; with a folder it requires TLS. Its port."""
    port = free_port()
    options = ["-f", "raw", "-x", "d0", "-p", str(port), "-b", "127.0.0.1", "-t"]
    if folder is not None:
        options += ["--object", f"tls-creds-x509,id=t,dir={folder},endpoint=server", "--tls-creds", "t"]
    require(*(QEMUS[qemu] or ["qemu-nbd"]))
    with subprocess.Popen(
        [*QEMUS[qemu], "qemu-nbd", *options, str(image)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: is_open(port), "a qemu-nbd that listens")
            yield port
        finally:
            process.terminate()


def read(port: int, folder: Path | None, hostname: str = "localhost") -> bytes:
    tls = None if folder is None else tls_of(folder, "client")
    sock = connect(InetAddress("127.0.0.1", str(port)))
    with NbdClient(sock, "d0", tls=tls, hostname=hostname, patience=PATIENCE) as client:
        return client.read(64 * KIB, 2 * MIB)


def refusal(port: int, folder: Path | None, hostname: str = "localhost") -> str:
    with pytest.raises(NbdError) as caught:
        read(port, folder, hostname)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("qemu", QEMUS)
def test_our_client_at_qemu_nbd_with_tls(
    ours: Authority, other: Authority, tmp_path: Path, qemu: str
) -> None:
    content = noise(4 * MIB)
    image = tmp_path / "disk.img"
    image.write_bytes(content)
    with qemu_nbd(qemu, image, ours.folder("server")) as port:
        assert read(port, ours.folder("client")) == content[64 * KIB : 64 * KIB + 2 * MIB]
        told = refusal(port, other.folder("client"))
        assert told.startswith(
            "TLS: the server's certificate is not signed by the authority in ca-cert.pem: "
        )
        told = refusal(port, ours.folder("client"), "example.org")
        assert told.startswith("TLS: the server's certificate is not for 'example.org': ")
        closed = "the NBD server closed the connection after TLS: it may have refused our certificate"
        assert refusal(port, ours.folder()) == closed
        assert refusal(port, None) == "the NBD server requires TLS: connect with TLS credentials"


@pytest.mark.parametrize("qemu", QEMUS)
def test_our_tls_client_at_a_plain_qemu_nbd(ours: Authority, tmp_path: Path, qemu: str) -> None:
    with qemu_nbd(qemu, blank(tmp_path / "d.img", MIB), None) as port:
        told = refusal(port, ours.folder("client"))
        assert told.startswith("the NBD server has no TLS: turn it on there, or connect without TLS ")
