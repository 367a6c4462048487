"""A console on a libvirt domain, whose monitor nobody but libvirt can reach."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qmon.qmp.target import Arguments, Event
from qmon.remote.migration.agreement.managers import Traits, look_for_traits, why_managed
from tests.support.libvirt import Libvirt
from tests.support.processes import CHECKOUT
from tests.support.runs import Done, one_line, run
from tests.support.seat import Seat
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Libvirt]:
    with Libvirt() as libvirt:
        yield libvirt


@pytest.fixture
def domain(libvirt: Libvirt) -> Iterator[str]:
    with libvirt.domain("web1"):
        yield "web1"


def on(libvirt: Libvirt, domain: str, *given: str) -> Done:
    lines = [word for line in given for word in ("-c", line)]
    return run("-connect", f"libvirt:{libvirt.uri}/{domain}", *lines, packages=[libvirt.python_path])


def test_lines_are_answered_and_the_machine_is_stopped_and_continued(libvirt: Libvirt, domain: str) -> None:
    done = on(libvirt, domain, "info block", "stop", "info status")
    assert "/machine/peripheral/virtio-disk0/virtio-backend" in done.stdout
    assert done.stdout.endswith("VM status: paused\n")
    assert done.returncode == 0
    assert libvirt.virsh("domstate", domain) == "paused"
    done = on(libvirt, domain, "cont", "info status")
    assert (done.returncode, done.stdout) == (0, "VM status: running\n")
    assert libvirt.virsh("domstate", domain) == "running"


def test_a_failing_line_ends_the_script(libvirt: Libvirt, domain: str) -> None:
    done = on(libvirt, domain, "info status", "nosuch", "stop")
    assert done.returncode == 1
    assert done.stdout == "VM status: running\n"
    assert "-c:2: unknown command: 'nosuch'" in done.stderr
    assert libvirt.virsh("domstate", domain) == "running"


def test_a_domain_is_found_by_number_and_uuid(libvirt: Libvirt, domain: str) -> None:
    for way in ("domid", "domuuid"):
        done = on(libvirt, libvirt.virsh(way, domain), "info name")
        assert (done.returncode, done.stdout) == (0, "web1\n")


def test_quit_ends_the_domain(libvirt: Libvirt, domain: str) -> None:
    done = on(libvirt, domain, "quit")
    assert done.returncode == 0
    eventually(lambda: libvirt.virsh("list", "--name") == "", "the domain has ended")


def test_a_wrong_name_is_answered_with_the_right_ones(libvirt: Libvirt, domain: str) -> None:
    said = one_line(on(libvirt, "web2", "info name"))
    assert said.endswith(f"there is no domain 'web2' at {libvirt.uri}: running are web1")
    said = one_line(run("-connect", f"libvirt:{libvirt.uri}/", packages=[libvirt.python_path]))
    assert said.endswith(f"no domain is named at {libvirt.uri}: running are web1")


def test_a_libvirt_that_is_not_there_is_said(libvirt: Libvirt, tmp_path: Path) -> None:
    uri = f"qemu:///session?socket={tmp_path / 'nosuch'}"
    said = one_line(run("-connect", f"libvirt:{uri}/web1", packages=[libvirt.python_path]))
    assert said.endswith(
        f"libvirt: Failed to connect socket to '{tmp_path / 'nosuch'}': No such file or directory"
    )


def test_a_missing_library_is_said(tmp_path: Path) -> None:
    (tmp_path / "libvirt.py").write_text("raise ImportError")
    said = one_line(run("-connect", "libvirt:web1", packages=[tmp_path]))
    missing = "libvirt's library is missing: install python3-libvirt, or qmon[libvirt] with pip"
    assert said == f"-connect libvirt:web1: {missing}"


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    seat = Seat(tmp_path)
    yield seat
    seat.close()


def test_a_terminal_has_events_and_completion(libvirt: Libvirt, domain: str, seat: Seat) -> None:
    path = f"PYTHONPATH={CHECKOUT}:{libvirt.python_path}"
    seat.terminal.type(f"clear; {path} {sys.executable} -m qmon -connect 'libvirt:{libvirt.uri}/{domain}'\r")
    tainted = "libvirt marks the domain as tainted"
    seat.terminal.wait_until(lambda screen: tainted in screen.replace("\n", ""), tainted)
    seat.terminal.wait_for(r"^\(qemu web1\)$")
    seat.terminal.type("info statu")
    seat.terminal.press("Tab")
    seat.terminal.wait_for(r"\) info status|^ +status ")
    seat.terminal.press("C-u")
    seat.terminal.type("info status\r")
    seat.terminal.wait_for(r"^VM status: running")
    libvirt.virsh("suspend", domain)
    seat.terminal.wait_whole(lambda screen: "paused" in screen, "the toolbar hears of it")
    libvirt.virsh("destroy", domain)
    seat.terminal.wait_for(r"\$ $")


def test_a_libvirtd_that_is_restarted_is_connected_to_again(
    libvirt: Libvirt, domain: str, seat: Seat
) -> None:
    path = f"PYTHONPATH={CHECKOUT}:{libvirt.python_path}"
    words = f"-connect 'libvirt:{libvirt.uri}/{domain}'"
    seat.terminal.type(f"clear; {path} {sys.executable} -m qmon {words}\r")
    seat.terminal.wait_for(r"^\(qemu web1\)$")
    libvirt.restart()
    seat.terminal.wait_for(r"is\s+lost:\s+libvirt\s+closed\s+the\s+connection")
    seat.terminal.wait_for(r"^Connected\s+to\s+\S+\s+again")
    seat.terminal.type("info name\r")
    seat.terminal.wait_for("^web1$")
    seat.terminal.press("C-d")
    seat.terminal.wait_for(r"^\$ $")
    assert libvirt.virsh("domstate", domain) == "running"


def test_a_domain_that_is_stuck_can_be_left(libvirt: Libvirt, domain: str, seat: Seat) -> None:
    path = f"PYTHONPATH={CHECKOUT}:{libvirt.python_path}"
    words = f"-connect 'libvirt:{libvirt.uri}/{domain}'"
    seat.terminal.type(f"clear; {path} {sys.executable} -m qmon {words}; echo status $?\r")
    seat.terminal.wait_for(r"^\(qemu web1\)$")
    with libvirt.stuck(domain):
        seat.terminal.type("info name\r")
        seat.terminal.press("C-c")
        seat.terminal.wait_for(r"info name\n(.*\n)*\(qemu web1\)$")
        seat.terminal.press("C-d")
        seat.terminal.wait_for(r"^status 0$")


class Monitor:
    """A domain's monitor, by virsh: it has what any QMP monitor of that QEMU has."""

    def __init__(self, libvirt: Libvirt, domain: str) -> None:
        self._libvirt, self._domain = libvirt, domain

    def _ask(self, command: str, arguments: Arguments) -> Any:
        line = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(self._libvirt.virsh("qemu-monitor-command", self._domain, line))["return"]

    def commands(self) -> frozenset[str]:
        return frozenset(each["name"] for each in self._ask("query-commands", {}))

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        return self._ask(command, arguments or {})

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        return lambda: None


def test_a_domain_is_moved_by_libvirt_alone(libvirt: Libvirt, domain: str) -> None:
    command = "'virsh migrate --live --copy-storage-all web1 qemu+ssh://HOST/system'"
    done = on(libvirt, domain, "migrate blk tcp:127.0.0.1:1")
    assert done.returncode == 1
    assert f"libvirt manages this QEMU: {command}" in done.stderr
    traits = asyncio.run(look_for_traits(Monitor(libvirt, domain)))
    for alone in (
        Traits("web1", traits.objects, [], []),
        Traits("web1", [], traits.chardevs, []),
        Traits("web1", [], [], traits.nodes),
    ):
        assert command in why_managed(alone)
