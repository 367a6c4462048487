"""Sets of descriptors, and the files that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.host.fdsets import PROCESS, Member, open_file, real_name

NOBODY = 65534


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    PROCESS.clear()


def member(path: Path, flags: int) -> Member:
    return Member(os.open(path, flags | os.O_CLOEXEC))


def identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    os.close(descriptor)
    return found.st_dev, found.st_ino


def test_each_access_gets_a_descriptor_that_allows_it(tmp_path: Path) -> None:
    for name in "rw":
        (tmp_path / name).write_text(name)
    number = PROCESS.add(None, member(tmp_path / "r", os.O_RDONLY))
    path = f"/dev/fdset/{number}"
    with pytest.raises(PermissionError, match="open for writing"):
        open_file(path, os.O_RDWR)
    PROCESS.add(number, member(tmp_path / "w", os.O_WRONLY))
    for flags, name in ((os.O_RDONLY, "r"), (os.O_WRONLY, "w")):
        descriptor, is_duplicate = open_file(path, flags)
        assert not is_duplicate
        assert identity(descriptor) == identity(os.open(tmp_path / name, os.O_RDONLY))


def test_an_open_file_has_its_own_place_and_the_kernel_s_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    held = member(tmp_path / "a", os.O_RDWR)
    os.lseek(held.descriptor, 4, os.SEEK_SET)
    path = f"/dev/fdset/{PROCESS.add(7, held)}"
    descriptor, _ = open_file(path, os.O_RDONLY)
    assert os.read(descriptor, 7) == b"content"
    os.close(descriptor)
    assert os.path.realpath(real_name(path)) == str((tmp_path / "a").resolve())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_opened_once_more_is_duplicated(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    (tmp_path / "a").chmod(0o600)
    path = f"/dev/fdset/{PROCESS.add(3, member(tmp_path / 'a', os.O_RDWR))}"
    os.seteuid(NOBODY)
    try:
        descriptor, is_duplicate = open_file(path, os.O_RDWR)
    finally:
        os.seteuid(0)
    assert is_duplicate
    assert os.pread(descriptor, 7, 0) == b"content"
    os.close(descriptor)


def test_an_empty_set_is_none() -> None:
    with pytest.raises(FileNotFoundError, match="Failed to find fdset /dev/fdset/9"):
        open_file("/dev/fdset/9", os.O_RDONLY)
    with pytest.raises(OSError, match="Could not parse fdset /dev/fdset/9x"):
        real_name("/dev/fdset/9x")
    assert real_name("/dev/null") == "/dev/null"
