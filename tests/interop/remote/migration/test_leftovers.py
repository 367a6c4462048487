"""What consoles that ended at any step have left is found by new ones and removed, and the guest counts on.

It is made by plain QMP, as the consoles make it, so that each step can be met exactly.
"""

from __future__ import annotations

import enum
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qmon.errors import CommandError
from tests.support.images import MIB, blank
from tests.support.ports import free_port
from tests.support.processes import QMON
from tests.support.qmp_client import QmpClient
from tests.support.vms.consoles import HOST, Consoles, Script, environment
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Machine, Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import PATIENCE, eventually

ID = "0b5e6a52-0000-4000-8000-000000000000"
MARK = "0b5e6a"
DEAD = {"pid": 4194304, "start": 1, "boot": "none", "host": "none"}
"""A console that has ended: no process has this id."""


class Step(enum.IntEnum):
    """The last thing that the consoles did."""

    RECORD = enum.auto()
    EXPORT = enum.auto()
    TARGET = enum.auto()
    MIRROR = enum.auto()
    READY = enum.auto()
    PAUSED = enum.auto()
    MIRRORS_ENDED = enum.auto()

    @property
    def has_moved_memory(self) -> bool:
        """Whether the destination's QEMU is used up."""
        return self >= Step.PAUSED


def enable(qmp: QmpClient, *capabilities: str) -> dict[str, bool]:
    """Set capabilities; return those that differed, as they were."""
    qmp.run("migrate-set-capabilities", capabilities=[{"capability": n, "state": True} for n in capabilities])
    return dict.fromkeys(capabilities, False)


def record(qmp: QmpClient, side: str, peer: str, phase: str, **more: Any) -> None:
    text: dict[str, Any] = {
        "id": ID,
        "side": side,
        "peer": peer,
        "phase": phase,
        "runs": True,
        "parameters": {},
    }
    text |= {"is_held": False, "server": False, "capabilities": {}, "console": DEAD, **more}
    given = json.dumps(text)
    qmp.run("object-add", {"qom-type": "authz-simple", "id": "qmon-migration", "identity": given})


class Abandoned:
    """A migration of a pair that nobody goes on with behind a step."""

    def __init__(self, pair: Pair, step: Step, *, is_recorded: bool = True) -> None:
        self.port = free_port()
        self._recorded = is_recorded
        with QmpClient(pair.source.qmp_path) as here, QmpClient(pair.destination.qmp_path) as there:
            self._begin(here, there)
            for each in Step:
                if Step.RECORD < each <= step:
                    getattr(self, f"_{each.name.lower()}")(here, there, pair.folder)

    def _begin(self, here: QmpClient, there: QmpClient) -> None:
        ours = enable(here, "events", "return-path", "pause-before-switchover")
        theirs = enable(there, "events", "return-path")
        where = f"tcp:{HOST}:{self.port}"
        if self._recorded:
            record(here, "source", where, "copying", capabilities=ours)
            record(there, "destination", where, "copying", capabilities=theirs, is_held=True, server=True)

    def _export(self, here: QmpClient, there: QmpClient, folder: Path) -> None:
        there.run("stop")
        there.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(folder / "nbd")}})
        node = there.run("query-block")[0]["inserted"]["node-name"]
        name = f"qmon-x0-{MARK}"
        there.run("block-export-add", type="nbd", id=name, name=name, node_name=node, writable=True)

    def _target(self, here: QmpClient, there: QmpClient, folder: Path) -> None:
        server = {"type": "unix", "path": str(folder / "nbd")}
        name = f"qmon-t0-{MARK}"
        here.run("blockdev-add", driver="nbd", node_name=name, export=f"qmon-x0-{MARK}", server=server)

    def _mirror(self, here: QmpClient, there: QmpClient, folder: Path) -> None:
        names = {"job-id": f"qmon-m0-{MARK}", "target": f"qmon-t0-{MARK}", "device": "d0"}
        here.run("blockdev-mirror", {**names, "sync": "full", "auto-dismiss": False})

    def _ready(self, here: QmpClient, there: QmpClient, folder: Path) -> None:
        wait(here, "BLOCK_JOB_READY")

    def _paused(self, here: QmpClient, there: QmpClient, folder: Path) -> None:
        uri = f"unix:{folder}/memory"
        there.run("migrate-incoming", uri=uri)
        if self._recorded:
            for qmp in (here, there):
                path = {"path": "/objects/qmon-migration", "property": "identity"}
                text = json.loads(qmp.run("qom-get", path))
                qmp.run("qom-set", {**path, "value": json.dumps({**text, "phase": "moving"})})
        here.run("migrate", uri=uri)
        wait(here, "MIGRATION", status="pre-switchover")

    def _mirrors_ended(self, here: QmpClient, there: QmpClient, folder: Path) -> None:
        here.run("block-job-cancel", device=f"qmon-m0-{MARK}", force=False)
        wait(here, "JOB_STATUS_CHANGE", status="concluded")
        here.run("job-dismiss", id=f"qmon-m0-{MARK}")
        here.run("blockdev-del", node_name=f"qmon-t0-{MARK}")


