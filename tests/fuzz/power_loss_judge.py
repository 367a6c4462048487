"""Whether what a power failure left is sound, and holds what was flushed: to qmon, and to QEMU."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from qmon.block.image import look_at_image, open_image
from qmon.block.node import Node
from qmon.block.qcow2.header import AUTOCLEAR_OFFSET, FEATURES, MAGIC, Autoclear, Header
from qmon.block.qcow2.node import Qcow2Node
from tests.fuzz.power_loss_disk import NARROW, TOO_OFTEN, Call
from tests.support.power_loss import SECTOR
from tests.support.qcow2_images import content, read, run

CHANGES_MARKS = ("take", "apply", "delete")
"""Calls that change counts and the marks that go with them, which version 2 can't do in one moment."""


def check_disk(calls: Sequence[Call], moment: int, chance: random.Random) -> None:
    """The topmost image holds what was flushed, or what was put there since. Raises AssertionError."""
    last = max(number for number, call in enumerate(calls) if call.is_flushed and call.ended <= moment)
    groups: list[list[Call]] = []
    for call in calls[last:]:
        if call.begun <= moment:
            if call.is_switch or not groups:
                groups.append([])
            groups[-1].append(call)
    under_way = groups[-1][-1] if groups[-1][-1].ended > moment else None
    may_have_marks = under_way is not None and under_way.name in CHANGES_MARKS
    if under_way is not None and under_way.name == "overlay":
        overlay = groups.pop()[0].top
        if overlay.exists() and overlay.read_bytes()[:4] == MAGIC:
            _check_one(overlay, [[under_way]], chance, may_have_marks=False)
    _check_one(groups[0][0].top, groups, chance, may_have_marks=may_have_marks)


def _check_one(top: Path, groups: list[list[Call]], chance: random.Random, *, may_have_marks: bool) -> None:
    image_format = "qcow2" if top.read_bytes()[:4] == MAGIC else "raw"
    layers = look_at_image(str(top), image_format)
    for number, layer in enumerate(layers):
        if layer.header is not None:
            is_top = number == 0
            check_sound(Path(layer.file), layer.header, may_have_marks=is_top and may_have_marks)
            assert is_top or not layer.header.is_dirty, f"{layer.file} is dirty below another"
    survived = read_alone(top, image_format)
    wrong = [_differs(survived, [call.held for call in group]) for group in groups]
    assert None in wrong, "; ".join(filter(None, wrong))
    group = groups[wrong.index(None)]
    names = {snapshot.name for snapshot in layers[0].snapshots}
    matching = [call for call in group if set(call.snapshots) == names]
    assert matching, f"snapshots {names}"
    if chance.random() < 0.3:
        compare(top, image_format, survived)
        for name in names:
            held = content(top, name)
            assert any(is_snapshot(held, call.snapshots[name]) for call in matching), f"snapshot {name}"
    header = layers[0].header
    if header is not None and header.is_raw_outside:
        assert header.data_file is not None
        data = Path(header.data_file).read_bytes()[: len(survived)].ljust(len(survived), b"\0")
        # what was not flushed may be here and not there
        assert not (left := _differs(data, [call.held for call in group])), f"the raw data file: {left}"
    if chance.random() < 0.3:
        _use(top, image_format, survived, chance, may_have_marks=may_have_marks)


def is_snapshot(found: bytes, held: bytes) -> bool:
    """QEMU shows a snapshot at the size of the disk."""
    return found[: len(held)] == held[: len(found)]


def read_alone(image: Path, image_format: str = "qcow2", *, read_only: bool = True) -> bytes:
    """What qmon reads of an image, with what backs it."""
    node: Node = open_image(str(image), image_format, read_only=read_only, lock=False)
    try:
        return read(node)
    finally:
        node.close()


def _differs(survived: bytes, states: Sequence[bytes]) -> str | None:
    """What no state explains; None when each sector is as in one of them."""
    if len(survived) != len(states[0]):
        return f"{len(survived)} bytes, not {len(states[0])}"
    wrong = [
        start // SECTOR
        for start in range(0, len(survived), SECTOR)
        if not any(survived[start : start + SECTOR] == held[start : start + SECTOR] for held in states)
    ]
    return f"{len(wrong)} sectors from {wrong[0]} to {wrong[-1]}" if wrong else None


def compare(image: Path, image_format: str, held: bytes) -> None:
    """QEMU reads these bytes. Raises AssertionError."""
    expected = image.with_name("expected.raw")
    expected.write_bytes(held)
    run("compare", "-q", "-f", "raw", "-F", image_format, expected, image)
    expected.unlink()


