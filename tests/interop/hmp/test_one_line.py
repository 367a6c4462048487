"""Whatever goes wrong around a start or an end, a person reads one line, and never a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, same
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT, QMON, Lab, Qmon, open_descriptors
from tests.support.runs import Done, one_line, run
from tests.support.waiting import PATIENCE, connected, eventually

THREADS = "can't start new thread: the limit of memory or of processes is too low"


def shell(command: str, *options: str, **environment: str) -> Done:
    """Run a bash line, in which "$@" is qmon with options; without coverage, which needs memory."""
    return subprocess.run(
        ["bash", "-c", command, "-", *QMON, *options],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        cwd=CHECKOUT,
        env={**os.environ, "COVERAGE_PROCESS_CONFIG": "", **environment},
    )


# Clients of a start that fails


@contextlib.contextmanager
def knocking(connect: Callable[[], socket.socket], says: bytes) -> Iterator[None]:
    """Clients that come, say something and go, all the time."""
    stop = threading.Event()

    def knock() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), connect() as sock:
                sock.sendall(says)
            time.sleep(0.001)

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("-monitor", "unix:{path},server,nowait"),
        ("-monitor", "tcp:127.0.0.1:{port},server,nowait"),
        ("-monitor", "telnet:127.0.0.1:{port},server,nowait"),
        ("-qmp", "unix:{path},server,nowait"),
        ("-qmp", "tcp:127.0.0.1:{port},server,nowait"),
    ],
)
def test_clients_of_a_start_that_fails_change_nothing_of_what_is_said(
    tmp_path: Path, option: str, value: str
) -> None:
    path, port = tmp_path / "sock", free_port()
    if "unix" in value:
        knock = knocking(lambda: connected(path), b"info status\n")
    else:
        knock = knocking(lambda: socket.create_connection(("127.0.0.1", port)), b'{"execute": "quit"}\n')
    missing = drive(tmp_path / "none")
    with knock:
        for _ in range(2):
            said = one_line(run(option, value.format(path=path, port=port), *missing))
            assert said == f"Could not open '{tmp_path}/none': No such file or directory"


# Standard streams that are full, closed, or that nobody reads

LISTINGS = [["-h"], ["-version"], ["-object", "help"], ["-c", "help"], ["-json", "-c", "help"]]


@pytest.mark.parametrize("options", LISTINGS, ids=" ".join)
def test_a_full_output_is_said_in_one_line(options: list[str]) -> None:
    done = shell('"$@" >/dev/full', *options)
    assert (done.returncode, done.stderr) == (1, "qmon: standard output: No space left on device\n")
    done = shell('"$@" >/dev/full 2>/dev/full', *options)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("options", LISTINGS, ids=" ".join)
def test_an_output_that_nobody_reads_is_no_fault(options: list[str]) -> None:
    done = shell('"$@" > >(exec true); sleep 0.1; "$@" | true; exit "${PIPESTATUS[0]}"', *options)
    assert done.stderr in ("", *("qmon: standard output: Broken pipe\n" * count for count in (1, 2)))
    if "-c" not in options:
        assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(tmp_path: Path, closed: str) -> None:
    image = drive(blank(tmp_path / "disk.img", MIB))
    done = shell(f'"$@" {closed}', *image, "-c", "info status")
    said = "" if ">&-" in closed.split() else "VM status: running\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    done = shell(f'"$@" {closed}', *drive(tmp_path / "none"))
    missing = f"qmon: Could not open '{tmp_path}/none': No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, "" if "2>&-" in closed else missing)
    assert (tmp_path / "disk.img").read_bytes() == bytes(MIB)


def test_qmp_on_standard_streams_says_all_whatever_they_are(tmp_path: Path) -> None:
    asked, said = tmp_path / "asked", tmp_path / "said"
    lines = [
        '{"execute": "qmp_capabilities"}',
        *['{"execute": "query-commands"}'] * 20,  # more than a pipe holds
        '{"execute": "quit"}',
    ]
    asked.write_text("\n".join(lines))
    wanted = None
    for line in (
        '"$@" <"$ASKED" | cat >"$SAID"',
        '"$@" <"$ASKED" >"$SAID"',
        'cat "$ASKED" | "$@" >"$SAID"',
        'rm "$SAID"; "$@" <"$ASKED" >>"$SAID"',
    ):
        done = shell(line, "-qmp", "stdio", ASKED=str(asked), SAID=str(said))
        assert (done.returncode, done.stderr) == (0, "")
        greeting, *answers, last = map(json.loads, said.read_text().splitlines())
        assert "QMP" in greeting
        assert [list(answer) for answer in answers[:-1]] == [["return"]] * 21
        assert {"event", "return"} <= {*answers[-1], *last}
        assert wanted in (None, answers[10])
        wanted = answers[10]


@pytest.mark.parametrize("output", ["/dev/null", "/dev/full"])
def test_qmp_whose_answers_nobody_gets_is_obeyed(tmp_path: Path, output: str) -> None:
    asked = tmp_path / "asked"
    lines = [
        '{"execute": "qmp_capabilities"}',
        *['{"execute": "query-commands"}'] * 20,
        '{"execute": "quit"}',
    ]
    asked.write_text("\n".join(lines))
    done = shell(f'"$@" <"$ASKED" >{output}', "-qmp", "stdio", ASKED=str(asked))
    full = "qmon: can't write to standard output any more: No space left on device\n"
    assert (done.returncode, done.stderr) == (0, full if output == "/dev/full" else "")


# Names and environments


@pytest.mark.parametrize(
    ("locale", "more"),
    [("C", {}), ("C.UTF-8", {}), ("C", {"PYTHONIOENCODING": "ascii"}), ("C.UTF-8", {"PYTHONUTF8": "0"})],
)
def test_a_name_comes_out_as_it_went_in(locale: str, more: dict[str, str]) -> None:
    name = "vm \u00e4 \u2192 \U0001f600"
    done = subprocess.run(
        [*QMON, "-name", name, "-c", "info name"],
        capture_output=True,
        timeout=3 * PATIENCE,
        cwd=CHECKOUT,
        env={**os.environ, **more, "LC_ALL": locale},
    )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, f"{name}\n", b"")


@pytest.mark.parametrize(
    "options", [["-drive", b"file=\xff\xfe"], [b"-\xff"], ["-hx", b"\xff"], ["-script", b"\xff"]]
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_is_no_text_is_told_in_one_line(options: list[str | bytes], locale: str) -> None:
    done = subprocess.run(
        [*QMON, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=3 * PATIENCE,
        cwd=CHECKOUT,
        env={**os.environ, "LC_ALL": locale},
    )
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("qmon: ")
    assert "internal error" not in line


# Shortage


def test_a_start_without_threads_is_told_in_one_line(tmp_path: Path) -> None:
    image = drive(blank(tmp_path / "disk.img", MIB))
    done = shell('ulimit -s 8000000 -v 6000000; exec "$@"', *image, "-c", "info status")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"qmon: {THREADS}\n")


@pytest.mark.parametrize("kilobytes", range(50_000, 130_000, 20_000))
def test_a_start_without_memory_is_told_in_one_line(kilobytes: int) -> None:
    """What is short is the start or the command; that it has failed is a script's line of its own."""
    done = shell(f'ulimit -v {kilobytes}; exec "$@"', "-c", "info status")
    if done.returncode:
        line, *script = done.stderr.splitlines()
        assert line.startswith(("qmon: ", "-c:1: Error: "))
        assert "internal error" not in line
        assert script in ([], ["-c:1: failed: info status"])
    else:
        assert (done.stdout, done.stderr) == ("VM status: running\n", "")