def wait(qmp: QmpClient, name: str, **data: str) -> None:
    """Wait for an event since the beginning."""
    while not any(
        event["event"] == name and data.items() <= event.get("data", {}).items() for event in qmp.events
    ):
        qmp.events.append(qmp.read())


def visit(machine: Machine) -> str:
    """Let a new console look at a machine and leave; return what it printed.

    It fails where the migration has failed.
    """
    script = Script(machine, lines=["info status"])
    script.wait(3 * PATIENCE)
    script.close()
    return script.printed()


@pytest.mark.sample(4)
@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("step", Step, ids=lambda step: step.name.lower())
def test_new_consoles_undo_what_others_have_left(tmp_path: Path, version: Version, step: Step) -> None:
    with Pair(tmp_path, Setup(source=version, destination=version)) as pair:
        Abandoned(pair, step)
        said = visit(pair.source)
        if step.has_moved_memory and version is Version.SEVEN:
            pair.destination.process.wait(PATIENCE)
        else:
            visit(pair.destination)
        assert judge(pair, pair.source) == []
    assert "An earlier console left a migration here: this machine is its source" in said
    if Step.TARGET <= step < Step.MIRRORS_ENDED:
        assert f"node qmon-t0-{MARK}" in said


@pytest.mark.parametrize("version", Version)
def test_what_is_left_without_a_record_is_removed_too(tmp_path: Path, version: Version) -> None:
    with Pair(tmp_path, Setup(source=version, destination=version)) as pair:
        Abandoned(pair, Step.READY, is_recorded=False)
        there = visit(pair.destination)
        here = visit(pair.source)
        for machine, names in (
            (pair.source, ("events", "return-path", "pause-before-switchover")),
            (pair.destination, ("events", "return-path")),
        ):
            off = [{"capability": name, "state": False} for name in names]
            machine.look.run("migrate-set-capabilities", capabilities=off)
        assert judge(pair, pair.source) == []
    assert f"Removed what a migration had left in this QEMU: job qmon-m0-{MARK}, node qmon-t0-{MARK}" in here
    assert f"Removed what a migration had left in this QEMU: export qmon-x0-{MARK}" in there


def test_what_is_not_named_qmon_stays(tmp_path: Path) -> None:
    blank(tmp_path / "copy", 32 * MIB)
    with Pair(tmp_path) as pair:
        Abandoned(pair, Step.EXPORT)
        here, there = pair.source.look, pair.destination.look
        here.run("blockdev-add", driver="file", filename="copy", node_name="mine")
        here.run("blockdev-mirror", job_id="mine", device="d0", target="mine", sync="full")
        here.run("object-add", qom_type="authz-simple", id="mine", identity="somebody")
        node = there.run("query-block")[0]["inserted"]["node-name"]
        there.run("block-export-add", type="nbd", id="mine", name="mine", node_name=node)
        visit(pair.source)
        visit(pair.destination)
        assert [each["id"] for each in here.run("query-jobs")] == ["mine"]
        assert "mine" in {each["name"] for each in here.run("qom-list", path="/objects")}
        assert [each["id"] for each in there.run("query-block-exports")] == ["mine"]
        with pytest.raises(CommandError, match="already running"):
            there.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(tmp_path / "other")}})


def test_a_migration_of_a_console_that_lives_is_left_alone(tmp_path: Path) -> None:
    with Pair(tmp_path) as pair:
        with Consoles(pair) as consoles:
            consoles.wait_listening()
            consoles.source.type("migrate_set_parameter max-bandwidth 32k", f"migrate -d {consoles.line[8:]}")
            eventually(lambda: pair.source.look.run("query-jobs"), "a mirror runs")
            said = from_another_socket(pair.source, "migrate blk tcp:127.0.0.1:1")
            assert "is moving this guest" in said
            assert [each["status"] for each in pair.source.look.run("query-jobs")] == ["running"]
            consoles.source.type("migrate_cancel")
            consoles.source.wait()
        pair.source.look.run("migrate-set-parameters", max_bandwidth=128 << 20)
        assert judge(pair, pair.source) == []


def from_another_socket(machine: Machine, line: str) -> str:
    """What a console says to a line that it gets on the machine's other QMP socket."""
    machine.look.close()
    del machine.__dict__["look"]  # it connects anew when it is used next
    words = [*QMON, "-connect", f"unix:{machine.name}.look", "-c", line]
    environ = environment(machine.folder)
    done = subprocess.run(
        words, cwd=machine.folder, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 1
    return done.stdout + done.stderr
