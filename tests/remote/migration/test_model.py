"""The promises of a migration between two QEMUs, in every state that the tables bring the pair into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coverage import Coverage

from qmon.remote.migration.phases import Phase
from tests.remote.migration.model.mutations import HARMLESS, mutations
from tests.remote.migration.model.search import Search
from tests.remote.migration.model.world import World


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    """Coverage is not measured here: it adds half to the longest tests, and others cover the rows."""
    coverage = Coverage.current()
    if coverage is not None:
        coverage.stop()
    yield
    if coverage is not None:
        coverage.start()


@pytest.fixture(scope="module")
def one_failure() -> Search:
    search = Search(World(faults=1))
    finding = search.run()
    assert finding is None, str(finding)
    return search


def test_the_promises_are_kept_whatever_fails(one_failure: Search) -> None:
    assert any(p.d.guest == "running" and p.sc.phase is Phase.COMPLETED for p in one_failure.states)


def test_every_phase_is_reached(one_failure: Search) -> None:
    reached = {p.sc.phase for p in one_failure.states} | {p.dc.phase for p in one_failure.states}
    assert reached == set(Phase)


def test_what_is_said_of_tables_with_one_thing_wrong_is_said_of_these_tables() -> None:
    """``python -m tests.remote.migration.model`` tries them all."""
    assert not HARMLESS.keys() - mutations().keys()
