"""The commands for people, typed: files of lines, watching, timing, waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from qmon.hmp.monitor import Monitor
from qmon.qmp.registry import Registry
from tests.support.fake_target import FakeMachine, FakePerson

MIGRATING = {"status": "active", "disk": {"total": 100, "remaining": 40}}


def run(line: str, person: FakePerson | None = None, machine: FakeMachine | None = None) -> tuple[bool, str]:
    person = person or FakePerson()
    good = asyncio.run(run_line(line, person, machine))
    return good, person.said()


async def run_line(line: str, person: FakePerson, machine: FakeMachine | None) -> bool:
    return await Monitor((machine or FakeMachine()).registry).run_line(line, person)


# Lines within lines


def test_on_a_terminal_an_included_file_stops_at_the_line_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "lines.hmp"
    path.write_text("info name\r\nset_password vnc x keep\ninfo name\n")
    person = FakePerson()
    good, said = run(f"include {path}", person)
    assert not good
    assert said.split("\n")[0] == "web1"
    assert said.split("\n")[-1] == f"{path}:2: failed: set_password vnc *** keep"
    assert person.history == []


def test_an_included_transcript_runs_the_lines_with_prompts(tmp_path: Path) -> None:
    path = tmp_path / "a session.txt"
    path.write_text("QEMU 7.2 monitor\n(qemu) info name\nweb7\n")
    left_out = "2 lines without a (qemu) prompt were not run, first line 1: QEMU 7.2 monitor"
    assert run(f'include "{path}"') == (True, f"web1\n{path}: {left_out}")


def test_quit_in_an_included_file_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "lines.hmp"
    path.write_text("quit\ninfo name\n")
    assert run(f"include {path}") == (True, "")


class Counting(FakePerson):
    """Says when a name was printed often enough."""

    def __init__(self, often: int) -> None:
        super().__init__()
        self._often = often
        self.enough = asyncio.Event()

    def print(self, text: str) -> None:
        super().print(text)
        if self.printed.count("web1") == self._often:
            self.enough.set()


def test_watch_goes_on_until_it_is_stopped_and_ends_at_a_failing_line() -> None:
    async def watch() -> str:
        person = Counting(3)
        task = asyncio.create_task(run_line("watch 0.1 info name", person, None))
        await person.enough.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return person.said()

    text = asyncio.run(watch())
    assert (text.count("web1"), text.count("(Ctrl-C ends it)")) == (3, 1)
    good, said = run("watch 0.1 nosuch")
    assert (good, said.split("\n")[1:]) == (False, ["unknown command: 'nosuch'"])


def test_watch_stops_behind_quit() -> None:
    good, said = run("watch 0.1 quit")
    assert good
    assert said.count("[") == 1


@pytest.mark.parametrize(
    "line", ["watch 0 stop", "watch -n 0 1 stop", "watch -n x 1 stop", "watch -n -1 1 stop"]
)
def test_watch_refuses_what_makes_no_sense(line: str) -> None:
    machine = FakeMachine()
    good, said = run(line, machine=machine)
    assert not good
    assert said.startswith("watch: ")
    assert machine.running


def test_time_tells_of_a_line_that_fails_too() -> None:
    good, said = run("time nosuch")
    assert not good
    took, error = said.split("\n")
    assert took.startswith("Took 0.")
    assert error == "unknown command: 'nosuch'"


def test_lines_stand_in_few_others() -> None:
    assert run("time " * 10 + "info name")[1].startswith("web1\nTook ")
    refusal = "time: at most 10 lines can be nested"
    assert run("time " * 5000 + "info name") == (False, refusal)


def test_qmp_is_laid_out_on_a_terminal() -> None:
    assert run("qmp query-name") == (True, '{\n    "name": "web1"\n}')
    assert run("qmp query-name", FakePerson(interactive=False)) == (True, '{"name": "web1"}')
    assert run("qmp stop") == (True, "{\n}")


# Waiting


def test_waiting_shows_progress_and_ends_with_the_migration() -> None:
    async def wait() -> tuple[bool, list[tuple[int, int]]]:
        machine, person = FakeMachine(), FakePerson()
        machine.migration = [dict(MIGRATING)]
        task = asyncio.create_task(run_line("wait migrate", person, machine))
        await person.shown.updated.wait()
        machine.migration = [{"status": "completed", "total-time": 1200, "x-qmon-verified": "checksums"}]
        machine.registry.events.emit("MIGRATION", {"status": "completed"})
        good = await asyncio.wait_for(task, 5)
        assert person.shown.closed == 1
        assert person.said() == "Migration completed in 1.2 s\nVerified: checksums"
        return good, person.shown.updates

    assert asyncio.run(wait()) == (True, [(60, 100)])


def test_wait_alone_waits_for_the_migration() -> None:
    machine = FakeMachine()
    machine.migration = [dict(MIGRATING), {"status": "failed", "error-desc": "no room"}]
    assert run("wait", machine=machine) == (False, "Error: no room")


def test_waiting_ends_without_events_too() -> None:
    machine = FakeMachine()
    machine.migration = [dict(MIGRATING), {"status": "failed", "error-desc": "no room"}]
    assert run("wait migrate", machine=machine) == (False, "Error: no room")


@pytest.mark.parametrize(
    "line",
    [
        "wait nosuch",
        "wait job",
        "wait migrate 1 2",
        "wait migrate x",
        "wait migrate -1",
        "wait job j nan",
    ],
)
def test_a_wait_that_can_not_be_read(line: str) -> None:
    good, said = run(line)
    assert not good
    assert said.startswith("wait")


def test_ctrl_c_ends_the_waiting_alone() -> None:
    async def wait() -> str:
        machine, person = FakeMachine(), FakePerson()
        machine.migration = [dict(MIGRATING)]
        task = asyncio.create_task(run_line("wait migrate", person, machine))
        await person.shown.updated.wait()
        task.cancel()
        await asyncio.wait([task])
        assert machine.calls == []
        return person.said()

    assert asyncio.run(wait()) == "The migration continues"


def test_ctrl_c_ends_the_waiting_even_when_news_come_with_it() -> None:
    async def wait() -> bool:
        machine, person = FakeMachine(), FakePerson()
        machine.migration = [dict(MIGRATING)]
        task = asyncio.create_task(run_line("wait migrate", person, machine))
        await person.shown.updated.wait()
        await asyncio.sleep(0)
        machine.registry.events.emit("MIGRATION", {"status": "active"})
        task.cancel()
        await asyncio.wait([task], timeout=3)
        return task.cancelled()

    assert asyncio.run(wait())


class Jobs:
    """A target with one job."""

    def __init__(self, *, only_block_jobs: bool = False) -> None:
        self.registry = Registry()
        self.jobs: list[dict[str, Any]] = []
        self.registry.add("query-block-jobs" if only_block_jobs else "query-jobs", self._query)
        self._names = (
            ("device", "offset", "len") if only_block_jobs else ("id", "current-progress", "total-progress")
        )

    def show(self, status: str, **more: Any) -> None:
        values = dict(zip(self._names, ("j0", 1, 4), strict=True))
        self.jobs = [{**values, "type": "mirror", "status": status, **more}]

    async def _query(self) -> list[dict[str, Any]]:
        return self.jobs


@pytest.mark.parametrize("only_block_jobs", [False, True])
@pytest.mark.parametrize(
    ("event", "data", "expected"),
    [
        ("BLOCK_JOB_COMPLETED", {"device": "j0"}, (True, "")),
        ("BLOCK_JOB_COMPLETED", {"device": "j0", "error": "No space left"}, (False, "Error: No space left")),
        ("BLOCK_JOB_CANCELLED", {"device": "j0"}, (False, "Error: the job was cancelled")),
    ],
)
def test_waiting_for_a_job(
    only_block_jobs: bool, event: str, data: dict[str, Any], expected: tuple[bool, str]
) -> None:
    async def wait() -> None:
        target, person = Jobs(only_block_jobs=only_block_jobs), FakePerson()
        monitor = Monitor(target.registry)
        target.show("running")
        task = asyncio.create_task(monitor.run_line("wait job j0 5", person))
        await person.shown.updated.wait()
        assert person.shown.updates == [(1, 4)]
        target.jobs = []
        target.registry.events.emit(event, data)
        assert (await task, person.said()) == expected
        # what has ended is remembered, until there is another of that id
        assert (await monitor.run_line("wait job j0", person), person.said()) == expected
        target.registry.events.emit("JOB_STATUS_CHANGE", {"id": "j0", "status": "created"})
        target.show("running")
        assert not await monitor.run_line("wait job j0 0.01", person)
        assert person.said() == "wait: the job 'j0' is still running after 0.01 s"

    asyncio.run(wait())


def test_a_job_that_is_ready_or_concluded_is_not_waited_for() -> None:
    async def wait() -> list[tuple[bool, str]]:
        target, person = Jobs(), FakePerson()
        monitor = Monitor(target.registry)
        answers = []
        for status, more in (
            ("ready", {}),
            ("concluded", {}),
            ("concluded", {"error": "Input/output error"}),
        ):
            target.show(status, **more)
            answers.append((await monitor.run_line("wait job j0", person), person.said()))
        return answers

    assert asyncio.run(wait()) == [(True, ""), (True, ""), (False, "Error: Input/output error")]


def test_a_target_without_jobs_says_so() -> None:
    assert run("wait job j0") == (False, "wait: this target has no jobs")
