"""Lines at random for every argument type of QEMU's table, put to a real QEMU and to qmon: answers agree.

``QMON_GRAMMAR_LINES`` in the environment says how many lines; ``make grammar`` puts tens of thousands.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.table import Command, Table, default_tables
from qmon.notation.plain_text import plain
from qmon.qmp.registry import Registry
from tests.support.fake_target import FakePerson
from tests.support.hmp_client import PROMPT
from tests.support.images import blank, drive
from tests.support.lines import Lines
from tests.support.not_imitated import is_not_imitated
from tests.support.peers import require
from tests.support.processes import CHECKOUT, QMON
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE, connect_when_there

LINES = int(os.environ.get("QMON_GRAMMAR_LINES", "1000"))
LINES_AT_ONCE = 50
SEED = os.environ.get("QMON_GRAMMAR_SEED", "")
"""Whoever asks for a number of lines gets others each time; else they are always the same."""
if not SEED:
    SEED = str(random.randrange(1 << 32)) if "QMON_GRAMMAR_LINES" in os.environ else "1"
ENOUGH = 8
"""So many differences are looked for, and shown."""
FORMAT = b"print/xw 0"
"""Formats stay in force: each batch begins with the same."""
QEMU = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none"]

NEEDS_NO_MACHINE = re.compile(rb"\s*(?:p|print|help[\s/]+\w)\b")
CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
NOT_READ = b" for more information\n"
NOISE = (
    (re.compile(rb"(?m)^cont\|c \[-f\] "), b"cont|c  "),  # a flag of qmon's own
    (re.compile(rb"(?m)^info migrate \[-a\] "), b"info migrate  "),  # QEMU 10.1 has it
    (re.compile(rb"#block\d+"), b"#blockN"),
    (re.compile(rb"(?m)^(\S[^\n]*?) -- .*(\n\s+\S.*)*$"), rb"\1 -- ..."),
)

# QEMU dies of ``info sync-profile 0xffffffff``, and ``sum`` may take minutes: no lines are made for these.
OWN_FLAG = re.compile(rb"\s*migrate\b.*-\S*n", re.DOTALL)
"""Lines with a flag that QEMU does not have: ``migrate -n``."""

LISTINGS = (b"help", b"?", b"info", b"help info", b"? info", b"help ?")
"""What lists tables: which commands there are is no matter of grammar."""


def _paths(text: str) -> list[str]:
    return text.split()


HANDLED = _paths("""
    help print info/block info/mtree info/registers info/lapic info/stats info/virtio-status
    info/virtio-queue-status info/virtio-queue-element info/rocker info/rocker-of-dpa-flows
    block_resize eject drive_del change commit qemu-io block_set_io_throttle
    block_stream block_job_set_speed block_job_cancel block_job_complete block_job_pause block_job_resume
    snapshot_blkdev snapshot_blkdev_internal snapshot_delete_blkdev_internal drive_mirror drive_backup
    nbd_server_add nbd_server_remove
    migrate migrate_incoming migrate_set_parameter migrate_set_capability client_migrate_info
    x xp gva2gpa gpa2hva gpa2hpa i o memsave balloon mce boot_set
    cancel_vcpu_dirty_limit set_vcpu_dirty_limit replay_break replay_seek singlestep sync-profile
    screendump sendkey mouse_move mouse_button mouse_set wavcapture stopcapture set_password expire_password
    set_link announce_self netdev_add netdev_del hostfwd_add hostfwd_remove
    device_add device_del pcie_aer_inject_error watchdog_action
    object_add object_del qom-list qom-get qom-set
    chardev-change chardev-remove chardev-send-break ringbuf_write ringbuf_read getfd closefd
""")
"""Commands to which any arguments do no harm on a machine that has nothing of their names."""

BASIC = _paths("help print block_resize screendump set_link")
"""Those of which more lines are made: they take what few others do."""

READ = _paths("info/trace-events trace-event")
"""Others, of which only is compared whether and how they can't be read.

QEMU has trace events of its own, and ends the line of one refusal of ``trace-event`` with the next prompt.
"""

FOUND = (
    b"eject -",
    b"eject - x",
    b"snapshot_blkdev -f nosuch",
    b"snapshot_blkdev @ :",
    b"snapshot_blkdev -n x a:b",
    "set_link a on\u00e9".encode(),
    "print/\u00e9 1".encode(),
    "print \u00e9".encode(),
    "print/d '\u00e9'".encode(),
    b"print/d '\xe9'",
    b"print/d " + b"(" * 300 + b"7" + b")" * 300,
    "help \u00a0".encode(),
    b"netdev_add =",
    b"netdev_add usr,,id=x",
    b"netdev_add usr,id=1",
    b"block_resize x 1.5e3",
    b"block_resize x 1.00000000000000000000001B",
    b'change x y z ""',
    b'chardev-change x ""',
    b"chardev-change x backend=",
    b"chardev-change x nodelay,y",
    b'qemu-io -d "" x',
    b"qemu-io -d /machine x",
    "qom-set -j x y \u3000".encode(),
    "qom-set -j x y 1.\u00e9".encode(),
    'qom-set -j x y "\u00e9'.encode(),
    b"xp/9999999999hx 7",
    b"xp/2147483647bx 7",
    b"xp/268435456gx 7",
    b"info registers 0x7fffffff",
    b"info registers 0x80000000",
)
"""Lines that were answered otherwise once."""


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


class Peer:
    """A process in a folder of its own, with a monitor on one socket and QMP on another."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        blank(folder / "d0.img", 1 << 20)
        sockets = ["-monitor", "unix:m,server,nowait", "-qmp", "unix:q,server,nowait"]
        with (folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [*command, *drive(Path("d0.img")), *sockets],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            self._socket = connect_when_there(folder / "m", PATIENCE)
        except OSError:
            self.close()
            raise
        self._socket.settimeout(3 * PATIENCE)
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
            if not piece:
                raise ConnectionError(f"the monitor closed after {data[-1000:]!r}")
            data += piece
        *parts, rest = data.split(PROMPT)
        assert not rest, f"more than {prompts} answers: {rest!r}"
        return parts

    def answers_by_qmp(self, given: Sequence[bytes]) -> list[bytes]:
        """What lines of ASCII print that come by QMP, past every line editor."""
        with QmpClient(self._folder / "q") as client:
            found: list[str] = [
                client.run("human-monitor-command", command_line=line.decode("ascii")) for line in given
            ]
        return [text.replace("\r", "").encode() for text in found]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Peer, Peer]]:
    """QEMU and qmon."""
    require(QEMU[0])
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


