"""``migrate -n``: what would be refused is listed, the line is measured, and nothing is changed anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from qmon.migration.patience import Patience
from qmon.migration.wire.offer import DriveOffer, Mode, Offer
from qmon.migration.wire.stream import PREAMBLE, section_footer, section_part, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support.images import KIB, MIB, blank, drive, filled, noise, same
from tests.support.locks_probe import locked_bytes
from tests.support.peers import lack, require
from tests.support.processes import Lab, Qmon, migrated, open_descriptors
from tests.support.qcow2_images import run, run_io
from tests.support.visitors import drained, visitor
from tests.support.waiting import PATIENCE, eventually

SIZE = 8 * MIB
WORD = "would accept the migration."
ENDLESS = Patience(probe=1000)
"""Of a source whose trial goes on until it is ended."""


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A lab in which a trial measures for a moment only, and not for 3 s."""
    lab.patience = Patience(probe=0.4)
    return lab


def state_of(path: Path) -> tuple[str, int, int, int]:
    """What a trial must not change: contents, allocation and times."""
    found = path.stat()
    return (
        hashlib.sha256(path.read_bytes()).hexdigest(),
        found.st_blocks,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def records(lab: Lab) -> list[str]:
    """The files in the folder of migrations' records."""
    return sorted(path.name for path in lab.state.glob("migration/**/*") if path.is_file())


def figures(answer: str) -> dict[str, str]:
    """The lines of a trial by their names."""
    lines = (line.split(":", 1) for line in answer.splitlines() if line.startswith("  "))
    return {name.strip(): value.strip() for name, value in lines}


def test_a_trial_says_what_a_migration_would_do_and_changes_nothing(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="4M")
    images = [lab.folder / name for name in ("source.img", "target.img")]
    before = [state_of(path) for path in images]

    def uses_the_limit() -> bool:
        """On a busy machine the line may be slower than its limit, and is measured so."""
        first, *rest = source.command(f"migrate -n blk {uri}").splitlines()
        assert first == f"{uri} {WORD}"
        found = figures("\n".join(rest))
        rate, took = found.pop("line"), found.pop("would take")
        assert found == {"to send": "8 MiB", "guests write": "0 B/s"}
        is_limited = re.fullmatch(r"[34](\.\d*)? MiB/s, held back by max-bandwidth", rate)
        return bool(is_limited and re.fullmatch(r"[12]\.\d s, downtime about 0 ms", took))

    eventually(uses_the_limit, "the line is measured at its limit")
    assert [state_of(path) for path in images] == before
    assert records(lab) == []
    assert locked_bytes(images[1]) == set()
    assert (source.status(), target.status()) == ("running", "paused (inmigrate)")
    assert (source.migration(), target.migration()) == ("none", "none")
    assert source.command("info migrate").find("Migration status") == -1
    assert source.log() == target.log() == ""
    source.quietly("migrate_set_parameter max-bandwidth 4G")
    with source.guest() as guest:
        guest.write(MIB, noise(4096, 9))
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(*images)


def test_all_that_would_be_refused_is_listed_by_a_trial_and_by_a_migration(lab: Lab) -> None:
    images = [filled(lab.folder / name, SIZE) for name in "abc"]
    small = blank(lab.folder / "small", SIZE - 512)
    used = blank(lab.folder / "used", SIZE)
    source, target, uri = lab.pair(
        [*drive(images[0]), *drive(images[1], "d1"), *drive(images[2], "d2")],
        [*drive(small), *drive(used, "d1"), *drive(blank(lab.folder / "t", SIZE), "other")],
    )
    user = lab.start("user", *drive(used))
    reasons = [
        "the destination has no drive 'd2': it has 'd0', 'd1', 'other'",
        f"drive 'd0' has {SIZE} bytes at the source and {SIZE - 512} at the destination: they must be equal"
        f". There: end qmon, 'truncate -s {SIZE} FILE' (qcow2: 'qemu-img resize'), start it again",
        "the destination has a drive 'other', but the source does not",
        f"drive 'd1' can't be opened at the destination: Failed to get \"write\" lock: is another process"
        f" using the image [{used}]?",
    ]
    first, *rest = source.command(f"migrate -n blk {uri}").splitlines()
    assert first == "Error: The migration would be refused for 4 reasons:"
    assert {line.split(". ", 1)[1] for line in rest} == set(reasons)
    assert [line.split(".")[0].strip() for line in rest] == ["1", "2", "3", "4"]
    source.quietly(f"migrate -d blk {uri}")
    said = source.wait_migration("failed")
    assert "for 4 reasons: (1) " in said
    for each in reasons:
        assert each in said
    assert target.status() == "paused (inmigrate)"
    user.close()


def test_one_reason_is_one_sentence(lab: Lab) -> None:
    source, _, uri = lab.pair(
        drive(filled(lab.folder / "a", SIZE)), drive(blank(lab.folder / "b", SIZE), readonly="on")
    )
    why = "drive 'd0' is read-only at the destination and writable at the source"
    assert source.command(f"migrate -n blk {uri}") == f"Error: The migration would be refused: {why}"


def test_overlays_and_their_backing_images_are_compared(lab: Lab) -> None:
    require("qemu-img")
    for name, seed in (("base", 1), ("other", 2)):
        raw = filled(lab.folder / f"{name}.raw", SIZE, seed)
        run("convert", "-O", "qcow2", raw, lab.folder / f"{name}.qcow2")
    images = {}
    for name, base in (("a", "base"), ("b", "base"), ("c", "other")):
        images[name] = lab.folder / f"{name}.qcow2"
        run("create", "-q", "-f", "qcow2", "-b", f"{base}.qcow2", "-F", "qcow2", images[name])
    run_io(images["a"], "write 0 64k")
    source, target, uri = lab.pair(
        drive(images["a"], format="qcow2"), drive(images["b"], format="qcow2"), bandwidth="4M"
    )
    assert figures(source.command(f"migrate -n blk inc {uri}"))["to send"] == "64 KiB"
    target.close()
    (lab.folder / "migrate.sock").unlink(missing_ok=True)
    run_io(images["c"], "write 1M 64k")
    lab.start("wrong", *drive(images["c"], format="qcow2"), "-incoming", uri)
    said = source.command(f"migrate -n blk inc {uri}")
    assert "the backing image of drive 'd0' differs between the source and the destination" in said
    assert f"the overlay of drive 'd0' is not empty at the destination (data at byte {MIB})" in said


def test_shared_disks_are_compared(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    (lab.folder / "link.img").symlink_to(image)
    source, _, uri = lab.pair(drive(image), drive(lab.folder / "link.img"))
    assert source.command(f"migrate -n {uri}").splitlines() == [
        f"{uri} {WORD}",
        "  to send: nothing, both sides use the same disks",
    ]
    why = "drive 'd0' can't be opened at the destination: Failed to get"
    assert why in source.command(f"migrate -n blk {uri}")


def test_disks_that_are_not_shared_are_not_taken_for_it(lab: Lab) -> None:
    source, _, uri = lab.disk_pair(SIZE)
    said = source.command(f"migrate -n {uri}")
    why = "drive 'd0' is not the same disk on both sides"
    assert said.startswith(f"Error: The migration would be refused: {why}")


@contextlib.contextmanager
def writing(source: Qmon) -> Iterator[None]:
    """A guest that writes to all of the disk, without a pause."""
    begun, ended = threading.Event(), threading.Event()

    def write() -> None:
        with source.guest() as guest:
            piece = noise(256 * KIB, 5)
            while not ended.is_set():
                for offset in range(0, SIZE, len(piece)):
                    guest.write(offset, piece)
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        ended.set()
        thread.join()


def test_a_line_that_is_slower_than_the_guests_is_said_to_take_for_ever(lab: Lab) -> None:
    source, _, uri = lab.disk_pair(SIZE, bandwidth="256k")
    advice = r"'migrate_set_parameter max-bandwidth \d+[KM]' would help; so"

    def is_held_back() -> bool:
        """On a busy machine it may be slower than its limit: then a higher one would not help."""
        answer = source.command(f"migrate -n blk {uri}")
        assert figures(answer)["would take"].startswith("for ever: guests write ")
        result = source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
        assert result["converges"] is False
        assert result["x-qmon-guest-write-rate"] > result["rate"]
        assert result["rate"] < MIB / 2
        assert "duration" not in result
        (disk,) = result["x-qmon-disks"]
        assert disk["x-qmon-guest-write-rate"] == result["x-qmon-guest-write-rate"]
        return (
            re.match(advice, answer.splitlines()[-1]) is not None
            and result["x-qmon-not-converging"]["value"] > result["x-qmon-guest-write-rate"] > MIB
        )

    with writing(source):
        eventually(is_held_back, "a higher limit is advised")


def test_what_is_not_copied_is_said(lab: Lab) -> None:
    require("qemu-img")
    image = lab.folder / "a.qcow2"
    run("convert", "-O", "qcow2", filled(lab.folder / "raw", MIB), image)
    run("snapshot", "-c", "s", image)
    there = lab.folder / "b.qcow2"
    run("create", "-q", "-f", "qcow2", there, str(MIB))
    source, _, uri = lab.pair(drive(image, format="qcow2"), drive(there, format="qcow2"), bandwidth="1M")
    *_, last = source.command(f"migrate -n blk {uri}").splitlines()
    assert last == "drive 'd0': 1 internal snapshot is not copied"


def test_an_empty_read_only_image_would_be_filled_and_another_one_refused(lab: Lab) -> None:
    image = filled(lab.folder / "a", SIZE)
    there = blank(lab.folder / "b", SIZE)
    source, target, uri = lab.pair(drive(image, readonly="on"), drive(there, readonly="on"), bandwidth="4M")
    assert figures(source.command(f"migrate -n blk {uri}"))["to send"] == "8 MiB"
    filled(there, SIZE, 3)
    assert "read-only drive 'd0' differs" in source.command(f"migrate -n blk {uri}")
    there.write_bytes(image.read_bytes())
    assert figures(source.command(f"migrate -n blk {uri}"))["to send"] == "0 B"
    assert target.status() == "paused (inmigrate)"


class Peer:
    """A listener that says something to each connection, and then waits or closes."""

    def __init__(self, path: Path, said: bytes, *, closes: bool = True) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.uri = f"unix:{path}"
        self._said, self._closes = said, closes
        self._ended = threading.Event()
        self.connected = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        sock, _ = self._listener.accept()
        with sock, contextlib.suppress(OSError):  # it has gone
            self.connected.set()
            sock.sendall(self._said)
            sock.recv(4096)
            if not self._closes:
                self._ended.wait()


def tried(source: Qmon, uri: str, answers: list[str]) -> threading.Thread:
    """Begin a trial on a thread; its answer is added to the list."""

    def run() -> None:
        with contextlib.suppress(ConnectionError):  # the source may end before
            answers.append(source.command(f"migrate -n blk {uri}"))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(4096)])
