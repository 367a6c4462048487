"""One run of a disk, and the power failures in it."""

from __future__ import annotations

import collections
import random
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from qmon.block.image import look_at_image
from qmon.block.qcow2.snapshots import Snapshot
from tests.fuzz.power_loss_disk import MOST_BYTES, Call, Disk
from tests.fuzz.power_loss_images import KINDS, Made, make
from tests.fuzz.power_loss_judge import (
    CHANGES_MARKS,
    check_bitmaps,
    check_disk,
    is_snapshot,
    read_alone,
    trusted_bitmaps,
)
from tests.fuzz.power_loss_threads import Threads
from tests.support.power_loss import Recorder
from tests.support.qcow2_images import content

FAILURES = 12
"""Moments at which the power fails, for each run of a disk."""


@dataclass(slots=True)
class Result:
    """What came of a run: ``problems`` are broken promises, ``failed_in`` counts the calls under way."""

    kind: str
    problems: list[str] = field(default_factory=list)
    failures: int = 0
    failed_in: collections.Counter[str] = field(default_factory=collections.Counter)


def try_out(seed: int, failures: int = FAILURES) -> Result:
    """Use the disk of this seed; then let the power fail at so many moments. The kinds take turns."""
    chance = random.Random(seed)
    result = Result(KINDS[seed % len(KINDS)])
    with tempfile.TemporaryDirectory(prefix="qmon-power-") as name:
        folder = Path(name)
        try:
            _run(result, folder, chance, failures)
        except Exception:  # noqa: BLE001 - a run that can't go on is a broken promise, too
            result.problems.append(traceback.format_exc())
    return result


def _run(result: Result, folder: Path, chance: random.Random, failures: int) -> None:
    made = make(result.kind, folder, chance)
    if result.kind == "again":
        made = _left_before(made, folder, chance)
    pause = _pause if result.kind == "threads" else lambda: None
    recorder = Recorder(folder.iterdir(), pause)
    marked = {path: read_alone(path) for path in map(Path, recorder.before) if trusted_bitmaps(path)}
    used: Disk | Threads
    with recorder.installed():
        used = (Threads if result.kind == "threads" else Disk)(made, recorder, chance)
        used.use(chance.randrange(3, 25))
    for _ in range(failures):
        moment = _moment(recorder, used.calls, chance)
        under_way = next((call.name for call in used.calls if call.begun <= moment < call.ended), "none")
        _put_back(folder, recorder.survivors(moment, random.Random(chance.getrandbits(32))))
        result.failures += 1
        result.failed_in[under_way] += 1
        try:
            for path in [path for path in folder.iterdir() if trusted_bitmaps(path)]:
                references = {} if isinstance(used, Threads) else used.references
                smallest = MOST_BYTES if isinstance(used, Threads) else used.smallest
                check_bitmaps(path, marked.get(path), references, smallest)
            if isinstance(used, Threads):
                used.check(moment, chance)
            else:
                check_disk(used.calls, moment, chance)
        except (AssertionError, OSError) as error:
            what = "".join(traceback.format_exception(error, limit=-4))
            result.problems.append(f"{result.kind}, the power failed in {under_way}, at {moment}: {what}")


def _left_before(made: Made, folder: Path, chance: random.Random) -> Made:
    """What another power failure has left, in the middle of a snapshot if there was one."""
    recorder = Recorder(folder.iterdir())
    with recorder.installed():
        used = Disk(made, recorder, chance)
        used.use(chance.randrange(3, 15))
    calls = [call for call in used.calls if call.name in CHANGES_MARKS] or used.calls
    moment = _moment(recorder, [chance.choice(calls)], chance)
    _put_back(folder, recorder.survivors(moment, chance))
    top = [call for call in used.calls if call.ended <= moment][-1].top
    layers = look_at_image(str(top), "qcow2")
    for path in set(folder.iterdir()) - {Path(layer.file) for layer in layers}:
        path.unlink()  # an overlay that was being made
    snapshots = {
        each.name: _of_snapshot(used.calls, each, content(top, each.name)) for each in layers[0].snapshots
    }
    held = content(top)
    top.with_suffix(".raw").unlink()
    return replace(made, image=top, held=held, snapshots=snapshots)


def _of_snapshot(calls: list[Call], snapshot: Snapshot, shown: bytes) -> bytes:
    """What a snapshot holds that was taken in one of these calls, and that QEMU shows like this."""
    known = [call.snapshots[snapshot.name] for call in calls if snapshot.name in call.snapshots]
    return next(held for held in known if len(held) == snapshot.disk_size and is_snapshot(shown, held))


def _put_back(folder: Path, survivors: Mapping[str, bytes | None]) -> None:
    """Have a folder hold these files, and no others."""
    for path in folder.iterdir():
        path.unlink()
    for name, data in survivors.items():
        if data is not None:
            Path(name).write_bytes(data)


def _pause() -> None:
    """For other threads to come in between."""
    time.sleep(random.random() / 1000)


def _moment(recorder: Recorder, calls: list[Call], chance: random.Random) -> int:
    """Any, or one in any call: mostly just before a flush, when most is open."""
    if chance.random() < 0.25:
        return chance.randrange(recorder.clock + 1)
    call = chance.choice(calls)
    flushes = [flush.begun for flush in recorder.flushes if call.begun <= flush.begun < call.ended]
    if flushes and chance.random() < 0.7:
        return chance.choice(flushes)
    return chance.randint(call.begun, call.ended)
