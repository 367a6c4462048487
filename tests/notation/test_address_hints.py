"""How a migration's address that was refused is written right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.wire.transport import parse_uri
from qmon.notation.address import InetAddress, address_hint

PROTOCOLS = ("exec", "fd", "file", "rdma", "tcp", "unix", "x-rdma")
names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True).filter(lambda name: name not in PROTOCOLS)
hosts = st.one_of(names, st.ip_addresses().map(str))
ports = st.integers(0, 65535).map(str)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("tcp:hostb", "the port is missing: write tcp:hostb:PORT"),
        ("tcp:hostb:", "the port is missing: write tcp:hostb:PORT"),
        ("tcp:", "the port is missing: write tcp:HOST:PORT"),
        ("tcp:[::1]", "the port is missing: write tcp:[::1]:PORT"),
        ("tcp:[::1", "the bracket is not closed: write tcp:[::1]:PORT"),
        ("tcp:hostb,ipv4", "the port is missing: write tcp:hostb:PORT,ipv4"),
        ("tcp:fe80::1:4444", "an IPv6 address needs brackets: write tcp:[fe80::1]:4444"),
        ("tcp://hostb:4444/", "write tcp:hostb:4444"),
        ("unix:///run/in", "write unix:/run/in"),
        ("/run/in", "write unix:/run/in"),
        ("hostb", "write tcp:HOST:PORT or unix:PATH"),
        ("tpc:localhost:4444", "write tcp:localhost:4444"),
        ("tpc:4444", "write tcp:tpc:4444"),
        ("unx:/run/in", "write unix:/run/in"),
        ("a:wrong:4444", "write tcp:HOST:PORT or unix:PATH"),
        ("blk", "the address is missing: write blk tcp:HOST:PORT or blk unix:PATH"),
        ("", "write tcp:HOST:PORT or unix:PATH"),
        ("tcp:hostb:4444", None),
        ("tcp::4444", None),
        ("unix:in", None),
        ("exec:cat", None),
    ],
)
def test_what_an_address_lacks_is_named(uri: str, hint: str | None) -> None:
    assert address_hint(uri) == hint


@given(hosts, ports)
def test_a_host_and_a_port_get_their_protocol(host: str, port: str) -> None:
    hint = address_hint(f"{host}:{port}")
    assert hint is not None
    assert parse_uri(hint.removeprefix("write ")).place == InetAddress(host, port)


@given(st.text(max_size=20))
def test_any_text_has_a_hint_or_none(uri: str) -> None:
    hint = address_hint(uri)
    assert hint is None or "write " in hint
