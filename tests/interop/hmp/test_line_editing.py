"""The same keys to a real QEMU's monitor and to qmon's, each over a socket: what comes back is the same."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.peers import require
from tests.support.processes import QMON
from tests.support.thoroughness import examples
from tests.support.waiting import PATIENCE, connect_when_there

QEMU_7 = "qemu-system-x86_64"
QEMU_10 = ("/opt/qemu10/run", "qemu-system-x86_64")
NEW_LINE = b"\x1bz\x05 ~\r"
"""Ends an escape sequence and a line, wherever the cursor is."""

FORGET = NEW_LINE + b"".join(b"#%d\r" % number for number in range(64))
"""Fills the history, so that nothing is left in it of what was before."""

PLAIN = [bytes([code]) for code in range(32, 127) if code != ord("q")]  # which would be quit
ONLY_IN_10 = [b"\x0e", b"\x10", b"\x15"]
IGNORED = [
    bytes([code]) for code in (0, 2, 3, 6, 7, 11, 15, *range(17, 21), 22, *range(24, 27), *range(28, 32))
]
KEYS = [
    b"\x01",
    b"\x04",
    b"\x05",
    b"\x08",
    b"\x0c",
    b"\x17",
    b"\x7f",
    b"\x9b",
    b"\r",
    b"\n",
    *(b"\x1b[" + end for end in (b"A", b"B", b"C", b"D", b"E", b"F", b"H")),
    b"\x1b[1~",
    b"\x1b[3~",
    b"\x1b[4~",
    b"\x1b[7~",
    b"\x1b[1;5C",
    b"\x1bOF",
    b"\x1bOH",
    b"\x1bOA",
    b"\x1b",
    b"[",
    b"O",
    b"~",
    b" ",
    b" ",
]
LINES = [
    b"print 1\r",
    b"stop\r",
    b"info history\r",
    b"nothing  at all\r",
    *(NEW_LINE + begun + b"\t" for begun in (b"info st", b"nbd_server_", b"ringbuf_r", b"chardev-", b"zz")),
]


class Terminal:
    """One end of a monitor: keys in, bytes out."""

    def __init__(self, path: Path) -> None:
        self._socket = connect_when_there(path, PATIENCE)
        self._socket.settimeout(3 * PATIENCE)
        self._read_to(b"(qemu) ")

    def _read_to(self, end: bytes) -> bytes:
        data = bytearray()
        while not data.endswith(end):
            piece = self._socket.recv(1 << 20)
            assert piece, "the monitor went"
            data += piece
        return bytes(data)

    def press(self, keys: bytes, number: int) -> bytes:
        """Send keys and a line that was never sent before; return all that came back up to its answer."""
        self._socket.sendall(keys + NEW_LINE + b"end-%d\r" % number)
        return self._read_to(b"unknown command: 'end-%d'\r\n(qemu) " % number)

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def terminals(folder: Path, qemu: Sequence[str]) -> Iterator[tuple[Terminal, Terminal]]:
    """A terminal at QEMU and one at qmon."""
    machine = ["-M", "none", "-nodefaults", "-display", "none", "-monitor"]
    processes = [
        subprocess.Popen(
            [*program, *machine, f"unix:{folder / name},server,nowait"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, program in (("theirs", qemu), ("ours", QMON))
    ]
    try:
        pair = Terminal(folder / "theirs"), Terminal(folder / "ours")
        yield pair
        for terminal in pair:
            terminal.close()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE)


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Terminal]]:
    require(QEMU_7)
    with terminals(tmp_path_factory.mktemp("seven"), [QEMU_7]) as pair:
        yield pair


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Terminal]]:
    require(QEMU_10[0])
    with terminals(tmp_path_factory.mktemp("ten"), QEMU_10) as pair:
        yield pair


numbers = itertools.count()


def compare(pair: tuple[Terminal, Terminal], keys: bytes) -> None:
    number = next(numbers)
    theirs, ours = (terminal.press(FORGET + keys, number) for terminal in pair)
    assert ours == theirs


def typed(*more: list[bytes]) -> st.SearchStrategy[bytes]:
    keys = st.one_of(*(st.sampled_from(each) for each in (PLAIN, KEYS, KEYS, LINES, IGNORED, *more)))
    return st.lists(keys, max_size=30).map(b"".join)


in_module = settings(max_examples=examples(60))


@in_module
@given(keys=typed())
@example(keys=b"one two\r\x1b[A\x1b[D\x1b[D\x17\x1b[3~\r\x1b[A\x1b[A\x1b[B\x1b[B")
@example(keys=b"".join(b"print %d\r" % number for number in range(70)) + b"\x1b[A" * 70 + b"\rinfo history\r")
@example(keys=b"print " + b"1" * 100 + b"\x1b[D" * 30 + b"+ " * 9)
@example(keys=b"a\r\x1b[A\rb\ra\r\x1b[A\x1b[A\rinfo history\r")
@example(keys=b"info h\r\x1b[A\x7f\x7fst\t")
def test_qemu_7_answers_the_same_bytes(seven: tuple[Terminal, Terminal], keys: bytes) -> None:
    compare(seven, keys)


def test_a_line_ends_where_qemu_s_does(seven: tuple[Terminal, Terminal]) -> None:
    """Of a long line each shows how it comes about in its own way: what counts is what is run."""
    for length in (4095, 4200):
        number = next(numbers)
        theirs, ours = (
            terminal.press(FORGET + b"y" * length + b"\x7fz\x1b[D\x1b[D\x04!\r\x1b[A\x7f\r", number)
            for terminal in seven
        )
        said = [[row for row in each.split(b"\r\n") if row.startswith(b"unknown")] for each in (theirs, ours)]
        assert len(said[0]) == 69
        assert said[1] == said[0]


@in_module
@given(keys=typed(ONLY_IN_10, ONLY_IN_10))
@example(keys=b"one\rtwo\r\x10\x10\x10\x0e\x1b[D\x15")
def test_qemu_10_answers_the_same_bytes(ten: tuple[Terminal, Terminal], keys: bytes) -> None:
    compare(ten, keys)