_ESCAPES = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|[\t\n]")


def quiet(text: bytes) -> bytes:
    for pattern, mark in NOISE:
        text = pattern.sub(mark, text)
    return text


def seen(answer: bytes) -> str:
    """An answer without what a terminal does not show as text, which qmon shows as escapes."""
    return _ESCAPES.sub("", plain(answer.decode("utf-8", "surrogateescape")))


def is_handled(line: bytes) -> bool:
    """Whether a line's whole answer is compared; of others only whether and how it can't be read."""
    if b" ".join(line.split()) in LISTINGS:
        return False
    name = re.match(rb"\s*(?:info\s+)?([^\s/]*)", line)
    assert name is not None
    return not any(name[1].decode("utf-8", "replace") == path.split("/")[-1] for path in READ)


def make(lines: Lines, chance: random.Random, count: int) -> list[bytes]:
    """Lines of all commands in turn."""
    paths = [*HANDLED, *READ, *BASIC * 4]
    made: list[bytes] = []
    while len(made) < count:
        for path in chance.sample(paths, len(paths)):
            made.append(lines.calling(path, find(path)))
            if chance.random() < 0.1:
                made.append(lines.any())
        made = [line for line in made if not OWN_FLAG.match(line)]
    return made[:count]


def differ(line: bytes, wanted: bytes, got: bytes) -> bool:
    if wanted.endswith(NOT_READ) or got.endswith(NOT_READ):
        return seen(wanted) != seen(got)
    ours = tuple(got.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"))
    named = line.decode("utf-8", "surrogateescape")
    return is_handled(line) and seen(wanted) != seen(got) and not is_not_imitated(named, ours)


def put(peers: tuple[Peer, Peer], batch: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    """Give both the lines; return those whose answers differ, with QEMU's answer and ours."""
    batch = [FORMAT, *batch]
    for peer in peers:
        peer.send(batch)
    try:
        theirs, ours = (list(map(quiet, peer.answers(len(batch)))) for peer in peers)
    except OSError as error:
        raise AssertionError(f"seed {SEED}: one of them did not answer all of {batch}") from error
    answers = zip(batch, theirs, ours, strict=True)
    return {line: (wanted, got) for line, wanted, got in answers if differ(line, wanted, got)}


def smallest(peers: tuple[Peer, Peer], line: bytes) -> bytes:
    """What is left of a line when all is taken away without which its answers still differ."""
    step = len(line)
    while step := step // 2:
        start = 0
        while start < len(line):
            shorter = line[:start] + line[start + step :]
            if put(peers, [shorter]):
                line = shorter
            else:
                start += step
    return line


def test_any_line_has_qemus_answer(peers: tuple[Peer, Peer]) -> None:
    chance = random.Random(SEED)
    lines = [*FOUND, *make(Lines(chance), chance, LINES)]
    differing: dict[bytes, tuple[bytes, bytes]] = {}
    for start in range(0, len(lines), LINES_AT_ONCE):
        differing |= put(peers, lines[start : start + LINES_AT_ONCE])
        if len(differing) >= ENOUGH:
            break
    shown: dict[bytes, tuple[bytes, bytes]] = {}
    for line in list(differing)[:ENOUGH]:
        shown |= put(peers, [smallest(peers, line)])
    assert not differing, f"seed {SEED}: {shown or differing}"


async def run_here(given: Sequence[bytes]) -> list[bytes]:
    """What a monitor without a machine answers, which none of its lines needs to be read."""
    monitor = Monitor(Registry())
    person = FakePerson(interactive=False, comments=False)
    answers = []
    for line in given:
        await monitor.run_line(line.decode("ascii"), person)
        said = person.said()
        answers.append(f"{said}\n".encode().replace(b"\r", b"") if said else b"")
    return answers


def test_control_characters_and_white_space_are_read_as_qemu_reads_them(peers: tuple[Peer, Peer]) -> None:
    chance = random.Random(SEED)
    batch = [FORMAT, *make(Lines(chance, controls=True), chance, LINES)]
    theirs = map(quiet, peers[0].answers_by_qmp(batch))
    ours = map(quiet, asyncio.run(run_here(batch)))
    differing = {
        line: {"qemu": wanted, "qmon": got}
        for line, wanted, got in zip(batch, theirs, ours, strict=True)
        if seen(wanted) != seen(got)
        and (NEEDS_NO_MACHINE.match(line) or wanted.endswith(NOT_READ) or got.endswith(NOT_READ))
    }
    assert not differing, f"seed {SEED}"
