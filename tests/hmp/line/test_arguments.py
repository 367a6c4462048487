from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.line.arguments import FormatDefaults
from qmon.hmp.line.reading import read_line, read_typed
from qmon.hmp.line.words import SPACE, comment_start, read_word
from qmon.hmp.tables.signature import Values
from tests.support.fake_target import one_command

MIGRATE = "detach:-d,blk:-b|blk,inc:-i|inc,resume:-r,uri:s"


def read(args_type: str, text: str, formats: FormatDefaults | None = None) -> Values:
    arguments = read_line(one_command(args_type), f"cmd {text}", comments=False).arguments
    assert arguments.error is None
    if arguments.format is None:
        return arguments.values
    return arguments.values | (formats or FormatDefaults()).fill(arguments.format)


def error(args_type: str, text: str) -> str | None:
    return read_line(one_command(args_type), f"cmd {text}", comments=False).error


@pytest.mark.parametrize(
    ("args_type", "text", "values"),
    [
        ("a:s,b:F?,c:B?", "x", {"a": "x"}),
        ("a:s,b:F?,c:B?", r'x "a \"b\"\n" d0', {"a": "x", "b": 'a "b"\n', "c": "d0"}),
        ("a:S", "one  two ", {"a": "one  two "}),
        ("a:S?", " ", {}),
        ("a:i,b:i.", "0x3d4 . 5", {"a": 0x3D4, "b": 5}),
        ("a:i,b:i.", "1", {"a": 1}),
        ("a:l", "-1", {"a": -1}),
        ("a:M", "3", {"a": 3 << 20}),
        ("a:o", "10", {"a": 10 << 20}),
        ("a:o", "1.5g", {"a": 3 << 29}),
        ("a:o,b:o?", "+7b 0x10k", {"a": 7, "b": 16 << 10}),
        ("a:T", "1.5", {"a": 1.5}),
        ("a:T", "300ms", {"a": 0.3}),
        ("a:T,b:s", ".5us x", {"a": 0.5e-6, "b": "x"}),
        ("a:b,b:b", "on off", {"a": True, "b": False}),
        ("device:O", "x,id=y,z=a,,b", {"driver": "x", "id": "y", "z": "a,b"}),
        ("device:O", "", {}),
        ("a:F,f:-fs,b:s?", "x -f ppm d", {"a": "x", "f": "ppm", "b": "d"}),
        ("a:F,f:-fs,b:s?", "x -fppm", {"a": "x", "f": "ppm"}),
        (MIGRATE, "-d-b tcp:x:1", {"detach": True, "blk": True, "uri": "tcp:x:1"}),
        ("a:b,b:S?", "oné", {"a": True, "b": "é"}),
        ("a:M", "0x100000000001", {"a": 1 << 20}),
        ("f:/,a:l", "/4294967297x 1", {"count": 1, "format": "x", "size": 4, "a": 1}),
        ("f:/,a:l", f"/{'9' * 5000}x 1", {"count": -1, "format": "x", "size": 4, "a": 1}),
    ],
)
def test_each_type_reads_its_argument(args_type: str, text: str, values: Values) -> None:
    assert read(args_type, text) == pytest.approx(values)


