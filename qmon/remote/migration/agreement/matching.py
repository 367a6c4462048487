"""Which drive of the source goes to which drive of the destination, and all that is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmon.notation.plain_text import one_line
from qmon.notation.units import human_size
from qmon.remote.migration.agreement.capabilities import switched_off
from qmon.remote.migration.agreement.inventory import Disk, Inventory
from qmon.remote.migration.agreement.overlay_files import create_line
from qmon.remote.migration.agreement.sides import wrong_with_destination, wrong_with_source
from qmon.remote.migration.security import TLS_CREDS

BY_DEVICE, BY_DRIVE, BY_ORDER = "device id", "drive id", "order"


@dataclass(frozen=True, slots=True)
class Pair:
    """A drive whose disk is copied."""

    source: Disk
    destination: Disk
    by: str
    """How they were matched: ``BY_DEVICE``, ``BY_DRIVE`` or ``BY_ORDER``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would do. With ``refusals`` it must not begin. Each text is a whole line."""

    pairs: tuple[Pair, ...]
    left_behind: tuple[str, ...]
    """The drives that are not copied, and why."""
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    empty: tuple[str, ...] = ()
    """The names of the drives that have no medium on either side."""
    read_only: tuple[Pair, ...] = ()
    """Read-only drives with a medium of the same size on both sides: they must hold the same."""


def match(source: Inventory, destination: Inventory, *, inc: bool) -> Plan:
    """Compare both sides; ``inc`` for an incremental copy. What a side has told may contain anything."""
    refusals = [*wrong_with_source(source), *wrong_with_destination(destination)]
    refusals += _without_tls(source, destination)
    pairs, left, right = _pair(
        [each for each in source.disks if travels(each)],
        [each for each in destination.disks if travels(each)],
    )
    for pair in pairs:
        refusals += _differences(pair, inc=inc)
        refusals += _same_disks(pair, source.disks)
    stays = [each for each in source.disks if not travels(each)]
    waits = [each for each in destination.disks if not travels(each)]
    sitting, lonely, spare = _pair(stays, waits)
    refusals += _without_counterpart(left, right, stays, waits)
    refusals += _fixed(sitting, lonely)
    refusals += _machines(source, destination)
    empty = [pair for pair in sitting if _is_empty(pair)]
    holding = [pair for pair in sitting if not _is_empty(pair)]
    behind = [*(_stays(pair.source, pair.destination) for pair in holding), *map(_stays, lonely)]
    behind += [_only_there(each) for each in spare]
    behind += [
        f"device {each} has its disk outside QEMU: it is not copied, and must be there with the same contents"
        for each in source.outside
    ]
    behind += [line for pair in pairs for line in _within(pair.source)]
    warnings = [
        f"drive '{pair.source.name}' goes to the destination's '{pair.destination.name}' by their order:"
        " they have no id in common"
        for pair in pairs
        if pair.by == BY_ORDER and len(pairs) > 1
    ]
    warnings += switched_off(source.capabilities)
    warnings += [f"destination: {line}" for line in switched_off(destination.capabilities)]
    left_behind, refused, warned = (tuple(map(one_line, each)) for each in (behind, refusals, warnings))
    read_only = tuple(pair for pair in sitting if _must_be_same(pair.source, pair.destination))
    names = tuple(one_line(pair.source.name) for pair in empty)
    return Plan(tuple(pairs), left_behind, refused, warned, names, read_only)


def travels(disk: Disk) -> bool:
    """Whether a drive's disk is copied."""
    return disk.has_medium and disk.is_attached and not disk.read_only


# Matching


def _without_tls(source: Inventory, destination: Inventory) -> Iterator[str]:
    """The source's console has connected by its own parameter, and after that both QEMUs lose theirs."""
    creds = destination.parameters.get(TLS_CREDS)
    if creds and not source.parameters.get(TLS_CREDS):
        yield (
            f"destination: migration parameter tls-creds is '{creds}', and the source has none: set it at"
            " both sides before the destination waits, or clear it: 'migrate_set_parameter tls-creds \"\"'"
        )


