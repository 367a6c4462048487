"""The table of refusals: what is wrong with TLS is told in one line at the client and one at the server."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qmon.host.sockets import connect, listen
from qmon.host.tls import Authorize, Tls
from qmon.nbd.client import NbdClient, NbdError
from qmon.nbd.client_socket import ClientSocket
from qmon.nbd.security import Security
from qmon.nbd.server import Export, NbdServer
from qmon.notation.address import InetAddress
from tests.support.certificates import Authority, tls_of
from tests.support.memory import MemoryDisk
from tests.support.waiting import PATIENCE, eventually

ONLY_1_2 = "NORMAL:-VERS-TLS1.3"
ONLY_1_3 = "NORMAL:-VERS-TLS1.2"
EXPIRED = {"days": 1, "begins_in_days": -3}
FUTURE = {"days": 5, "begins_in_days": 3}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority of the same name."""
    return Authority(tmp_path_factory.mktemp("other"))


class Pair:
    """A server and a client: as they should be, until a case changes one of them."""

    def __init__(self, ours: Authority, other: Authority) -> None:
        self.ours, self.other = ours, other
        self.server: Tls | None = tls_of(ours.folder("server"), "server")
        self.client: Tls | None = tls_of(ours.folder("client"), "client")
        self.hostname: str | None = "localhost"
        self.authorize: Authorize | None = None

    def given(self, side: str, folder: Path, **options: Any) -> None:
        setattr(self, side, tls_of(folder, side, **options))

    def meet(self, is_over: Callable[[], object] = lambda: True) -> str:
        """What the client is told; "" when it has read. The server goes on until ``is_over``."""
        security = None if self.server is None else Security(self.server, self.authorize)
        listener = listen(InetAddress("127.0.0.1", "0"))
        port = str(listener.getsockname()[1])
        server = NbdServer(listener, security=security)
        server.add(Export("d0", MemoryDisk(), writable=True))
        server.start()
        try:
            sock = connect(InetAddress("127.0.0.1", port))
            with NbdClient(sock, "d0", patience=PATIENCE, tls=self.client, hostname=self.hostname) as client:
                client.read(0, 512)
            return ""
        except NbdError as error:
            return str(error)
        finally:
            eventually(is_over, "what the server has to say")
            server.stop()


def made(side: str, **how: Any) -> Callable[[Pair], None]:
    """One side's certificate is made otherwise."""

    def change(pair: Pair) -> None:
        how.setdefault("purpose", side)
        pair.given(side, pair.ours.folder(side, pair.ours.issue(**how)))

    return change


def of_another_authority(pair: Pair) -> None:
    pair.given("client", pair.other.folder("client"))


def signed_by_another(pair: Pair) -> None:
    pair.given("client", pair.ours.folder("client", pair.other.issue("client")))


def without_certificate(pair: Pair) -> None:
    pair.given("client", pair.ours.folder())


def revoked(pair: Pair) -> None:
    stolen = pair.ours.issue("client")
    pair.given("client", pair.ours.folder("client", stolen))
    pair.given("server", pair.ours.folder("server", revoked=[stolen]))


def named(hostname: str | None) -> Callable[[Pair], None]:
    def change(pair: Pair) -> None:
        pair.hostname = hostname

    return change


def not_authorized(pair: Pair) -> None:
    pair.authorize = lambda name: name == "CN=desktop"


def plain(side: str) -> Callable[[Pair], None]:
    return lambda pair: setattr(pair, side, None)


def old(side: str) -> Callable[[Pair], None]:
    """One side speaks TLS 1.0 only, and would take any cipher."""

    def change(pair: Pair) -> None:
        context = getattr(pair, side).context()
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")

    return change


def no_common_version(pair: Pair) -> None:
    pair.given("server", pair.ours.folder("server"), priority=ONLY_1_2)
    pair.given("client", pair.ours.folder("client"), priority=ONLY_1_3)


