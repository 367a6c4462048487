"""The power fails: of what was written since a file was flushed last, any part may be there.

A sample of the campaign in tests/fuzz/power_loss.py, and what chance seldom meets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from qmon.block.image import open_image
from qmon.block.locks import DISK
from qmon.block.qcow2.create import create_overlay
from qmon.block.qcow2.header import MAGIC, REFCOUNT_TABLE_OFFSET
from tests.fuzz.power_loss_images import KINDS
from tests.fuzz.power_loss_judge import read_alone
from tests.fuzz.power_loss_trial import try_out
from tests.support.images import noise
from tests.support.peers import require
from tests.support.power_loss import Event, Recorder, Write
from tests.support.qcow2_images import Recipe, check, content

SIZE = 3 << 20
FAILURES = 8
"""Of the disk of each kind."""


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


@pytest.mark.parametrize("seed", range(len(KINDS)), ids=[kind.replace(" ", "-") for kind in KINDS])
def test_what_was_flushed_survives_a_power_failure(seed: int) -> None:
    result = try_out(seed, FAILURES)
    assert not result.problems, "\n".join(result.problems)


@pytest.mark.parametrize("named_first", [True, False])
def test_a_moved_refcount_table_is_there_when_it_is_named_and_named_when_it_is_needed(
    tmp_path: Path, named_first: bool
) -> None:
    """Of what is not flushed, only the write that names the table lands, or all but that one."""
    image, _ = Recipe(cluster_size=512, size=SIZE, refcount_bits=64).make(tmp_path)
    recorder = Recorder([image])
    with recorder.installed():
        node = open_image(str(image), "qcow2")
        for offset in range(0, SIZE, SIZE // 4):
            node.write(offset, noise(SIZE // 4, offset))
            node.flush()
        node.close()
    naming = [
        event
        for event in recorder.events
        if isinstance(event, Write) and event.offset == REFCOUNT_TABLE_OFFSET
    ]
    assert naming

    def lands(events: Sequence[Event], name: Event) -> dict[int, float]:
        return {id(event): float((event is name) is named_first) for event in events}

    for name in naming:
        for flush in [flush for flush in recorder.flushes if flush.begun > name.ended][:2]:
            disk = recorder.survivors(flush.begun, random.Random(0), partial(lands, name=name))[str(image)]
            assert disk is not None
            image.write_bytes(disk)
            check(image, leaks=True)


def test_an_overlay_is_an_image_when_all_of_it_is_there(tmp_path: Path) -> None:
    """Its header takes more than one sector, any of which may land alone."""
    base = tmp_path / ("b" * 200)
    base.write_bytes(noise(65536))
    overlay = tmp_path / "overlay.qcow2"
    recorder = Recorder([base])
    with recorder.installed():
        create_overlay(str(overlay), 65536, str(base), "raw", DISK)
    images = 0
    for seed in range(200):
        moment = random.Random(seed).randrange(recorder.clock + 1)
        survived = recorder.survivors(moment, random.Random(seed)).get(str(overlay))
        if survived is not None and survived[:4] == MAGIC:
            images += 1
            overlay.write_bytes(survived)
            assert read_alone(overlay) == base.read_bytes()
            if images % 10 == 0:
                check(overlay)
                assert content(overlay) == base.read_bytes()
    assert images > 10