def _pair(ours: Sequence[Disk], theirs: Sequence[Disk]) -> tuple[list[Pair], list[Disk], list[Disk]]:
    """Match the drives; return the pairs in the order of ``ours``, and what remains of each side."""
    rest = list(theirs)
    found: dict[int, Pair] = {}
    for by in (BY_DEVICE, BY_DRIVE):
        for index, disk in enumerate(ours):
            other = next((each for each in rest if _has_same_id(disk, each, by)), None)
            if index not in found and other is not None:
                found[index] = Pair(disk, other, by)
                rest.remove(other)
    is_single = len(ours) == len(theirs) == 1
    for index, disk in enumerate(ours):
        other = next((each for each in rest if is_single or _may_be(disk, each)), None)
        if index not in found and other is not None:
            found[index] = Pair(disk, other, BY_ORDER)
            rest.remove(other)
    alone = [disk for index, disk in enumerate(ours) if index not in found]
    return [found[index] for index in sorted(found)], alone, rest


def _has_same_id(ours: Disk, theirs: Disk, by: str) -> bool:
    if by == BY_DEVICE:
        return ours.device_id != "" and ours.device_id == theirs.device_id
    has_devices = ours.device_id != "" and theirs.device_id != ""
    return not has_devices and ours.drive_id != "" and ours.drive_id == theirs.drive_id


def _may_be(ours: Disk, theirs: Disk) -> bool:
    """Whether two drives may go together by order: of one kind, and without ids that differ."""
    ids = ((ours.device_id, theirs.device_id), (ours.drive_id, theirs.drive_id))
    is_other = any(mine and other and mine != other for mine, other in ids)
    return not is_other and ours.removable == theirs.removable


# What is wrong


def _differences(pair: Pair, *, inc: bool) -> Iterator[str]:
    ours, theirs = pair.source, pair.destination
    name = _both(ours, theirs)
    if ours.size != theirs.size:
        yield (
            f"{name} has {_size(ours)} at the source and {_size(theirs)} at the destination: make the"
            f" destination's image again with {ours.size} bytes"
        )
    if ours.device_type and theirs.device_type and ours.device_type != theirs.device_type:
        yield (
            f"{name} is a {ours.device_type} at the source and a {theirs.device_type} at the destination:"
            " start the destination with the same devices"
        )
    if inc:
        yield from _backing(name, ours, theirs)


def _same_disks(pair: Pair, disks: Sequence[Disk]) -> Iterator[str]:
    """Yield a line for each disk of the source that a copy would write to."""
    written = set(pair.destination.identities)
    for disk in disks:
        if common := written & set(disk.identities):
            what = f"the disk of the source's drive '{disk.name}'"
        elif common := written & set(disk.backing_identities):
            what = f"the backing image of the source's drive '{disk.name}'"
        else:
            continue
        yield (
            f"the destination's drive '{pair.destination.name}' is {what} ({min(common)}): give the"
            " destination a disk of its own"
        )


def _backing(name: str, ours: Disk, theirs: Disk) -> Iterator[str]:
    if ours.backing and not theirs.backing:
        line = create_line(theirs.file or "FILE", ours.size, ours.backing, ours.backing_format or "FORMAT")
        yield (
            f"{name} has a backing image at the source and none at the destination: copy the source's"
            f" {ours.backing} there, and make the overlay with '{line}'"
        )


def _without_counterpart(
    left: Sequence[Disk], right: Sequence[Disk], stays: Sequence[Disk], waits: Sequence[Disk]
) -> Iterator[str]:
    have = ", ".join(f"'{each.name}' ({_size(each)})" for each in right)
    missing = (
        f"which has {have}: give the destination's the same id"
        if have
        else "which has no other drive that can be written: start the destination with one of this size"
    )
    for disk in left:
        twin = next((each for each in waits if _is_twin(disk, each)), None)
        if twin is None:
            yield f"drive '{disk.name}' ({_size(disk)}) has no counterpart at the destination, {missing}"
        else:
            yield f"drive '{disk.name}' is writable at the source; at the destination it {_state(twin)}"
    for disk in right:
        twin = next((each for each in stays if _is_twin(disk, each)), None)
        if twin is None:
            yield (
                f"drive '{disk.name}' ({_size(disk)}) of the destination has no counterpart at the source:"
                " start the destination without it"
            )
        else:
            yield f"drive '{disk.name}' is writable at the destination; at the source it {_state(twin)}"


