"""Ways to move a disk between two processes on this machine: each returns its seconds and its CPU seconds."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.qmp_client import QmpClient

QMON = [sys.executable, "-m", "qmon"]
QEMU_7 = ["qemu-system-x86_64", "-M", "pc", "-nodefaults", "-display", "none", "-S"]
QEMU_10 = ["/opt/qemu10/run", "qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S"]
UNLIMITED = 100 << 30
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Move:
    """What a move took, in seconds; ``cpu`` is of both sides together."""

    seconds: float
    cpu: float


Mover = Callable[[Path, list[Path], list[Path]], Move]
"""Moves images to others in a folder for sockets."""


def cpu_of(*processes: subprocess.Popen[bytes]) -> float:
    """The CPU seconds of processes so far, of all their threads."""
    seconds = 0.0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


@contextmanager
def running(command: Sequence[str], path: Path) -> Iterator[tuple[subprocess.Popen[bytes], QmpClient]]:
    """A process with a QMP socket."""
    null = subprocess.DEVNULL
    command = [*command, "-qmp", f"unix:{path},server=on,wait=off"]
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
    try:
        with QmpClient(path) as qmp:
            yield process, qmp
    finally:
        process.kill()
        process.wait()


def drives(images: Sequence[Path]) -> list[str]:
    """The options for images d0, d1 ..."""
    return [
        word
        for number, image in enumerate(images)
        for word in ("-drive", f"file={image},id=d{number},format=raw,if=none")
    ]


def qmon(folder: Path, sources: list[Path], targets: list[Path], qmon: Sequence[str] = QMON) -> Move:
    """``migrate -d blk`` of qmon."""
    port = free_port()
    state = ["-statedir", str(folder / f"state-{port}")]  # a new one: in the old one the disk has moved
    return migrate(
        folder, [*qmon, *drives(sources), *state], [*qmon, *drives(targets), *state], port, {"blk": True}
    )


def qemu_7(folder: Path, sources: list[Path], targets: list[Path]) -> Move:
    """``migrate -d -b`` of QEMU 7.2, with a downtime-limit of 1 ms: else it leaves much for the end."""
    devices = [word for number in range(len(sources)) for word in ("-device", f"virtio-blk,drive=d{number}")]
    source, target = ([*QEMU_7, *drives(images), *devices] for images in (sources, targets))
    return migrate(folder, source, target, free_port(), {"blk": True}, downtime_limit=1)


def migrate(
    folder: Path, source: list[str], target: list[str], port: int, how: dict[str, Any], **more: int
) -> Move:
    """From the command until both sides say that the move is complete."""
    uri = f"tcp:127.0.0.1:{port}"
    with ExitStack() as stack:
        there, far = stack.enter_context(running([*target, "-incoming", uri], folder / f"{port}.there"))
        here, near = stack.enter_context(running(source, folder / f"{port}.here"))
        for side in (near, far):
            side.run("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        near.run("migrate-set-parameters", {"max-bandwidth": UNLIMITED, **_dashed(more)})
        begun, used = time.monotonic(), cpu_of(here, there)
        near.run("migrate", uri=uri, **how)
        for side in (near, far):
            _wait_completed(side)
        return Move(time.monotonic() - begun, cpu_of(here, there) - used)


def _dashed(names: dict[str, int]) -> dict[str, int]:
    return {name.replace("_", "-"): value for name, value in names.items()}


def _wait_completed(side: QmpClient) -> None:
    while True:
        for event in side.events:
            if event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"):
                if event["data"]["status"] == "failed":
                    raise RuntimeError(f"the migration failed: {side.run('query-migrate')}")
                return
        message = side.read()
        if "event" in message:
            side.events.append(message)


def mirror(folder: Path, sources: list[Path], targets: list[Path]) -> Move:
    """``blockdev-mirror`` of QEMU 10 to an NBD export of another QEMU 10, until it is ready and completed."""
    port = free_port()
    with ExitStack() as stack:
        nodes = [
            ["-blockdev", f"driver=raw,node-name=d0,file.driver=file,file.filename={images[0]},discard=unmap"]
            for images in (sources, targets)
        ]
        here, near = stack.enter_context(running([*QEMU_10, *nodes[0]], folder / f"{port}.here"))
        there, far = stack.enter_context(running([*QEMU_10, *nodes[1]], folder / f"{port}.there"))
        inet = {"host": "127.0.0.1", "port": str(port)}
        far.run("nbd-server-start", addr={"type": "inet", "data": inet})
        export = {"type": "nbd", "id": "x", "node-name": "d0", "writable": True}
        far.run("block-export-add", export)
        server = {"type": "inet", **inet}
        near.run("blockdev-add", {"driver": "nbd", "node-name": "t", "export": "d0", "server": server})
        begun, used = time.monotonic(), cpu_of(here, there)
        near.run("blockdev-mirror", {"job-id": "j", "device": "d0", "target": "t", "sync": "full"})
        _wait_event(near, "BLOCK_JOB_READY")
        near.run("block-job-complete", device="j")
        _wait_event(near, "BLOCK_JOB_COMPLETED")
        return Move(time.monotonic() - begun, cpu_of(here, there) - used)


def _wait_event(side: QmpClient, name: str) -> None:
    while name not in side.event_names:
        message = side.read()
        if "event" in message:
            side.events.append(message)


def nbdcopy(folder: Path, sources: list[Path], targets: list[Path]) -> Move:
    """``nbdcopy`` from a file to nbdkit's file plugin."""
    path = folder / "nbdcopy.sock"
    path.unlink(missing_ok=True)
    server = subprocess.Popen(["nbdkit", "--foreground", "--unix", str(path), "file", str(targets[0])])
    try:
        while not path.exists():
            time.sleep(0.01)
        used = cpu_of(server)
        move = _run(["nbdcopy", str(sources[0]), f"nbd+unix:///?socket={path}"])
        return Move(move.seconds, move.cpu + cpu_of(server) - used)
    finally:
        server.kill()
        server.wait()


def _run(command: Sequence[str]) -> Move:
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True)
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Move(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def c_loop(folder: Path, sources: list[Path], targets: list[Path]) -> Move:
    """A bare loop in C (``loop.c``): read and send, recv and write."""
    program = folder / "loop"
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("loop.c")], check=True)
    return _run([str(program), str(sources[0]), str(targets[0])])


def python_loop(folder: Path, sources: list[Path], targets: list[Path]) -> Move:
    """The same in Python, in two processes."""
    return _run(
        [sys.executable, "-c", "from bench.movers import loop; loop()", str(sources[0]), str(targets[0])]
    )


def loop() -> None:
    """Copy the file that the first argument names to the second one."""
    source, target = (
        os.open(sys.argv[1], os.O_RDONLY),
        os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    if child := os.fork():
        receiver.close()
        buffer = memoryview(bytearray(256 << 10))
        while count := os.readv(source, [buffer]):
            sender.sendall(buffer[:count])
        sender.close()
        os.waitpid(child, 0)
        return
    sender.close()
    buffer, place = memoryview(bytearray(512 << 10)), 0
    while count := receiver.recv_into(buffer):
        place += os.pwrite(target, buffer[:count], place)
    os._exit(0)
