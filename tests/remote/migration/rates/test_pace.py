"""The figures of a migration, from what QEMU reports: they stay true whatever a mirror does meanwhile."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.units import MIB
from qmon.remote.migration.rates.bandwidth import Load
from qmon.remote.migration.rates.pace import Pace


def job(offset: int, left: int, **more: Any) -> dict[str, Any]:
    return {"device": "qmon-m0", "type": "mirror", "offset": offset, "len": offset + left, **more}


def test_a_plain_copy_has_rate_and_time_left() -> None:
    pace = Pace({"qmon-m0": "d0"})
    for second in range(5):
        pace.note(second, [job(second * 10 * MIB, (100 - second * 10) * MIB, status="running", ready=False)])
    info = pace.info()
    assert info["disk"] == {"transferred": 40 * MIB, "remaining": 60 * MIB, "total": 100 * MIB}
    assert info["x-qmon-disks"] == [{"drive": "d0", **info["disk"]}]
    assert (info["x-qmon-send-rate"], info["x-qmon-guest-write-rate"]) == (10 * MIB, 0)
    assert info["x-qmon-remaining-time"] == 6000


def test_guests_write_rate_is_the_growth_of_the_length() -> None:
    pace = Pace({"qmon-m0": "d0"})
    for second in range(5):
        pace.note(second, [job(second * 10 * MIB, (100 - second * 7) * MIB)])
    info = pace.info()
    assert info["x-qmon-guest-write-rate"] == 3 * MIB
    assert info["x-qmon-remaining-time"] == round(72 / 7 * 1000)


def test_no_time_left_is_told_of_a_copy_without_gain() -> None:
    pace = Pace({"qmon-m0": "d0"})
    for second in range(5):
        pace.note(second, [job(second * 10 * MIB, 100 * MIB)])
    assert "x-qmon-remaining-time" not in pace.info()


def test_a_mirror_that_is_started_anew_counts_on() -> None:
    pace = Pace({"qmon-m0": "d0"})
    pace.note(0, [job(0, 100 * MIB)])
    pace.note(1, [job(80 * MIB, 20 * MIB)])
    pace.note(2, [])
    pace.note(3, [job(1 * MIB, 99 * MIB)])
    assert pace.info()["disk"] == {"transferred": 81 * MIB, "remaining": 99 * MIB, "total": 100 * MIB}


def test_an_ended_migration_is_not_taken_for_this_one() -> None:
    pace = Pace({"qmon-m0": "d0"}, memory=512 * MIB)
    pace.note(0, [], {"status": "failed"})
    pace.note(1, [], {})
    assert pace.info()["ram"] == {"transferred": 0, "remaining": 512 * MIB, "total": 512 * MIB}


def test_memory_adds_to_the_rate_and_has_its_own_time_left() -> None:
    pace = Pace({"qmon-m0": "d0"}, memory=512 * MIB)
    for second in range(4):
        ram = {"transferred": second * 50 * MIB, "remaining": (400 - second * 50) * MIB, "total": 512 * MIB}
        ram |= {"dirty-pages-rate": 12800, "page-size": 4096, "dirty-sync-count": 2}
        pace.note(second, [job((100 + second) * MIB, 0, ready=True)], {"status": "active", "ram": ram})
    info = pace.info()
    assert info["ram"]["remaining"] == 250 * MIB
    assert info["x-qmon-send-rate"] == 51 * MIB
    assert info["x-qmon-dirty-pages-rate"] == 12800
    assert "x-qmon-remaining-time" not in info  # the guest writes 50 MiB/s to its memory


def test_what_a_connection_has_carried_counts_as_sent() -> None:
    pace = Pace({"qmon-m0": "d0"})
    for second in range(3):
        pace.note(second, [job(second * 100 * MIB, 0)], loads={"qmon-m0": Load(second * MIB, second / 2)})
    info = pace.info()
    assert (info["disk"]["transferred"], info["x-qmon-send-rate"]) == (2 * MIB, MIB)
    assert pace.disks[0].capacity == 2 * MIB  # busy half of the time


_MEMBERS = st.fixed_dictionaries(
    {"device": st.sampled_from(["qmon-m0", "qmon-m1", "other", None])},
    optional={
        "offset": st.integers(-5, 1 << 40) | st.none(),
        "len": st.integers(-5, 1 << 40) | st.text(max_size=2),
        "ready": st.booleans(),
        "status": st.sampled_from(["running", "standby", "ready", "concluded"]),
        "actively-synced": st.booleans(),
        "error": st.text(max_size=5),
    },
)
_RAM = st.dictionaries(
    st.sampled_from(["transferred", "remaining", "total", "dirty-pages-rate", "page-size", "mbps"]),
    st.integers(0, 1 << 40) | st.floats(0, 1e9) | st.none(),
)
_MIGRATIONS = st.none() | st.fixed_dictionaries({}, optional={"ram": _RAM, "status": st.text(max_size=9)})


@given(st.lists(st.tuples(st.floats(0, 3), st.lists(_MEMBERS, max_size=3), _MIGRATIONS), max_size=30))
def test_figures_hold_together_whatever_is_reported(
    reports: list[tuple[float, list[dict[str, Any]], dict[str, Any] | None]],
) -> None:
    pace, at, before = Pace({"qmon-m0": "d0", "qmon-m1": "d1"}), 0.0, 0
    for seconds, jobs, migration in reports:
        at += seconds
        pace.note(at, jobs, migration)
        info = pace.info()
        disk = info["disk"]
        assert 0 <= disk["remaining"] <= disk["total"]
        assert disk["transferred"] >= before
        before = disk["transferred"]
        for name in ("transferred", "remaining", "total"):
            assert sum(each[name] for each in info["x-qmon-disks"]) == disk[name]
        assert info.get("x-qmon-guest-write-rate", 0) >= 0
        assert info.get("x-qmon-remaining-time", 0) >= 0


def test_a_mirror_that_begins_counts_nothing_as_written_by_the_guest() -> None:
    pace = Pace({"qmon-m0": "d0"})
    pace.note(0, [job(0, 0)])
    pace.note(1, [job(0, 65536)])  # a write of the guest, while the mirror looks for what it has to copy
    pace.note(2, [job(65536, 64 * MIB)])
    info = pace.info()
    assert info["x-qmon-guest-write-rate"] == 0
    assert info["disk"]["remaining"] == 64 * MIB
