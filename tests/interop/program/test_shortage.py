"""A moment without memory, threads or descriptors costs that moment's requests; afterwards all goes on."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, Qmon
from tests.support.waiting import PATIENCE, connected, eventually

SIZE = 40 * MIB
CALLERS = 12
"""So many that none is served by the stack of a thread that has ended."""


@contextlib.contextmanager
def limited(qmon: Qmon, what: int, value: int) -> Iterator[None]:
    """One of a running process' limits, for a while."""
    _, most = resource.prlimit(qmon.process.pid, what)
    before = resource.prlimit(qmon.process.pid, what, (value, most))
    try:
        yield
    finally:
        resource.prlimit(qmon.process.pid, what, before)


def without_memory(qmon: Qmon, spare: int = MIB) -> contextlib.AbstractContextManager[None]:
    """No room for the stack of a thread, nor for what is larger than ``spare``."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    size = int(status.split("VmSize:")[1].split()[0]) * 1024
    return limited(qmon, resource.RLIMIT_AS, size + spare)


def without_descriptors(qmon: Qmon, spare: int = 2) -> contextlib.AbstractContextManager[None]:
    highest = max(int(name) for name in os.listdir(f"/proc/{qmon.process.pid}/fd"))
    return limited(qmon, resource.RLIMIT_NOFILE, highest + 1 + spare)


SHORTAGES = pytest.mark.parametrize(
    "shortage", [without_memory, without_descriptors], ids=["memory and threads", "descriptors"]
)


@contextlib.contextmanager
def callers(path: Path) -> Iterator[None]:
    """Some who connect and stay, whatever becomes of them."""
    with contextlib.ExitStack() as stack:
        for _ in range(CALLERS):
            stack.enter_context(connected(path))
        yield


@pytest.fixture
def qmon(lab: Lab) -> Qmon:
    qmon = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    qmon.export("d0")
    return qmon


def served(qmon: Qmon) -> bool:
    with contextlib.suppress(OSError), qmon.guest() as guest:
        return guest.read(0, 512) == noise(512)
    return False


@SHORTAGES
def test_nbd_clients_are_served_afterwards(qmon: Qmon, shortage: type) -> None:
    with qmon.guest() as here, contextlib.ExitStack() as short:
        assert here.read(0, 512) == noise(512)
        short.enter_context(shortage(qmon))
        short.enter_context(callers(qmon.nbd))
        assert here.read(0, 512) == noise(512), "who was there before is served"
    eventually(lambda: served(qmon), "a client is served")
    qmon.quietly("nbd_server_stop")
    qmon.export("d0")
    assert served(qmon)


def test_clients_that_get_no_descriptor_are_told_of_once(qmon: Qmon) -> None:
    with without_descriptors(qmon), callers(qmon.nbd):
        qmon.wait_log("can't accept an NBD client: ")
    eventually(lambda: served(qmon), "a client is served")
    assert qmon.log().count("can't accept an NBD client") < 5


def test_silent_clients_need_no_thread(qmon: Qmon) -> None:
    with qmon.guest() as here:
        assert here.read(0, 512) == noise(512)
        with without_memory(qmon, 6 * MIB), callers(qmon.nbd):
            assert served(qmon)


@SHORTAGES
def test_a_migration_comes_in_afterwards(lab: Lab, qmon: Qmon, shortage: type) -> None:
    incoming = lab.folder / "in"
    image = blank(lab.folder / "target.img", SIZE)
    target = lab.start("target", *drive(image), "-incoming", f"unix:{incoming}")
    with shortage(target), contextlib.ExitStack() as stack:
        for _ in range(CALLERS):
            caller = stack.enter_context(connected(incoming))
            with contextlib.suppress(OSError):
                caller.sendall(b"Q")
        target.wait_log("incoming migration: ")
    qmon.quietly(f"migrate -d blk unix:{incoming}")
    qmon.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", image)


@SHORTAGES
def test_monitors_are_served_afterwards(lab: Lab, qmon: Qmon, shortage: type) -> None:
    assert qmon.monitor.greeting
    human = lab.folder / "source.sock"
    with shortage(qmon), callers(human), callers(qmon.qmp_path):
        assert qmon.status() == "running"
    with HmpClient(human, PATIENCE) as monitor:
        assert monitor.command("info status") == "VM status: running"
    assert qmon.qmp("query-status")["running"]


def test_a_large_request_is_served_where_no_memory_of_its_size_is_left(qmon: Qmon) -> None:
    with qmon.guest() as guest:
        guest.read(0, 512)
        with without_memory(qmon, 8 * MIB):
            assert guest.read(0, 32 * MIB) == noise(32 * MIB)
            guest.write(0, noise(32 * MIB, 2))
        assert guest.read(0, 32 * MIB) == noise(32 * MIB, 2)


def test_a_migration_without_memory_fails_in_a_line_and_is_made_again(lab: Lab, qmon: Qmon) -> None:
    image = blank(lab.folder / "target.img", SIZE)
    target = lab.start("target", *drive(image), "-incoming", f"unix:{lab.folder / 'in'}")
    with without_memory(qmon, 0):
        said = qmon.command(f"migrate -d blk unix:{lab.folder / 'in'}")
        assert "Cannot allocate memory" in (said or qmon.wait_migration("failed"))
    assert qmon.status() == "running"
    assert served(qmon)
    qmon.quietly(f"migrate -d blk unix:{lab.folder / 'in'}")
    qmon.wait_migration("completed")
    target.wait_status("running")


def test_an_nbd_server_that_gets_no_thread_is_not_there(lab: Lab) -> None:
    qmon = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    with without_memory(qmon, 0):
        assert qmon.command(f"nbd_server_start unix:{qmon.nbd}").startswith("Error: ")
    assert qmon.command("nbd_server_stop") == "Error: NBD server not running"
    qmon.export("d0")
    with Guest(qmon.nbd, "d0") as guest:
        assert guest.read(0, 512) == noise(512)
