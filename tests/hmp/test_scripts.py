from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.fronts.script_person import PlainProgress, ScriptPerson
from qmon.hmp.line.transcript import LineReader, prompt_end
from qmon.hmp.monitor import Monitor
from qmon.hmp.scripts import Script, Stream, run_script
from tests.support.fake_target import FakeMachine, FakePerson
from tests.support.waiting import PATIENCE

TRANSCRIPT = """\
QEMU 7.2 monitor - type 'help' for more information
(qemu) info name
web1
    (qemu) stop
nosuch answer
"""


def lines_to_run(text: str) -> list[tuple[int, str]]:
    return LineReader().read(text)


def test_in_a_transcript_only_the_prompted_lines_run() -> None:
    assert lines_to_run(TRANSCRIPT) == [(2, "info name"), (4, "stop")]
    assert lines_to_run("stop\r\n\n# x\n") == [(1, "stop"), (2, ""), (3, "# x")]
    assert lines_to_run("") == []


def test_the_prompt_of_a_connected_console_is_one_too() -> None:
    kept = TRANSCRIPT.replace("(qemu)", "(qemu web1)").replace("(qemu web1) stop", "(qemu unix:q.qmp) stop")
    assert lines_to_run(kept) == lines_to_run(TRANSCRIPT)
    assert lines_to_run("(qemu is a word) stop\n") == [(1, "(qemu is a word) stop")]


