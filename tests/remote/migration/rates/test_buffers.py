"""A mirror has no more on its way than its line takes in half a second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.units import KIB, MIB
from qmon.remote.migration.rates.buffers import Buffers, fitting
from qmon.remote.migration.rates.pace import DiskPace


def copied(rate: int, seconds: int, size: int = 1 << 40) -> DiskPace:
    """Return the pace of a disk that was copied for some seconds."""
    disk = DiskPace("qmon-m0", "d0")
    for half in range(seconds * 2 + 1):
        disk.note(half / 2, {"offset": half * rate // 2, "len": size, "ready": False}, None)
    return disk


@given(st.floats(1, 1e11))
def test_a_buffer_is_what_passes_in_half_a_second(rate: float) -> None:
    size = fitting(rate)
    assert 256 * KIB <= size <= 16 * MIB
    assert size <= max(rate / 2, 256 * KIB)
    assert size in (16 * MIB, 256 * KIB) or size * 2 > rate / 2


def test_a_limit_sets_the_size_from_the_beginning() -> None:
    disk = copied(4 * MIB, 3)
    buffers = Buffers([disk], 4 * MIB)
    assert buffers.size("qmon-m0") == 2 * MIB
    assert not buffers.refit(disk)


def test_a_mirror_on_a_slow_line_starts_anew_once_while_it_has_copied_little() -> None:
    disk = copied(4 * MIB, 3)
    buffers = Buffers([disk], 0)
    assert buffers.size("qmon-m0") == 16 * MIB
    assert buffers.refit(disk)
    assert buffers.size("qmon-m0") == 2 * MIB
    assert not buffers.refit(copied(100 * KIB, 3))


def test_a_mirror_on_a_fast_line_or_with_much_behind_it_goes_on() -> None:
    assert not Buffers([copied(100 * MIB, 3)], 0).refit(copied(100 * MIB, 3))
    assert not Buffers([copied(4 * MIB, 60)], 0).refit(copied(4 * MIB, 60))


def test_a_mirror_on_a_line_that_hardly_passes_anything_goes_on() -> None:
    assert not Buffers([copied(100 * KIB, 3)], 0).refit(copied(100 * KIB, 3))


def test_a_mirror_that_is_nearly_done_goes_on() -> None:
    assert not Buffers([copied(4 * MIB, 3)], 0).refit(copied(4 * MIB, 3, size=20 * MIB))
