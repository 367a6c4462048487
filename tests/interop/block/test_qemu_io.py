"""``qemu-io`` lines at random, put to a real QEMU and to qmon: what they print, and what they write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.peer import MORE_NOISE, three_drives
from tests.support.peers import require
from tests.support.thoroughness import examples
from tests.support.two_monitors import TwoMonitors

numbers = st.one_of(
    st.integers(0, 17 << 20).map(str),
    st.sampled_from(["0", "512", "64k", "1M", "0x200", "16M", "1.5k", "3G", "1T", "010", "+5"]),
    st.sampled_from(["", "-1", "x", "1x", "1e3", ".5k", "9E", "5b", "0x", "1.", "99999999999999999999", "é"]),
)
offsets = st.one_of(numbers, st.integers(0, 1 << 15).map(str))
lengths = st.one_of(numbers, st.integers(0, 1 << 10).map(str))
patterns = st.one_of(st.integers(0, 255).map(str), st.sampled_from(["0x41", "077", "256", "-1", "x", "08"]))


def options(letters: str, valued: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[list[str]]:
    """Some options, each once at most, those of ``valued`` with a value behind them."""
    each: list[st.SearchStrategy[str]] = [st.just(f"-{letter}") for letter in letters]
    each += [st.builds(f"-{letter} {{}}".format, value) for letter, value in valued.items()]
    return st.lists(st.one_of(*each), max_size=3, unique_by=_letter) if each else st.just([])


def _letter(option: str) -> str:
    return option[:2]


def requests(
    name: str, letters: str, valued: dict[str, st.SearchStrategy[str]] | None = None, most: int = 1
) -> st.SearchStrategy[str]:
    """Lines of one command, right ones and wrong ones."""
    return st.builds(
        lambda given, offset, more: " ".join([name, *given, offset, *more]),
        options(letters, valued or {}),
        offsets,
        st.lists(lengths, min_size=1, max_size=most),
    )


lines = st.one_of(
    requests("read", "bq", {"P": patterns, "s": lengths, "l": lengths}),
    requests("readv", "q", {"P": patterns}, most=3),
    requests("aio_read", "q", {"P": patterns}, most=3),
    st.builds("read -v {} {}".format, st.integers(0, 1 << 24), st.integers(0, 100)),
    requests("write", "bcfnquz", {"P": patterns}),
    requests("writev", "fq", {"P": patterns}, most=3),
    requests("discard -x", "q", most=2),
    requests("alloc", "", most=2),
    st.sampled_from(["length", "map", "flush", "info", "help alloc", "help nosuch", "length 1", "nosuch"]),
)


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64", "qemu-img")
    folder = tmp_path_factory.mktemp("qemu-io")
    with TwoMonitors(folder, drives=three_drives, noise=MORE_NOISE) as monitors:
        yield monitors


@settings(max_examples=examples(250), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=lines)
def test_any_request_is_answered_as_by_qemu(monitors: TwoMonitors, line: str) -> None:
    theirs, ours = monitors.lines(f'qemu-io d0 "{line}"')
    assert ours == theirs


def test_both_disks_hold_the_same_afterwards(monitors: TwoMonitors) -> None:
    theirs, ours = ((peer.folder / "d0.img").read_bytes() for peer in (monitors.theirs, monitors.ours))
    is_same = theirs == ours  # on its own: what differs is too much to be shown
    assert is_same
