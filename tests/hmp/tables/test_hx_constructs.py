"""Every construct that QEMU's tables have used through the years, in small tables of our own making.

``QMON_HX_FILES`` in the environment names a file or a folder of QEMU's own tables, to be read as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.tables import hx
from qmon.hmp.tables.given import GivenFile, lay_over
from qmon.hmp.tables.signature import parse_signature
from qmon.hmp.tables.table import Command, Tables, default_tables

FOLDER = Path(__file__).parent / "data"
OURS = sorted(FOLDER.glob("*.hx"))
SPEC = sorted((Path(__file__).parents[3] / "spec").glob("*.hx"))
DOCUMENTATION = re.compile(r"(?ms)^(?:STEXI|SQMP|SRST)\b.*?^(?:ETEXI|EQMP|ERST)\b[^\n]*")
NAME = re.compile(r'(?m)(?:^[ \t]*\{[ \t\n]*|\.name\s*=\s*)"([^"]*)"')
MONITOR_TABLE = re.compile(r"(?m)^\s*(?:\.params\s*=|\{\s*\"[^\"]*\",\s*\"[^\"]*\",\s*\w+,)")


def given_files() -> list[Path]:
    """The monitor's tables among the files that the environment names."""
    named = os.environ.get("QMON_HX_FILES")
    if not named:
        return []
    path = Path(named)
    files = sorted(path.rglob("*.hx")) if path.is_dir() else [path]
    return [file for file in files if MONITOR_TABLE.search(text_of(file)) and "qmp" not in file.name]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def read(name: str) -> list[hx.Entry]:
    return hx.read(text_of(FOLDER / name), name)


@pytest.mark.parametrize("path", [*OURS, *SPEC, *given_files()], ids=str)
def test_every_entry_is_found_and_none_invented(path: Path) -> None:
    text = text_of(path)
    written = [name for name in NAME.findall(DOCUMENTATION.sub("", text)) if not name.startswith("no-")]
    entries = hx.read(text, path.name)
    assert [entry.name for entry in entries] == written
    assert written
    for entry in entries:
        parse_signature(entry.args_type)
        assert text.splitlines()[entry.line - 1].lstrip().startswith(("{", "/* before */"))


def test_a_table_of_today() -> None:
    entries = {entry.name: entry for entry in read("modern.hx")}
    plain, conditional, inside = entries["plain|p|?"], entries["conditional"], entries["inside"]
    assert (plain.names, plain.heading, plain.flags) == (("plain", "p", "?"), "First section", "p")
    assert plain.documentation.startswith("``plain``")
    assert plain.documentation.endswith("A second block of the same entry.")
    assert conditional.conditions == ("defined(CONFIG_A) &&     (defined(CONFIG_B) || !defined(CONFIG_C))",)
    assert conditional.params == "[-d target] [-a] file block [text] [rest]"
    assert conditional.help == 'joined from three strings\n\t\t\t and "escapes" \\ AA\''
    assert (conditional.coroutine, conditional.completion) == (True, "conditional_completion")
    assert [entries[name].conditions[1] for name in ("nested", "elif", "else")] == [
        "defined(CONFIG_D)",
        "!(defined(CONFIG_D)) && (defined(CONFIG_E))",
        "!(!(defined(CONFIG_D)) && (defined(CONFIG_E)))",
    ]
    assert (inside.args_type, inside.handler, inside.conditions) == ("first:i", None, ("!defined(CONFIG_F)",))
    assert inside.others == {"cmd_info_hrt": "qmp_x_query_inside"}
    assert entries["below"].sub_table == "hmp_info_cmds"
    assert entries["bare"].handler is None


def test_a_table_of_2010_to_2019() -> None:
    entries = {entry.names[0]: entry for entry in read("texinfo.hx")}
    assert {name: entry.handler for name, entry in entries.items()} == {
        "help": "do_help_cmd",
        "printed": "do_printed",
        "later": "do_later",
        "told": "do_told",
        "shown": "do_shown",
    }
    assert entries["told"].flags == "MONITOR_CMD_ASYNC|MONITOR_CMD_OTHER"
    assert entries["told"].others == {"user_print": "do_told_print"}
    assert entries["printed"].documentation == "@item printed"
    assert entries["later"].documentation == ""


