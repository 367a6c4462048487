"""A script without a terminal, a home or a locale that moves a disk: each way to fail says why on stderr.

The exit status is 1, and the source's disk is as it was.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT, QMON, Lab, Qmon
from tests.support.runs import Done
from tests.support.waiting import PATIENCE, eventually

SIZE = 4 * MIB
SLOWLY = "migrate_set_parameter max-bandwidth 100k"


def command(folder: Path, *lines: str, image: str = "source.img") -> list[str]:
    """What cron runs: the lines are in move.hmp."""
    (folder / "move.hmp").write_text("# move the disk\n" + "".join(f"{line}\n" for line in lines))
    clean = ["env", "-i", "LANG=C", f"PYTHONPATH={CHECKOUT}"]
    state = ["-statedir", str(folder / "records")]
    return [*clean, *QMON, *state, *drive(folder / image), "-q", "-script", "move.hmp"]


def cron(folder: Path, *lines: str, image: str = "source.img", more: Sequence[str] = ()) -> Done:
    return subprocess.run(
        [*command(folder, *lines, image=image), *more],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
    )


def reasons(done: Done) -> list[str]:
    """The lines on stderr of a script that has failed; stdout has none of them."""
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


def failed(line: str, *why: str) -> list[str]:
    """What a script says whose second line fails."""
    return [*(f"move.hmp:2: {each}" for each in why), f"move.hmp:2: failed: {line}"]


@pytest.fixture
def folder(lab: Lab) -> Path:
    filled(lab.folder / "source.img", SIZE)
    return lab.folder


def waiting(lab: Lab, size: int = SIZE) -> tuple[Qmon, str]:
    """A destination and its URI."""
    uri = f"unix:{lab.folder}/in"
    image = blank(lab.folder / "target.img", size)
    return lab.start("target", *drive(image), "-incoming", uri), uri


def test_a_disk_is_moved_without_a_word(folder: Path, lab: Lab) -> None:
    target, uri = waiting(lab)
    done = cron(folder, f"migrate blk {uri}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    target.wait_status("running")
    assert same(folder / "source.img", folder / "target.img")


def test_a_wrong_image(folder: Path) -> None:
    done = cron(folder, "migrate blk unix:in", image="sauce.img")
    assert reasons(done) == [f"qmon: Could not open '{folder}/sauce.img': No such file or directory"]


def test_an_image_that_another_process_uses(folder: Path, lab: Lab) -> None:
    lab.start("user", *drive(folder / "source.img"))
    (why,) = reasons(cron(folder, "migrate blk unix:in"))
    assert why.startswith(f"qmon: Could not open '{folder}/source.img': Failed to get ")
    assert "another process" in why


def test_a_wrong_option(folder: Path) -> None:
    done = cron(folder, "migrate blk unix:in", more=["-incomming", "x", "-uuid", "1"])
    assert reasons(done) == [
        "qmon: -incomming: invalid option",
        "qmon: -uuid 1: failed to parse UUID string: wrong format",
    ]


def test_all_that_can_not_be_opened(folder: Path) -> None:
    more = [*drive(folder / "two.img", "d1"), "-object", f"secret,id=s0,file={folder}/key"]
    more += ["-monitor", f"unix:{folder}/no/m,server,nowait"]
    said = reasons(cron(folder, "migrate blk unix:in", image="one.img", more=more))
    assert f"{folder}/key" in said[0]
    assert said[1].startswith(f"qmon: -monitor unix:{folder}/no/m,server,nowait: Failed to bind socket to ")
    assert said[2:] == [
        f"qmon: Could not open '{folder}/{name}.img': No such file or directory" for name in ("one", "two")
    ]


def test_an_unknown_command(folder: Path) -> None:
    assert reasons(cron(folder, "migrat blk unix:in")) == failed(
        "migrat blk unix:in", "unknown command: 'migrat'"
    )


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (
            "tcp:::1:4444",
            [
                "Error: address resolution failed for ::1:4444: Servname not supported for ai_socktype",
                "An IPv6 address needs brackets: write tcp:[::1]:4444",
            ],
        ),
        ("tcp:hostb", ["Error: error parsing address 'hostb'", "The port is missing: write tcp:hostb:PORT"]),
        (
            "hostb:4444",
            ["Error: Parameter 'uri' expects a valid migration protocol", "Write tcp:hostb:4444"],
        ),
    ],
)
def test_an_address_that_lacks_something(folder: Path, uri: str, why: list[str]) -> None:
    line = f"migrate blk {uri}"
    assert reasons(cron(folder, line)) == failed(line, *why)


def test_a_destination_that_does_not_listen(folder: Path) -> None:
    port = free_port()
    line = f"migrate blk tcp:127.0.0.1:{port}"
    why = f"Error: Failed to connect to '127.0.0.1:{port}': Connection refused"
    hint = "Is a qmon with -incoming and this address running there?"
    assert reasons(cron(folder, line)) == failed(line, why, hint)


def test_another_server_in_the_place_of_the_destination(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        line = f"migrate blk {uri}"
        process = subprocess.Popen(
            command(folder, line),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with listener.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            out, err = process.communicate(timeout=3 * PATIENCE)
    why = f"Error: {uri} answers as an SSH server, not as a migration destination"
    assert (process.returncode, out, err.splitlines()) == (1, "", failed(line, why))


def test_a_destination_that_refuses_the_size(folder: Path, lab: Lab) -> None:
    target, uri = waiting(lab, SIZE + 512)
    line = f"migrate blk {uri}"
    why, last = reasons(cron(folder, line))
    assert why.startswith(f"move.hmp:2: Error: drive 'd0' has {SIZE} bytes at the source and {SIZE + 512} at")
    assert last == f"move.hmp:2: failed: {line}"
    assert target.status() == "paused (inmigrate)"


def test_no_room_at_the_destination(folder: Path, lab: Lab) -> None:
    target, uri = waiting(lab)
    target.fault("write", error="ENOSPC")
    line = f"migrate blk {uri}"
    why, last = reasons(cron(folder, line))
    assert "failed at the destination: No space left on device" in why
    assert why.startswith("move.hmp:2: Error: drive 'd0': write of ")
    assert last == f"move.hmp:2: failed: {line}"
    assert (folder / "source.img").read_bytes() == noise(SIZE)


def test_records_that_can_not_be_written(folder: Path, lab: Lab) -> None:
    _, uri = waiting(lab)
    (folder / "file").touch()
    line = f"migrate blk {uri}"
    warning, why, last = reasons(cron(folder, line, more=["-statedir", f"{folder}/file/records"]))
    assert warning.startswith("qmon: migrations will fail, because their records can't be written")
    assert why.startswith("move.hmp:2: Error: ")
    assert "Not a directory" in why
    assert last == f"move.hmp:2: failed: {line}"
    assert (folder / "source.img").read_bytes() == noise(SIZE)


def test_a_destination_that_dies_in_the_midst_of_the_copy(folder: Path, lab: Lab) -> None:
    target, uri = waiting(lab)
    line = f"migrate blk {uri}"
    process = subprocess.Popen(
        command(folder, SLOWLY, line),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: target.migration() == "active", "the copy has begun")
    target.kill()
    out, err = process.communicate(timeout=3 * PATIENCE)
    why, last = err.splitlines()
    assert (process.returncode, out) == (1, "")
    assert why.startswith(
        (
            "move.hmp:3: Error: the destination closed the connection",
            "move.hmp:3: Error: the connection to the destination was lost: ",
        )
    )
    assert last == f"move.hmp:3: failed: {line}"
    assert (folder / "source.img").read_bytes() == noise(SIZE)


def test_a_script_that_is_not_there(folder: Path) -> None:
    done = cron(folder, more=["-script", "nosuch.hmp"])
    assert reasons(done) == ["qmon: -script nosuch.hmp: No such file or directory"]
