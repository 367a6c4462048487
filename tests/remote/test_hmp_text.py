"""A line's answer is found in what a human monitor sends, however it is cut and whatever it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import CommandError
from qmon.hmp.fronts.readline import Key, Readline
from qmon.remote import hmp_text
from qmon.remote.hmp_text import LINE_MAX, PROMPT, Exchange, checked_line

_MARK = b"#0123456789"


def qemu_echo(keys: bytes) -> bytes:
    """What QEMU sends for typed keys: each changes the whole line."""
    line = sent = b""
    for key in keys:
        erase = b"\x1b[D" * len(line)
        line = line[:-1] if key == 0x7F else line + bytes([key])
        sent += erase + line + b"\x1b[K"
    return sent


def qmon_echo(keys: bytes) -> bytes:
    """The same for qmon's monitor: at once."""
    readline = Readline("")
    for character in keys.decode("utf-8", "surrogateescape"):
        assert readline.feed(character) is not Key.ENTER
    return readline.update().encode("utf-8", "surrogateescape")


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


_printable = st.text(
    st.characters(blacklist_categories=("Cc", "Cs", "Cf", "Zl", "Zp")), min_size=1, max_size=60
)
_lines = _printable.filter(lambda line: b"\x9b" not in line.encode() and not line.isspace())
_answers = st.lists(
    st.one_of(st.just("(qemu) "), st.just("(qemu) info status"), st.text(max_size=30)), max_size=6
)


@given(
    line=_lines,
    rows=_answers,
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    echo=st.sampled_from([qemu_echo, qmon_echo]),
    unasked=st.sampled_from([b"", b"a job has ended\r\n"]),
)  # fmt: skip
def test_an_answer_is_found_wherever_it_is_cut_and_whatever_it_says(
    line: str, rows: list[str], cuts: list[int], echo: Callable[[bytes], bytes], unasked: bytes
) -> None:
    exchange = Exchange(line, b"\x7f" * 3, _MARK)
    answer = "".join(f"{row}\r\n" for row in rows)
    sent = (
        b"\x1b[Dab\x1b[K\x1b[D\x1b[Da\x1b[K\x1b[D\x1b[K"
        + unasked
        + echo(line.encode())
        + b"\r\n"
        + answer.encode()
        + PROMPT
        + echo(_MARK)
    )
    pieces = in_pieces(sent, cuts)
    assert [exchange.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert exchange.answer() == answer
    assert exchange.unasked().replace("\x1b[D", "").replace("\x1b[K", "") in ("", unasked.decode())


def test_what_a_line_has_not_caused_is_told_apart_inside_its_echo() -> None:
    exchange = Exchange("stop", mark=_MARK)
    echo = qemu_echo(b"stop")
    sent = b"news\r\n" + echo + b"\r\nVM status: paused\r\n" + PROMPT + qemu_echo(_MARK)
    assert exchange.feed(sent)
    assert exchange.answer() == "VM status: paused\r\n"
    assert exchange.unasked() == "news\r\n"


def test_progress_that_is_printed_over_itself_is_no_answer() -> None:
    exchange = Exchange("migrate tcp:b:1", mark=_MARK)
    bar = b"".join(b"Completed %d %%\r" % percent for percent in range(0, 101, 10))
    assert exchange.feed(qemu_echo(b"migrate tcp:b:1") + b"\r\n" + bar + b"\r\n" + PROMPT + qemu_echo(_MARK))
    assert exchange.answer() == ""


def test_a_long_answer_is_refused_and_the_prompt_behind_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmp_text, "ANSWER_MAX", 1 << 20)
    exchange = Exchange("x /9999999 0", mark=_MARK)
    assert not exchange.feed(qemu_echo(b"x /9999999 0") + b"\r\n")
    for _ in range(40):
        assert not exchange.feed(b"0000000000000000: 0x00000000\r\n" * 2000)
    assert exchange.feed(PROMPT + qemu_echo(_MARK))
    with pytest.raises(CommandError, match="the answer is longer than 1 MiB"):
        exchange.answer()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("info\tblock", r"can't read the character '\\t'"),
        ("info block\nquit", r"can't read the character '\\n'"),
        ("info \x1b[A", r"can't read the character '\\x1b'"),
        ("change d0 ś.img", r"can't read the character '\\u015b'"),
        ("x" * (LINE_MAX + 1), "has 4096 bytes: a human monitor reads at most 4095"),
        ("é" * 2048, "has 4096 bytes"),
        ("change vnc password", "write it at the end of the line"),
    ],
)
def test_a_line_that_would_be_read_differently_is_refused(line: str, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        checked_line(line)
