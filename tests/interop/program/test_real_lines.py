"""Command lines as libvirt and Proxmox make them start, and their monitors answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.command_lines import libvirt, libvirt_disk, proxmox
from tests.support.images import MIB, blank
from tests.support.peers import require
from tests.support.processes import CHECKOUT, QMON, gone
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE, eventually


def test_a_line_of_libvirt_starts(tmp_path: Path) -> None:
    require("qemu-img")
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
    path = tmp_path / "monitor.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        argv = [*libvirt(tmp_path, listener.fileno()), *libvirt_disk(tmp_path)]
        process = subprocess.Popen(
            [*QMON, "-statedir", str(tmp_path / "state"), *argv],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[listener.fileno()],
        )
    with QmpClient(path) as client:
        assert client.run("query-status")["status"] == "prelaunch"
        assert client.run("query-name") == {"name": "web1"}
        assert client.run("query-block")[0]["inserted"]["file"] == str(image)
        client.run("cont")
        assert client.run("query-status")["status"] == "running"
        client.run("quit")
    out, err = process.communicate(timeout=3 * PATIENCE)
    assert process.returncode == 0
    assert out.startswith("char device redirected to /dev/pts/")
    (note,) = err.splitlines()
    assert note.startswith("qmon: these options are ignored: -name debug-threads, -machine, -accel, ")


def test_a_line_of_proxmox_starts(tmp_path: Path) -> None:
    blank(tmp_path / "vm-100-disk-0.raw", MIB)
    with socket.socket(socket.AF_UNIX) as events:
        events.bind(str(tmp_path / "qmeventd.sock"))
        events.listen(1)
        log = tmp_path / "log"
        with log.open("wb") as file:
            command = [*QMON, "-statedir", str(tmp_path / "state"), *proxmox(tmp_path)]
            done = subprocess.run(command, cwd=CHECKOUT, stdout=file, stderr=file, timeout=3 * PATIENCE)
        assert done.returncode == 0, log.read_text()
        pid = int((tmp_path / "100.pid").read_text())
        try:
            (note,) = log.read_text().splitlines()
            assert note.startswith(
                "qmon: these options are ignored: -id, -name debug-threads, -no-shutdown, "
            )
            with QmpClient(tmp_path / "100.qmp") as client:
                assert client.run("query-name") == {"name": "web1"}
                assert [each["device"] for each in client.run("query-block")] == ["drive-scsi0"]
            events.settimeout(PATIENCE)
            with events.accept()[0] as connection:
                assert "QMP" in json.loads(connection.makefile().readline())
        finally:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: gone(pid), "it ends")