def test_a_table_of_early_2009() -> None:
    entries = {entry.names[0]: entry for entry in read("positional.hx")}
    assert entries["commit"].help == "a comma, a brace } and a # in a sentence"
    assert (entries["save"].handler, entries["save"].help) == ("do_save", "")
    assert entries["acl"].help == "acl show vnc\nacl policy vnc\n"
    assert entries["nmi"].conditions == ("!defined(CONFIG_OTHER)", "defined(TARGET_I386)")
    assert (entries["mixed"].handler, entries["mixed"].help) == ("do_mixed", "by position and by name")
    types = {
        name: [str(each) for each in parse_signature(entry.args_type)] for name, entry in entries.items()
    }
    assert types["eject"] == ["arg1:-f", "arg2:B"]
    assert types["migrate"] == ["arg1:-d", "arg2:-s", "arg3:s"]
    assert types["i"] == ["arg1:/", "arg2:i", "arg3:i."]
    assert types["acl"] == ["arg1:s", "arg2:s", "arg3:s?", "arg4:i?"]


def test_comments_are_not_there() -> None:
    first, _, second, third, _ = read("comments.hx")
    assert (first.handler, first.params) == ("hmp_first", "")
    assert first.help == "no /* comment */ and no // comment in a string"
    assert (second.help, second.handler) == ("a sentence that goes on", "hmp_second")
    assert third.handler == "hmp_third"


def test_what_is_never_compiled_is_no_command() -> None:
    assert [entry.name for entry in read("comments.hx") if entry.disabled] == ["never", "other"]
    text = text_of(FOLDER / "comments.hx")
    tables = (Tables.parse(text, {}), lay_over(default_tables(), [GivenFile("t.hx", text, False)]))
    for each in tables:
        assert each.main.find("second")
        assert each.main.find("never") is None
        assert each.main.find("other") is None


def test_line_ends_of_another_system_change_nothing() -> None:
    for path in OURS:
        text = text_of(path)
        assert hx.read(text.replace("\n", "\r\n"), "t.hx") == hx.read(text, "t.hx")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n/* open\n", "t.hx:2: expected '*/' for '/*', found the end of the file"),
        ("STEXI\nSTEXI\nETEXI\n", "t.hx:2: expected 'ETEXI' before 'STEXI'"),
        ("SRST\n", "t.hx:1: expected 'ERST' for 'SRST', found the end of the file"),
        ("nothing at all\n", "t.hx:1: expected an entry such as '{ .name = \"...\", },', found none"),
        ('\n\n{ .name = "a", .args_type = "x:Q" },', "t.hx:3: expected 'key:type' in the args_type 'x:Q'"),
        ('{ .name = "a", .args_type = "Q" },', "t.hx:1: expected 'key:type' in the args_type 'Q'"),
        ('{ .name = "a", .sub_table = x },', "t.hx:1: expected the sub_table hmp_info_cmds or info_cmds"),
    ],
)
def test_a_damaged_table_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(hx.HxError) as caught:
        lay_over(default_tables(), [GivenFile("t.hx", text, False)])
    assert str(caught.value).startswith(said)


texts = st.sampled_from([text_of(path) for path in OURS])
splinters = st.sampled_from(
    [
        *'{}.,="\\#/*|&-:;()\n\0\r\t é',
        "\udcff",
        "SRST\n",
        "ERST\n",
        "\nSTEXI\n",
        "#if 0\n",
        "#endif\n",
        "\\\n",
        "/*",
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(["delete", "insert", "flip", "truncate", "repeat"])):
            case "delete":
                text = text[:start] + text[start + draw(st.integers(1, 40)) :]
            case "insert":
                text = text[:start] + draw(splinters) + text[start:]
            case "flip":
                text = text[:start] + draw(splinters) + text[start + 1 :]
            case "truncate":
                text = text[:start]
            case "repeat":
                text = text[:start] + text[start : start + 40] + text[start:]
    return text


@given(text=damaged())
def test_a_table_damaged_anywhere_is_read_or_refused_with_its_place(text: str) -> None:
    refusal: hx.HxError | None = None
    commands: list[Command] = []
    try:
        commands = list(lay_over(default_tables(), [GivenFile("t.hx", text, False)]).main)
    except hx.HxError as error:
        refusal = error
    if refusal is not None:
        assert re.fullmatch(r"t\.hx:\d+: expected .*", str(refusal), re.DOTALL)
        assert 1 <= refusal.line <= text.count("\n") + 1
    for command in commands:
        assert command.entry.name
        assert command.parameters is not None
