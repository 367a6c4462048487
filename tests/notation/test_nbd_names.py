"""Names of NBD exports: what they say, and that a name with all options leads back to its export."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import UsageError
from qmon.notation.address import Address, InetAddress, UnixAddress
from qmon.notation.nbd_names import NbdExport, is_export, read_name, read_options

TCP = InetAddress("h", "10809")

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
seconds = st.integers(0, (1 << 32) - 1)
names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
hosts = names | st.sampled_from(["::1", "fe80::2"])
addresses: st.SearchStrategy[Address] = st.one_of(
    st.builds(InetAddress, hosts, st.integers(0, 65535).map(str)),
    st.builds(UnixAddress, words),
)
options = {"reconnect_delay": seconds, "open_timeout": seconds, "tls_hostname": st.none() | words}


@given(export=st.builds(NbdExport, addresses, st.just("") | words, tls_creds=st.none() | words, **options))
def test_a_name_with_all_options_leads_back_to_its_export(export: NbdExport) -> None:
    assert is_export(export.text)
    assert read_name(export.text) == export


@pytest.mark.parametrize(
    ("name", "export"),
    [
        ("nbd://h", NbdExport(TCP)),
        ("nbd://h/", NbdExport(TCP)),
        ("nbd://h:1//a%20b", NbdExport(InetAddress("h", "1"), "/a b")),
        ("nbd+tcp://[::1]:2/e", NbdExport(InetAddress("::1", "2"), "e")),
        ("nbd+unix:///e?socket=/a%3fb", NbdExport(UnixAddress("/a?b"), "e")),
        ("nbd:h:3:exportname=e", NbdExport(InetAddress("h", "3"), "e")),
        ("nbd:unix:/a:exportname=e", NbdExport(UnixAddress("/a"), "e")),
    ],
)
def test_a_name_is_read_as_by_qemu(name: str, export: NbdExport) -> None:
    assert read_name(name) == export


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "NBD server address missing"),
        ({"server.type": "foo"}, "Parameter 'type' does not accept value 'foo'"),
        ({"server.type": "unix"}, "Parameter 'path' is missing"),
        ({"server.host": "h"}, "Parameter 'type' is missing"),
        ({"host": "h", "path": "/a"}, "path and host may not be used at the same time"),
        ({"host": "h", "foo": "x"}, "Block protocol 'nbd' doesn't support the option 'foo'"),
        ({"host": "h", "reconnect-delay": "x"}, "Parameter 'reconnect-delay' expects a number"),
    ],
)
def test_wrong_options_are_refused_in_qemu_s_words(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_options(given)
    assert str(caught.value) == said


@pytest.mark.parametrize("name", ["nbd://", "nbd:///", "nbd://h/e?x=y", "nbd+unix:///e", "nbd://h:99999/e"])
def test_a_wrong_uri_is_refused_in_qemu_s_words(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_name(name)
    assert str(caught.value) == "No valid URL specified"
