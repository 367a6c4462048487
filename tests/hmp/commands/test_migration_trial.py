"""The answer of ``migrate -n``: a few lines, or an error with every reason; it calls for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.commands.migration_trial import ANNOUNCE_SECONDS, took
from qmon.hmp.monitor import Monitor
from tests.support.fake_target import FakeMachine, FakePerson

RESULT: dict[str, Any] = {
    "x-qmon-peer": "tcp:there:4444",
    "mode": "full",
    "mismatches": [],
    "warnings": [],
    "data": 3 << 30,
    "x-qmon-disks": [{"drive": "d0", "data": 1 << 30}, {"drive": "d1", "data": 2 << 30}],
    "rate": 100 << 20,
    "max-bandwidth": 128 << 20,
    "is-limited": False,
    "x-qmon-guest-write-rate": 3 << 20,
    "converges": True,
    "duration": 31_600,
    "expected-downtime": 28,
}


def tried(
    line: str, result: dict[str, Any], *, interactive: bool = False, seconds: float = 0
) -> tuple[bool, str, FakeMachine]:
    """Whether a line succeeds whose trial has a result, what it prints, and the machine."""
    machine = FakeMachine()

    async def trial(uri: str, blk: bool | None = None, inc: bool | None = None) -> dict[str, Any]:
        machine.calls.append(("x-qmon-migrate-trial", {"uri": uri, "blk": blk, "inc": inc}))
        await asyncio.sleep(seconds)
        return result

    machine.registry.add("x-qmon-migrate-trial", trial)
    person = FakePerson(interactive=interactive)
    good = asyncio.run(Monitor(machine.registry).run_line(line, person))
    return good, person.said(), machine


@pytest.mark.parametrize(
    ("flags", "blk", "inc"),
    [("-n", None, None), ("-n blk", True, None), ("blk -n", True, None), ("-b -i -n", True, True)],
)
def test_the_flags_reach_qmp_and_nothing_is_moved(flags: str, blk: bool | None, inc: bool | None) -> None:
    good, _, machine = tried(f"migrate {flags} tcp:there:4444", RESULT)
    assert good
    arguments = {"uri": "tcp:there:4444", "blk": blk, "inc": inc}
    assert machine.calls == [("x-qmon-migrate-trial", arguments)]


def test_the_figures_are_told() -> None:
    result = {**RESULT, "warnings": ["drive 'd0' needs up to 9 GiB more"]}
    left = {"x-qmon-stays-behind": [{"drive": "d0", "snapshots": 2, "bitmaps": 0}]}
    good, said, _ = tried("migrate -n blk tcp:there:4444", {**result, **left})
    assert good
    assert said.splitlines() == [
        "tcp:there:4444 would accept the migration.",
        "  to send:      3 GiB (d0 1 GiB, d1 2 GiB)",
        "  line:         100 MiB/s",
        "  guests write: 3 MiB/s",
        "  would take:   32 s, downtime about 28 ms",
        "warning: drive 'd0' needs up to 9 GiB more",
        "drive 'd0': 2 internal snapshots are not copied",
    ]


def test_at_a_terminal_a_wait_is_explained_and_what_fails_at_once_has_none() -> None:
    line = "migrate -n blk tcp:there:4444"
    _, said, _ = tried(line, RESULT, interactive=True, seconds=2 * ANNOUNCE_SECONDS)
    assert said.splitlines()[0].startswith("A trial: nothing is moved.")
    for interactive, seconds in ((True, 0.0), (False, 2 * ANNOUNCE_SECONDS)):
        _, said, _ = tried(line, RESULT, interactive=interactive, seconds=seconds)
        assert "A trial" not in said


def test_one_reason_follows_in_the_line() -> None:
    result = {**RESULT, "mismatches": ["the disk is too large"]}
    good, said, _ = tried("migrate -n tcp:there:4444", result)
    assert (good, said) == (False, "Error: The migration would be refused: the disk is too large")


def test_several_reasons_are_a_list_without_control_characters() -> None:
    good, said, _ = tried("migrate -n tcp:there:4444", {**RESULT, "mismatches": ["first", "sec\x1b[2J\nond"]})
    assert not good
    assert said.splitlines() == [
        "Error: The migration would be refused for 2 reasons:",
        "  1. first",
        "  2. sec\\x1b[2J\\x0aond",
    ]


@pytest.mark.parametrize("flag", ["d", "r"])
def test_flags_that_make_no_sense_together_are_refused(flag: str) -> None:
    good, said, machine = tried(f"migrate -{flag} -n tcp:there:4444", RESULT)
    assert (good, said) == (False, f"migrate: -n can't be used with -{flag}: a trial moves nothing")
    assert machine.calls == []


def test_a_target_without_trials_is_not_migrated_instead() -> None:
    machine = FakeMachine()
    person = FakePerson()
    assert not asyncio.run(Monitor(machine.registry).run_line("migrate -n tcp:0:1", person))
    assert "this target has no QMP command 'x-qmon-migrate-trial'" in person.said()
    assert machine.calls == []


@pytest.mark.parametrize(
    ("advice", "said"),
    [
        (
            {"reason": "guests write a lot", "parameter": "max-bandwidth", "value": 5 << 20},
            [
                "  would take:   for ever: guests write a lot",
                "'migrate_set_parameter max-bandwidth 5M' would help; so would 'migrate_set_parameter"
                " x-qmon-copy-mode write-blocking', or 'migrate_set_capability auto-converge on'",
            ],
        ),
        (None, ["  would take:   for ever: the destination takes no data"]),
    ],
)
def test_a_copy_without_end_comes_with_what_would_help(
    advice: dict[str, Any] | None, said: list[str]
) -> None:
    result = {**RESULT, "converges": False}
    result |= {"x-qmon-not-converging": advice} if advice else {}
    good, text, _ = tried("migrate -n tcp:there:4444", result)
    assert good
    assert text.splitlines()[4:] == said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "less than 0.1 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (59.4, "59 s"), (125, "2 min 5 s")],
)
def test_a_short_time_has_a_fraction(seconds: float, text: str) -> None:
    assert took(seconds) == text
