"""The other side falls silent without a word: the source's console brings the guest back by itself.

The destination's console is stopped, so that neither it nor the connections of disks and memory say anything.
A QEMU with a mirror on a silent line hangs when it stops its guest, and its monitor with it.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.vms import bare_console
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import PATIENCE


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("version", "when", "action"),
    [
        (Version.TEN, "after", "ADD_TARGETS"),
        (Version.TEN, "after", "START_COPIES"),
        (Version.TEN, "before", "START_MEMORY"),
        (Version.TEN, "after", "END_COPIES"),
        (Version.SEVEN, "after", "START_MEMORY"),
        (Version.SEVEN, "before", "END_COPIES"),
    ],
)
def test_the_guest_goes_on_at_the_source(version: Version, when: str, action: str, tmp_path: Path) -> None:
    with Pair(tmp_path / "pair", Setup(version, version, burst=0)) as pair:
        uri = f"tcp:127.0.0.1:{free_port()}"
        with bare_console.start("destination", pair.destination.qmp_path, uri) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "listens\n"
            console = bare_console.start("source", pair.source.qmp_path, uri, when, action, "-", other.pid)
            said, errors = console.communicate(timeout=4 * PATIENCE)
            assert (said.partition(":")[0], errors) == ("failed", "")
            pair.source.wait_to_count()
            other.send_signal(signal.SIGCONT)
            other.kill()
        assert judge(pair, pair.source, used_up=pair.destination) == []
