"""Monitor lines at random for the property tests: from the table's argument types, nastily.

A line is bytes without those that a line editor acts upon, so that it arrives whole by any way.
"""

from __future__ import annotations

import re

from hypothesis import strategies as st

from qmon.hmp.signature import Parameter
from qmon.hmp.table import Command

LINE_BYTES_MAX = 4095

GRAPHIC = "".join(map(chr, range(33, 127)))
blanks = st.sampled_from([b" ", b" ", b" ", b"  ", b"     "])
maybe_blanks = st.sampled_from([b"", b"", b" ", b"  "])


def _text(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    return strategy.map(lambda text: text.encode())


# 0x80-0x9f are C1 controls, which begin sequences for a line editor
_high_bytes = st.binary(min_size=1, max_size=3).map(lambda raw: bytes(byte | 0xA0 for byte in raw))
_foreign = _text(st.sampled_from(["é", "ñandú", "λ", "日本", "🙂", "\u00a0", "٣", "\u3000"])).filter(
    lambda raw: 0x9B not in raw
)
_long = st.builds(
    lambda unit, count: (unit * count)[:count],
    st.sampled_from([b"x", b"ab", b"0", b"9", b"1,", b"a=b,", "é".encode(), b"\\n"]),
    st.sampled_from([1022, 1023, 1024, 1030]),
)

_plain_words = st.sampled_from(
    [
        b"x",
        b"nosuch",
        b"a.b",
        b"/",
        b"a/b",
        b".",
        b"..",
        b"0",
        b"on",
        b"-",
        b"--",
        b"-x",
        b"#",
        b"blk0",
        b"x=y",
    ]
)
_words = st.one_of(
    _plain_words,
    _plain_words,
    _text(st.text(st.sampled_from(GRAPHIC), min_size=1, max_size=8)),
    _foreign,
    _high_bytes,
    st.builds(lambda word, tail: word + tail, _plain_words, _foreign),
)
_escapes = _text(st.sampled_from(["\\n", "\\r", "\\\\", "\\'", '\\"', "\\t", "\\x41", "\\0", "\\", "\\é"]))
_inside_quotes = st.lists(
    st.one_of(_text(st.text(st.sampled_from(GRAPHIC + "  "), max_size=5)), _escapes, _foreign), max_size=4
).map(b"".join)
_quoted = st.builds(
    lambda inside, end: b'"' + inside + end,
    _inside_quotes,
    st.sampled_from([b'"', b'"', b'"', b'"', b"", b'"x', b'""']),
)
words = st.one_of(_words, _words, _quoted)
long_words = st.one_of(_long, _long.map(lambda word: b'"' + word + b'"'))

switches = st.one_of(
    st.sampled_from([b"on", b"off"]),
    _text(
        st.sampled_from(
            ["On", "OFF", "onx", "offf", "o", "oné", "true", "1", '"on"', "on.", "off,", "on\u00a0"]
        )
    ),
    words,
)

_small = st.integers(0, 300).map(str)
_edges = st.sampled_from([1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64])
_numbers = st.one_of(
    _small,
    st.one_of(_edges, st.integers(0, 1 << 70)).flatmap(
        lambda value: st.sampled_from([str(value), f"{value:#x}", f"0{value:o}", f"{value:#X}"])
    ),
    st.sampled_from(["08", "0x", "0b1", "0", "00", "1e3", "1.5", "0x1.8p3", "9" * 40, "0" * 50 + "7", "1_0"]),
)
_atoms = st.one_of(
    _numbers,
    _numbers,
    st.sampled_from(
        ["'a'", "'''", "' '", "'\\'", "''", "'", "'ab'", "'é'", "$pc", "$", "$é", "a", '"1"', "é"]
    ),
)
_gaps = st.sampled_from(["", "", "", " ", "  "])


def _joined(left: str, gap: str, operator: str, right: str) -> str:
    return f"{left}{gap}{operator}{gap}{right}"


_sums: st.SearchStrategy[str] = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.builds(_joined, inner, _gaps, st.sampled_from([*"+-*/%&|^"]), inner),
        st.builds(lambda sign, gap, operand: sign + gap + operand, st.sampled_from("+-~"), _gaps, inner),
        st.builds(
            lambda operand, end: f"({operand}{end}", inner, st.sampled_from([")", ")", ")", " )", "", "))"])
        ),
    ),
    max_leaves=8,
)
_deep = st.builds(
    lambda depth, operand, missing: "(" * depth + operand + ")" * (depth - missing),
    st.sampled_from([2, 50, 900]),
    _atoms,
    st.sampled_from([0, 0, 1]),
)
_LARGE = re.compile(r"[0-9a-fA-FxX]{15}")


def _divides_safely(text: str) -> bool:
    """QEMU dies of INT64_MIN / -1: where a line divides, it has no large numbers."""
    return not ("/" in text or "%" in text) or _LARGE.search(text) is None


expressions = _text(st.one_of(_sums, _sums, _sums, _deep).filter(_divides_safely))