def check_sound(image: Path, header: Header, *, may_have_marks: bool = False) -> None:
    """Nothing is wrong, leaks apart, or the dirty bit is set and all is well after a repair, anyone's.

    With ``may_have_marks`` a version 2 image may have marks that a repair sets right. Raises AssertionError.
    """
    assert not header.is_corrupt
    said = _checked(image)
    if said is not None:
        errors = [line for line in said.splitlines() if line.startswith("ERROR")]
        is_marks = header.version == 2 and may_have_marks and all("OFLAG_COPIED" in line for line in errors)
        assert header.is_dirty or is_marks, said
    if not header.is_dirty and said is None:
        return
    copy = image.with_name("repaired.qcow2")
    shutil.copy(image, copy)
    run("check", "-q", "-r", "all", copy)
    assert _checked(copy) is None
    compare(copy, "qcow2", read_alone(image, "qcow2"))
    if header.is_dirty:
        shutil.copy(image, copy)
        assert read_alone(copy, "qcow2", read_only=False) == read_alone(image, "qcow2")
        assert _checked(copy) is None
        compare(copy, "qcow2", read_alone(image, "qcow2"))
    copy.unlink()


def _checked(image: Path) -> str | None:
    """What QEMU finds wrong, None when nothing, or leaks alone."""
    words = ["qemu-img", "check", "-f", "qcow2", str(image)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return None if done.returncode in (0, 3) else done.stdout + done.stderr


def _use(
    image: Path, image_format: str, survived: bytes, chance: random.Random, *, may_have_marks: bool
) -> None:
    """What is left can be gone on with: snapshots stay what they are, and so does what is not written."""
    held = bytearray(survived)
    node = open_image(str(image), image_format, lock=False)
    try:
        before = {}
        if isinstance(node, Qcow2Node):
            before = {each.name: content(image, each.name) for each in node.snapshots}
            if node.header.data_file is None and len(before) < 2 and chance.random() < 0.5:
                before |= _taken(node, survived)
        for _ in range(chance.randrange(1, 12)):
            offset = chance.randrange(len(held) // SECTOR) * SECTOR
            length = min(len(held) - offset, SECTOR * chance.choice([1, 8, 200]))
            match chance.choice("wwzf"):
                case "w":
                    held[offset : offset + length] = chance.randbytes(length)
                    node.write(offset, held[offset : offset + length])
                case "z":
                    held[offset : offset + length] = bytes(length)
                    node.zero(offset, length)
                case "f":
                    node.flush()
        assert read(node) == held, "after it was used"
    finally:
        node.close()
    layer = look_at_image(str(image), image_format)[0]
    if layer.header is not None:
        check_sound(image, layer.header, may_have_marks=may_have_marks)
    compare(image, image_format, bytes(held))
    for name, data in before.items():
        assert is_snapshot(content(image, name), data), f"snapshot {name} after the image was used"


def _taken(node: Qcow2Node, held: bytes) -> dict[str, bytes]:
    """A new snapshot by its name, with what it holds; none where counts are too narrow for one more."""
    try:
        return {node.internal.take("after", 1, 2).name: held}
    except OSError as error:
        if node.header.refcount_order > NARROW or TOO_OFTEN not in str(error):
            raise
        return {}


def trusted_bitmaps(image: Path) -> bool:
    """Whether an image says that its bitmaps are kept up."""
    with image.open("rb") as file:
        head = file.read(AUTOCLEAR_OFFSET + FEATURES.size)
    if head[:4] != MAGIC or head[7] < 3 or len(head) < AUTOCLEAR_OFFSET + FEATURES.size:
        return False
    return bool(FEATURES.unpack_from(head, AUTOCLEAR_OFFSET)[0] & Autoclear.BITMAPS)


def check_bitmaps(
    image: Path, before: bytes | None, references: Mapping[tuple[Path, str], bytes], size: int
) -> None:
    """A bitmap that is trusted marks all that has changed. Raises AssertionError.

    ``before`` is what the image held when the bitmaps that are not in ``references`` had no marks; only the
    first ``size`` bytes are looked at.
    """
    node = open_image(str(image), "qcow2", read_only=True, lock=False)
    try:
        held = read(node)
        for bitmap in node.bitmaps:
            reference = references.get((image, bitmap.name), before)
            if bitmap.inconsistent or not bitmap.recording:
                continue
            assert reference is not None, f"nobody knows bitmap '{bitmap.name}' of {image.name}"
            for offset, length, is_dirty in bitmap.runs(0, min(size, node.size)):
                now, then = (
                    each[offset : offset + length].ljust(length, b"\0") for each in (held, reference)
                )
                assert is_dirty or now == then, f"bitmap '{bitmap.name}' of {image.name} at {offset}"
    finally:
        node.close()
