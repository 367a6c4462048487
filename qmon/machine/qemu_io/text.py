"""Reads and formats numbers, patterns, sizes and bytes as qemu-io does (QEMU: qemu-io-cmds.c)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qmon.notation.units import INT64_MAX, RangeError, parse_size, read_integer

DUMP_WIDTH = 16
_UNITS = ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


class RequestError(Exception):
    """The command is invalid or has failed; the text goes to its output."""


def scan(words: Sequence[str], letters: str) -> Iterator[tuple[str, str]]:
    """Yield (letter, value) in GNU getopt's order: first the options, then the other words.

    A word that is not an option has the letter ``""``; an unknown option or one without its value has ``?``.
    """
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            rest += left
        elif not word.startswith("-") or word == "-":
            rest.append(word)
        else:
            position = 1
            while position < len(word):
                letter = word[position]
                position += 1
                place = letters.find(letter) if letter != ":" else -1
                if place < 0:
                    yield "?", letter
                elif letters[place + 1 : place + 2] != ":":
                    yield letter, ""
                else:
                    value = word[position:] or next(left, None)
                    position = len(word)
                    yield ("?", letter) if value is None else (letter, value)
    for word in rest:
        yield "", word


def read_number(text: str) -> int:
    """Read a size as QEMU's ``qemu_strtosz`` does; return bytes. Raises RequestError."""
    try:
        value = parse_size(text)
    except RangeError:
        value = INT64_MAX + 1
    except ValueError as error:
        what = "non-numeric argument, or extraneous/unrecognized suffix"
        raise RequestError(f"Parsing error: {what} -- {text}") from error
    if value > INT64_MAX:
        raise RequestError(f"Parsing error: argument too large -- {text}")
    return value


def read_pattern(text: str) -> int:
    """Read a byte in C's notation. Raises RequestError."""
    try:
        value, end = read_integer(text)
    except ValueError:
        value, end = -1, -1
    if end != len(text) or not 0 <= value <= 255:
        raise RequestError(f"{text} is not a valid pattern byte")
    return value


def size_text(value: float) -> str:
    """Return a size as qemu-io shows it: ``64 KiB``, ``1.500 KiB``, ``512 bytes``."""
    for shift, unit in _UNITS:
        if value >= 1 << shift:
            return f"{value / (1 << shift):.3f}".removesuffix(".000") + f" {unit}"
    return f"{value:f}".removesuffix(".000000") + " bytes"


def dump(data: bytes, offset: int) -> Iterator[str]:
    """Yield lines of sixteen bytes in hexadecimal, with the letters and digits among them at the end."""
    for start in range(0, len(data), DUMP_WIDTH):
        row = data[start : start + DUMP_WIDTH]
        digits = "".join(f"{byte:02x} " for byte in row)
        letters = "".join(chr(byte) if byte < 128 and chr(byte).isalnum() else "." for byte in row)
        yield f"{offset + start:08x}:  {digits} {letters}"
