"""What a migration that was called off leaves at its destination: a QEMU as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.vms.consoles import Consoles
from tests.support.vms.machine import Machine
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import eventually


def names_of_objects(machine: Machine) -> set[str]:
    return {each["name"] for each in machine.look.run("qom-list", path="/objects")}


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", [(), ("-S",)], ids=["runs", "stays"])
def test_a_destination_runs_a_later_guest_by_itself_as_it_would_have(
    kind: tuple[str, ...], tmp_path: Path
) -> None:
    with Pair(tmp_path / "pair", Setup(), destination_options=kind) as pair:
        with Consoles(pair) as consoles:
            consoles.wait_listening()
            pair.source.look.run("migrate-set-parameters", max_bandwidth=1 << 16)
            consoles.source.type(f"migrate -d blk {consoles.uri}")
            eventually(
                lambda: any(job["id"].startswith("qmon-") for job in pair.source.look.run("query-jobs")),
                "the disk is copied",
            )
            consoles.source.type("migrate_cancel")
            consoles.source.wait()
            eventually(lambda: "qmon-migration" not in names_of_objects(pair.destination), "all is undone")
        pair.source.look.run("migrate-set-parameters", max_bandwidth=0)
        stream = tmp_path / "stream"
        pair.destination.look.run("migrate-incoming", uri=f"unix:{stream}")
        pair.source.look.run("migrate", uri=f"unix:{stream}")
        wanted = "paused" if kind else "running"
        eventually(
            lambda: pair.destination.look.run("query-status")["status"] == wanted, f"the guest is {wanted}"
        )
