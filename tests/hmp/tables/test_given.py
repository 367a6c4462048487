"""``-hx``: tables laid over the program's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qmon.errors import QmonError
from qmon.hmp.commands import find_function
from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.given import GivenFile, lay_over, read_given
from qmon.hmp.tables.hx import HxError
from qmon.hmp.tables.renamed import RENAMED
from qmon.hmp.tables.signature import parse_signature
from qmon.hmp.tables.table import Table, Tables, default_tables
from qmon.host.small_file import read_file
from qmon.qmp.registry import Registry
from tests.support.fake_target import FakeMachine, FakePerson


class Desk:
    """A monitor with tables over its own, on a machine that notes what it is told."""

    def __init__(self, main: str = "", info: str = "") -> None:
        files = [GivenFile("m.hx", main, False), GivenFile("i.hx", info, True)]
        self.tables = lay_over(default_tables(), [file for file in files if file.text])
        self.machine = FakeMachine()
        self._monitor = Monitor(self.machine.registry, self.tables)

    def run(self, line: str) -> str:
        person = FakePerson(interactive=False)
        asyncio.run(self._monitor.run_line(line, person))
        return person.said()


def entry(name: str, args_type: str, function: str, more: str = "") -> str:
    strings = f'.name = "{name}", .args_type = "{args_type}", .params = "P", .help = "H"'
    return f"{{ {strings}, {more}.cmd = {function} }},\n"


def info_of(tables: Tables) -> Table:
    info = tables.main.find("info")
    assert info is not None
    assert info.sub_table is not None
    return info.sub_table


def test_an_entry_takes_the_place_of_those_that_have_one_of_its_names() -> None:
    desk = Desk(entry("halt|s", "", "hmp_stop"))
    assert desk.run("halt") == ""
    assert desk.run("info status") == "VM status: paused"
    assert desk.run("help halt") == "halt|s P -- H"
    assert desk.run("stop") == "unknown command: 'stop'"
    assert desk.run("cont") == ""


def test_an_entry_of_info_goes_to_its_table() -> None:
    desk = Desk(info=entry("status", "", "hmp_info_version"))
    assert desk.run("info status") == "7.2.22Debian"
    assert desk.run("help info status") == "info status P -- H"
    assert desk.run("status") == "unknown command: 'status'"
    assert desk.run("info name") == "web1"


def test_a_table_with_info_leads_to_the_table_of_info() -> None:
    for sub_table in ("hmp_info_cmds", "info_cmds"):
        main = entry("info|about", "item:s?", "hmp_info_help", f".sub_table = {sub_table}, ")
        desk = Desk(main, entry("who", "", "hmp_info_name"))
        assert desk.run("about who") == "web1"
        assert desk.run("info status") == "VM status: running"


def test_the_last_file_lies_on_top_and_the_first_entry_counts() -> None:
    files = [
        GivenFile("1.hx", entry("who", "", "hmp_gone") + entry("older", "", "hmp_stop"), False),
        GivenFile("2.hx", entry("who", "", "hmp_info_name") + entry("who", "", "hmp_info_version"), False),
    ]
    main = lay_over(default_tables(), files).main
    who, older = main.find("who"), main.find("older")
    assert who is not None
    assert (who.entry.handler, who.file) == ("hmp_info_name", "2.hx")
    assert older is not None
    assert [command.name for command in main].count("who") == 1


@pytest.mark.parametrize(
    ("args_type", "function"),
    [
        ("", "hmp_nobody_wrote_it"),
        ("", "NULL"),
        ("", "hmp_drive_del"),  # what it needs is not given
        ("id:B?", "hmp_drive_del"),
        ("id:l", "hmp_drive_del"),
        ("id:B,sure:-y", "hmp_drive_del"),  # what it is given it would ignore
        ("force:B", "hmp_cont"),
    ],
)
def test_a_function_that_nobody_wrote_or_that_takes_others_is_not_available(
    args_type: str, function: str
) -> None:
    desk = Desk(entry("gone", args_type, function))
    assert desk.run("gone 1" if args_type and function != "NULL" else "gone") in (
        'Command "gone" is not available.',
        'Command "gone " is not available.',
    )
    assert desk.machine.calls == []


def test_functions_of_old_tables_are_known_by_their_names_of_then() -> None:
    desk = Desk(
        '{ "help|?", "s?", help_cmd, "[cmd]", "A" },\n'
        '{ "info", "s?", do_info, "[subcommand]", "B" },\n'
        '{ "q|quit", "", do_quit, "", "C" },\n'
        '{ "migrate", "-ds", do_migrate, "[-d] uri", "D" },\n'
    )
    assert desk.run("? q") == "q|quit  -- C"
    assert desk.run("info status") == "VM status: running"
    assert desk.run("migrate -d tcp:x:1") == ""
    assert desk.run("migrate -b tcp:x:1").startswith("migrate: unsupported option -b")
    assert desk.run("quit") == ""
    assert desk.machine.calls == [("migrate", {"uri": "tcp:x:1"}), ("quit", {})]


def test_a_line_within_a_line_is_one_under_any_name() -> None:
    desk = Desk(entry("clock", "line:S", "hmp_time"))
    assert desk.run("clock info status").startswith("VM status: running\nTook ")


def test_what_old_functions_are_called_today_is_in_the_tables() -> None:
    tables = default_tables()
    functions = set()
    for command in (*tables.main, *info_of(tables)):
        functions |= {command.entry.handler, command.entry.others.get("cmd_info_hrt")}
    assert set(RENAMED.values()) <= functions


def test_the_programs_own_tables_laid_over_themselves_change_nothing() -> None:
    folder = Path(__file__).parents[3] / "spec"
    own = default_tables()
    given = read_given([str(folder / "hmp-commands-info.hx"), str(folder / "hmp-commands.hx")], read_file)
    for ours, theirs in ((own.main, given.main), (info_of(own), info_of(given))):
        assert [command.name for command in theirs] == [command.name for command in ours]
        for mine, laid in zip(ours, theirs, strict=True):
            assert parse_signature(laid.entry.args_type) == mine.parameters
            assert laid.entry.handler == mine.entry.handler
            assert laid.available == mine.available


def test_the_name_of_a_file_says_which_table_it_is(tmp_path: Path) -> None:
    text = entry("who", "", "hmp_info_name")
    for name in ("a.hx", "a-info.hx"):
        (tmp_path / name).write_text(text)
    assert read_given([f"{tmp_path}/a.hx"], read_file).main.find("who")
    assert info_of(read_given([f"{tmp_path}/a-info.hx"], read_file)).find("who")
    tables = read_given([f"info={tmp_path}/a.hx"], read_file)
    assert info_of(tables).find("who")
    assert tables.main.find("who") is None


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "a.hx").write_text('\n{ .name = "a" .help = "b" },\n')
    with pytest.raises(HxError, match=r"a\.hx:2: expected ',' or '}', found '\.help'"):
        read_given([f"{tmp_path}/a.hx"], read_file)
    with pytest.raises(QmonError, match=r"^-hx .*/b\.hx: No such file or directory$"):
        read_given([f"{tmp_path}/b.hx"], read_file)


def test_a_handler_is_there_for_what_a_test_above_calls() -> None:
    assert all(
        find_function(name, Registry())
        for name in ("hmp_stop", "hmp_info_name", "hmp_info_version", "hmp_drive_del")
    )
