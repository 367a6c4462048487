"""Where -connect connects to, as it is written."""

from __future__ import annotations

import pytest

from qmon.errors import UsageError
from qmon.remote.address import parse_remote


@pytest.mark.parametrize(
    ("text", "written", "short"),
    [
        ("unix:/run/web1.qmp", "unix:/run/web1.qmp", "web1.qmp"),
        ("unix:q", "unix:q", "q"),
        ("unix:q,server,nowait", "unix:q", "q"),
        ("localhost:4444", "localhost:4444", "localhost:4444"),
        ("tcp:[::1]:4444", "[::1]:4444", "[::1]:4444"),
        (":4444", ":4444", ":4444"),
        ("fd:7", "fd:7", "fd:7"),
        ("hmp:unix:/run/m", "hmp:unix:/run/m", "m"),
        ("hmp:localhost:4444", "hmp:localhost:4444", "localhost:4444"),
        ("libvirt:web1", "libvirt:web1", "web1"),
        ("libvirt:qemu:///system/web1", "libvirt:qemu:///system/web1", "web1"),
        ("libvirt:qemu+ssh://root@host/system/web1", "libvirt:qemu+ssh://root@host/system/web1", "web1"),
        ("libvirt:qemu:///session?socket=/run/s/web1", "libvirt:qemu:///session?socket=/run/s/web1", "web1"),
        ("libvirt:qemu:///system", "libvirt:qemu:///system/", ""),
    ],
)
def test_an_address_is_read_and_shown(text: str, written: str, short: str) -> None:
    address = parse_remote(text)
    assert (str(address), address.short) == (written, short)


@pytest.mark.parametrize(
    "text",
    "unix: fd: fd:-1 fd:x localhost: localhost:65536 [::1] hmp: hmp:x libvirt:a/b".split(),
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_remote(text)