def _fixed(sitting: Sequence[Pair], lonely: Sequence[Disk]) -> Iterator[str]:
    """Yield what is wrong with read-only disks that are no removable media: the guest relies on them."""
    for disk in lonely:
        if disk.is_attached and not disk.removable:
            yield (
                f"drive '{disk.name}' {_state(disk)} and is not copied, and the destination has no such"
                " drive: start the destination with a copy of it"
            )
    for pair in sitting:
        ours, theirs = pair.source, pair.destination
        if not ours.removable and ours.has_medium and theirs.has_medium and ours.size != theirs.size:
            yield (
                f"{_both(ours, theirs)} {_state(ours)}, and has {_size(ours)} at the source and"
                f" {_size(theirs)} at the destination: start the destination with a copy of it"
            )


def _is_twin(ours: Disk, theirs: Disk) -> bool:
    return _has_same_id(ours, theirs, BY_DEVICE) or _has_same_id(ours, theirs, BY_DRIVE)


def _machines(source: Inventory, destination: Inventory) -> Iterator[str]:
    if source.capabilities.get("validate-uuid") and source.uuid != destination.uuid:
        yield (
            f"the guest's UUID is {source.uuid}, and the destination's is {destination.uuid}: start the"
            f" destination with -uuid {source.uuid}, or 'migrate_set_capability validate-uuid off'"
        )
    ours, theirs = source.machine, destination.machine
    if ours and theirs and ours != theirs:
        version = ".".join(map(str, destination.version))
        if destination.machines and ours not in destination.machines:
            yield (
                f"the guest's machine is {ours}, which the destination's QEMU {version} does not have: start"
                f" the guest with -machine {theirs}, for example, before it is to move there"
            )
        else:
            yield (
                f"the guest's machine is {ours}, and the destination's is {theirs}: start the destination"
                f" with -machine {ours}"
            )
    if source.memory != destination.memory:
        yield (
            f"the guest has {human_size(source.memory)} of memory, and the destination"
            f" {human_size(destination.memory)}: start the destination with -m {source.memory >> 20}"
        )
    if source.cpus != destination.cpus:
        yield (
            f"the guest has {source.cpus} CPUs, and the destination {destination.cpus}: start the destination"
            f" with -smp {source.cpus}"
        )


# What stays behind


def _is_empty(pair: Pair) -> bool:
    return not pair.source.has_medium and not pair.destination.has_medium


def _stays(ours: Disk, theirs: Disk | None = None) -> str:
    """Say why a drive of the source is not copied, and what the destination has in its place."""
    why = f"drive '{ours.name}' {_state(ours)}"
    if not ours.is_attached:
        return f"{why}: it is not copied"
    if theirs is None:
        return f"{why}: it is not copied, and the destination has no such drive"
    if _must_be_same(ours, theirs):
        return f"{why}: it is not copied; the destination has one of the same size, which must hold the same"
    has = f"holds {_size(theirs)}" if theirs.has_medium else "is empty"
    mine = f" with {_size(ours)}" if ours.has_medium else ""
    return f"{why}{mine}: it is not copied; at the destination it {has}"


def _within(disk: Disk) -> Iterator[str]:
    """Yield what an image holds besides its contents, which is all that is copied."""
    for kind, names in (("bitmap", disk.bitmaps), ("internal snapshot", disk.snapshots)):
        for name in names:
            yield f"{kind} '{name}' of drive '{disk.name}' is not copied"


def _must_be_same(ours: Disk, theirs: Disk) -> bool:
    return ours.has_medium and theirs.has_medium and ours.size == theirs.size


def _only_there(disk: Disk) -> str:
    return f"drive '{disk.name}' of the destination {_state(disk)}: the source has no such drive"


def _state(disk: Disk) -> str:
    if not disk.has_medium:
        return "has no medium"
    return "is read-only" if disk.read_only else "belongs to no device of the guest"


def _both(ours: Disk, theirs: Disk) -> str:
    is_same = ours.name == theirs.name
    return f"drive '{ours.name}'" + ("" if is_same else f" (the destination's '{theirs.name}')")


def _size(disk: Disk) -> str:
    return f"{disk.size} bytes"
