"""The guest that counts: its bytes are what its assembly says, and what it says can be read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.vms.boot_sector import LISTING, Counting, said


def test_the_bytes_are_those_of_the_assembly_beside_them(tmp_path: Path) -> None:
    require("nasm")
    source, made = tmp_path / "guest.asm", tmp_path / "guest"
    source.write_text("".join(f"{line[20:].strip()}\n" for line in LISTING.splitlines()))
    subprocess.run(["nasm", "-f", "bin", "-o", made, source], check=True)
    assert made.read_bytes() == Counting().boot_sector()


def word(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, *(number >> 7 * place & 0x7F for place in range(1, 5))])


def test_numbers_that_were_said_are_read() -> None:
    numbers = [1, 127, 128, 300_000]
    data = b"".join(map(word, numbers))
    assert said(data) == numbers
    assert said(data[:-1]) == numbers[:-1]
    with pytest.raises(ValueError, match=r"byte 0 .* begins no number"):
        said(data[1:])
