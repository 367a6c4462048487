"""The command line: what it starts, what it says, how it ends, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled, same
from tests.support.processes import CHECKOUT, QMON, Lab, gone
from tests.support.qmp_client import QmpClient
from tests.support.runs import Done, one_line, run
from tests.support.waiting import PATIENCE, connected, eventually

# What ends at once


@pytest.mark.parametrize("option", ["-version", "--version"])
def test_the_version(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("qmon version ")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_the_help_names_the_options(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("-drive", "-incoming", "-monitor", "-qmp", "-script", "-daemonize", "-D"):
        assert f"\n{name} " in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-cpux"], "-cpux: invalid option"),
        (["-driv", "x"], "-driv: invalid option"),
        (["-name"], "-name: requires an argument"),
        (["-uuid", "1"], "-uuid 1: "),
        (["-incoming", "nonsense"], "-incoming nonsense: Parameter 'uri' expects a valid migration protocol"),
        (["-incoming", "tcp:127.0.0.1:x"], "-incoming tcp:127.0.0.1:x: address resolution failed for 127.0."),
        (["-monitor", "vc"], "-monitor vc: "),
        (["-script", "/nowhere"], "-script /nowhere: No such file or directory"),
        (["-D", "/nowhere/log"], "/nowhere/log: No such file or directory"),
        (
            ["-pidfile", "/nowhere/pid"],
            "cannot create PID file: Could not create '/nowhere/pid': No such file or directory",
        ),
        (
            ["-monitor", "unix:/nowhere/m,server,nowait"],
            "-monitor unix:/nowhere/m,server,nowait: Failed to bind socket to /nowhere/m: No such file",
        ),
        (
            ["-incoming", "unix:/nowhere/m"],
            "-incoming unix:/nowhere/m: Failed to bind socket to /nowhere/m: ",
        ),
    ],
)
def test_what_can_not_be_is_said_in_one_line(options: list[str], said: str) -> None:
    assert one_line(run(*options)).startswith(said)


def test_what_only_matters_to_a_cpu_is_ignored_with_one_line() -> None:
    done = run("-M", "pc", "-m", "1G", "-display", "none", "-device", "virtio-blk", "--enable-kvm", stdin="")
    assert done.returncode == 0
    assert done.stderr == "qmon: these options are ignored: -M, -m, -display, -device, -enable-kvm\n"


# Drives that can't be opened


def test_a_missing_image(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert one_line(run(*drive(path))) == f"Could not open '{path}': No such file or directory"


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    said = one_line(run(*drive(tmp_path)))
    assert said == f"'file' driver requires '{tmp_path}' to be a regular file"


def test_an_image_that_another_process_uses(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", MIB)
    user = lab.start("user", *drive(image))
    line = one_line(run(*drive(image)))
    assert line.startswith(f"Could not open '{image}': Failed to get")
    assert "another process" in line
    user.close()
    assert run(*drive(image), stdin="info block\n").returncode == 0


def test_one_image_as_two_drives_is_refused(tmp_path: Path) -> None:
    image = filled(tmp_path / "disk.img", MIB)
    assert "Failed to get" in one_line(run(*drive(image), *drive(image, "d1")))


@pytest.mark.parametrize("keys", ["", ",format=qcow2"])
def test_a_damaged_qcow2_image_is_refused_in_one_line(tmp_path: Path, keys: str) -> None:
    image = tmp_path / "disk.qcow2"
    image.write_bytes(b"QFI\xfb" + bytes(65536))
    line = one_line(run("-drive", f"file={image}{keys},id=d0,readonly=on"))
    assert f"Could not open '{image}': Unsupported qcow2 version 0" in line


# Scripts


def test_a_script_on_a_pipe_runs_to_its_end() -> None:
    done = run("-name", "vm one", stdin="info name\n# a comment\n\ninfo status # running?\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "vm one\nVM status: running\n", "")


def test_a_script_stops_at_the_first_line_that_fails(tmp_path: Path) -> None:
    text = "info status\n# nothing\nmigrate nonsense\nstop\n"
    script = tmp_path / "script"
    script.write_text(text)
    image = drive(filled(tmp_path / "disk.img", MIB))
    for done, name in (
        (run(*image, stdin=text), "stdin"),
        (run(*image, "-script", str(script)), str(script)),
    ):
        assert done.returncode == 1
        assert done.stdout == "VM status: running\n"
        assert done.stderr.splitlines() == [
            f"{name}:3: Error: Parameter 'uri' expects a valid migration protocol",
            f"{name}:3: Write tcp:HOST:PORT or unix:PATH",
            f"{name}:3: failed: migrate nonsense",
        ]


def test_quit_ends_a_script_before_its_end() -> None:
    done = run(stdin="quit\ninfo status\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_transcript_runs_as_a_script() -> None:
    done = run(stdin="Dear list,\n(qemu) info status\nVM status: paused\n  (qemu) info name\n")
    assert (done.returncode, done.stdout) == (0, "VM status: running\n")


def test_a_script_that_migrates_waits_and_shows_progress(lab: Lab) -> None:
    image, empty = filled(lab.folder / "a", 2 * MIB), blank(lab.folder / "b", 2 * MIB)
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = lab.start("target", *drive(empty), "-incoming", uri)
    qmp = lab.folder / "qmp"
    lines = ("migrate_set_parameter max-bandwidth 500k", f"migrate blk {uri}", "info status")
    options = [word for line in lines for word in ("-c", line)]
    with start(*drive(image), *options, "-qmp", f"unix:{qmp},server,nowait") as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        with QmpClient(qmp) as client:
            client.run("migrate-set-parameters", max_bandwidth=1 << 30)
            while said[-1].startswith("migrate: "):
                said.append(process.stdout.readline())
            client.run("quit")
    *progress, status = said
    assert (process.returncode, status) == (0, "VM status: paused (postmigrate)\n")
    assert all(re.fullmatch(r"migrate: \d+%, \S+ .iB of 2 MiB\n", line) for line in progress)
    target.wait_status("running")
    assert same(image, empty)


def test_a_script_whose_migration_fails_ends_there(tmp_path: Path) -> None:
    image = drive(filled(tmp_path / "disk.img", MIB))
    done = run(*image, stdin=f"stop\nmigrate blk unix:{tmp_path}/nobody\ncont\n")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"stdin:2: Error: Failed to connect to 'unix:{tmp_path}/nobody': No such file or directory",
        "stdin:2: Is a qmon with -incoming and this address running there?",
        f"stdin:2: failed: migrate blk unix:{tmp_path}/nobody",
    ]


def test_a_closed_standard_input_is_an_empty_script(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" <&-', "-", *QMON, *drive(filled(tmp_path / "disk.img", MIB))],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        cwd=CHECKOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nobody_who_reads_the_output_is_no_crash(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", 'yes "info status" | head -200000 | "$@" | head -1', "-", *QMON],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        cwd=CHECKOUT,
    )
    assert done.stdout == "VM status: running\n"
    assert done.stderr == "qmon: standard output: Broken pipe\n"


# Processes that stay


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*QMON, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=CHECKOUT,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    paths = [tmp_path / name for name in ("m", "q", "in", "nbd", "pid")]
    monitor, qmp, incoming, nbd, pid = paths
    process = start(
        *drive(blank(tmp_path / "disk.img", MIB)),
        "-monitor",
        f"unix:{monitor},server,nowait",
        "-qmp",
        f"unix:{qmp},server=on,wait=off",
        "-incoming",
        f"unix:{incoming}",
        "-pidfile",
        str(pid),
    )
    try:
        with HmpClient(monitor) as talk:
            talk.command(f"nbd_server_start unix:{nbd}")
            assert pid.read_text() == f"{process.pid}\n"
            assert all(stat.S_ISSOCK(path.stat().st_mode) for path in paths[:4])
            process.send_signal(number)
            said, _ = process.communicate(timeout=3 * PATIENCE)
        assert (process.returncode, said) == (0, "")
        assert not [path for path in paths if path.exists()]
    finally:
        process.kill()
        process.wait()


def test_without_any_monitor_it_runs_until_it_is_told_to_end(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    process = start("-monitor", "none", "-pidfile", str(pid))
    try:
        eventually(pid.exists, "the pidfile is there")
        assert process.poll() is None
        process.terminate()
        assert process.communicate(timeout=3 * PATIENCE)[0] == ""
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_quit_on_a_socket_ends_the_process(lab: Lab) -> None:
    qmon = lab.start("one")
    with pytest.raises(ConnectionError):
        qmon.command("quit")
    assert qmon.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("option", ["-monitor", "-qmp"])
def test_a_socket_in_use_is_refused_and_a_dead_one_replaced(lab: Lab, option: str) -> None:
    qmon = lab.start("one")
    path = lab.folder / "one.sock"
    socket = f"unix:{path},server,nowait"
    line = one_line(run(option, socket))
    assert line == f"{option} {socket}: Failed to bind socket to {path}: Address already in use"
    assert qmon.status() == "running"
    qmon.kill()
    assert path.exists()
    assert lab.start("one").status() == "running"


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    assert "Address already in use" in one_line(run("-monitor", f"unix:{path},server,nowait"))
    assert path.read_text() == "mine"


def test_the_log_goes_where_it_is_told(lab: Lab) -> None:
    log = lab.folder / "the.log"
    uri = f"unix:{lab.folder / 'in.sock'}"
    qmon = lab.start("one", "-D", str(log), "-incoming", uri, *drive(blank(lab.folder / "a", MIB)))
    with connected(Path(uri.removeprefix("unix:"))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        eventually(lambda: "not a valid migration stream" in log.read_text(), "the log tells of the stranger")
    assert qmon.log() == ""


# In the background


def daemonized(tmp_path: Path, *options: str) -> tuple[Done, Path]:
    """Run qmon with -daemonize; what the caller has seen when it returns, and the pidfile."""
    pidfile = tmp_path / "pid"
    log = tmp_path / "out"
    with log.open("w+") as out:
        done = subprocess.run(
            [*QMON, "-daemonize", "-pidfile", str(pidfile), *options],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=3 * PATIENCE,
            cwd=CHECKOUT,
        )
    return Done(done.args, done.returncode, log.read_text(), ""), pidfile


def test_a_daemon_listens_when_its_start_returns(tmp_path: Path) -> None:
    monitor, port = tmp_path / "m", tmp_path / "in"
    done, pidfile = daemonized(
        tmp_path, "-monitor", f"unix:{monitor},server,nowait", "-incoming", f"unix:{port}"
    )
    pid = int(pidfile.read_text())
    try:
        assert (done.returncode, done.stdout) == (0, "")
        with HmpClient(monitor, patience=0) as talk:
            assert talk.command("info status") == "VM status: paused (inmigrate)"
        connected(port).close()
        assert os.getsid(pid) == pid
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: gone(pid), "the daemon ends")
    assert not monitor.exists()
    assert not pidfile.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-drive", "file=/nowhere,id=d0"], "qmon: Could not open '/nowhere': No such file or directory\n"),
        (
            ["-incoming", "unix:/no/where"],
            "qmon: -incoming unix:/no/where: Failed to bind socket to /no/where: No such file or directory\n",
        ),
        (["-D", "/nowhere/log"], "qmon: /nowhere/log: No such file or directory\n"),
    ],
)
def test_a_daemon_that_can_not_start_says_why(tmp_path: Path, options: list[str], said: str) -> None:
    done, pidfile = daemonized(tmp_path, *options)
    assert (done.returncode, done.stdout) == (1, said)
    assert not pidfile.exists()


def test_a_daemon_can_be_started_without_any_standard_stream(tmp_path: Path) -> None:
    pidfile, monitor = tmp_path / "pid", tmp_path / "m"
    options = ["-daemonize", "-pidfile", str(pidfile), "-monitor", f"unix:{monitor},server,nowait"]
    command = ["bash", "-c", '"$@" <&- >&- 2>&-', "-", *QMON, *options]
    assert subprocess.run(command, timeout=3 * PATIENCE, cwd=CHECKOUT).returncode == 0
    pid = int(pidfile.read_text())
    try:
        with HmpClient(monitor, patience=0) as talk:
            assert talk.command("info status") == "VM status: running"
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: gone(pid), "the daemon ends")
