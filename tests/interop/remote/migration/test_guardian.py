"""The source's console dies: its guardian brings the guest back, or leaves what only the other side knows."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.images import MIB
from tests.support.ports import free_port
from tests.support.processes import gone
from tests.support.qmp_client import QmpClient
from tests.support.vms import bare_console
from tests.support.vms.disks import Filling
from tests.support.vms.judgement import counting_machines, judge
from tests.support.vms.line import Line
from tests.support.vms.machine import Machine, Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import PATIENCE, eventually

BOTH = pytest.mark.parametrize("version", [Version.SEVEN, Version.TEN], ids=["qemu7", "qemu10"])
BROUGHT_BACK = "has died: the migration was called off, and the guest is here as before (running)\n"


def ended(process: subprocess.Popen[str]) -> str:
    """What a console said, once it and its guardian have ended."""
    return "".join(process.communicate(timeout=3 * PATIENCE))


@contextmanager
def destination_of(pair: Pair) -> Iterator[tuple[str, int]]:
    """A console at the destination; its address and port. Afterwards it has ended."""
    port = free_port()
    machine = pair.destination
    qmp = machine.address if pair.setup.by_tcp else machine.qmp_path
    with bare_console.start("destination", qmp, f"tcp:127.0.0.1:{port}") as console:
        assert console.stdout is not None
        assert console.stdout.readline() == "listens\n"
        try:
            yield f"tcp:127.0.0.1:{port}", port
        finally:
            console.kill()


def judge_source(pair: Pair) -> list[str]:
    """What is wrong, apart from a destination that is used up."""
    return judge(pair, pair.source, used_up=pair.destination)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("version", "when", "action"),
    [
        (Version.TEN, "after", "RECORD"),
        (Version.TEN, "after", "SET_UP"),
        (Version.TEN, "after", "ADD_TARGETS"),
        (Version.TEN, "after", "START_COPIES"),
        (Version.TEN, "after", "START_MEMORY"),
        (Version.TEN, "before", "END_COPIES"),
        (Version.TEN, "after", "END_COPIES"),
        (Version.TEN, "before", "CONTINUE"),
        (Version.SEVEN, "after", "START_COPIES"),
        (Version.SEVEN, "after", "START_MEMORY"),
        (Version.SEVEN, "after", "END_COPIES"),
        (Version.SEVEN, "before", "CONTINUE"),
    ],
)
def test_the_guest_goes_on_at_the_source_and_nothing_of_ours_is_left(
    version: Version, when: str, action: str, tmp_path: Path
) -> None:
    with Pair(tmp_path / "pair", Setup(version, version, disks=2)) as pair:
        with destination_of(pair) as (uri, _):
            said = ended(bare_console.start("source", pair.source.qmp_path, uri, when, action))
            assert said.endswith(BROUGHT_BACK), said
            pair.source.wait_to_count()
        assert judge_source(pair) == []


@pytest.mark.sample(2)
@pytest.mark.parametrize(("when", "action"), [("after", "START_COPIES"), ("before", "END_COPIES")])
@BOTH
def test_so_it_is_where_the_console_relays_because_its_qmp_is_no_unix_socket(
    version: Version, when: str, action: str, tmp_path: Path
) -> None:
    with Pair(tmp_path / "pair", Setup(version, version, by_tcp=True)) as pair:
        with destination_of(pair) as (uri, _):
            said = ended(bare_console.start("source", pair.source.address, uri, when, action))
            assert said.endswith(BROUGHT_BACK), said
            pair.source.wait_to_count()
        assert judge_source(pair) == []


@BOTH
def test_behind_migrate_continue_nothing_is_done(version: Version, tmp_path: Path) -> None:
    with Pair(tmp_path / "pair", Setup(version, version)) as pair:
        with destination_of(pair) as (uri, _):
            console = bare_console.start("source", pair.source.qmp_path, uri, "after", "CONTINUE")
            said = ended(console)
            assert "the guest may be at the destination: nothing was taken back" in said
            eventually(lambda: pair.destination.status() == "paused", "the guest has arrived")
            eventually(lambda: pair.source.status() == "postmigrate", "the source's QEMU knows it")
        objects = pair.source.look.run("qom-list", path="/objects")
        assert "qmon-migration" in [each["name"] for each in objects]
        assert counting_machines(pair, patience=0.5) == []


@pytest.mark.sample(2)
@pytest.mark.parametrize("action", ["START_COPIES", "START_MEMORY"])
@BOTH
def test_a_silent_destination_does_not_hold_the_guest(version: Version, action: str, tmp_path: Path) -> None:
    """The QEMU there is stopped; behind ``migrate`` the one here hangs, until the guardian cuts its lines."""
    with Pair(tmp_path / "pair", Setup(version, version, burst=0)) as pair:
        with destination_of(pair) as (uri, _):
            when = "after" if action == "START_COPIES" else "before"
            words = (when, action, 1, pair.destination.pid)
            said = ended(bare_console.start("source", pair.source.qmp_path, uri, *words))
            assert said.endswith(BROUGHT_BACK), said
            pair.source.wait_to_count()
            pair.destination.signal(signal.SIGCONT)
        assert judge_source(pair) == []


class Held:
    """A migration that takes long, as its line is slow, with the console at the source and its guardian."""

    def __init__(self, source: Machine, port: int) -> None:
        self.console = bare_console.start("source", source.qmp_path, f"tcp:127.0.0.1:{port}")
        self.guardian = 0
        eventually(lambda: source.look.run("query-jobs"), "the disks are copied", 2 * PATIENCE)
        eventually(self._is_guarded, "there is a guardian")

    def _is_guarded(self) -> bool:
        assert self.console.poll() is None, ended(self.console)
        for entry in Path("/proc").glob("[0-9]*/stat"):
            parent = read(entry).rpartition(")")[2].split()[1:2]
            if parent == [str(self.console.pid)] and "guarding.py" in read(entry.parent / "cmdline"):
                self.guardian = int(entry.parent.name)
        return self.guardian != 0


def read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair(tmp_path / "pair", Setup(filling=Filling(32 * MIB, 16 * MIB))) as pair:
        yield pair


@pytest.fixture
def held(pair: Pair) -> Iterator[Held]:
    with destination_of(pair) as (_, port), Line(port, free_port(), rate=2e5) as line:
        held = Held(pair.source, line.port)
        yield held
        if held.console.poll() is None:
            held.console.kill()
        held.console.communicate()


def test_the_signals_of_a_terminal_that_closes_do_not_end_the_guardian(pair: Pair, held: Held) -> None:
    assert os.getsid(held.guardian) == held.guardian
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        os.kill(held.guardian, number)
    held.console.kill()
    assert ended(held.console).endswith(BROUGHT_BACK)
    eventually(lambda: gone(held.guardian), "the guardian ends")
    assert judge_source(pair) == []


def test_it_ends_with_a_migration_that_is_cancelled(pair: Pair, held: Held) -> None:
    held.console.send_signal(signal.SIGUSR1)  # migrate_cancel
    assert ended(held.console) == "cancelled\n"
    eventually(lambda: gone(held.guardian), "the guardian ends")
    with QmpClient(pair.source.qmp_path):  # nobody holds the monitor
        pass
    assert judge_source(pair) == []


def test_it_ends_with_its_qemu(pair: Pair, held: Held) -> None:
    pair.source.kill()
    eventually(lambda: gone(held.guardian), "the guardian ends")


def test_a_console_whose_guardian_was_killed_goes_on(pair: Pair, held: Held) -> None:
    os.kill(held.guardian, signal.SIGKILL)
    held.console.send_signal(signal.SIGUSR1)
    assert ended(held.console) == "cancelled\n"
    assert judge_source(pair) == []