@pytest.mark.parametrize(
    ("args_type", "text", "said"),
    [
        ("a:F", "", "cmd: filename expected"),
        ("a:B", '"x', "cmd: block device name expected"),
        ("a:s", r'"\q"', "cmd: string expected"),
        ("a:S", "", "cmd: string expected"),
        ("a:i", "0x1ffffffff", "'cmd' has failed: integer is for 32-bit values"),
        ("a:i", "-1", "'cmd' has failed: integer is for 32-bit values"),
        ("a:M", "-1", "enter a positive value"),
        ("a:o", "-1", "invalid size"),
        ("a:o", "8E", "invalid size"),
        ("a:o", ".5", "invalid size"),
        ("a:o", "0x1.8", "invalid size"),
        ("a:o", "1.5B", "invalid size"),
        ("a:o", "1.5e3", "invalid size"),
        ("a:o", "1.5E-2K", "invalid size"),
        ("a:o", "1.5e+", "cmd: extraneous characters at the end of line"),
        ("a:o", "10Z", "cmd: extraneous characters at the end of line"),
        ("a:T", "x", "Number expected"),
        ("a:T", "٣", "Number expected"),
        ("f:/,a:l", "/٣x 1", "invalid char in format: '\udcd9'"),
        ("a:-f,b:s", "-é", "cmd: unsupported option -\udcc3"),
        ("a:T", "inf", "Bad number"),
        ("a:T", "5s", "Unknown unit suffix"),
        ("a:T", "0x" + "f" * 300, "Bad number"),
        ("a:b", "onx", "Expected 'on' or 'off'"),
        ("f:/,a:l", "/q 1", "invalid char in format: 'q'"),
        ("a:F,f:-fs", "x -f", "cmd: value expected for -f"),
        ("a:-f,b:s", "-x d0", "cmd: unsupported option -x"),
        ("a:i", "1 2", "cmd: extraneous characters at the end of line"),
        ("", "x", "cmd: extraneous characters at the end of line"),
        (MIGRATE, "-d -d x", "cmd: unsupported option -d"),
        (MIGRATE, '"blk" tcp:x:1', "cmd: extraneous characters at the end of line"),
    ],
)
def test_each_error_has_qemus_words(args_type: str, text: str, said: str) -> None:
    assert error(args_type, text) == said


ways = st.permutations(
    [("detach", ("-d",)), ("blk", ("-b", "blk")), ("inc", ("-i", "inc")), ("resume", ("-r",))]
).flatmap(
    lambda flags: st.integers(0, 4).flatmap(
        lambda count: st.tuples(
            *(st.tuples(st.just(key), st.sampled_from(forms)) for key, forms in flags[:count])
        )
    )
)


@given(flags=ways, blanks=st.sampled_from([" ", "  ", "\t"]))
def test_flags_and_bare_words_mean_the_same_in_any_order(
    flags: tuple[tuple[str, str], ...], blanks: str
) -> None:
    text = blanks.join([*(form for _, form in flags), "tcp:0:4444"])
    assert read(MIGRATE, text) == {**{key: True for key, _ in flags}, "uri": "tcp:0:4444"}


def test_what_qemu_takes_as_an_argument_is_no_flag() -> None:
    assert read(MIGRATE, "blk") == {"uri": "blk"}
    assert read(MIGRATE, "-d inc") == {"detach": True, "uri": "inc"}
    assert read("nodes:-n,verbose:-v,device:B?", "-v -x") == {"verbose": True, "device": "-x"}
    assert error("nodes:-n,verbose:-v,device:B?", "-n -x") == "cmd: unsupported option -x"


def test_a_dash_that_the_table_has_further_on_is_no_flag() -> None:
    """QEMU looks for it in the text of the table, keys included."""
    assert read("n:-n,b:B,snapshot-file:s?", "-f x") == {"b": "-f", "snapshot-file": "x"}
    assert read("n:-n,b:B,snapshot-file:s?", "-") == {"b": "-"}
    assert error("n:-n,b:B,snapshot-file:s?", "-x") == "cmd: unsupported option -x"
    assert read("n:-n,b:B,snapshot-file:s?", "-f -n") == {"b": "-f", "snapshot-file": "-n"}
    assert read("n:-n,f:-f,b:B?", "-f -n") == {"n": True, "f": True}
    assert read("n:-n,f:-f,b:B?", "-f -f") == {"f": True, "b": "-f"}


