"""Lines from scripts on a running QEMU: its answers, exit statuses, what qmon adds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.support.peer import Peer, three_drives
from tests.support.runs import Done, one_line, run
from tests.support.waiting import PATIENCE


def on(qemu: Peer, *options: str, stdin: str | None = None) -> Done:
    return run("-connect", f"unix:{qemu.qmp_path}", *options, stdin=stdin, cwd=qemu.folder)


def lines(*each: str) -> list[str]:
    return [word for line in each for word in ("-c", line)]


def test_a_line_is_answered_as_at_its_own_monitor(qemu: Peer) -> None:
    done = on(qemu, *lines("info version", "info block -v d1"))
    asked = [qemu.monitor.command(line) for line in ("info version", "info block -v d1")]
    assert done.stdout.splitlines() == "\n".join(asked).splitlines()
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failing_line_ends_the_script_with_status_1(qemu: Peer) -> None:
    done = on(qemu, *lines("info status", "eject nosuch", "stop"))
    assert done.returncode == 1
    assert done.stdout == "VM status: running\n"
    assert done.stderr.splitlines() == [
        "-c:2: Error: Device 'nosuch' not found",
        "-c:2: failed: eject nosuch",
    ]
    assert qemu.command("info status") == "VM status: running"


def test_an_unknown_name_is_passed_and_its_answer_is_shown(qemu: Peer) -> None:
    done = on(qemu, *lines("nosuch 1", "info nosuch"), "-keep-going", "-json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["error"] for each in found] == [
        "unknown command: 'nosuch'",
        "unknown command: 'info nosuch'",
    ]


def test_comments_includes_and_waiting_are_what_qmon_adds(qemu: Peer) -> None:
    (qemu.folder / "lines").write_text("# comment\ninfo name   # another\n")
    done = on(qemu, *lines("include lines", "time info status", "wait migrate"))
    assert done.stdout.startswith("web1\nVM status: running\nTook ")
    assert "-c:3: wait: there is no migration to wait for" in done.stderr


def test_leaving_ends_nothing_and_quit_ends_the_qemu(qemu: Peer) -> None:
    assert on(qemu, stdin="info status\n").returncode == 0
    assert qemu.process.poll() is None
    done = on(qemu, *lines("quit"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert qemu.process.wait(PATIENCE) == 0


def test_options_of_a_machine_are_refused(qemu: Peer) -> None:
    done = on(qemu, "-qmp", "stdio")
    assert one_line(done) == "-qmp stdio: not possible with -connect: the machine runs already"


def test_nobody_there_is_said_in_one_line(qemu: Peer) -> None:
    done = run("-connect", "unix:nosuch", cwd=qemu.folder)
    assert one_line(done) == "-connect unix:nosuch: No such file or directory"


def test_a_monitor_that_indents_its_answers_is_read_as_well(program: Sequence[str], tmp_path: Path) -> None:
    pretty = ["-qmp-pretty", "unix:pretty,server,nowait", "-name", "web1"]
    with Peer(program, tmp_path / "qemu", three_drives, options=pretty) as qemu:
        done = run(
            "-connect", "unix:pretty", *lines("info name", "info block", "stop", "quit"), cwd=qemu.folder
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("web1\nd0 ")
