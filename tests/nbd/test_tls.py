"""TLS of the NBD server: who gets in, who does not, and what each end is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.host.sockets import listen
from qmon.host.tls import Tls
from qmon.nbd.constants import Command, Option, OptionReply
from qmon.nbd.security import Security
from qmon.nbd.server import Export, NbdServer
from qmon.notation.address import UnixAddress
from tests.support.certificates import HOSTS, Authority, tls_of
from tests.support.memory import MemoryDisk
from tests.support.nbd_client import NbdClient, go_data, option

MIB = 1 << 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[Path]:
    """A server that requires TLS and the name of our client; its socket."""
    path = tmp_path / "nbd.sock"
    tls = tls_of(authority.folder("server"), "server")
    server = NbdServer(
        listen(UnixAddress(str(path))), security=Security(tls, lambda name: name == "CN=laptop")
    )
    server.add(Export("d0", MemoryDisk(4 * MIB), writable=True))
    server.start()
    yield path
    server.stop()


def secured(path: Path, tls: Tls) -> NbdClient:
    """A client that has started TLS."""
    plain = NbdClient(path)
    plain.greet()
    assert plain.option(Option.STARTTLS) == [(OptionReply.ACK, b"")]
    with plain:
        return NbdClient(tls.wrap_blocking(plain.socket, hostname=HOSTS[0]))


@pytest.fixture
def client_tls(authority: Authority) -> Tls:
    return tls_of(authority.folder("client"), "client")


def test_a_client_reads_and_writes_under_tls(server: Path, client_tls: Tls) -> None:
    with secured(server, client_tls) as client:
        assert client.option(Option.STARTTLS)[-1][0] == OptionReply.ERR_INVALID
        assert client.option(Option.GO, go_data("d0"))[-1][0] == OptionReply.ACK
        for data in (os.urandom(8192), os.urandom(3 * MIB)):
            assert client.ask(Command.WRITE, 512, data=data).error == 0
            assert client.ask(Command.READ, 512, len(data)).data == data


def test_before_tls_nothing_is_told(server: Path) -> None:
    with NbdClient(server) as client:
        client.greet()
        for option in (
            Option.LIST,
            Option.INFO,
            Option.GO,
            Option.STRUCTURED_REPLY,
            Option.SET_META_CONTEXT,
            99,
        ):
            ((kind, text),) = client.option(option, b"")
            assert kind == OptionReply.ERR_TLS_REQD
            assert text == b"this server requires TLS: connect with TLS credentials"
        assert client.option(Option.ABORT) == [(OptionReply.ACK, b"")]


def test_bytes_before_the_handshake_of_tls_end_the_connection(server: Path) -> None:
    """They could be of somebody between the client and the server."""
    with NbdClient(server) as client:
        client.greet()
        client.send(option(Option.STARTTLS), option(Option.LIST))
        assert client.at_end()


def test_an_export_name_before_tls_ends_the_connection(server: Path) -> None:
    with NbdClient(server) as client:
        client.greet()
        client.send(option(Option.EXPORT_NAME, b"d0"))
        assert client.at_end()


def test_another_name_is_refused_with_words(server: Path, authority: Authority) -> None:
    folder = authority.folder("client", authority.issue("client", ("somebody",)))
    with secured(server, tls_of(folder, "client")) as client:
        for number in (Option.STRUCTURED_REPLY, Option.LIST, Option.GO):
            ((kind, text),) = client.option(number, go_data("d0"))
            assert kind == OptionReply.ERR_POLICY
            assert text.startswith(b"TLS: the client's certificate of 'CN=somebody' is not authorized: ")
        client.send(option(Option.EXPORT_NAME, b"d0"))
        assert client.at_end()
