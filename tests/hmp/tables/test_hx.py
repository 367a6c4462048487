from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import QmonError
from qmon.hmp.tables import hx
from qmon.hmp.tables.table import Tables, default_tables

MODERN = """\
HXCOMM a comment, with "an open quote
DEFHEADING(a heading)

    {
        .name       = "first|f",
        .args_type  = "force:-f,device:B",
        .params     = "[-f] device\\n"
                      "more",
        .help       = "says \\"hello\\"\\n\\t\\t\\t twice \\\\o/",
        .cmd        = hmp_first,
        .coroutine  = true,
        .command_completion = first_completion,
        .flags      = "p",
    },

SRST
``first`` [``-f``] *device*
  Not an entry:
    { .name = "no", },
ERST
#if defined(TARGET_A) || \\
    defined(TARGET_B)
#ifdef CONFIG_C
    {
        .name = "second", .args_type = "", .params = "",
        .help = "under "
#ifdef CONFIG_D
        "one "
#else
        "two "
#endif
        "conditions",
        .cmd_info_hrt = qmp_x_query_second
    },
#endif
#else
    { .name = "third", .sub_table = hmp_info_cmds, .cmd = hmp_info_help },
#endif
"""

TEXINFO = """\
STEXI
@table @option
ETEXI

    {
        .name       = "old",
        .args_type  = "value:i",
        .params     = "value",
        .help       = "an entry of 2009",
        .user_print = monitor_user_noop,
        .mhandler.cmd_new = do_old,
        .flags      = MONITOR_CMD_ASYNC | MONITOR_CMD_OTHER,
    },
    { "older|o", "i", do_older,
      "value", "an entry of early 2009" },
STEXI
@item older
ETEXI
SQMP
older: how QMP has it
{ "execute": "older",
  "arguments": { } }
EQMP
"""


def test_an_entry_keeps_names_strings_and_functions() -> None:
    first = hx.read(MODERN, "t.hx")[0]
    assert first.names == ("first", "f")
    assert first.params == "[-f] device\nmore"
    assert first.help == 'says "hello"\n\t\t\t twice \\o/'
    assert (first.handler, first.completion, first.coroutine, first.flags) == (
        "hmp_first",
        "first_completion",
        True,
        "p",
    )
    assert first.documentation.startswith("``first``")
    assert '{ .name = "no", },' in first.documentation


def test_conditions_are_kept_and_the_first_branch_inside_an_entry_counts() -> None:
    _, second, third = hx.read(MODERN, "t.hx")
    assert second.conditions == ("defined(TARGET_A) ||     defined(TARGET_B)", "defined(CONFIG_C)")
    assert second.help == "under one conditions"
    assert second.handler is None
    assert second.others == {"cmd_info_hrt": "qmp_x_query_second"}
    assert third.sub_table == "hmp_info_cmds"
    assert third.conditions[0].startswith("!(")


def test_the_tables_of_2009_are_read() -> None:
    old, older = hx.read(TEXINFO, "t.hx")
    assert (old.name, old.handler, old.flags) == ("old", "do_old", "MONITOR_CMD_ASYNC|MONITOR_CMD_OTHER")
    assert older.names == ("older", "o")
    assert (older.args_type, older.handler, older.params) == ("i", "do_older", "value")
    assert older.documentation == "@item older"


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ('{\n.name = "a",\n', 1, "'}'"),
        ('{\n.name "a",\n},', 2, "'=' after '.name'"),
        ('{\n.name = "a"\n.help = "b",\n},', 3, "','"),
        ('{\n.name = "a,\n},', 2, "a closing '\"'"),
        ("{\n.name = ,\n},", 2, "a string or a name"),
        ('{\n.help = "a",\n},', 1, "'.name'"),
        ("{\n.name = a,\n},", 2, "a string"),
        ('{\n.name = "a", .name = "b",\n},', 2, "once"),
        ('.name = "a",\n},', 1, "'{'"),
        ("\nSRST\ntext\n", 2, "'ERST'"),
        ("ERST\n", 1, "'SRST'"),
        ("#if A\n", 1, "'#endif'"),
        ("\n#endif\n", 2, "'#if'"),
        ('{\n.name = "a",\nSRST\nERST\n},', 3, "'}'"),
        ('{\n.name = "a" $\n},', 2, "a field"),
        ('{\n.name = "a", }, {\n', 2, "a new line"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(text: str, line: int, expected: str) -> None:
    with pytest.raises(hx.HxError) as caught:
        hx.read(text, "broken.hx")
    assert str(caught.value).startswith(f"broken.hx:{line}: expected ")
    assert expected in str(caught.value)


def test_an_unknown_sub_table_or_argument_type_is_refused_with_its_place() -> None:
    with pytest.raises(hx.HxError, match=r"hmp-commands\.hx:1: .*'nowhere'"):
        Tables.parse('{ .name = "a", .sub_table = nowhere },', {})
    tables = Tables.parse('\n{ .name = "a", .args_type = "value:Q", .cmd = f },', {})
    command = tables.main.find("a")
    assert command is not None
    with pytest.raises(hx.HxError, match=r"hmp-commands\.hx:2: .*'value:Q'"):
        _ = command.parameters


def test_our_own_tables_are_whole() -> None:
    tables = default_tables()
    info = tables.main.find("info")
    assert info is not None
    assert info.sub_table is not None
    for table in (tables.main, info.sub_table):
        for command in table:
            assert command.available
            assert command.entry.help
            assert command.entry.documentation
            assert command.parameters is not None


def c_literal(text: str) -> str:
    special = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\", "\r": "\\r"}
    return '"' + "".join(special.get(character, character) for character in text) + '"'


plain = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t\r"))


@given(name=plain.filter(bool), params=plain, help_=plain, parts=st.integers(1, 4))
def test_what_is_written_as_c_strings_is_read_back(name: str, params: str, help_: str, parts: int) -> None:
    step = max(1, -(-len(help_) // parts))
    pieces = [help_[start : start + step] for start in range(0, len(help_), step)] or [""]
    text = (
        f"{{\n  .name = {c_literal(name)},\n  .params = {c_literal(params)},\n"
        f"  .help = {chr(10).join(map(c_literal, pieces))},\n  .cmd = f\n}},\n"
    )
    (entry,) = hx.read(text, "t.hx")
    assert (entry.name, entry.params, entry.help) == (name, params, help_)


tokens = st.sampled_from([*'{}.,="\\#\n ab|&', "SRST\n", "ERST\n", ".name", '"a"', "#if A\n", "#endif\n"])


@given(text=st.lists(tokens).map("".join))
def test_no_text_does_more_harm_than_an_error(text: str) -> None:
    try:
        entries = hx.read(text, "t.hx")
    except QmonError as error:
        entries = []
        said = str(error)
    else:
        said = "t.hx:"
    assert said.startswith("t.hx:")
    assert all(entry.name for entry in entries)
