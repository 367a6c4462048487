"""Scripts that move a QEMU's guest: what they wait for, what they say, and their exit statuses."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.vms.consoles import START_PATIENCE, Consoles
from tests.support.vms.judgement import judge
from tests.support.vms.leftovers import standing
from tests.support.vms.pair import Pair
from tests.support.waiting import eventually


def slowed(pair: Pair) -> Pair:
    """The pair, whose migration takes long."""
    pair.source.look.run("migrate-set-parameters", {"max-bandwidth": 1 << 16})
    pair.before["source"] = standing(pair.source)
    return pair


def test_two_scripts_move_a_guest_and_it_does_not_run_twice(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(pair) as consoles:
        destination, source = consoles.destination, consoles.source
        destination.wait_for(f"type 'migrate blk {consoles.uri}' at its console")
        source.type(f"migrate -d blk {consoles.uri}", "wait migrate", "cont")
        assert source.wait() == 1
        said = source.printed()
        assert "Drives matched by device id: d0\n" in said
        assert f"stdin:3: Error: The guest has moved to {consoles.uri}: it must not run twice." in said
        assert "'cont -f'" in said
        assert f"\nThe guest runs at {consoles.uri} now;" in said
        assert "\nVerified: " in said
        assert destination.wait() == 0
        assert "qmon: The guest runs here now\n" in destination.printed()
        assert judge(pair, runs=pair.destination) == []


def test_a_script_at_its_end_waits_for_the_migration(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(pair) as consoles:
        consoles.wait_listening()
        source = consoles.source
        source.type(f"migrate -d blk {consoles.uri}")
        assert source.wait() == 0
        assert "qmon: the script has ended: qmon waits for the migration, then ends\n" in source.printed()
        assert f"qmon: The guest runs at {consoles.uri} now;" in source.printed()
        assert consoles.destination.wait() == 0
        assert judge(pair, runs=pair.destination) == []


def test_a_migration_that_fails_behind_a_scripts_end_is_its_failure(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(slowed(pair)) as consoles:
        consoles.wait_listening()
        source = consoles.source
        source.type(f"migrate -d blk {consoles.uri}")
        source.end_lines()
        source.wait_for("qmon waits for the migration")
        look = pair.source.look
        eventually(lambda: look.run("query-block-jobs"), "the disks are copied", START_PATIENCE)
        consoles.destination.kill()
        assert source.wait() == 1
        assert "qmon: the connection to the destination was lost" in source.printed()
        assert "qmon: The guest runs on here\n" in source.printed()
        pair.destination.kill()  # what is left in it waits for the next console there
        assert judge(pair, runs=pair.source) == []


@pytest.mark.parametrize("at", ["source", "destination"])
def test_a_script_that_is_ended_leaves_the_guest_at_the_source(at: str, tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(slowed(pair)) as consoles:
        consoles.wait_listening()
        source = consoles.source
        source.type(f"migrate -d blk {consoles.uri}")
        source.end_lines()
        source.wait_for("qmon waits for the migration")
        ended = source if at == "source" else consoles.destination
        ended.signal(signal.SIGTERM)
        assert ended.wait() == 1
        assert "qmon: the console leaves before the migration has ended:" in ended.printed()
        assert source.wait() == 1
        consoles.destination.close()
        assert judge(pair, runs=pair.source) == []


def test_a_script_that_is_ended_in_its_line_says_where_the_guest_stays(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(slowed(pair)) as consoles:
        consoles.wait_listening()
        source = consoles.source
        source.type(f"migrate blk {consoles.uri}")
        source.wait_for("Drives matched")
        source.signal(signal.SIGTERM)
        assert source.wait() == 1
        said = source.printed()
        assert "the console leaves before the migration has ended: the guest stays at the source\n" in said
        assert "continues in the background" not in said
        consoles.destination.close()
        assert judge(pair, runs=pair.source) == []


def test_a_destination_waits_as_long_as_its_line_says(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(pair) as consoles:
        consoles.wait_listening()
        consoles.destination.kill()
        waiting = consoles.start_destination("wait migrate 0.5")
        assert waiting.wait() == 1
        assert "wait: the migration is still awaited after 0.5 s" in waiting.printed()


def test_a_destination_whose_qemu_ends_while_it_waits_fails(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(pair) as consoles:
        consoles.wait_listening()
        waiting = consoles.destination
        waiting.end_lines()
        waiting.wait_for("qmon waits for the migration that comes here, then ends\n")
        pair.destination.kill()
        assert waiting.wait() == 1
        lost = f"qmon: the connection to {pair.destination.address} was lost: the other end closed it\n"
        assert waiting.printed().endswith(f"then ends\n{lost}")


def test_a_guest_that_is_stopped_on_its_way_is_said_to_stand(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(slowed(pair)) as consoles:
        consoles.wait_listening()
        source, fast = consoles.source, "migrate_set_parameter max-bandwidth 128M"
        source.type(f"migrate -d blk {consoles.uri}", "stop", fast)
        assert source.wait() == 0
        assert f"qmon: The guest, which was stopped before, is at {consoles.uri} now;" in source.printed()
        assert consoles.destination.wait() == 0
        assert "'cont' runs it\n" in consoles.destination.printed()
        assert pair.destination.look.run("query-status")["status"] == "paused"


def test_a_destination_that_leaves_forgets_the_migration(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair, Consoles(slowed(pair)) as consoles:
        consoles.wait_listening()
        consoles.source.type(f"migrate -d blk {consoles.uri}")
        consoles.source.end_lines()
        consoles.source.wait_for("qmon waits for the migration")
        consoles.destination.signal(signal.SIGTERM)
        assert consoles.destination.wait() == 1
        again = consoles.start_destination("wait migrate 0.1")
        assert again.wait() == 1
        assert "left a migration here" not in again.printed()
        assert consoles.source.wait() == 1
        assert judge(pair, runs=pair.source) == []
