"""Whether the copy of disks converges is judged over time; a disk that does not becomes write-blocking."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.units import KIB, MIB
from qmon.remote.migration.rates.convergence import (
    Convergence,
    CopyMode,
    Limits,
    Switch,
)
from qmon.remote.migration.rates.pace import Pace

NO_LIMIT = Limits(0, 300)


class Copy:
    """A mirror over a line, and a guest that writes to a part of the disk."""

    def __init__(self, *, line: int, writes: int, size: int = 64 * MIB, area: int = 64 * MIB) -> None:
        self.line, self.writes, self.area = line, writes, area
        self.at, self.offset, self.left = 0.0, 0, size
        self.is_ready = self.is_blocking = False

    def run(self, pace: Pace, convergence: Convergence, seconds: float) -> list[Switch]:
        """Let some seconds pass; return what was asked for, and carry it out."""
        asked: list[Switch] = []
        for _ in range(round(seconds * 2)):
            self.at += 0.5
            if not self.is_blocking:
                self.left = max(self.left, min(self.left + self.writes // 2, self.area))
            copied = min(self.line // 2, self.left)
            self.offset, self.left = self.offset + copied, self.left - copied
            self.is_ready |= not self.left
            job = {"device": "qmon-m0", "offset": self.offset, "len": self.offset + self.left}
            synced = self.is_blocking and not self.left
            pace.note(self.at, [{**job, "ready": self.is_ready, "actively-synced": synced}])
            switches = convergence.look(self.at, {"qmon-m0": 0.024})
            self.is_blocking |= bool(switches)
            asked += switches
        return asked


def begin(
    *, can_switch: bool = True, mode: CopyMode = CopyMode.AUTO, limits: Limits = NO_LIMIT
) -> tuple[Pace, Convergence]:
    pace = Pace({"qmon-m0": "d0"})
    return pace, Convergence(pace, limits, can_switch=can_switch, mode=mode)


def test_a_copy_that_gains_stays_in_background_mode_until_it_is_close() -> None:
    pace, convergence = begin()
    copy = Copy(line=8 * MIB, writes=1 * MIB)
    assert copy.run(pace, convergence, 30) == []
    assert convergence.is_close(copy.at)
    assert convergence.advice is None


def test_a_disk_that_stops_shrinking_becomes_write_blocking_and_then_is_close() -> None:
    pace, convergence = begin()
    copy = Copy(line=8 * MIB, writes=10 * MIB)
    [switch] = copy.run(pace, convergence, 60)
    assert switch.job == "qmon-m0"
    assert not switch.anew
    assert "'d0'" in switch.notice
    assert "at least 24 ms" in switch.notice
    assert convergence.is_write_blocking("qmon-m0")
    assert convergence.is_close(copy.at)


def test_a_hot_sector_on_a_slow_line_does_not_converge_although_little_is_left() -> None:
    pace, convergence = begin()
    copy = Copy(line=256 * KIB, writes=10 * MIB, size=4 * MIB, area=256 * KIB)
    assert len(copy.run(pace, convergence, 60)) == 1
    assert convergence.is_close(copy.at)


def test_a_qemu_that_cannot_switch_leads_to_advice_and_then_starts_anew() -> None:
    pace, convergence = begin(can_switch=False)
    copy = Copy(line=8 * MIB, writes=10 * MIB)
    assert copy.run(pace, convergence, 60) == []
    assert convergence.advice is not None
    assert (convergence.advice.parameter, convergence.advice.value) == ("x-qmon-copy-mode", "write-blocking")
    convergence.mode = CopyMode.WRITE_BLOCKING
    [switch] = copy.run(pace, convergence, 1)
    assert switch.anew
    assert convergence.advice is None


def test_a_limit_that_holds_the_copy_back_is_advised_to_be_raised() -> None:
    pace, convergence = begin(mode=CopyMode.BACKGROUND, limits=Limits(8 * MIB, 300))
    copy = Copy(line=8 * MIB, writes=10 * MIB)
    assert copy.run(pace, convergence, 30) == []
    assert convergence.advice is not None
    assert convergence.advice.parameter == "max-bandwidth"
    assert isinstance(convergence.advice.value, int)
    assert convergence.advice.value > 10 * MIB


def test_a_new_limit_is_judged_from_then_on() -> None:
    pace, convergence = begin(mode=CopyMode.BACKGROUND, limits=Limits(8 * MIB, 300))
    copy = Copy(line=8 * MIB, writes=10 * MIB)
    copy.run(pace, convergence, 30)
    convergence.limits = Limits(32 * MIB, 300)
    copy.line = 32 * MIB
    copy.run(pace, convergence, 30)
    assert convergence.advice is None
    assert convergence.is_close(copy.at)


def test_a_write_blocking_mirror_does_not_go_back() -> None:
    _, convergence = begin(mode=CopyMode.WRITE_BLOCKING)
    assert convergence.why_not(CopyMode.BACKGROUND)
    assert convergence.why_not(CopyMode.WRITE_BLOCKING) is None


def test_a_line_that_carries_nothing_is_no_matter_of_convergence() -> None:
    pace, convergence = begin()
    assert Copy(line=0, writes=10 * MIB).run(pace, convergence, 60) == []
    assert convergence.advice is None


@given(
    line=st.integers(256 * KIB, 64 * MIB),
    writes=st.integers(0, 128 * MIB),
    area=st.integers(64 * KIB, 64 * MIB),
)
def test_every_guest_and_line_end_up_close_where_mirrors_can_switch(
    line: int, writes: int, area: int
) -> None:
    pace, convergence = begin()
    copy = Copy(line=line, writes=writes, area=area, size=16 * MIB)
    copy.run(pace, convergence, 500)
    assert convergence.is_close(copy.at)


def test_a_disk_that_is_not_far_behind_is_advised_a_longer_downtime() -> None:
    pace, convergence = begin(can_switch=False)
    copy = Copy(line=8 * MIB, writes=0)
    copy.run(pace, convergence, 20)
    copy.writes, copy.area = 10 * MIB, 8 * MIB
    copy.run(pace, convergence, 30)
    assert convergence.advice is not None
    assert (convergence.advice.parameter, convergence.advice.value) == ("downtime-limit", 1500)
    convergence.limits = Limits(0, 1500)
    copy.run(pace, convergence, 3)
    assert convergence.is_close(copy.at)
    assert convergence.advice is None
