"""Recorded sessions of libnbd and QEMU 10 are served as they stand, and harm nobody when they are damaged.

``python -m tests.fuzz.nbd`` plays thousands of damaged ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz.nbd_trial import Trial, recordings, started
from tests.support.images import KIB, noise
from tests.support.nbd_recorder import DISK

SESSIONS = 150


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with started(tmp_path_factory.mktemp("trial")) as trial:
        yield trial


@pytest.mark.parametrize("name", recordings())
def test_a_recording_is_served_as_it_stands(trial: Trial, name: str) -> None:
    assert trial.play_bytes(recordings()[name], random.Random(1)) > 100


@pytest.mark.parametrize("name", ["libnbd-nbdcopy", "qemu10-convert"])
def test_a_recording_of_a_copy_makes_the_copy_again(trial: Trial, name: str) -> None:
    trial.play_bytes(recordings()["libnbd-nbdsh"], random.Random(2))
    trial.play_bytes(recordings()[name], random.Random(2))
    assert trial.content() == noise(8 * KIB) + bytes(DISK - 8 * KIB)


def test_damaged_recordings_harm_nobody(trial: Trial) -> None:
    for seed in range(SESSIONS):
        trial.play(seed)
