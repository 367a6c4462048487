"""Lines at random for every argument type of QEMU's table, put to a real QEMU and to qmon: answers agree.

``QMON_GRAMMAR_LINES`` in the environment says how many lines; ``make grammar`` puts tens of thousands.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.monitor import PROMPT, connect_when_there
from qmon.hmp.table import Command, Table, default_tables
from tests.interop.lines import lines, noises
from tests.interop.peers import require
from tests.interop.processes import CHECKOUT, PATIENCE, QMON, blank, drive

LINES = int(os.environ.get("QMON_GRAMMAR_LINES", "2000"))
LINES_AT_ONCE = 10
QEMU = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"]

CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
NOT_READ = b" for more information\n"
NOISE = (
    (re.compile(rb"#block\d+"), b"#blockN"),
    (re.compile(rb"(?m)^(\S[^\n]*?) -- .*(\n\s+\S.*)*$"), rb"\1 -- ..."),
)

LISTINGS = (b"help", b"?", b"info", b"help info", b"? info", b"help ?")
"""What lists tables: which commands there are is no matter of grammar."""


def _paths(text: str) -> list[str]:
    return text.split()


HANDLED = _paths("""
    help print
    drive_del nbd_server_remove migrate migrate_incoming migrate_set_parameter
""")
"""Commands to which any arguments do no harm on a machine without drives of their names."""

READ = _paths("""
    block_resize eject
    block_stream block_job_set_speed block_job_cancel block_job_complete block_job_pause block_job_resume
    block_set_io_throttle change screendump snapshot_blkdev snapshot_blkdev_internal
    snapshot_delete_blkdev_internal drive_mirror drive_backup nbd_server_add qemu-io
    x xp gva2gpa gpa2hva gpa2hpa i o memsave balloon set_link trace-event sendkey sync-profile boot_set
    mouse_move mouse_button mouse_set wavcapture stopcapture ringbuf_write ringbuf_read announce_self
    pcie_aer_inject_error netdev_add netdev_del device_add device_del object_add object_del
    qom-list qom-get qom-set chardev-change chardev-remove chardev-send-break watchdog_action hostfwd_add
    hostfwd_remove set_password expire_password getfd closefd migrate_set_capability client_migrate_info
    mce replay_break replay_seek singlestep cancel_vcpu_dirty_limit set_vcpu_dirty_limit
    info/block info/registers info/lapic info/mtree info/sync-profile info/trace-events info/stats
    info/virtio-status info/virtio-queue-status info/virtio-queue-element info/rocker info/rocker-of-dpa-flows
""")
"""Others whose arguments do no harm; of these only is compared whether and how they can't be read."""


def find(path: str) -> Command:
    table: Table | None = default_tables().main
    command = None
    for name in path.split("/"):
        assert table is not None
        command = table.find(name)
        assert command is not None, path
        table = command.sub_table
    assert command is not None
    return command


any_line = st.one_of(
    *(lines(path.replace("/", " "), find(path)) for path in (*HANDLED, *HANDLED, *HANDLED, *READ)), noises
)


class Peer:
    """A process with a monitor on a socket, in a folder of its own."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        folder.mkdir()
        blank(folder / "d0.img", 1 << 20)
        self._process = subprocess.Popen(
            [*command, *drive(Path("d0.img")), "-monitor", "unix:m,server,nowait"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "stderr").open("wb"),
        )
        try:
            self._socket = connect_when_there(folder / "m", PATIENCE)
        except OSError:
            self.close()
            raise
        self._socket.settimeout(PATIENCE)
        self._read(1)

    def send(self, given: Sequence[bytes]) -> None:
        self._socket.sendall(b"".join(line + b"\n" for line in given))

    def answers(self, count: int) -> list[bytes]:
        """What so many lines that were sent print."""
        return [CONTROL.sub(b"", part).replace(b"\r", b"").partition(b"\n")[2] for part in self._read(count)]

    def _read(self, prompts: int) -> list[bytes]:
        data = b""
        while data.count(PROMPT) < prompts:
            piece = self._socket.recv(1 << 20)
            assert piece, f"the monitor closed after {data[-1000:]!r}"
            data += piece
        *parts, rest = data.split(PROMPT)
        assert not rest, f"more than {prompts} answers: {rest!r}"
        return parts

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    """QEMU and qmon."""
    require("qemu-system-x86_64")
    folder = tmp_path_factory.mktemp("grammar")
    started: list[Peer] = []
    try:
        for name, command in (("qemu", QEMU), ("qmon", [*QMON, "-statedir", "state"])):
            started.append(Peer(command, folder / name))
        theirs, ours = started
        yield theirs, ours
    finally:
        for peer in started:
            peer.close()


def quiet(text: bytes) -> bytes:
    for pattern, mark in NOISE:
        text = pattern.sub(mark, text)
    return text


def is_handled(line: bytes) -> bool:
    """Whether a line's whole answer is compared; of others only whether and how it can't be read."""
    if b" ".join(line.split()) in LISTINGS:
        return False
    name = re.match(rb"\s*(?:info\s+)?([^\s/]*)", line)
    assert name is not None
    return not any(name[1].decode("utf-8", "replace") == path.split("/")[-1] for path in READ)


@settings(
    max_examples=max(1, LINES // LINES_AT_ONCE),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(given_lines=st.lists(any_line, min_size=LINES_AT_ONCE, max_size=LINES_AT_ONCE))
def test_any_line_has_qemus_answer(peers: tuple[Peer, Peer], given_lines: list[bytes]) -> None:
    batch = [b"print/xw 0", *given_lines]  # formats stay in force: each batch begins with the same
    for peer in peers:
        peer.send(batch)
    theirs, ours = (list(map(quiet, peer.answers(len(batch)))) for peer in peers)
    differing = {
        line: {"qemu": wanted, "qmon": got}
        for line, wanted, got in zip(batch, theirs, ours, strict=True)
        if wanted != got and (is_handled(line) or wanted.endswith(NOT_READ) or got.endswith(NOT_READ))
    }
    assert not differing
