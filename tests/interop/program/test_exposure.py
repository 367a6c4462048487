"""Addresses that others can reach without TLS: a warning where a person sees it, or, if wished, a refusal."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.host.exposure import is_loopback
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.runs import Done, run_in
from tests.support.seat import Seat
from tests.support.waiting import PATIENCE, eventually

REMEDY = "has no TLS, and -require-tls is given: use TLS (tls-creds), a Unix socket or a loopback address"


def every_port(host: str) -> tuple[list[str], dict[str, str]]:
    """The options that open each kind of port at a host, and what each is called, by its address."""
    names = ["character device 'compat_monitor0'", "character device 'compat_monitor1'"]
    names += ["the incoming migration", "the NBD server", "character device 'c'"]
    there = [f"[{host}]" if ":" in host else host for _ in names]
    places = [f"{each}:{free_port()}" for each in there]
    monitor, qmp, incoming, nbd, device = places
    options = ["-monitor", f"tcp:{monitor},server,nowait", "-qmp", f"tcp:{qmp},server,nowait"]
    options += ["-incoming", f"tcp:{incoming}", "-c", f"nbd_server_start {nbd}"]
    options += [
        "-c",
        f"chardev-add socket,id=c,host={host},port={device.rpartition(':')[2]},server=on,wait=off",
    ]
    return [*options, "-c", "quit"], dict(zip(places, names, strict=True))


def run_with_disk(folder: Path, *options: str) -> Done:
    (folder / "disk.img").write_bytes(bytes(1 << 20))
    return run_in(folder, "-drive", "file=disk.img,format=raw,id=d0", *options)


@pytest.mark.parametrize(("host", "log"), [("0.0.0.0", []), ("::", ["-D", "log"])])
def test_each_port_is_warned_about(tmp_path: Path, host: str, log: list[str]) -> None:
    options, names = every_port(host)
    said = run_with_disk(tmp_path, *log, *options).stderr.splitlines()
    assert [line for line in said if "TLS" in line] == [
        f"qmon: warning: {what} on {where} is open to the network without TLS: others can connect, and read"
        " and change what passes"
        for where, what in names.items()
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_is_neither_warned_about_nor_refused(tmp_path: Path, host: str) -> None:
    done = run_with_disk(tmp_path, "-require-tls", *every_port(host)[0])
    assert (done.stderr, done.returncode) == ("", 0)


def test_an_address_is_warned_about_once(tmp_path: Path) -> None:
    line = f"nbd_server_start 0.0.0.0:{free_port()}"
    done = run_with_disk(tmp_path, "-c", line, "-c", "nbd_server_stop", "-c", line)
    assert done.stderr.count("warning") == 1


def test_each_port_is_refused_with_require_tls(tmp_path: Path) -> None:
    options, names = every_port("0.0.0.0")
    monitors, (incoming, *later) = list(names.items())[:2], list(names.items())[2:]
    starts = options[: options.index("-incoming")], options[options.index("-incoming") :]
    for start, refused in (
        (starts[0], monitors),
        (starts[1], [incoming]),
        (["-keep-going", *starts[1][2:]], later),
    ):
        done = run_with_disk(tmp_path, "-require-tls", *start)
        assert done.returncode == 1
        assert "warning" not in done.stderr
        for where, what in refused:
            assert f"{what} on {where} {REMEDY}" in done.stderr


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["-c", "migrate blk tcp:192.0.2.1:4444"], "the migration to 192.0.2.1:4444"),
        (["-c", "migrate -n blk tcp:192.0.2.1:4444"], "the migration to 192.0.2.1:4444"),
        (
            ["-chardev", "socket,id=c,host=192.0.2.1,port=4444", "-c", "quit"],
            "character device 'c' to 192.0.2.1:4444",
        ),
        (
            ["-chardev", "udp,id=c,host=192.0.2.1,port=4444", "-c", "quit"],
            "character device 'c' to 192.0.2.1:4444",
        ),
        (
            ["-drive", "if=none,id=remote,file=nbd://192.0.2.1:4444/x", "-c", "quit"],
            "the connection to 192.0.2.1:4444",
        ),
    ],
)
def test_a_connection_to_another_host_is_refused_with_require_tls(
    tmp_path: Path, options: list[str], what: str
) -> None:
    done = run_with_disk(tmp_path, "-require-tls", *options)
    assert done.returncode == 1
    assert f"{what} {REMEDY}" in done.stderr


def test_a_console_does_not_connect_to_another_host_with_require_tls(tmp_path: Path) -> None:
    done = run_in(tmp_path, "-require-tls", "-connect", "192.0.2.1:4444", "-c", "info status")
    assert done.stderr == f"qmon: -connect: the connection to 192.0.2.1:4444 {REMEDY}\n"


@contextlib.contextmanager
def waiting_qemu(folder: Path) -> Iterator[str]:
    """A QEMU that waits for a migration; yields the address of its QMP monitor."""
    require("qemu-system-x86_64")
    options = ["-M", "none", "-nodefaults", "-display", "none", "-incoming", "defer"]
    process = subprocess.Popen(
        ["qemu-system-x86_64", *options, "-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
    )
    try:
        eventually(lambda: (folder / "qmp").exists(), "its monitor is there")
        yield f"unix:{folder}/qmp"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_a_console_that_listens_for_a_guest_is_warned_about_or_refused(tmp_path: Path) -> None:
    number = free_port()
    with waiting_qemu(tmp_path) as address:
        options = ["-connect", address, "-incoming", f"tcp:0:{number}", "-c", "info status", "-c", "quit"]
        refused = run_in(tmp_path, "-require-tls", *options)
        said = run_in(tmp_path, *options).stderr
    assert f"qmon: warning: this console on 0.0.0.0:{number} is open to the network without TLS" in said
    assert refused.stderr == f"qmon: -incoming tcp:0:{number}: this console on 0:{number} {REMEDY}\n"


def test_a_console_shows_the_warning_once(seat: Seat) -> None:
    seat.start()
    seat.prompt()
    seat.terminal.type(f"nbd_server_start 0.0.0.0:{free_port()}\rinfo status\r")
    seat.terminal.wait_for(r"^VM status: .*\n\(qemu\) $")
    warning = "warning: the NBD server on"
    assert seat.terminal.wait_for(f"{warning}(?:.*\n)+VM status").count(warning) == 1


def test_a_connected_script_prints_the_warning(tmp_path: Path, seat: Seat) -> None:
    seat.start("-name", "served")
    seat.prompt()
    there = Path(seat.log).parent / "qmon"
    line = f"nbd_server_start 0.0.0.0:{free_port()}"
    done = run_in(tmp_path, "-statedir", str(there), "-connect", "served", "-c", line)
    assert done.stderr.count("warning: the NBD server on") == 1


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%lo", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
    ],
)
def test_loopback_is_known_in_each_notation(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local
