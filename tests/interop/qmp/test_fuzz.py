"""QMP messages at random: each is answered, and nobody else is disturbed. ``make fuzz`` sends many more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.qmp_trial import Trial, started
from tests.support.thoroughness import examples


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with started(tmp_path_factory.mktemp("fuzz")) as trial:
        yield trial


@settings(max_examples=examples(8))
@given(st.integers(0, 1 << 32))
def test_whatever_is_sent_is_answered(trial: Trial, seed: int) -> None:
    assert trial.batch(seed) > 0
