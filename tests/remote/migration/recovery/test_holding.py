"""When a guest must not run on a side, whatever its operator types."""

from __future__ import annotations

import pytest

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.recovery.holding import why_not_run

PEER = "tcp:there:4444"
WAY_OUT = "migrate_resolve keep"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("side", "phase", "run_state"),
    [
        ("source", Phase.PAUSED, "finish-migrate"),
        ("source", Phase.SWITCHING, "finish-migrate"),
        ("source", Phase.HANDED, "postmigrate"),
        ("source", Phase.DOUBT, "postmigrate"),
        ("source", Phase.UNDOING, "paused"),
        ("destination", Phase.MOVING, "inmigrate"),
        ("destination", Phase.ARRIVED, "paused"),
        ("destination", Phase.REFUSED, "paused"),
    ],
)
def test_a_guest_whose_place_is_not_settled_never_runs_by_cont(
    side: str, phase: Phase, run_state: str, force: bool
) -> None:
    why = why_not_run(side, phase, run_state, PEER, force=force)
    assert why is not None
    assert (WAY_OUT in why) == (phase in (Phase.DOUBT, Phase.ARRIVED))


def test_a_guest_that_has_moved_runs_here_only_by_force() -> None:
    for side, phase, where in (("source", Phase.COMPLETED, PEER), ("", None, "another host")):
        why = why_not_run(side, phase, "postmigrate", PEER)
        assert why is not None
        assert f"to {where}:" in why
        assert "'cont -f'" in why
        assert why_not_run(side, phase, "postmigrate", PEER, force=True) is None


@pytest.mark.parametrize("side", ["", "source", "destination"])
@pytest.mark.parametrize("phase", [None, Phase.NONE, Phase.COMPLETED, Phase.SETTLED, Phase.FAILED])
def test_any_other_machine_may_run(side: str, phase: Phase | None) -> None:
    assert why_not_run(side, phase, "paused", PEER) is None