AUTHORITY = "use certificates of one authority at both ends"
ITS_LOG = "does not accept our certificate: its log says why"
TOLD: dict[str, tuple[Callable[[Pair], None], str, str]] = {
    "wrong CA at the client": (
        of_another_authority,
        f"the server's certificate is not signed by the authority in ca-cert.pem: {AUTHORITY}",
        f"the client does not trust the authority that signed our certificate: {AUTHORITY}",
    ),
    "wrong CA at the server": (
        signed_by_another,
        f"the server does not trust the authority that signed our certificate: {AUTHORITY}",
        f"the client's certificate is not signed by the authority in ca-cert.pem: {AUTHORITY}",
    ),
    "client expired": (
        made("client", **EXPIRED),
        "the server says that our certificate has expired: make a new one",
        "the client's certificate has expired: make a new one",
    ),
    "client not yet valid": (
        made("client", **FUTURE),
        f"the server {ITS_LOG}",
        "the client's certificate is not valid yet: compare the clocks of both hosts",
    ),
    "client of another purpose": (
        made("client", purpose="server"),
        "the server says that our certificate is for another purpose: it needs the extended key usage of a"
        " TLS client",
        "the client's certificate is for another purpose: it needs the extended key usage of a TLS client",
    ),
    "client without a certificate": (
        without_certificate,
        "the server wants a certificate, and we have none: put client-cert.pem and client-key.pem in the"
        " credentials' folder",
        "the client sent no certificate: it needs one of the authority in ca-cert.pem",
    ),
    "client revoked": (
        revoked,
        "the server says that our certificate has been revoked: use another one",
        "the client's certificate has been revoked (ca-crl.pem): use another one",
    ),
    "client not authorized": (
        not_authorized,
        "the client's certificate of 'CN=laptop' is not authorized: use another certificate, or add the name"
        " to the tls-authz object",
        "the client's certificate of 'CN=laptop' is not authorized: use another certificate, or add the name"
        " to the tls-authz object",
    ),
    "server expired": (
        made("server", **EXPIRED),
        "the server's certificate has expired: make a new one",
        "the client says that our certificate has expired: make a new one",
    ),
    "server not yet valid": (
        made("server", **FUTURE),
        "the server's certificate is not valid yet: compare the clocks of both hosts",
        f"the client {ITS_LOG}",
    ),
    "server of another purpose": (
        made("server", purpose="client"),
        "the server's certificate is for another purpose: it needs the extended key usage of a TLS server",
        "the client says that our certificate is for another purpose: it needs the extended key usage of a"
        " TLS server",
    ),
    "server of another name": (
        named("example.org"),
        "the server's certificate is not for 'example.org': connect to a name that it holds, or give that"
        " name as tls-hostname",
        f"the client {ITS_LOG}",
    ),
    "server of another address": (
        named("127.0.0.2"),
        "the server's certificate is not for '127.0.0.2': connect to a name that it holds, or give that name"
        " as tls-hostname",
        f"the client {ITS_LOG}",
    ),
    "client of TLS 1.0": (
        old("client"),
        "the server speaks other versions of TLS: use TLS 1.2 or 1.3 at both ends",
        "the client speaks only other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    ),
    "server of TLS 1.0": (
        old("server"),
        "the server speaks other versions of TLS: use TLS 1.2 or 1.3 at both ends",
        "the client speaks only other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    ),
    "no common version": (
        no_common_version,
        "the server speaks other versions of TLS: use TLS 1.2 or 1.3 at both ends",
        "the client speaks only other versions of TLS: use TLS 1.2 or 1.3 at both ends",
    ),
    "plain client": (
        plain("client"),
        "the NBD server requires TLS: connect with TLS credentials",
        "it did not start TLS, which this server requires",
    ),
    "plain server": (
        plain("server"),
        "the NBD server has no TLS: turn it on there, or connect without TLS credentials here",
        "it wants TLS, and this server was started without tls-creds",
    ),
    "no name to compare": (
        named(None),
        "TLS needs a host name to compare with the server's certificate: give it as tls-hostname",
        "the client closed the connection within the handshake: its log says why",
    ),
    "no name of a host": (
        named("a..b\n"),
        r"'a..b\x0a' is not the name of a host: give one as tls-hostname",
        "the client closed the connection within the handshake: its log says why",
    ),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("case", TOLD)
def test_both_ends_are_told_in_one_line(
    ours: Authority, other: Authority, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    change, at_client, at_server = TOLD[case]
    pair = Pair(ours, other)
    change(pair)
    told = pair.meet(lambda: caplog.messages)
    assert at_client in told
    assert "\n" not in told
    (logged,) = caplog.messages
    assert logged.endswith(at_server)
    assert "\n" not in logged


@pytest.mark.parametrize("priority", [ONLY_1_2, ONLY_1_3, "NORMAL", None])
@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1"])
def test_who_belongs_gets_in(ours: Authority, other: Authority, priority: str | None, hostname: str) -> None:
    pair = Pair(ours, other)
    pair.given("server", ours.folder("server"), priority=priority)
    pair.hostname = hostname
    pair.authorize = lambda name: name == "CN=laptop"
    assert pair.meet() == ""


def test_without_verify_peer_neither_end_must_prove_who_it_is(ours: Authority, other: Authority) -> None:
    pair = Pair(ours, other)
    pair.given("server", ours.folder("server"), **{"verify-peer": False})
    pair.given("client", other.folder(), **{"verify-peer": False})
    pair.hostname = None
    assert pair.meet() == ""


@pytest.mark.parametrize("sends", [False, True])
def test_a_server_that_resets_the_connection_after_tls_may_have_refused_our_certificate(
    ours: Authority, sends: bool
) -> None:
    """QEMU's servers check it behind the handshake, and say nothing: with bytes unread that is a reset."""
    server, client = tls_of(ours.folder("server"), "server"), tls_of(ours.folder("client"), "client")
    is_reset = threading.Event()

    def converse() -> None:
        if sends:
            wire.send(b"x" * 100)
        wire.receive(1)

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            os.close(server.wrap_blocking(sock).detach())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        is_reset.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        wire = ClientSocket(socket.create_connection(listener.getsockname()), PATIENCE)
        try:
            wire.start_tls(client, "localhost")
            assert is_reset.wait(PATIENCE)
            with pytest.raises(NbdError, match="after TLS: it may have refused our certificate"):
                converse()
        finally:
            wire.close()
            thread.join()
