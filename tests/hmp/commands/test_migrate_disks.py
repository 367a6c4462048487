"""``migrate blk`` on a QEMU whose console moves the guest with its disks, and the lines around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.editing.completion import complete
from tests.support.fake_pair import DONE, HELP_7, HELP_10, LISTENING, RUNNING, FakePair, met
from tests.support.fake_target import Deciding, FakePerson, Hinted

URI = "tcp:there:4444"


def says(pair: FakePair, line: str, person: FakePerson | None = None) -> tuple[bool, str]:
    """Whether a line succeeds, and what is said."""
    someone = person or FakePerson(interactive=False)

    async def run() -> bool:
        return await (await met(pair)).run_line(line, someone)

    return asyncio.run(run()), someone.said()


@pytest.mark.parametrize("help_text", [HELP_7, HELP_10], ids=["qemu7", "qemu10"])
@pytest.mark.parametrize(
    ("line", "inc"),
    [
        (f"migrate -d blk {URI}", False),
        (f"migrate blk -d inc {URI}", True),
        (f"migrate -b -d {URI}", False),
        (f"migrate -d -i {URI}", True),
        (f"migrate inc {URI}", True),
    ],
)
def test_a_line_that_names_the_disks_is_the_consoles(help_text: str, line: str, inc: bool) -> None:
    pair = FakePair(help_text)
    pair.migration = [DONE]
    assert says(pair, line)[0]
    assert pair.calls == [("x-qmon-migrate-disks", {"uri": URI, "inc": inc})]
    assert pair.passed == []


QUOTED = 'Put the address in double quotes: migrate blk "exec:gzip -1 > f"'


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (f"migrate bkl {URI}", "Did you mean 'blk'?"),
        (f"migrate -d {URI} blk", f"Write it so: 'migrate blk -d {URI}'"),
        ("migrate blk exec:gzip -1 > f", QUOTED),
        ("migrate blk 'exec:gzip -1 > f'", QUOTED),
        ("migrate blk", "The address is missing: write blk tcp:HOST:PORT or blk unix:PATH"),
        ("migrate blk tpc:there:4444", f"Write {URI}"),
    ],
)
def test_a_slip_is_followed_by_what_was_meant(line: str, hint: str) -> None:
    pair, person = FakePair(), Hinted()
    pair.answers = (
        'migrate: extraneous characters at the end of line\nTry "help migrate" for more information'
    )
    if line in ("migrate blk", "migrate blk tpc:there:4444"):
        pair.answers = pair.refused = "Parameter 'uri' expects a valid migration protocol"
    good, said = says(pair, line, person)
    assert not good
    assert said.endswith(pair.answers)
    assert person.hints == [hint]


@pytest.mark.parametrize("help_text", [HELP_7, HELP_10], ids=["qemu7", "qemu10"])
def test_any_other_migrate_is_qemus_own(help_text: str) -> None:
    pair = FakePair(help_text)
    assert says(pair, f"migrate -d {URI}")[0]
    assert says(pair, "migrate -d exec:cat")[0]
    assert pair.passed == [f"migrate -d {URI}", "migrate -d exec:cat"]
    assert pair.calls == []


def test_a_plain_migrate_of_a_guest_with_disks_is_asked_about() -> None:
    pair = FakePair()
    pair.blocks = [{"qdev": "/machine/cd"}, {"qdev": "/machine/cd1", "inserted": {"ro": True}}]
    assert says(pair, f"migrate -d {URI}") == (True, "")
    pair.blocks.append({"qdev": "/machine/d0", "inserted": {"ro": False}})
    warning = (
        "warning: No disk is copied: the destination must use the same disks already."
        f" With images of its own: 'migrate blk {URI}'"
    )
    unsure = Deciding(False)
    assert says(pair, f"migrate -d {URI}", unsure) == (False, f"{warning}\nNothing was migrated")
    assert unsure.asked == ["Migrate without the disks?"]
    assert pair.passed == [f"migrate -d {URI}"]
    assert says(pair, f"migrate -d {URI}", Deciding(True, interactive=False)) == (True, warning)
    assert pair.passed[1:] == [f"migrate -d {URI}"]
    for line in ("migrate -d file:state", f"migrate -r {URI}"):
        assert says(pair, line) == (True, "")


def test_a_plain_migrate_is_refused_while_the_guest_moves() -> None:
    pair = FakePair()
    pair.migration = [RUNNING]
    refused = (False, "Error: There's a migration process in progress: 'migrate_cancel' cancels it")
    for line in (f"migrate {URI}", "migrate_set_capability multifd on"):
        assert says(pair, line) == refused
    assert pair.passed == []


def test_every_reason_of_a_refusal_is_told_in_one_list() -> None:
    pair = FakePair()
    pair.refused = "drive 'd0' has another size\ndrive 'd1' is missing\x1b[2J"
    good, said = says(pair, f"migrate blk {URI}")
    assert not good
    assert said.split("\n") == [
        "Error: The migration is refused for 2 reasons:",
        "  1. drive 'd0' has another size",
        "  2. drive 'd1' is missing\\x1b[2J",
    ]
    pair.refused = "drive 'd0' has another size"
    assert says(pair, f"migrate blk {URI}") == (False, "Error: drive 'd0' has another size")


def test_where_nothing_listens_the_destinations_line_is_shown() -> None:
    pair, person = FakePair(), Hinted()
    pair.refused = "Failed to connect to 'there:4444': Connection refused"
    assert not says(pair, f"migrate blk {URI}", person)[0]
    way = "There a console must wait: 'qmon -connect unix:QMP -incoming tcp:0:4444' on a QEMU started with"
    assert person.hints[0].startswith(way)
    pair.refused = f"{URI}: it closed the connection"
    assert not says(pair, f"migrate blk {URI}", person)[0]
    assert person.hints[1:] == person.hints[:1]


def test_a_trial_tells_what_would_be_sent_and_moves_nothing() -> None:
    pair = FakePair()
    pair.trial = {
        "x-qmon-peer": URI,
        "mismatches": [],
        "warnings": ["the line is not encrypted"],
        "x-qmon-disks": [
            {"drive": "d0", "data": 1 << 30, "matched-by": "device id"},
            {"drive": "d1", "data": 1 << 20, "matched-by": "device id"},
        ],
        "left": ["drive 'cd0' holds 1 MiB"],
        "empty": ["cd1", "floppy0"],
    }
    good, said = says(pair, f"migrate -n {URI}")
    assert good
    assert said.split("\n") == [
        f"{URI} would accept the migration.",
        "  to send: up to 1 GiB (d0 1 GiB, d1 1 MiB) of disks, and the guest's memory",
        "Drives matched by device id: d0, d1",
        "warning: the line is not encrypted",
        "drive 'cd0' holds 1 MiB",
        "Empty drives: cd1, floppy0",
    ]
    assert pair.calls == [("x-qmon-migrate-disks", {"uri": URI, "inc": False, "trial": True})]
    pair.trial["mismatches"] = ["one", "two"]
    good, said = says(pair, f"migrate -n blk {URI}")
    assert not good
    assert said.startswith("Error: The migration would be refused for 2 reasons:\n  1. one\n")
    assert says(pair, f"migrate -n -d {URI}")[1].startswith("migrate: -n can't be used with -d")


@pytest.mark.parametrize("interactive", [False, True], ids=["script", "person"])
def test_the_end_is_told(interactive: bool) -> None:
    pair, person = FakePair(), FakePerson(interactive)
    pair.migration, pair.trial = [RUNNING, DONE], {"empty": ["cd1", "floppy0"]}
    assert says(pair, f"migrate blk {URI}", person) == (
        True,
        "Empty drives: cd1, floppy0\n"
        "Drives matched by device id: d0\n"
        "Drives matched by order: d1\n"
        "warning: drive 'cd0' has no medium on both sides\n"
        "Migrated 310 MiB of disks, 60 MiB of memory in 31.4 s, downtime 40 ms\n"
        f"The guest runs at {URI} now; this machine stays stopped: 'quit' ends it\n"
        "Verified: samples of each disk were compared\n"
        "drive 'cd0' has no medium on both sides",
    )


@pytest.mark.parametrize(
    ("side", "where"), [("source", f"runs at {URI} now"), ("destination", "runs here now")]
)
def test_waiting_shows_one_progress_of_disks_and_memory(side: str, where: str) -> None:
    pair, person = FakePair(), FakePerson()
    pair.migration = [{**RUNNING, "x-qmon-side": side}, {**DONE, "x-qmon-side": side}]
    good, said = says(pair, "wait migrate", person)
    assert good
    assert where in said
    assert person.shown.updates == [(200 << 20, 400 << 20)]


@pytest.mark.parametrize("interactive", [False, True])
def test_a_failure_is_an_error(interactive: bool) -> None:
    pair = FakePair()
    pair.migration = [{**RUNNING, "status": "failed", "error-desc": "the line is silent"}]
    person = FakePerson(interactive=interactive)
    assert says(pair, "wait migrate", person) == (False, "Error: the line is silent")


def test_a_destination_that_listens_is_waited_for() -> None:
    pair = FakePair(is_destination=True)
    pair.status = "inmigrate"
    pair.migration = [LISTENING, LISTENING, {**DONE, "x-qmon-side": "destination"}]
    assert says(pair, "wait migrate")[0]


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("migrate_cancel", ("migrate_cancel", {})),
        ("migrate_set_parameter max-bandwidth 5", ("migrate-set-parameters", {"max-bandwidth": 5 << 20})),
        ("migrate_set_parameter downtime-limit 50", ("migrate-set-parameters", {"downtime-limit": 50})),
        (
            "migrate_set_parameter x-qmon-verify-copy full",
            ("migrate-set-parameters", {"x-qmon-verify-copy": "full"}),
        ),
        ("migrate_set_speed 5M", ("migrate-set-parameters", {"max-bandwidth": 5 << 20})),
        ("migrate_resolve keep", ("x-qmon-migrate-resolve", {"action": "keep"})),
        ("cont", ("cont", {})),
        ("cont -f", ("cont", {"x-qmon-force": True})),
    ],
)
def test_lines_about_it_go_to_the_console(line: str, call: tuple[str, dict[str, Any]]) -> None:
    pair = FakePair()
    pair.migration = [RUNNING]
    assert says(pair, line) == (True, "")
    assert pair.calls == [call]
    assert pair.passed == []


def test_a_destination_does_not_cancel() -> None:
    pair = FakePair()
    pair.migration = [{**RUNNING, "x-qmon-side": "destination"}]
    good, said = says(pair, "migrate_cancel")
    assert not good
    assert said.startswith("Error: Only the source cancels the migration")
    assert (pair.calls, pair.passed) == ([], [])


@pytest.mark.parametrize(
    ("side", "said"),
    [
        ("source", f"The guest, which was stopped before, is at {URI} now;"),
        ("destination", "The guest is here now, and was stopped before: 'cont' runs it"),
    ],
)
def test_a_guest_that_was_stopped_is_not_said_to_run(side: str, said: str) -> None:
    pair = FakePair()
    pair.migration = [{**DONE, "x-qmon-side": side, "x-qmon-runs": False}]
    assert said in says(pair, "wait migrate", FakePerson())[1]


def test_without_a_migration_of_the_consoles_lines_are_qemus() -> None:
    pair = FakePair()
    lines = [
        "migrate_cancel",
        "migrate_continue pre-switchover",
        "migrate_incoming tcp:0:4444",
        "migrate_set_parameter multifd-channels 3",
        "migrate_set_capability multifd on",
        "info migrate",
    ]
    for line in lines:
        assert says(pair, line)[0]
    assert pair.passed == lines


def test_a_console_without_incoming_says_that_qemu_waits_for_memory_only() -> None:
    good, said = says(FakePair(), "migrate_incoming tcp:0:4444")
    assert good
    assert said.startswith("warning: This waits for memory only, not for disks.")
    assert said.endswith("'qmon -connect unix:QMP -incoming tcp:0:4444'")


def test_the_switchover_is_the_consoles_unless_the_person_wants_to_decide() -> None:
    pair = FakePair()
    pair.migration = [{**RUNNING, "status": "pre-switchover"}]
    good, said = says(pair, "migrate_continue pre-switchover")
    assert not good
    assert said == "Error: The migration does not wait for you: the console continues it itself"
    pair.migration[0]["x-qmon-waits"] = True
    assert says(pair, "migrate_continue pre-switchover") == (True, "")
    assert pair.calls == [("migrate-continue", {"state": "pre-switchover"})]
    assert pair.passed == []


def test_parameters_are_listed_as_they_hold_for_both() -> None:
    assert says(FakePair(), "info migrate_parameters")[1].split("\n") == [
        "announce-initial: 50 ms",
        "max-bandwidth: 5242880 bytes/second",
        "downtime-limit: 300 ms",
        "mode: normal",
        "x-qmon-verify-copy: sample",
        "x-qmon-copy-mode: auto",
    ]


def test_a_machine_that_has_moved_does_not_run_again_by_itself() -> None:
    pair = FakePair()
    pair.status = "postmigrate"
    assert says(pair, "cont") == (
        False,
        "Error: The guest runs at tcp:there:4444 now: 'cont -f' runs it here too",
    )
    unsure = Deciding(False)
    assert says(pair, "cont -f", unsure) == (False, "The machine was not started")
    assert unsure.asked[0].startswith("The guest has moved to another host")
    assert pair.calls == []


def test_a_console_that_listens_says_so_and_one_that_may_listen_does() -> None:
    pair = FakePair(is_destination=True)
    assert says(pair, "migrate_incoming tcp:0:4444") == (True, "")
    assert pair.calls == [("x-qmon-migrate-incoming", {"uri": "tcp:0:4444"})]
    pair.migration = [LISTENING]
    good, said = says(pair, "migrate_incoming tcp:0:4444")
    assert not good
    assert "listens for a migration already" in said
    assert pair.passed == []


def test_the_form_shows_disks_and_memory() -> None:
    pair, person = FakePair(), FakePerson()
    pair.migration = [RUNNING]
    good, said = says(pair, "info migrate", person)
    assert good
    rows = said.split("\n")
    assert rows[0].split() == "Migration: copying (active) for 3 s".split()
    labels = [row.split()[0] for row in rows if "MiB" in row]
    assert labels == ["d0", "d1", "2", "memory", "Rate:", "Settings:"]
    assert "10 MiB/s sent, 3 MiB/s written by the guest" in said
    assert "descriptors" in said
    assert "drive 'cd0' has no medium on both sides" in said


def test_programs_get_qemus_form_with_disks_and_memory() -> None:
    pair = FakePair()
    pair.migration = [RUNNING]
    said = says(pair, "info migrate")[1]
    assert "Migration status: active\n" in said
    assert "remaining ram: 102400 kbytes\n" in said
    assert "remaining disk: 102400 kbytes\n" in said
    assert "disk 'd1': transferred 10240, remaining 102400, total 102400 kbytes\n" in said


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("migrate b", ["blk"]),
        ("migrate -", ["-n", "-d", "-b", "-i", "-r"]),
        ("migrate_res", ["migrate_resolve"]),
        ("migrate_set_parameter x-qmon-v", ["x-qmon-verify-copy"]),
        ("migrate_set_parameter x-qmon-verify-copy ", ["off", "sample", "full"]),
    ],
)
def test_the_lines_are_completed(typed: str, words: list[str]) -> None:
    async def run() -> list[str]:
        return [each.text.strip() for each in await complete(await met(FakePair()), typed)]

    assert asyncio.run(run()) == words


@pytest.mark.parametrize("interactive", [False, True])
@pytest.mark.parametrize("help_text", [HELP_7, HELP_10], ids=["qemu7", "qemu10"])
def test_help_shows_how_it_is_written_here(help_text: str, interactive: bool) -> None:
    said = says(FakePair(help_text), "help migrate", FakePerson(interactive=interactive))[1]
    assert "-b or blk" in said
    assert "-n" in said


def test_help_says_why_qemus_own_copy_is_not_used() -> None:
    assert "lose what the guest" in says(FakePair(HELP_7), "help migrate", FakePerson())[1]


def test_help_moving_shows_the_lines_for_a_guest() -> None:
    person = FakePerson()
    said = says(FakePair(HELP_10), "help moving", person)[1]
    assert "qmon -connect unix:vm.qmp -incoming tcp:0:4444" in said
    assert "(qemu) migrate -n blk tcp:HOST:4444" in said
    assert "drive_add" not in said


@pytest.mark.parametrize(
    ("side", "way_out"),
    [("source", "'migrate_resolve release' ends this"), ("destination", "keep' runs the guest here")],
)
def test_the_form_says_what_ends_a_doubt(side: str, way_out: str) -> None:
    pair, person = FakePair(), FakePerson()
    pair.migration = [{**DONE, "status": "device", "error-desc": "the line is silent", "x-qmon-side": side}]
    said = " ".join(says(pair, "info migrate", person)[1].split())
    assert "Reason: the line is silent What to do: look whether " in said
    assert way_out in said
    assert "Settings" not in said


def test_help_says_what_the_consoles_parameters_mean() -> None:
    said = says(FakePair(), "help migrate_set_parameter", FakePerson())[1]
    assert "x-qmon-verify-copy: sample, the default" in said
    assert "x-qmon-copy-mode: auto, the default" in said