@pytest.mark.parametrize("files", range(5, 12))
def test_a_start_without_descriptors_is_told_in_one_line(files: int) -> None:
    done = shell(f'ulimit -n {files}; exec "$@"', "-c", "info status")
    if done.returncode:
        (line,) = done.stderr.splitlines()
        assert line.endswith("Too many open files")
    else:
        assert (done.stdout, done.stderr) == ("VM status: running\n", "")


def test_a_migration_without_a_thread_fails_and_the_next_one_arrives(lab: Lab) -> None:
    """A thread's stack is as large as this process may have it: later there is no room for one."""
    uri = f"unix:{lab.folder}/mig"
    image, empty = filled(lab.folder / "source.img", MIB), blank(lab.folder / "target.img", MIB)
    target = lab.start("target", *drive(empty), "-incoming", uri)
    before = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, before[1]))
    try:
        source = lab.start("source", *drive(image), anew=True)
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, before)
    limit = resource.prlimit(source.process.pid, resource.RLIMIT_AS)
    resource.prlimit(source.process.pid, resource.RLIMIT_AS, (size_of(source) + (200 << 20), limit[1]))
    said = source.command(f"nbd_server_start unix:{source.nbd}")
    assert said in ("", f"Error: {THREADS}")  # the stack of a thread that has ended may be left
    source.quietly(f"migrate -d blk {uri}")
    assert source.wait_migration("failed") == f"failed ({THREADS})"
    assert source.status() == "running"
    resource.prlimit(source.process.pid, resource.RLIMIT_AS, limit)
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(image, empty)


def size_of(qmon: Qmon) -> int:
    pages = Path(f"/proc/{qmon.process.pid}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


# Interrupts, and what nobody has foreseen


def test_an_interrupt_while_it_starts_ends_it_without_a_word(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [*QMON, "-hx", str(fifo)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        eventually(lambda: str(fifo) in open_descriptors(process.pid), "it waits for the file")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=3 * PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (-signal.SIGINT, b"")


FAULTS = {
    "program": "import qmon.program.options; qmon.program.options.parse = lambda argv: {}[1]",
    "thread": "import threading; threading.Thread(target=lambda: {}[1]).start()",
    "destructor": "type('T', (), {'__del__': lambda self: {}[1]})()",
}
"""Faults of our own, put in."""


@pytest.mark.parametrize("where", ["thread", "destructor"])
def test_a_fault_of_our_own_is_one_line_and_its_details_are_in_the_log(tmp_path: Path, where: str) -> None:
    log = tmp_path / "log"
    fault = (
        "import qmon.program.script_run as s; run = s.open_scripts\n"
        f"def opened(o): {FAULTS[where]}; return run(o)\n"
    )
    code = f"import sys, qmon.program.cli\n{fault}s.open_scripts = opened\nsys.exit(qmon.program.cli.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", "info status"], capture_output=True, text=True, cwd=CHECKOUT
    )
    assert (done.returncode, done.stdout) == (0, "VM status: running\n")
    if where == "thread":
        (line,) = done.stderr.splitlines()
        assert line.startswith("qmon: internal error: the thread 'Thread-")
        assert line.endswith("KeyError: 1; please report it (-D LOGFILE keeps the details)")
    else:
        assert done.stderr == ""  # it breaks nothing
    done = subprocess.run(
        [sys.executable, "-c", code, "-D", str(log), "-c", "info status"],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "VM status: running\n", "")
    assert "Traceback" in log.read_text()


def test_a_fault_before_anything_runs_is_one_line() -> None:
    code = f"import sys, qmon.program.cli\n{FAULTS['program']}\nsys.exit(qmon.program.cli.main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "qmon: internal error: the program failed: KeyError: 1; please report it"
        " (-D LOGFILE keeps the details)\n"
    )