OPTIONS = "netdev:O"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("user", {"type": "user"}),
        ("user,foo,nobar,no", {"type": "user", "foo": "on", "bar": "off", "": "off"}),
        ("=", {"": ""}),
        ("a=b", {"a": "b"}),
        (",", {"type": ""}),
        ("x=1,x=2,y==", {"x": "2", "y": "="}),
        ("user,,id=x", {"id": "x", "type": "user,id=x"}),
        ("user,id=x,id=1", {"id": "x", "type": "user"}),
        ('"user,a=b c"', {"type": "user", "a": "b c"}),
        ("user,", {"type": "user"}),
        ("a=b,,,c=d", {"a": "b,", "c": "d"}),
    ],
)
def test_options_of_a_group_are_read_as_qemu_reads_them(text: str, values: Values) -> None:
    assert read(OPTIONS, text) == values


@pytest.mark.parametrize("text", ["user,id=", "user,id=1x", "id=é", "user,id=a/b", "user,id=a b"])
def test_an_id_that_can_not_be_one_is_refused_without_words(text: str) -> None:
    assert error(OPTIONS, f'"{text}"') == ""


def test_a_format_stays_in_force_until_another_is_given() -> None:
    formats = FormatDefaults()
    assert read("f:/,a:l", "1", formats) == {"count": 1, "format": "x", "size": 4, "a": 1}
    assert read("f:/,a:l", "/12db 1", formats) == {"count": 12, "format": "d", "size": 1, "a": 1}
    assert read("f:/,a:l", "1", formats)["format"] == "d"
    assert read("f:/,a:l", "/i 1", formats)["size"] == -1
    assert read("f:/,a:l", "/x 1", formats)["size"] == 1


def test_a_word_is_cut_at_1023_bytes() -> None:
    assert read("a:s,b:s?", "x" * 5000 + " y") == {"a": "x" * 1023, "b": "y"}
    assert len(str(read("a:s", '"' + "é" * 2000 + '"')["a"]).encode("utf-8", "surrogateescape")) == 1023


def quote(text: str) -> str:
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(character, escape)
    return f'"{text}"'


texts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(words=st.lists(texts, min_size=1, max_size=4))
def test_any_text_survives_in_quotes(words: list[str]) -> None:
    args_type = ",".join(f"k{number}:s" for number in range(len(words)))
    values = read(args_type, " ".join(map(quote, words)))
    assert list(values.values()) == words


@given(text=st.text(st.sampled_from(" \t\"\\-dbixblkon/.#=,19M'é")))
@pytest.mark.parametrize(
    "args_type", [MIGRATE, "f:/,a:l,b:i.", "a:o,b:T?,c:b?", "a:F,f:-fs,b:S?", "device:O", ""]
)
def test_any_line_gives_values_or_one_line_of_error(args_type: str, text: str) -> None:
    line = f"cmd {text}"
    for reading in (read_line(one_command(args_type), line), read_typed(one_command(args_type), line)):
        assert reading.command is not None
        arguments = reading.arguments
        ends = [reading.start, *(end for piece in arguments.pieces for end in (piece.start, piece.end))]
        assert ends == sorted(ends)
        assert "\n" not in (arguments.error or "")
        known = {parameter.key for parameter in reading.command.parameters}
        assert set(arguments.values) <= known or args_type == "device:O"


@given(before=st.text(st.sampled_from('ab" \\#'), max_size=12), comment=st.text(max_size=10))
def test_a_comment_begins_behind_white_space_outside_quotes(before: str, comment: str) -> None:
    start = comment_start(before)
    assert start == len(before) or before[start] == "#"
    if start < len(before):
        assert start == 0 or before[start - 1] in SPACE
        return
    word = None
    position = 0
    while (word := read_word(before, position)) is not None:
        position = word.end
    if not before[position:].strip(SPACE):  # every quote is closed
        assert comment_start(f"{before} #{comment}") == len(before) + 1


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("info block # all", "info block "),
        ("# all", ""),
        ("  # all", "  "),
        ('drive_add 0 "file=a #b" # c', 'drive_add 0 "file=a #b" '),
        ("info block #block1", "info block "),
        ("info block a#b", "info block a#b"),
        ('x "open # quote', 'x "open # quote'),
    ],
)
def test_comments_are_cut_where_they_begin(line: str, kept: str) -> None:
    assert line[: comment_start(line)] == kept
