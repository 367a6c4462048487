"""What a person reads of a migration: a form of about ten lines, whatever the target tells of it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.hmp.commands.migration_form import Facts, form_lines
from qmon.hmp.monitor import Monitor
from qmon.notation.units import GIB, MIB
from tests.support.fake_target import FakeMachine, FakePerson

PARAMETERS = {"max-bandwidth": 128 * MIB, "downtime-limit": 300, "tls-creds": ""}
DISKS = [
    {"drive": "d0", "transferred": 6 * GIB, "remaining": 4 * GIB, "total": 10 * GIB},
    {"drive": "data", "transferred": 2 * GIB, "remaining": 0, "total": 2 * GIB},
]
ACTIVE = {
    "status": "active",
    "x-qmon-side": "source",
    "x-qmon-peer": "tcp:host2:4444",
    "total-time": 125_000,
    "expected-downtime": 21,
    "x-qmon-disks": DISKS,
    "disk": {"transferred": 8 * GIB, "remaining": 4 * GIB, "total": 12 * GIB, "dirty-sync-count": 3},
    "x-qmon-send-rate": 112 * MIB,
    "x-qmon-guest-write-rate": 31 * MIB,
    "x-qmon-remaining-time": 53_000,
}


def form(info: dict[str, Any], columns: int = 80, run_state: str = "running", **more: Any) -> list[str]:
    return list(form_lines(Facts(info, {**PARAMETERS, **more}, run_state), columns))


def test_a_running_migration_is_told_in_ten_lines() -> None:
    assert form(ACTIVE) == [
        "Migration:   copying (active) for 2 min 5 s",
        "To:          tcp:host2:4444",
        "Drive     done      size      left      sent",
        "d0         60%    10 GiB     4 GiB     6 GiB",
        "data      100%     2 GiB       0 B     2 GiB",
        "2 drives   66%    12 GiB     4 GiB     8 GiB",
        "Rate:        112 MiB/s sent, 31 MiB/s written by guests",
        "Rounds:      3",
        "Time left:   53 s",
        "Downtime:    21 ms expected",
        "Settings:    max-bandwidth 128 MiB/s, downtime-limit 300 ms",
    ]


def test_one_that_does_not_converge_says_what_would_help() -> None:
    stuck = {
        "reason": "guests write faster than is sent",
        "parameter": "max-bandwidth",
        "value": 40 * MIB,
    }
    lines = form({**ACTIVE, "x-qmon-not-converging": stuck})
    assert lines[0] == "Migration:   copying (active) for 2 min 5 s, not converging"
    assert flowing(lines, "Cause") == "guests write faster than is sent"
    assert flowing(lines, "Advice") == (
        "'migrate_set_parameter max-bandwidth 40M' would help; so would 'migrate_set_parameter"
        " x-qmon-copy-mode write-blocking', or 'migrate_set_capability auto-converge on' before it is begun"
        " again"
    )


def test_what_slows_guests_and_what_the_channels_are_is_told() -> None:
    more = {"x-qmon-copy-mode": "write-blocking", "multifd-channels": 4, "multifd-compression": "zstd"}
    info = {**ACTIVE, "cpu-throttle-percentage": 40, "expected-downtime": 11043}
    lines = list(form_lines(Facts(info, {**PARAMETERS, **more}, "running", has_channels=True), 80))
    assert flowing(lines, "Rate").startswith("112 MiB/s sent compressed, ")
    assert flowing(lines, "Throttle") == "40% less is written by guests (auto-converge)"
    assert flowing(lines, "Downtime") == "11043 ms if guests waited now"
    assert flowing(lines, "Settings").endswith(
        "x-qmon-copy-mode write-blocking (no effect with multifd), 4 channels with zstd"
    )


@pytest.mark.parametrize(
    ("info", "run_state", "first"),
    [
        ({}, "running", "none so far"),
        ({}, "inmigrate", "none yet: 'migrate_incoming URI' makes this side listen"),
        (
            {"socket-address": [{"type": "inet", "host": "::", "port": "4444"}]},
            "inmigrate",
            "waiting for a source to connect",
        ),
        ({"status": "setup", "total-time": 300}, "", "preparing (setup) for 0 s: the two sides compare"),
        (
            {"status": "pre-switchover"},
            "",
            "waiting before the switchover (pre-switchover): 'migrate_continue pre-switchover' continues it",
        ),
        ({"status": "device"}, "", "switching over (device)"),
        ({"status": "device", "error-desc": "no answer"}, "", "in doubt (device)"),
        ({"status": "failed", "error-desc": "no route", "total-time": 1260}, "", "failed after 1.3 s"),
        ({"status": "cancelled", "x-qmon-side": "source"}, "", "cancelled: the disks stay here"),
        ({"status": "cancelling"}, "", "being cancelled (cancelling)"),
        ({"status": "colo"}, "", "colo"),
        ({"status": "completed"}, "", "completed"),
        (
            {"status": "completed", "x-qmon-side": "source", "total-time": 12_000},
            "postmigrate",
            "moved (completed) after 12 s: the destination has the disks",
        ),
        (
            {"status": "completed", "x-qmon-side": "source"},
            "running",
            "moved (completed): 'cont -f' has made this machine run too",
        ),
        (
            {"status": "completed", "x-qmon-side": "destination", "total-time": 12_000},
            "running",
            "arrived (completed) after 12 s: this side has the disks",
        ),
        ({"status": "active", "x-qmon-side": "destination"}, "inmigrate", "receiving (active)"),
        (
            {"status": "device", "x-qmon-side": "destination", "error-desc": "lost"},
            "inmigrate",
            "received (device): waiting until the source releases the disks",
        ),
    ],
)
def test_a_state_is_told_in_words_with_qemus_name(info: dict[str, Any], run_state: str, first: str) -> None:
    lines = form(info, run_state=run_state)
    assert flowing(lines, "Migration").startswith(first)
    if "error-desc" in info:
        assert flowing(lines, "Reason") == info["error-desc"]


def flowing(lines: list[str], label: str) -> str:
    """The text of a labelled row, however many lines it takes."""
    text = "\n".join(lines)
    found = re.search(rf"^{label}: +(.*(?:\n {{13}}.*)*)", text, re.MULTILINE)
    assert found is not None, text
    return re.sub(r"\n +", " ", found[1])


def test_a_migration_that_is_over_has_no_rates_and_keeps_its_figures() -> None:
    over = {**ACTIVE, "status": "completed", "downtime": 4, "x-qmon-verified": "checksums"}
    over["x-qmon-compared"] = {"bytes": 3 << 20, "chunks": 4}
    lines = form(over, run_state="postmigrate")
    assert [line.partition(":")[0] for line in lines] == [
        *("Migration", "To", *lines[2:6]),
        *("Rounds", "Downtime", "Verified", "Compared"),
    ]
    assert "d0" in lines[3]
    assert flowing(lines, "Downtime") == "4 ms"


def test_one_whose_start_is_not_known_has_no_clock_but_its_end() -> None:
    lines = form(
        {"status": "completed", "x-qmon-side": "source", "x-qmon-ended": 86_400}, run_state="postmigrate"
    )
    assert lines[0] == "Migration:   moved (completed): the destination has the disks"
    assert re.fullmatch(r"Ended: {7}1970-01-0[12] \d\d:\d\d:00", lines[1])
    assert len(lines) == 2


def test_a_target_that_tells_little_gets_a_short_form() -> None:
    ram = {"transferred": 3 * MIB, "remaining": MIB, "total": 4 * MIB, "mbps": 80.0, "dirty-sync-count": 2}
    lines = form({"status": "active", "total-time": 2000, "ram": ram, "disk": {"total": 0}})
    assert lines == [
        "Migration:   copying (active) for 2 s",
        "Drive   done      size      left      sent",
        "memory   75%     4 MiB     1 MiB     3 MiB",
        "Rate:        9.54 MiB/s sent",
        "Rounds:      2",
        "Settings:    max-bandwidth 128 MiB/s, downtime-limit 300 ms",
    ]


def test_figures_that_are_not_known_leave_their_place_empty() -> None:
    """A destination knows what has arrived of each drive, and how much is left in all."""
    disks = [{"drive": "d0", "transferred": 3 * MIB}, {"drive": "d1", "transferred": 0, "total": 2 * MIB}]
    whole = {"transferred": 3 * MIB, "remaining": 5 * MIB, "total": 10 * MIB}
    info = {"status": "active", "x-qmon-side": "destination", "x-qmon-disks": disks, "disk": whole}
    assert form(info) == [
        "Migration:   receiving (active)",
        "Drive     done      size      left  received",
        "d0                                     3 MiB",
        "d1                 2 MiB                 0 B",
        "2 drives   50%    10 MiB     5 MiB     3 MiB",
    ]
    assert form({**info, "x-qmon-disks": disks[:1]})[2] == "d0      50%    10 MiB     5 MiB     3 MiB"


def test_settings_are_told_where_they_differ_from_what_is_usual() -> None:
    info, more = {"status": "setup"}, {"max-bandwidth": 0, "x-qmon-verify-backing": "full"}
    facts = Facts(info, {**PARAMETERS, **more}, "running", pauses=True)
    assert flowing(list(form_lines(facts, 80)), "Settings") == (
        "max-bandwidth without limit, downtime-limit 300 ms, x-qmon-verify-backing full,"
        " pause-before-switchover on"
    )


def test_what_stays_and_who_was_turned_away_is_told() -> None:
    lines = form(
        {
            **ACTIVE,
            "status": "completed",
            "x-qmon-stays-behind": [{"drive": "d0", "snapshots": 2, "bitmaps": 0}],
            "x-qmon-turned-away": [{"export": "d0", "clients": 1}],
        }
    )
    assert flowing(lines, "Not copied") == "drive 'd0': 2 internal snapshots were not copied"
    assert flowing(lines, "Guests") == (
        "1 client of export 'd0' was disconnected: the disk is at host2 now. Clients must connect to the"
        " export there: export it there if you have not yet"
    )
    unreachable = {"drives": ["d0"], "nbd-server": False}
    lines = form({"status": "completed", "x-qmon-unreachable": unreachable})
    assert "'nbd_server_start HOST:10809', then 'nbd_server_add -w d0'" in flowing(lines, "Guests")


names = st.text(st.sampled_from("abc-0_."), min_size=1, max_size=60)


@given(
    drives=st.lists(st.tuples(names, st.integers(0, 1 << 50), st.integers(0, 1 << 50)), max_size=20),
    columns=st.sampled_from([60, 80, 200]),
    why=st.lists(st.sampled_from(["no", "route", "to", "host:"]), max_size=60).map(" ".join),
)
def test_the_form_fits_whatever_the_drives_are_called(
    drives: list[tuple[str, int, int]], columns: int, why: str
) -> None:
    disks = [
        {"drive": name, "transferred": left, "remaining": left, "total": total}
        for name, total, left in drives
    ]
    lines = form({**ACTIVE, "x-qmon-disks": disks, "error-desc": why}, columns)
    assert all(len(line) < columns for line in lines)
    table = [line for line in lines if re.search(r" \d+% ", line)]
    assert len(table) == len(drives) + (len(drives) != 1)
    assert len({len(line) for line in table}) == 1
    assert all(0 <= int(percent) <= 100 for line in table for percent in re.findall(r" (\d+)% ", line))


def run(machine: FakeMachine, line: str, person: FakePerson) -> str:
    assert asyncio.run(Monitor(machine.registry).run_line(line, person))
    return person.said()


def test_a_terminal_gets_the_form_and_all_others_qemus() -> None:
    machine = FakeMachine()
    machine.migration = [dict(ACTIVE)]
    assert run(machine, "info migrate", FakePerson()) == "\n".join(form(ACTIVE))
    qemus = run(machine, "info migrate", FakePerson(interactive=False))
    assert qemus.startswith("globals:\nstore-global-state: on\n")
    assert run(machine, "info migrate -a", FakePerson()) == qemus
