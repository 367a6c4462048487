"""The first bytes of programs that are no migration's other side."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.wire.strangers import not_a_destination, not_a_source
from qmon.migration.wire.stream import MAGIC, PREAMBLE
from qmon.notation.plain_text import one_line
from qmon.notation.strangers import FIRST_BYTES, excerpt, protocol_of


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", "an SSH"),
        (b"HTTP/1.1 400 Bad Request\r\n", "an HTTP"),
        (b"GET / HTTP/1.1\r\nHost: b\r\n", "an HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "a TLS"),
        (b"\x16\x03\x01\x02\x00\x01", "a TLS"),
        (b"RFB 003.008\n", "a VNC"),
        (b"NBDMAGICIHAVEOPT\0\3", "an NBD"),
        (b'{"QMP": {"version": ', "a QMP"),
        (PREAMBLE, "a migration"),
        (b"220 mail.example.org ESMTP\r\n", "an FTP or SMTP"),
        (b"\xff\xfd\x18\xff\xfd", "a telnet"),
        (b"hello", None),
        (b"", None),
    ],
)  # fmt: skip
def test_a_protocol_is_known_by_its_first_bytes(first: bytes, protocol: str | None) -> None:
    assert protocol_of(first) == protocol
    if protocol is not None:
        assert not_a_destination("tcp:b:22", first) == (
            f"tcp:b:22 answers as {protocol} server, not as a migration destination"
        )


@given(st.binary())
def test_what_a_stranger_sends_is_shown_short_and_harmless(first: bytes) -> None:
    for text in (excerpt(first), not_a_destination("tcp:b:22", first), not_a_source(first, MAGIC)):
        assert one_line(text) == text
        assert len(text) < 80 + 10 * FIRST_BYTES


@pytest.mark.parametrize(
    ("module", "name", "command"),
    [(gzip, "gzip", "gunzip"), (lzma, "xz", "xz -d"), (bz2, "bzip2", "bunzip2")],
)
def test_a_compressed_stream_is_named_with_what_unpacks_it(module: Any, name: str, command: str) -> None:
    assert not_a_source(module.compress(PREAMBLE), MAGIC) == (
        f'it is compressed by {name}: -incoming "exec:{command} < FILE" unpacks it'
    )


def test_what_a_stranger_sends_is_shown_up_to_its_first_line() -> None:
    assert excerpt(b"SSH-2.0-x\r\nmore") == "'SSH-2.0-x'"
    assert excerpt(b"\x1b[2Jhello\n") == "'\\x1b[2Jhello'"
