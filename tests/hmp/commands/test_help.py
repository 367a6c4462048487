"""What ``help`` says: at a terminal a way in, to programs QEMU's form."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.commands import works
from qmon.hmp.commands.guide import FOUND_MAX
from qmon.hmp.line.reading import read_line
from qmon.hmp.monitor import Monitor
from qmon.hmp.prompt import PROMPT
from qmon.hmp.tables.table import default_tables
from qmon.hmp.tables.topics import Topic, default_topics
from qmon.machine.embedded import EmbeddedMachine
from qmon.notation.drive_options import DriveOptions
from qmon.qmp.registry import Registry
from tests.support.fake_target import FakeMachine, FakePerson

WIDTH = 78
SCREEN = 22
"""Rows above the prompt and the toolbar of a terminal of 24."""
LIST = 130
"""Rows of the longest list: every subject of ``info``, or a manual page."""
TABLES = default_tables()
WORKING = {name for name, command in TABLES.main.everything() if works(command, Registry())}


WORDS = st.lists(
    st.sampled_from("help migrate -a -v info move the disk q \" ' \\ -- a e ing commit x".split())
).map(" ".join)
"""Words that mean something, in any order."""


def said(line: str, *, interactive: bool = True) -> str:
    person = FakePerson(interactive=interactive)
    asyncio.run(Monitor(FakeMachine().registry).run_line(line, person))
    return person.said()


def first_words(text: str) -> set[str]:
    """What stands in the first column, each of its names by itself."""
    found = set()
    for row in text.split("\n"):
        head = row.strip().split("  ")[0]
        *above, names = head.split(" ")
        found |= {" ".join([*above, name]) for name in names.split("|")}
    return found


@pytest.mark.parametrize("line", ["help", "?", "help --"])
def test_help_is_one_screen_of_tasks(line: str) -> None:
    text = said(line)
    assert len(text.split("\n")) <= SCREEN
    assert [topic.name for topic in default_topics() if f"\n{topic.name} " not in f"\n{text}"] == []
    for way_on in ("help moving", "help NAME", "help WORD", "help all"):
        assert way_on in text


def test_no_help_is_wider_than_a_terminal() -> None:
    lines = ["help", "help all", "info", *(f"help {topic.name}" for topic in default_topics())]
    lines += [f"help {name}" for name in WORKING]
    wide = [row for line in lines for row in said(line).split("\n") if len(row) > WIDTH]
    assert wide == []


@pytest.mark.parametrize(
    "task", [topic for topic in default_topics() if not topic.needs], ids=lambda task: task.name
)
def test_each_line_of_a_task_is_one_that_can_be_given(task: Topic) -> None:
    typed = [line.removeprefix(PROMPT) for line in task.text.split("\n") if line.startswith(PROMPT)]
    for line in [*typed, *(line for row in task.rows for line in row.lines)]:
        reading = read_line(TABLES, line)
        assert reading.command is not None, line
        assert works(reading.command, Registry()), line
    assert [line for line in typed if read_line(TABLES, line).error is not None] == []
    assert task.about.endswith(".")


def test_help_all_lists_every_command_that_works_and_no_other() -> None:
    listed = first_words(said("help all"))
    everything = {name for name, _ in TABLES.main.everything()}
    assert everything & listed == WORKING
    assert everything <= first_words(said("help -a all"))
    assert "help -a all" in said("help all")


def test_info_lists_the_subjects_that_there_are() -> None:
    text = said("info")
    assert text == said("help info")
    assert "info block " in text
    assert "info registers" not in text
    assert "info registers" in said("help -a info")


def test_a_command_without_effect_says_so_when_asked_for() -> None:
    assert "This machine lacks what the command is for." in said("help balloon")
    assert "This machine lacks" not in said("help migrate")


def test_help_migrate_shows_flags_and_the_forms_of_the_address() -> None:
    text = said("help migrate")
    for part in (
        "-b or blk",
        "tcp:HOST:PORT",
        "unix:PATH",
        "exec:COMMAND",
        "help moving",
        "help -v migrate",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("nbd", "nbd_server_start"),
        ("disk", "drive_add"),
        ("migration", "tcp:HOST:4444"),
        ("how do I move a disk?", "tcp:HOST:4444"),
        ("copy", "drive_backup"),
        ("incremental", "migrate "),
        ("throttle", "block_set_io_throttle"),
        ("limit speed", "block_job_set_speed"),
        ("resizing", "block_resize"),
        ("MIGRATE", "migrate [-n] [-d]"),
        ("'migrate'", "migrate [-n] [-d]"),
        ("logout", "quit|q"),
        ("info disk", "info block"),
        ("migrate tcp:host:4444", "migrate [-n] [-d]"),
    ],
)
def test_a_word_finds_what_is_about_it(words: str, found: str) -> None:
    assert f"{found}" in said(f"help {words}")


def test_an_unknown_word_gets_the_nearest_names() -> None:
    text = said("help migarte")
    assert text.startswith("help: no command, task or manual page is about 'migarte'\n")
    assert "Did you mean 'help migrate'" in text


def test_a_search_that_finds_much_says_how_much_more_there_is() -> None:
    text = said("help drive")
    assert "more match" not in text
    text = said("help -a show")
    assert len(text.split("\n")) <= FOUND_MAX + 6
    assert "more match" in text


@given(words=st.one_of(st.text(max_size=60), WORDS))
def test_any_words_get_an_answer_that_leads_on(words: str) -> None:
    text = said(f"help {words}")
    assert "internal error" not in text
    assert "help" in text
    assert len(text.split("\n")) <= (LIST if {"-a", "-v"} & set(words.split()) else 2 * SCREEN)


@pytest.mark.parametrize("line", ["help", "help info", "info", "help migrate", "help balloon"])
def test_programs_get_qemus_form(line: str) -> None:
    text = said(line, interactive=False)
    assert " -- " in text
    assert "More:" not in text


@pytest.mark.parametrize("word", ["foo", "moving", "all", "-a", "disk"])
def test_programs_get_qemus_answer_to_other_words(word: str) -> None:
    assert said(f"help {word}", interactive=False) == f"unknown command: '{word}'"


async def on_a_machine(folder: Path, lines: list[str]) -> str:
    (folder / "web.img").write_bytes(bytes(3 << 20))
    machine = EmbeddedMachine(state_folder=folder)
    person = FakePerson()
    try:
        await machine.start([DriveOptions("web", str(folder / "web.img"), "raw", "none", False)])
        monitor = Monitor(machine.registry)
        for line in lines:
            await monitor.run_line(line, person)
        return person.said()
    finally:
        await machine.close()


def test_help_moving_shows_both_sides_with_the_drive_of_the_machine(tmp_path: Path) -> None:
    rows = asyncio.run(on_a_machine(tmp_path, ["help moving"])).split("\n")
    steps = [row.strip() for row in rows[1:12]]
    assert steps[1] == "(qemu) drive_add 0 file=PATH,format=raw,id=web"
    assert steps[2].startswith("(qemu) info block -v web  ")
    assert steps[4] == "$ truncate -s 3145728 new.img"
    assert steps[5] == "$ qmon -drive file=new.img,format=raw,id=web -incoming tcp:0:4444"
    assert steps[9].startswith("(qemu) migrate -n blk tcp:HOST:4444")
    assert steps[10].startswith("(qemu) migrate blk tcp:HOST:4444")


def test_help_moving_says_what_it_can_not_know() -> None:
    person = FakePerson()
    asyncio.run(Monitor(Registry()).run_line("help moving", person))
    rows = person.said().split("\n")
    assert rows[1] == "  # DRIVE is the drive's id, SIZE is its size in bytes"
    assert "  $ truncate -s SIZE new.img" in rows
    assert len(rows) <= 22, "it is longer than a screen of 24 rows, with the prompt and the toolbar"


def test_help_migrate_set_parameter_shows_values_and_defaults(tmp_path: Path) -> None:
    change = "migrate_set_parameter max-bandwidth 10M"
    text = asyncio.run(on_a_machine(tmp_path, [change, "help migrate_set_parameter"]))
    assert "  max-bandwidth: 10 MiB/s (default: 128 MiB/s)\n" in text
    assert "  downtime-limit: 300 ms, the default\n" in text
    assert "decompress-threads" not in text
    assert "help -a migrate_set_parameter" in text
    assert max(map(len, text.split("\n"))) <= WIDTH
    everything = asyncio.run(on_a_machine(tmp_path, ["help -a migrate_set_parameter"]))
    assert "  decompress-threads: 2, the default\n" in everything
    one = asyncio.run(on_a_machine(tmp_path, ["help migrate_set_parameter decompress-threads"]))
    assert "decompress-threads: 2" in one
    assert "max-bandwidth" not in one


def test_help_migrate_set_capability_shows_which_are_on(tmp_path: Path) -> None:
    change = "migrate_set_capability events on"
    text = asyncio.run(on_a_machine(tmp_path, [change, "help migrate_set_capability"]))
    assert "  events: on\n" in text
    assert "  validate-uuid: off\n" in text
    assert "xbzrle" not in text
