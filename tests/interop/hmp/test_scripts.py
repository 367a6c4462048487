"""Scripts as people run them: exit codes, what is said where, files in files, waiting, results as JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.guest import guest_when_served
from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled, same
from tests.support.processes import CHECKOUT, QMON, Lab, open_descriptors
from tests.support.runs import Done
from tests.support.runs import run_in as run
from tests.support.waiting import PATIENCE, eventually

SECRET = "5ezam"
LEFT = (
    "qmon: the script ends while a migration is under way and will be cancelled:"
    " 'wait migrate' waits until it ends"
)


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*QMON, "-statedir", str(folder / "state"), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )


def said(done: Done) -> tuple[int, list[str], list[str]]:
    """Exit status, and the lines on stdout and stderr."""
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def results(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


# Where lines come from


def test_lines_and_files_run_in_the_order_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "two.hmp").write_text("print/d 2\n")
    done = run(
        tmp_path,
        "-c",
        "print/d 1",
        "-script",
        "two.hmp",
        "-c",
        "print/d 3",
        "-script",
        "-",
        "-c",
        "print/d 5",
        stdin="print/d 4\n",
    )
    assert said(done) == (0, ["1", "2", "3", "4", "5"], [])


def test_a_failing_line_ends_all_that_follows_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.hmp").write_text("# one\nprint/d 1\n\nnosuch  # why?\nprint/d 2\n")
    done = run(tmp_path, "-script", "s.hmp", "-c", "print/d 3")
    said_of = "s.hmp:4: unknown command: 'nosuch'", "s.hmp:4: failed: nosuch  # why?"
    assert said(done) == (1, ["1"], [*said_of])
    done = run(tmp_path, "-c", "print/d 1", "-c", "nosuch")
    assert said(done) == (1, ["1"], ["-c:2: unknown command: 'nosuch'", "-c:2: failed: nosuch"])


def test_a_command_that_only_qmp_has_is_told_so_below_the_error(tmp_path: Path) -> None:
    name = "block-dirty-bitmap-add"
    told = [f"unknown command: '{name}'", f"a QMP command: 'qmp {name} {{...}}'", f"failed: {name} d0 b0"]
    done = run(tmp_path, "-c", f"{name} d0 b0")
    assert said(done) == (1, [], [f"-c:1: {each}" for each in told])


def test_a_script_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", "print/d 1", "-script", "nosuch.hmp")
    assert said(done) == (1, [], ["qmon: -script nosuch.hmp: No such file or directory"])
    done = run(tmp_path, "-script", str(tmp_path))
    assert said(done) == (1, [], [f"qmon: -script {tmp_path}: Is a directory"])


def test_standard_input_is_read_by_one_only(tmp_path: Path) -> None:
    done = run(tmp_path, "-script", "-", "-monitor", "stdio", stdin="stop\n")
    why = "-script -: not possible with -daemonize or a monitor on standard input"
    assert said(done) == (1, [], [f"qmon: {why}"])


def test_keep_going_counts_what_failed(tmp_path: Path) -> None:
    (tmp_path / "inner.hmp").write_text("nosuch\nprint/d 2\n")
    lines = ("-c", "print/d 1", "-c", "include inner.hmp", "-c", "stop x", "-c", "print/d 3")
    status, out, err = said(run(tmp_path, "-keep-going", *lines))
    assert status == 1
    assert out == ["1", "2", "3"]
    assert err == [
        "inner.hmp:1: unknown command: 'nosuch'",
        "inner.hmp:1: failed: nosuch",
        "-c:3: stop|s: extraneous characters at the end of line",
        '-c:3: Try "help stop" for more information',
        "-c:3: failed: stop x",
        "qmon: 2 lines failed",
    ]
    assert said(run(tmp_path, "-keep-going", "-c", "print/d 1")) == (0, ["1"], [])


# Files within files


def test_included_names_are_meant_from_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "a.hmp").write_text("include more/b.hmp\nprint/d 3\n")
    (tmp_path / "more" / "b.hmp").write_text("print/d 1\ninclude c.hmp\n")
    (tmp_path / "more" / "c.hmp").write_text("print/d 2\n")
    assert said(run(tmp_path, "-script", "a.hmp")) == (0, ["1", "2", "3"], [])
    (tmp_path / "more" / "c.hmp").write_text("\nnosuch\n")
    assert said(run(tmp_path, "-script", "a.hmp")) == (
        1,
        ["1"],
        [
            "more/c.hmp:2: unknown command: 'nosuch'",
            "more/c.hmp:2: failed: nosuch",
            "more/b.hmp:2: failed: include c.hmp",
            "a.hmp:1: failed: include more/b.hmp",
        ],
    )


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.hmp").write_text("include b.hmp\n")
    (tmp_path / "b.hmp").symlink_to("a.hmp")
    status, _, err = said(run(tmp_path, "-script", "a.hmp"))
    why = "a.hmp:1: include: 'b.hmp' is already running: a file can't include itself"
    assert (status, err[0]) == (1, why)


def test_what_is_no_script_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    blank(tmp_path / "disk", 1 << 40)
    (tmp_path / "binary").write_bytes(b"\xff\0\x01" * 100)
    names = ("folder", "fifo", "disk", "nosuch")
    lines = [word for name in (*names, "binary") for word in ("-c", f"include {name}")]
    status, _, err = said(run(tmp_path, "-keep-going", *lines))
    assert status == 1
    assert err[:8:2] == [
        "-c:1: include: folder: Is a directory",
        "-c:2: include: fifo: it is not a regular file",
        "-c:3: include: disk: it is longer than 64 MiB",
        "-c:4: include: nosuch: No such file or directory",
    ]
    assert err[8].startswith("binary:1: unknown command: ")


# Waiting


def test_two_scripts_move_a_disk_and_each_waits_for_its_end(tmp_path: Path) -> None:
    image, empty = filled(tmp_path / "a", 4 * MIB), blank(tmp_path / "b", 4 * MIB)
    uri = f"unix:{tmp_path}/migrate.sock"
    there = start(tmp_path, *drive(empty), "-incoming", uri, "-c", "wait migrate 60", "-c", "info status")
    try:
        eventually((tmp_path / "migrate.sock").exists, "the destination listens")
        here = run(tmp_path, *drive(image), "-c", f"migrate -d blk {uri}", "-c", "wait migrate")
        assert (here.returncode, here.stderr) == (0, "")
        out, err = there.communicate(timeout=3 * PATIENCE)
        assert (there.returncode, out.splitlines()[-1], err) == (0, "VM status: running", "")
    finally:
        there.kill()
        there.wait()
    assert same(image, empty)


def test_waiting_fails_with_the_migrations_reason(tmp_path: Path) -> None:
    image = drive(filled(tmp_path / "a", MIB))
    nobody = f"unix:{tmp_path}/nobody"
    status, out, err = said(run(tmp_path, *image, "-c", f"migrate -d blk {nobody}", "-c", "wait migrate"))
    reason = f"Failed to connect to '{nobody}': No such file or directory"
    assert (status, out) == (1, [])
    assert err == [f"-c:2: Error: {reason}", "-c:2: failed: wait migrate"]


def test_waiting_for_what_is_not_there_or_ended_long_ago(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(MIB)
    assert source.command("wait migrate") == "wait: there is no migration to wait for"
    assert target.command("wait migrate 0.05") == "wait: the migration is still awaited after 0.05 s"
    source.quietly(f"migrate -d blk {uri}")
    assert re.fullmatch(r"(Completed \d+ %)*", source.command("wait migrate"))
    target.wait_status("running")
    assert source.command("wait migrate") == ""
    assert target.command("wait migrate 5") == ""


def test_a_timeout_is_told_and_the_migration_goes_on(lab: Lab) -> None:
    source, _, uri = lab.disk_pair(8 * MIB, bandwidth="100k")
    source.quietly(f"migrate -d blk {uri}")
    assert "wait: the migration is still " in source.command("wait migrate 0.1")
    assert source.migration().split(" (")[0] in ("setup", "active")
    source.quietly("migrate_cancel")
    assert source.command("wait migrate").endswith("Error: the migration was cancelled")


def test_wait_job_tells_of_jobs_that_ended(tmp_path: Path) -> None:
    image = drive(blank(tmp_path / "a", MIB))
    assert said(run(tmp_path, *image, "-c", "block_stream d0", "-c", "wait job d0 5")) == (0, [], [])
    status, _, err = said(run(tmp_path, *image, "-c", "wait job d0"))
    assert (status, err[0]) == (1, "-c:1: Error: Job not found: 'd0'")


# The end of a script


@pytest.mark.parametrize("last", ["info name", "quit"])
def test_a_migration_that_a_script_leaves_is_cancelled_and_told(lab: Lab, last: str) -> None:
    image = filled(lab.folder / "a", 8 * MIB)
    uri = f"unix:{lab.folder}/migrate.sock"
    target = lab.start("target", *drive(blank(lab.folder / "b", 8 * MIB)), "-incoming", uri)
    limit = "migrate_set_parameter max-bandwidth 100k"
    lines = ("-c", limit, "-c", f"migrate -d blk {uri}", "-c", last)
    done = run(lab.folder, *drive(image), *lines)
    assert said(done) == (1, [], [LEFT])
    assert target.status() == "paused (inmigrate)"
    assert run(lab.folder, *drive(image), "-c", "info status").stdout == "VM status: running\n"


@pytest.mark.parametrize("last", ["info name\n", "quit\n"])
def test_a_client_that_a_script_leaves_is_told(tmp_path: Path, last: str) -> None:
    process = start(tmp_path, *drive(filled(tmp_path / "a", MIB)))
    try:
        assert process.stdin is not None
        process.stdin.write(f"nbd_server_start unix:{tmp_path}/nbd\nnbd_server_add d0\n")
        process.stdin.flush()
        with guest_when_served(tmp_path / "nbd", "d0"):
            _, err = process.communicate(last, timeout=3 * PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (0, "qmon: the script ends while 1 NBD client uses export 'd0'\n")


def test_yes_is_said_to_the_end_of_a_migration(lab: Lab) -> None:
    uri = f"unix:{lab.folder}/migrate.sock"
    lab.start("target", *drive(blank(lab.folder / "b", 8 * MIB)), "-incoming", uri)
    limit = "migrate_set_parameter max-bandwidth 100k"
    done = run(
        lab.folder,
        *drive(filled(lab.folder / "a", 8 * MIB)),
        "-y",
        "-c",
        limit,
        "-c",
        f"migrate -d blk {uri}",
        "-c",
        "quit",
    )
    assert said(done) == (0, [], [])


def test_a_monitor_keeps_the_process_and_its_migration(lab: Lab) -> None:
    uri = f"unix:{lab.folder}/migrate.sock"
    lab.start("target", *drive(blank(lab.folder / "b", 8 * MIB)), "-incoming", uri)
    limit = "migrate_set_parameter max-bandwidth 100k"
    lines = ("-c", limit, "-c", f"migrate -d blk {uri}")
    source = lab.start("source", *drive(filled(lab.folder / "a", 8 * MIB)), *lines)
    source.wait_migration("active")
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")


def test_a_script_that_is_cut_off_says_where(tmp_path: Path) -> None:
    process = start(tmp_path, "-incoming", "defer", "-c", "wait migrate", "-c", "stop", "-trace-qmp")
    try:
        assert process.stderr is not None
        while "inmigrate" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=3 * PATIENCE)
    finally:
        process.kill()
        process.wait()
    *trace, said = err.splitlines()
    assert (process.returncode, said) == (1, "qmon: the script was stopped at -c:1: wait migrate")
    assert all(line.startswith(("-> ", "<- ")) for line in trace)


def test_a_long_script_of_lines_that_wait_for_nothing_can_be_ended(tmp_path: Path) -> None:
    (tmp_path / "long.hmp").write_text("print/d 1\n" * 1_000_000)
    process = start(tmp_path, "-script", "long.hmp", "-c", "print/d 2")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=3 * PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert out.count("\n") < 900_000
    assert re.fullmatch(r"qmon: the script was stopped at long\.hmp:\d+: print/d 1\n", err)


# Results, traces, transcripts


def test_results_are_json_one_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "inner.hmp").write_text("print/d 2\nnosuch\n")
    lines = ("-c", "print/d 1", "-c", "include inner.hmp", "-c", "info name", "-c", "time stop x")
    done = run(tmp_path, "-json", "-keep-going", "-name", "naïve", *lines)
    found = results(done)
    assert found[0] == {"file": "-c", "number": 1, "line": "print/d 1", "ok": True, "output": "1"}
    assert [(each["file"], each["number"], each["ok"]) for each in found] == [
        ("-c", 1, True),
        ("inner.hmp", 1, True),
        ("inner.hmp", 2, False),
        ("-c", 2, True),
        ("-c", 3, True),
        ("-c", 4, False),
    ]
    assert found[2]["error"] == "unknown command: 'nosuch'"
    assert found[4]["output"] == "naïve"
    assert re.fullmatch(r"Took \d\.\d{3} s", found[5]["output"])
    assert found[5]["error"].startswith("stop|s: extraneous characters at the end of line\n")
    assert done.stderr.splitlines()[-1] == "qmon: 2 lines failed"
    piped = run(tmp_path, "-json", stdin="print/d 1\n")
    assert results(piped) == [{"file": "stdin", "number": 1, "line": "print/d 1", "ok": True, "output": "1"}]


def test_a_trace_shows_each_qmp_command_and_its_answer(tmp_path: Path) -> None:
    done = run(tmp_path, "-trace-qmp", "-c", "info status", "-c", "qmp nosuch", stdin="")
    status, out, err = said(done)
    assert (status, out[0]) == (1, "VM status: running")
    assert json.loads(err[0].removeprefix("-> ")) == {"execute": "query-status"}
    assert json.loads(err[1].removeprefix("<- "))["return"]["status"] == "running"
    assert err[-1] == "-c:2: failed: qmp nosuch"


def test_quiet_shows_no_progress(tmp_path: Path) -> None:
    image, empty = filled(tmp_path / "a", 2 * MIB), blank(tmp_path / "b", 2 * MIB)
    uri = f"unix:{tmp_path}/migrate.sock"
    there = start(tmp_path, *drive(empty), "-incoming", uri, "-c", "wait migrate 60", "-q")
    try:
        eventually((tmp_path / "migrate.sock").exists, "the destination listens")
        limit = "migrate_set_parameter max-bandwidth 4M"
        done = run(tmp_path, "-m", "1", "-q", *drive(image), "-c", limit, "-c", f"migrate blk {uri}")
        assert said(done) == (0, [], [])
        assert there.communicate(timeout=3 * PATIENCE) == ("", "")
    finally:
        there.kill()
        there.wait()


LINES_WITH_SECRETS = (
    f"object_add secret,id=s0,data={SECRET}",
    f'object_add {{"qom-type": "secret", "id": "s1", "data": "{SECRET}"}}',
    f'qmp object-add {{"qom-type": "secret", "id": "s2", "data": "{SECRET}"}}',
    f"time qom-set /objects/s0 data {SECRET}",
    f"time set_password vnc {SECRET}",
    f"set_password -d x vnc {SECRET} keep",
    f"set_password vnc x {SECRET}",
    f"set_password {SECRET} vnc",
    f"set_password vnc {SECRET} keep {SECRET}",
    f"change vnc password {SECRET}",
    f"watch -n 1 1 set_password spice {SECRET}",
    f'qmp change-vnc-password {{"password": "{SECRET}"}}',
    f'qmp change-vnc-password {{"password": "{SECRET}"',
)


def test_secrets_go_to_no_transcript_and_no_trace(tmp_path: Path) -> None:
    lines = [
        "transcript t.txt",
        "info status",
        *LINES_WITH_SECRETS,
        "info history",
        "nosuch",
        "stop",
        "transcript off",
        "cont",
    ]
    done = run(tmp_path, "-keep-going", "-trace-qmp", stdin="".join(f"{line}\n" for line in lines))
    assert SECRET not in done.stderr
    text = (tmp_path / "t.txt").read_text()
    assert SECRET not in text
    assert text.count("***") >= len(LINES_WITH_SECRETS)
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d ")
    rows = text.splitlines()
    assert all(stamp.match(row) for row in rows)
    written = [stamp.sub("", row) for row in rows]
    assert written[:3] == [
        "(qemu) info status",
        "VM status: running",
        "(qemu) object_add secret,id=s0,data=***",
    ]
    assert written[-5:] == [
        "(qemu) nosuch",
        "unknown command: 'nosuch'",
        "(qemu) stop",
        "event STOP",
        "(qemu) transcript off",
    ]
    assert (tmp_path / "t.txt").stat().st_mode & 0o077 == 0


def test_a_transcript_spares_disk_images(tmp_path: Path) -> None:
    image = filled(tmp_path / "a", MIB)
    before = image.read_bytes()
    status, _, err = said(run(tmp_path, *drive(image), "-c", f"transcript {image}"))
    assert (status, err[0]) == (1, f"-c:1: Error: Could not open '{image}': it is a disk image in use")
    assert image.read_bytes() == before


def test_a_transcript_holds_what_every_monitor_is_given(lab: Lab) -> None:
    path = lab.folder / "t.txt"
    path.write_text("kept\n")
    pipe = lab.folder / "pipe"
    qmon = lab.start("one", "-monitor", f"unix:{pipe},server,nowait")
    with HmpClient(pipe) as other:
        other.command(f"transcript {path}")
        assert qmon.status() == "running"
        other.command("print/d 1")
    rows = path.read_text().splitlines()
    assert rows[0] == "kept"
    assert [row.split(" ", 2)[2] for row in rows[1:]] == [
        "(qemu) info status",
        "VM status: running",
        "(qemu) print/d 1",
        "1",
    ]


# On sockets


def test_the_tools_work_on_sockets(lab: Lab) -> None:
    (lab.folder / "lines.hmp").write_text("info status  # now\nnosuch\n")
    qmon = lab.start("one")
    assert qmon.command(f"include {lab.folder}/lines.hmp").splitlines() == [
        "VM status: running",
        "unknown command: 'nosuch'",
        f"{lab.folder}/lines.hmp:2: failed: nosuch",
    ]
    assert re.fullmatch(r"0x1\nTook \d\.\d{3} s", qmon.command("time print 1"))
    assert qmon.command("watch 1 print 1") == (
        "watch: give a number of runs, as in 'watch -n 3 ...': Ctrl-C works only on a terminal"
    )
    shown = qmon.command("watch -n 2 0.1 print/d 1").splitlines()
    assert shown[1::2] == ["1", "1"]
    assert json.loads(qmon.command("qmp query-block-jobs")) == []
    assert qmon.command("qmp query-status []").startswith("qmp: expected a JSON object of arguments")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_script_that_waits_for_its_writer_ends_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = start(tmp_path, "-script", "fifo")
    try:
        fifo = str(tmp_path / "fifo")
        eventually(lambda: fifo in open_descriptors(process.pid), "it waits for its script")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_script_is_read_from_a_fifo_when_somebody_writes_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        os.mkfifo(tmp_path / name)
    process = start(tmp_path, "-script", "one", "-script", "two")
    for name in ("one", "two"):
        with (tmp_path / name).open("w") as fifo:
            fifo.write("info status\n")
            fifo.flush()
            fifo.write("info name\n")
    stdout, stderr = process.communicate(timeout=3 * PATIENCE)
    assert (process.returncode, stdout, stderr) == (0, "VM status: running\n" * 2, "")
