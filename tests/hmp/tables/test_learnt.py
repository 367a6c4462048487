"""The tables that are made from a QEMU's help."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.line.reading import read_line
from qmon.hmp.tables.learnt import Usage, learn, read_help
from qmon.hmp.tables.table import default_tables

HELP = """\
cont|c  -- resume emulation\r
drive_add [-n] [[<domain>:]<bus>:]<slot>\r
[file=file][,if=type][,bus=n]\r
[,readonly=on|off][,copy-on-read=on|off] -- add drive to PCI storage controller\r
info [subcommand] -- show various information about the system state\r
migrate [-d] [-r] uri -- migrate to URI (using -d to not wait for completion)\r
\t\t\t -r to resume a paused postcopy migration\r
new-command [-z] thing -- do something new\r
"""
INFO = """\
info status  -- show the current VM status (running|paused)\r
info news [-v] [name] -- show news\r
"""


def test_rows_are_read_with_all_their_lines() -> None:
    rows = {row.name: row for row in read_help(HELP)}
    assert list(rows) == ["cont|c", "drive_add", "info", "migrate", "new-command"]
    assert rows["drive_add"].params.splitlines()[-1] == "[,readonly=on|off][,copy-on-read=on|off]"
    assert rows["migrate"].help.endswith("-r to resume a paused postcopy migration")
    assert read_help(INFO, "info ")[1] == Usage("news", "[-v] [name]", "show news")


def test_the_target_decides_which_commands_there_are_and_what_they_take() -> None:
    tables = learn(HELP, INFO, default_tables())
    main, info = tables.main, tables.at(["info"])
    assert info is not None
    assert [each.name for each in main if each.is_on_target] == [row.name for row in read_help(HELP)]
    assert main.find("eject") is None
    assert [each.name for each in info if each.is_on_target] == ["news", "status"]
    migrate = main.find("migrate")
    assert migrate is not None
    assert migrate.entry.params == "[-d] [-r] uri"
    assert [each.letter for each in migrate.parameters if each.is_flag] == ["d", "r"]
    assert "blk" not in migrate.entry.help


def test_what_is_known_is_added_to_what_the_target_says() -> None:
    tables = learn(HELP, INFO, default_tables())
    known, unknown = tables.main.find("cont"), tables.main.find("new-command")
    assert known is not None
    assert unknown is not None
    assert known.entry.help == "resume the machine"
    assert known.entry.documentation
    assert unknown.entry.help == "do something new"
    assert read_line(tables, "new-command -z a b c").error is None


def test_what_no_qemu_has_is_added() -> None:
    ours = {each.name for each in learn(HELP, INFO, default_tables()).main if not each.is_on_target}
    assert {"wait", "watch", "include", "qmp", "yank", "exit", "transcript"} <= ours
    assert not {"migrate_resolve", "help|?", "stop|s"} & ours


def test_a_flag_that_qmon_answers_itself_stays() -> None:
    tables = learn(HELP, "info migrate  -- show migration status\r\n", default_tables())
    assert read_line(tables, "info migrate -t").error is None
    assert read_line(tables, "info migrate -a").error is not None


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_makes_tables(main: str, info: str) -> None:
    tables = learn(main, info, default_tables())
    for line in ("info status", "wait migrate", main, info):
        read_line(tables, line)


@given(st.lists(st.sampled_from(HELP.split("\r\n")), max_size=12))
def test_rows_in_any_order_make_tables(rows: list[str]) -> None:
    for _, command in learn("\n".join(rows), INFO, default_tables()).main.everything():
        assert command.parameters is not None
