"""Descriptors that a parent process passes on: monitors on sockets, and images in sets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from tests.support.images import MIB, blank, filled, same
from tests.support.processes import CHECKOUT, QMON, Lab
from tests.support.qmp_client import QmpClient
from tests.support.runs import Done
from tests.support.waiting import PATIENCE, eventually

CONTROL = ("-mon", "chardev=mon,mode=control")


@contextlib.contextmanager
def started(folder: Path, *options: str, pass_fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[str]]:
    """A qmon that gets descriptors from this process."""
    process = subprocess.Popen(
        [*QMON, "-statedir", str(folder / "state"), *options],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=3 * PATIENCE)


def refused(*options: str, pass_fds: Sequence[int] = ()) -> str:
    done: Done = subprocess.run(
        [*QMON, *options, "-monitor", "none"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        pass_fds=pass_fds,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("qmon: ")


def test_a_connected_socket_is_a_monitor_as_qemu_s_python_package_starts_it(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with started(
        tmp_path, "-chardev", f"socket,id=mon,fd={theirs.fileno()}", *CONTROL, pass_fds=[theirs.fileno()]
    ) as process:
        theirs.close()
        with QmpClient(ours) as client:
            assert client.run("query-chardev") == [
                {"label": "mon", "filename": "unix:", "frontend-open": True}
            ]
            client.run("quit")
        assert process.wait(PATIENCE) == 0


def test_the_client_of_qemu_s_python_package_speaks_on_the_other_end(tmp_path: Path) -> None:
    async def converse(sock: socket.socket) -> object:
        client = QMPClient("test")
        await client.connect(sock)
        try:
            return await client.execute("query-name")
        finally:
            await client.disconnect()

    ours, theirs = socket.socketpair()
    device = f"socket,id=mon,fd={theirs.fileno()}"
    with started(tmp_path, "-name", "web1", "-chardev", device, *CONTROL, pass_fds=[theirs.fileno()]):
        theirs.close()
        ours.setblocking(False)
        assert asyncio.run(asyncio.wait_for(converse(ours), PATIENCE)) == {"name": "web1"}


def test_a_listening_socket_takes_one_client_after_another_as_libvirt_starts_it(tmp_path: Path) -> None:
    path = tmp_path / "monitor.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        device = f"socket,id=mon,fd={listener.fileno()},server=on,wait=off"
        with started(tmp_path, "-chardev", device, *CONTROL, pass_fds=[listener.fileno()]) as process:
            for _ in range(2):
                with QmpClient(path) as client:
                    (found,) = client.run("query-chardev")
                    assert found["filename"] == f"unix:{path},server=on"
            process.terminate()
            assert process.wait(PATIENCE) == 0
    assert path.exists()  # its parent has made it


def test_a_listening_tcp_socket_is_shown_with_its_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        device = f"socket,id=mon,fd={listener.fileno()},server=on,wait=off"
        with started(tmp_path, "-chardev", device, *CONTROL, pass_fds=[listener.fileno()]):
            client = QmpClient(socket.create_connection((host, port)))
            with client:
                assert f":{host}:{port},server=on <-> " in client.run("query-chardev")[0]["filename"]


@pytest.mark.parametrize("is_server", [False, True])
def test_a_monitor_comes_on_a_descriptor_that_a_client_has_passed(lab: Lab, is_server: bool) -> None:
    qmon = lab.start("qmon")
    ours, theirs = socket.socketpair()
    if is_server:
        theirs.close()
        theirs = socket.socket(socket.AF_UNIX)
        theirs.bind(str(lab.folder / "listening"))
    address = {"type": "fd", "data": {"str": "name"}}
    backend = {"type": "socket", "data": {"addr": address, "server": is_server}}
    with QmpClient(qmon.qmp_path) as client, ours:
        answer = client.ask("getfd", None, [theirs.fileno()], fdname="name")
        assert answer == {"return": {}}
        theirs.close()
        client.run("chardev-add", {"id": "late", "backend": backend})
        labels = {each["label"]: each["filename"] for each in client.run("query-chardev")}
        listening = f"disconnected:unix:{lab.folder}/listening,server=on"
        assert labels["late"] == (listening if is_server else "unix:")
        again = client.ask("chardev-add", {"id": "more", "backend": backend})
        said = "Failed to add chardev 'more': File descriptor named 'name' has not been found"
        assert again["error"]["desc"] == said


def test_a_descriptor_that_is_no_socket_of_the_right_kind_is_refused(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with (tmp_path / "file").open("wb") as file, socket.create_server(("127.0.0.1", 0)) as listener, ours:
        for sock, more, said in (
            (file, "", "File descriptor '{}' is not a socket"),
            (listener, "", "File descriptor '{}' is a listening socket: write server=on"),
            (theirs, ",server=on,wait=off", "Failed to listen on fd socket: Invalid argument: "),
            (theirs, ",reconnect=1", "'reconnect' option is incompatible with 'fd' address type"),
        ):
            number = sock.fileno()
            option = f"socket,id=mon,fd={number}{more}"
            line = refused("-chardev", option, pass_fds=[number])
            assert line.startswith(f"-chardev {option}: {said.format(number)}")
        theirs.close()
        assert "File descriptor '99' is not open" in refused("-chardev", "socket,id=mon,fd=99")
        assert "Unable to parse FD number abc" in refused("-chardev", "socket,id=mon,fd=abc")


# Sets


def test_an_image_is_named_by_its_set(lab: Lab) -> None:
    image = filled(lab.folder / "a", MIB)
    path, uri = lab.folder / "qmp", f"unix:{lab.folder}/in"
    target = lab.start(
        "target", "-drive", f"file={blank(lab.folder / 'b', MIB)},id=d0,format=raw", "-incoming", uri
    )
    fd = os.open(image, os.O_RDWR)
    options = ("-add-fd", f"fd={fd},set=2,opaque=disk", "-drive", "file=/dev/fdset/2,id=d0,format=raw")
    with started(lab.folder, *options, "-qmp", f"unix:{path},server,nowait", pass_fds=[fd]):
        os.close(fd)
        with QmpClient(path) as client:
            (found,) = client.run("query-fdsets")
            assert (found["fdset-id"], [each["opaque"] for each in found["fds"]]) == (2, ["disk"])
            assert client.run("query-block")[0]["inserted"]["file"] == "/dev/fdset/2"
            client.run("migrate", {"uri": uri, "blk": True})
            eventually(
                lambda: client.run("query-migrate")["status"] == "completed", "the migration has completed"
            )
    target.wait_status("running")
    assert same(image, lab.folder / "b")


def test_the_record_of_a_set_s_image_is_about_the_file(lab: Lab) -> None:
    """Another machine's set with the same number has another disk, so the number must not be its name."""
    image, uri = filled(lab.folder / "a", MIB), f"unix:{lab.folder}/in"
    lab.start("target", "-drive", f"file={blank(lab.folder / 'b', MIB)},id=d0,format=raw", "-incoming", uri)
    for name, status in ((image, "paused (postmigrate)"), (filled(lab.folder / "c", MIB, 3), "running")):
        fd = os.open(name, os.O_RDWR)
        drive = ("-add-fd", f"fd={fd},set=0", "-drive", "file=/dev/fdset/0,id=d0,format=raw")
        lines = ("-c", f"migrate blk {uri}") if name == image else ()
        done = subprocess.run(
            [*QMON, "-statedir", f"{lab.folder}/state", *drive, *lines, "-q", "-c", "info status"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            pass_fds=[fd],
        )
        os.close(fd)
        assert (done.returncode, done.stdout) == (0, f"VM status: {status}\n"), done.stderr
    again = lab.start("again", "-drive", f"file={image},id=d0,format=raw")
    assert again.status() == "paused (postmigrate)"


def test_a_set_without_the_access_or_without_members_is_refused(tmp_path: Path) -> None:
    image = blank(tmp_path / "a", MIB)
    fd = os.open(image, os.O_RDONLY)
    drive = ("-drive", "file=/dev/fdset/2,id=d0,format=raw")
    line = refused("-add-fd", f"fd={fd},set=2", *drive, pass_fds=[fd])
    assert line == "Could not open '/dev/fdset/2': no descriptor of the set is open for writing"
    os.close(fd)
    assert refused(*drive) == "Could not open '/dev/fdset/2': Failed to find fdset /dev/fdset/2"
    assert refused("-drive", "file=/dev/fdset/x,id=d0") == (
        "Could not open '/dev/fdset/x': Could not parse fdset /dev/fdset/x"
    )
    assert refused("-add-fd", "fd=99,set=2") == "-add-fd fd=99,set=2: fd is not valid or already in use"


def test_the_log_of_a_device_goes_to_a_set_s_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT)
    options = ("-add-fd", f"fd={fd},set=0", "-chardev", "file,id=c,path=/dev/fdset/0,append=on", "-mon", "c")
    with started(tmp_path, *options, pass_fds=[fd]) as process:
        eventually(lambda: "QEMU" in log.read_text() or "qmon" in log.read_text(), "the monitor greets")
        assert process.poll() is None
    os.close(fd)