def test_a_peer_that_is_no_qmon_is_an_error_of_one_line(lab: Lab, said: bytes) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    with Peer(lab.folder / "peer", said) as peer:
        answer = source.command(f"migrate -n blk {peer.uri}")
    assert answer.startswith("Error: ")
    assert "\n" not in answer
    assert source.status() == "running"


def test_nobody_there_is_an_error(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    why = f"Failed to connect to 'unix:{lab.folder}/nobody': No such file or directory"
    assert source.command(f"migrate -n unix:{lab.folder}/nobody") == f"Error: {why}"
    assert source.command("migrate -n nonsense").startswith("Error: Parameter 'uri' expects")
    for flag in "dr":
        why = f"migrate: -n can't be used with -{flag}: a trial moves nothing"
        assert source.command(f"migrate -n -{flag} tcp:0:1") == why


def test_a_trial_can_be_cancelled_and_excludes_a_migration(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    answers: list[str] = []
    with Peer(lab.folder / "peer", b"", closes=False) as peer:
        trying = tried(source, peer.uri, answers)
        assert peer.connected.wait(PATIENCE)
        assert source.qmp_error("migrate", uri=peer.uri).startswith("A trial of a migration is under way")
        assert source.qmp_error("x-qmon-migrate-trial", uri=peer.uri).startswith("A trial of a migration")
        assert "is busy" in source.qmp_error("block_resize", device="d0", size=SIZE * 2)
        source.qmp("migrate_cancel")
        trying.join(PATIENCE)
    assert answers == ["Error: the trial was cancelled"]
    assert source.command("block_resize d0 16M") == ""


def test_a_process_that_ends_ends_its_trial(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", SIZE)))
    with Peer(lab.folder / "peer", b"", closes=False) as peer:
        trying = tried(source, peer.uri, [])
        assert peer.connected.wait(PATIENCE)
        source.process.terminate()
        assert source.process.wait(PATIENCE) == 0
        trying.join(PATIENCE)


def test_a_trial_that_was_cut_leaves_room_for_the_next_one_and_for_the_migration(lab: Lab) -> None:
    lab.patience = ENDLESS
    source, target, uri = lab.disk_pair(SIZE, bandwidth="1M")
    trying = tried(source, uri, [])
    eventually(lambda: "trial" in source.qmp_error("migrate", uri="nonsense"), "the trial is under way")
    source.kill()
    trying.join(PATIENCE)
    lab.patience = Patience(probe=0.4)
    other = lab.start("again", *drive(lab.folder / "source.img"))
    other.quietly("migrate_set_parameter max-bandwidth 4M")
    assert WORD in other.command(f"migrate -n blk {uri}")
    migrated(other, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_migration_that_arrives_during_a_trial_is_taken_and_the_trial_ends(lab: Lab) -> None:
    lab.patience = ENDLESS
    source, target, uri = lab.disk_pair(SIZE, bandwidth="1M")
    other = lab.start("other", *drive(filled(lab.folder / "other.img", SIZE, 2)))
    answers: list[str] = []
    before = len(open_descriptors(target.process.pid))
    trying = tried(source, uri, answers)
    eventually(lambda: len(open_descriptors(target.process.pid)) > before, "the trial has arrived")
    migrated(other, target, f"migrate -d blk {uri}")
    trying.join(PATIENCE)
    assert answers == ["Error: a migration has begun at the destination"]
    assert same(lab.folder / "other.img", lab.folder / "target.img")
    assert source.status() == "running"
    why = "the destination already runs: an earlier migration has completed"
    assert source.command(f"migrate -n blk {uri}") == f"Error: {why}"


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of a few MiB."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        lack("a mount of tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_does_not_fit_is_refused_before_the_first_byte(lab: Lab) -> None:
    with small_disk(lab.folder / "small", 6 * MIB) as folder:
        image = filled(lab.folder / "a", SIZE)
        there = blank(folder / "b", SIZE)
        source, _, uri = lab.pair(drive(image), drive(there))
        why = (
            f"drive 'd0' needs at least 8 MiB more at the destination, and the file system of '{there}' has"
            " 6 MiB free"
        )
        assert source.command(f"migrate -n blk {uri}") == f"Error: The migration would be refused: {why}"
        source.quietly(f"migrate -d blk {uri}")
        assert source.wait_migration("failed") == f"failed ({why})"
        assert there.stat().st_blocks == 0


def test_what_the_image_occupies_already_is_not_needed_again(lab: Lab) -> None:
    with small_disk(lab.folder / "small", 12 * MIB) as folder:
        image = filled(lab.folder / "a", SIZE)
        there = filled(folder / "b", SIZE, 2)
        source, target, uri = lab.pair(drive(image), drive(there))
        migrated(source, target, f"migrate -d blk {uri}")
        assert same(image, there)


def test_stored_zeros_need_no_space(lab: Lab) -> None:
    with small_disk(lab.folder / "small", 6 * MIB) as folder:
        image = lab.folder / "a"
        image.write_bytes(bytes(SIZE - MIB) + noise(MIB))
        there = blank(folder / "b", SIZE)
        source, target, uri = lab.pair(drive(image), drive(there))
        migrated(source, target, f"migrate -d blk {uri}")
        assert same(image, there)


def test_drives_on_one_file_system_need_their_sum(lab: Lab) -> None:
    with small_disk(lab.folder / "small", 12 * MIB) as folder:
        here = [*drive(filled(lab.folder / "a", SIZE)), *drive(filled(lab.folder / "b", SIZE), "d1")]
        there = [*drive(blank(folder / "a", SIZE)), *drive(blank(folder / "b", SIZE), "d1")]
        source, _, uri = lab.pair(here, there)
        said = source.command(f"migrate -n blk {uri}")
        assert "drives 'd0', 'd1' need at least 16 MiB more at the destination" in said


def test_strangers_that_pretend_a_trial_keep_nobody_out(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    with visitor(uri, pretended(SIZE)) as sock, visitor(uri, pretended(SIZE)):
        eventually(lambda: sock.recv(1), "the destination reports")
        said = source.command(f"migrate -n blk {uri}")
        assert said == "Error: another trial is under way at the destination"
        migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize("kind", ["data", "zero", "hello", "trial", "finish", "compare", "flush"])
def test_nothing_but_probes_is_taken_in_a_trial(lab: Lab, kind: str) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    before = state_of(lab.folder / "target.img")
    writer = RecordWriter()
    writer.next_sequence = 2  # after TRIAL and END
    writer.raw(section_part())
    noisy, drives = memoryview(noise(4096)), (DriveOffer("d0", SIZE, False),)
    offer = Offer(uuid4(), Mode.FULL, drives).encode()
    fill: dict[str, Callable[[], object]] = {
        "data": lambda: writer.data(0, 0, noisy),
        "zero": lambda: writer.zero(0, 0, 4096),
        "hello": lambda: writer.hello(offer),
        "trial": lambda: writer.trial(offer),
        "finish": lambda: writer.finish(True),
        "compare": lambda: writer.compare(0, bytes(32)),
        "flush": writer.flush,
    }
    fill[kind]()
    writer.end()
    with visitor(uri, pretended(SIZE), b"".join(bytes(piece) for piece in writer.buffers)) as sock:
        assert b"not a valid migration stream" in drained(sock)
    assert state_of(lab.folder / "target.img") == before
    migrated(source, target, f"migrate -d blk {uri}")


def pretended(size: int) -> bytes:
    """The beginning of a trial."""
    offer = Offer(uuid4(), Mode.FULL, (DriveOffer("d0", size, False),))
    writer = RecordWriter()
    writer.raw(PREAMBLE + section_start())
    writer.trial(offer.encode())
    writer.end()
    writer.raw(section_footer())
    return b"".join(bytes(piece) for piece in writer.buffers)