_whole = st.one_of(
    _small, st.sampled_from(["0", "00", "010", "0x10", "0X1f", "0x", "0xg", "0x1e", "18446744073709551615"])
)
_fractions = st.sampled_from(
    [
        "",
        "",
        "",
        ".",
        ".5",
        ".0",
        ".25",
        ".999",
        ".1e3",
        ".5e3",
        ".5E",
        ".e",
        ".5.5",
        "e3",
        "E+3",
        ".5e+",
        ".5E-2",
        "p3",
    ]
)
_suffixes = st.sampled_from(["", "", *"bBkKmMgGtTpPeE", "kk", "Z", "iB", "ib", "KB", " k", ",", "é"])
sizes = st.one_of(
    st.builds(
        lambda sign, whole, fraction, suffix: f"{sign}{whole}{fraction}{suffix}".encode(),
        st.sampled_from(["", "", "", "", "+", "-", "+ ", "--"]),
        _whole,
        _fractions,
        _suffixes,
    ),
    _text(
        st.sampled_from(
            ["inf", "nan", "-0", "-1", ".5", "0x1.8p3", "8E", "7.99999E", "16E", "1e400", "9" * 30, "x"]
        )
    ),
)

_option_pieces = st.one_of(
    _text(
        st.sampled_from(
            ["user", "id=a", "id=a1", "id=1", "id=", "id", "a=b", "a", "noa", "no", "=", "a==b", "x,,y", ""]
        )
    ),
    _text(st.text(st.sampled_from("ab=,.-_1 "), max_size=8)),
    _foreign,
)
option_strings = st.one_of(
    st.lists(_option_pieces, min_size=1, max_size=4).map(b",".join),
    st.lists(_option_pieces, min_size=1, max_size=4).map(lambda pieces: b'"' + b",".join(pieces) + b'"'),
    words,
)

formats = st.one_of(
    st.just(b""),
    st.just(b""),
    _text(
        st.builds(
            lambda count, letters: f"/{count}{letters}",
            st.sampled_from(["", "", "1", "12", "0", "99999999999", "-1", "٣"]),
            st.text(st.sampled_from("oduxicbhwgL"), max_size=3)
            | st.text(st.sampled_from(GRAPHIC + "é"), max_size=2),
        )
    ),
)

_rests = st.lists(words, min_size=1, max_size=3).map(b" ".join)

ARGUMENTS = {
    "F": words,
    "B": words,
    "s": words,
    "S": _rests,
    "O": option_strings,
    "i": expressions,
    "l": expressions,
    "M": expressions,
    "o": sizes,
    "b": switches,
}


@st.composite
def lines(draw: st.DrawFn, path: str, command: Command) -> bytes:
    """A line that calls a command, with arguments as its table has them, or nearly so."""
    line = draw(maybe_blanks) + path.encode()
    care = draw(st.integers(0, 9))  # how much of the table is kept to
    for parameter in command.parameters:
        if care == 0 and draw(st.booleans()):
            break
        line += draw(_argument(parameter, care))
    if care < 3:
        line += draw(st.one_of(blanks, blanks.flatmap(lambda blank: words.map(lambda word: blank + word))))
    return line[:LINE_BYTES_MAX]


@st.composite
def _argument(draw: st.DrawFn, parameter: Parameter, care: int) -> bytes:
    if parameter.kind == "/":
        gap = draw(maybe_blanks) if care < 3 else b""
        return gap + draw(formats)
    if parameter.is_flag:
        flag: bytes = draw(_flags(parameter, care))
        return flag
    if parameter.optional and draw(st.booleans()):
        return b""
    argument: bytes = draw(long_words if care == 1 and parameter.kind in "FBs" else ARGUMENTS[parameter.kind])
    if parameter.dotted:
        argument = draw(st.sampled_from([b".", b".", b" . ", b" .", b"", b".."])) + argument
    if care == 2:
        return draw(maybe_blanks) + argument
    return draw(blanks) + argument


@st.composite
def _flags(draw: st.DrawFn, parameter: Parameter, care: int) -> bytes:
    """The flag, or not; in a careless line maybe twice, or another one that no table has."""
    choices = [b"", b"", b"-" + parameter.letter.encode()]
    if care == 1:
        choices += [b"-", b"--", b"-?", b"-\xc3\xa9", choices[-1] * 2]
    flag = draw(st.sampled_from(choices))
    if not flag:
        return b""
    if parameter.takes_value:
        flag += draw(maybe_blanks) + draw(words)
    return draw(blanks) + flag


_QUIT = re.compile(rb"\s*(?:q|quit)(?:[\s/]|$)")

noises = st.one_of(
    st.lists(st.one_of(words, st.sampled_from([b"info", b"help", b"print", b"migrate"])), max_size=4).map(
        b" ".join
    ),
    st.builds(lambda blank, line: blank + line, maybe_blanks, st.lists(words, max_size=3).map(b"/".join)),
).filter(lambda line: _QUIT.match(line) is None)
"""Lines that call nothing, mostly; never ``quit``."""