@given(lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r")), max_size=6))
def test_text_without_prompts_gives_every_line_with_its_number(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if "(qemu" not in text:
        assert lines_to_run(text) == list(enumerate(lines, 1))


@pytest.mark.parametrize(
    "line",
    [
        "(qemu) info status",
        "(qemu)info status",
        "(qemu)\tinfo status",
        "\t(qemu)   info status",
        "(qemu) (qemu) info status",
        "(qemu)(qemu)info status",
        "(qemu)\r(qemu) info status",
        "\xa0(qemu)\xa0info status",
        "\ufeff(qemu) \u200binfo status",
        "\x1b[1m(qemu)\x1b[0m info status",
        "\x1b[?2004h\x1b]0;title\x07\x1b(B\x1b[38;5;12m(qemu) \x1b[minfo\x1b[0;1m status\x1b[0m",
    ],
)
def test_a_prompt_is_known_however_it_is_spaced_and_coloured(line: str) -> None:
    reader = LineReader()
    assert reader.read(f"web1\n{line}\r\n# nothing\n \n(qemu)\n") == [(2, "info status"), (5, "")]
    assert (reader.left_out.count, reader.left_out.number, reader.left_out.line) == (1, 1, "web1")


@pytest.mark.parametrize(
    "line", ["info status", "# (qemu) stop", "virsh # list", "(qemu", "x(qemu) stop", "(QEMU) stop"]
)
def test_what_is_no_prompt_of_this_monitor_is_none(line: str) -> None:
    assert prompt_end(line) == 0


@given(
    prompted=st.lists(st.sampled_from(["(qemu) stop", "(qemu)stop", "\t(qemu) \x1b[1mstop"]), min_size=1),
    others=st.lists(st.sampled_from(["web1", "stop", "  VM status: paused"])),
    data=st.data(),
)
def test_each_line_of_a_transcript_runs_or_is_counted(
    prompted: list[str], others: list[str], data: st.DataObject
) -> None:
    lines = data.draw(st.permutations([*prompted, *others]))
    reader = LineReader()
    to_run = reader.read("\n".join(lines))
    assert [line for _, line in to_run] == ["stop"] * len(prompted)
    assert reader.left_out.count == len(others)


def test_a_transcript_ends_by_telling_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    good, out, err = run("x" * 70 + "\n(qemu)info name\nweb1\n(qemu) info uuid\n", capsys)
    assert (good, out.splitlines()[0]) == (True, "web1")
    assert err == f"s.hmp: 2 lines without a (qemu) prompt were not run, first line 1: {'x' * 60}...\n"
    _, _, err = run("(qemu)info name\n\x1b[31mset_password vnc secret\a\n", capsys)
    assert err == "s.hmp: line 2 has no (qemu) prompt and was not run: set_password vnc ***\n"


async def run_text(source: str | Stream, name: str, person: FakePerson | None = None) -> bool:
    """Run a script to its end; whether it is a good one."""
    monitor = Monitor(FakeMachine().registry)
    report = ScriptPerson(monitor)
    return await run_script(monitor, Script(name, source), person or report, report)


def run(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[bool, str, str]:
    good = asyncio.run(run_text(text, "s.hmp"))
    captured = capsys.readouterr()
    return good, captured.out, captured.err


def test_a_script_runs_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    text = "# a comment\n\nstop\ninfo status # now\ninfo history\n"
    history = "0: 'stop'\n1: 'info status # now'\n2: 'info history'\n"
    assert run(text, capsys) == (True, f"VM status: paused\n{history}", "")


def test_a_script_stops_at_the_first_failing_line_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    good, out, err = run("info name\nfoo bar \ninfo name\n", capsys)
    assert (good, out) == (False, "web1\n")
    assert err == "s.hmp:2: unknown command: 'foo'\ns.hmp:2: failed: foo bar\n"


def test_nothing_runs_behind_quit(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("quit\nfoo\n", capsys) == (True, "", "")


def test_a_file_is_judged_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t").write_text(TRANSCRIPT)
    with (tmp_path / "t").open() as stream:
        assert asyncio.run(run_text(stream, "t"))
    captured = capsys.readouterr()
    assert captured.out == "web1\n"
    assert captured.err.startswith("t: 3 lines without a (qemu) prompt were not run, first line 1: QEMU 7.2 ")


class Pipe:
    """A script that somebody is still writing."""

    def __init__(self) -> None:
        self.end, self.writing = os.pipe()

    def fileno(self) -> int:
        return self.end

    def write(self, text: str) -> None:
        os.write(self.writing, text.encode())

    def close(self) -> None:
        os.close(self.writing)


class Waited(FakePerson):
    def __init__(self) -> None:
        super().__init__(interactive=False)
        self.news = asyncio.Event()

    def print(self, text: str) -> None:
        super().print(text)
        self.news.set()

    async def next(self) -> str:
        await asyncio.wait_for(self.news.wait(), PATIENCE)
        self.news.clear()
        return self.said()


def test_a_line_from_a_pipe_runs_when_it_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    async def converse() -> bool:
        pipe, person = Pipe(), Waited()
        task = asyncio.create_task(run_text(pipe, "-", person))
        pipe.write("info name\ninfo st")
        assert await person.next() == "web1"
        pipe.write("atus\n")
        assert await person.next() == "VM status: running"
        pipe.write("(qemu)info name\nits answer, no command\n")
        assert await person.next() == "web1"
        pipe.write("another answer\n(qemu) info uuid\n(qemu) foo")
        assert (await person.next()).startswith("00000000-")
        pipe.close()
        good = await asyncio.wait_for(task, PATIENCE)
        os.close(pipe.end)
        return good

    assert not asyncio.run(converse())
    assert capsys.readouterr().err == (
        "-:7: unknown command: 'foo'\n"
        "-:7: failed: foo\n"
        "-: 2 lines without a (qemu) prompt were not run, first line 4: its answer, no command\n"
    )


def test_an_idle_pipe_keeps_nothing_from_ending() -> None:
    async def give_up() -> None:
        pipe = Pipe()
        task = asyncio.create_task(run_text(pipe, "-", FakePerson()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        pipe.close()
        os.close(pipe.end)

    asyncio.run(asyncio.wait_for(give_up(), PATIENCE))


def test_what_never_ends_a_line_is_refused() -> None:
    async def flood() -> None:
        pipe = Pipe()
        task = asyncio.create_task(run_text(pipe, "-", FakePerson()))
        with pytest.raises(OSError, match="longer than 1 MiB"):
            await asyncio.gather(task, asyncio.to_thread(fill, pipe))
        os.close(pipe.end)

    def fill(pipe: Pipe) -> None:
        for _ in range(17):
            pipe.write("x" * 65536)
        pipe.close()

    asyncio.run(asyncio.wait_for(flood(), PATIENCE))


def test_a_file_that_never_blocks_is_a_script_too() -> None:
    with open("/dev/null") as stream:
        assert asyncio.run(run_text(stream, "-", FakePerson()))


def test_progress_of_a_script_is_a_line_for_each_tenth() -> None:
    person = FakePerson()
    progress = PlainProgress(person, "migrate")
    for done in range(0, 1001, 25):
        progress.update(done << 20, 1000 << 20)
    progress.close()
    lines = person.said().split("\n")
    assert len(lines) == 10
    assert lines[0].startswith("migrate: 10%, 100 MiB of ")
