"""What one run does, drawn from its seed alone."""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

from tests.support.vms.disks import QCOW2, RAW, Filling
from tests.support.vms.machine import Style, Version
from tests.support.vms.pair import Setup
from tests.torture.qemus.line import AtByte, AtMessage, Kind, Way
from tests.torture.qemus.watch import AtEvent

KIB, MIB = 1 << 10, 1 << 20
FOR_GOOD = math.inf

SOURCE, DESTINATION = "source", "destination"

LOOKED_ON = (
    *("-qmp", "unix:{name}.watch,server=on,wait=off"),
    *("-msg", "timestamp=on", "-trace", "handle_qmp_command", "-trace", "monitor_qmp_respond"),
    *("-trace", "runstate_set", "-trace", "monitor_protocol_event_emit"),
)
"""A QMP socket to listen on, and all of QMP in the QEMU's log."""


class What(enum.Enum):
    """What a fault does."""

    KILL_CONSOLE = "kill the console of the"
    END_CONSOLE = "SIGTERM to the console of the"
    FREEZE_CONSOLE = "SIGSTOP to the console of the"
    KILL_QEMU = "kill the QEMU of the"
    FREEZE_QEMU = "SIGSTOP to the QEMU of the"
    STALL = "stall"
    SWALLOW = "swallow"
    CUT = "cut"
    RESET = "reset"
    HALF_CLOSE = "half-close"
    SLOW = "slow"

    @property
    def is_of_line(self) -> bool:
        return self in _OF_LINE

    @property
    def is_of_console(self) -> bool:
        return self in (What.KILL_CONSOLE, What.END_CONSOLE, What.FREEZE_CONSOLE)


_OF_LINE = (What.STALL, What.SWALLOW, What.CUT, What.RESET, What.HALF_CLOSE, What.SLOW)


@dataclass(frozen=True, slots=True)
class AtTime:
    """So many seconds after the source's console has connected."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds * 1000:.0f} ms after the beginning"


Place = AtTime | AtEvent | AtMessage | AtByte


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``delay`` seconds behind its place, for ``seconds``."""

    what: What
    place: Place
    delay: float = 0.0
    seconds: float = FOR_GOOD
    victims: tuple[str, ...] = ()
    kinds: frozenset[Kind] = frozenset(Kind)
    ways: frozenset[Way] = frozenset(Way)

    def __str__(self) -> str:
        words = [self.what.value]
        if self.what.is_of_line:
            which = sorted(kind.value for kind in self.kinds) if len(self.kinds) < len(Kind) else ["the line"]
            words += ["+".join(which), *(f"{way.value}" for way in self.ways if len(self.ways) == 1)]
        else:
            words += ["+".join(self.victims)]
        if self.seconds != FOR_GOOD:
            words.append(f"for {self.seconds:g} s")
        return f"{' '.join(words)} {f'{self.delay * 1000:.1f} ms from ' if self.delay else ''}{self.place}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run."""

    seed: int
    setup: Setup
    faults: tuple[Fault, ...]
    rate: int | None = None
    """Bytes a second that the line takes while all is well."""
    is_mended: bool = True
    """Whether the line works again when new consoles come."""
    tries_again: bool = False
    """Whether a guest that stays is moved again, by the new consoles."""
    wakes: bool = True
    """Whether a QEMU that was stopped for good goes on then; it is killed otherwise."""

    def __str__(self) -> str:
        words = [str(self.setup), f"burst {self.setup.burst}", ", then ".join(map(str, self.faults))]
        if self.rate:
            words.append(f"line of {self.rate // KIB} KiB/s")
        if not self.is_mended:
            words.append("the line stays as it is")
        return ", ".join(words)


_VERSIONS = [(Version.TEN, Version.TEN), (Version.SEVEN, Version.TEN), (Version.SEVEN, Version.SEVEN)]
_STYLES = [Style.VIRTIO, Style.IDE, Style.SCSI, Style.IF_VIRTIO, Style.BLOCKDEV, Style.BLOCKDEV_SCSI]

_EVENTS = [
    *(AtEvent(SOURCE, "JOB_STATUS_CHANGE", status) for status in ("running", "ready", "concluded")),
    *(AtEvent(SOURCE, "MIGRATION", s) for s in ("setup", "active", "pre-switchover", "device", "completed")),
    AtEvent(SOURCE, "STOP"),
    AtEvent(SOURCE, "STOP"),
    *(AtEvent(DESTINATION, "MIGRATION", status) for status in ("setup", "active", "completed")),
    AtEvent(DESTINATION, "RESUME"),
]
_REQUESTS = ["inventory", "prepare", "memory", "close", "run", "run", "heard"]


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    chance = random.Random(f"qemus {seed}")
    faults = [_draw_fault(chance)]
    if chance.random() < 0.2:
        faults.append(_draw_fault(chance))
    return Scenario(
        seed,
        _draw_setup(chance),
        tuple(faults),
        rate=chance.choice([None, None, None, 40 * MIB, 12 * MIB]),
        is_mended=chance.random() < 0.8,
        wakes=chance.random() < 0.5,
        tries_again=chance.random() < 0.5,
    )


def _draw_setup(chance: random.Random) -> Setup:
    source, destination = chance.choice(_VERSIONS)
    inc = chance.random() < 0.25
    return Setup(
        source=source,
        destination=destination,
        style=chance.choice(_STYLES),
        format=QCOW2 if inc else chance.choice([RAW, RAW, QCOW2]),
        disks=2 if chance.random() < 0.2 else 1,
        inc=inc,
        filling=Filling(noise=2 * MIB),
        burst=chance.choice([0, 4, 16, 16, 64]),
        options=LOOKED_ON,
    )


def _draw_fault(chance: random.Random) -> Fault:
    place = _draw_place(chance)
    delay = chance.choice([0.0, 0.0, chance.uniform(0, 0.003), chance.uniform(0, 0.03)])
    where = chance.random()
    if where < 0.35:
        what = chance.choice([What.KILL_CONSOLE, What.KILL_CONSOLE, What.END_CONSOLE, What.FREEZE_CONSOLE])
        victims = chance.choice([(SOURCE,), (DESTINATION,), (SOURCE, DESTINATION)])
    elif where < 0.6:
        what = chance.choice([What.KILL_QEMU, What.FREEZE_QEMU])
        victims = chance.choice([(SOURCE,), (DESTINATION,), (DESTINATION,)])
    else:
        return _draw_line_fault(chance, place, delay)
    seconds = FOR_GOOD
    if what in (What.FREEZE_CONSOLE, What.FREEZE_QEMU):
        seconds = chance.choice([0.5, 3.0, 9.0, FOR_GOOD])
    return Fault(what, place, delay, seconds, victims)


def _draw_line_fault(chance: random.Random, place: Place, delay: float) -> Fault:
    what = chance.choice([What.STALL, What.STALL, *_OF_LINE])
    kinds, ways = frozenset(Kind), frozenset(Way)
    if chance.random() < 0.4:
        kinds = frozenset({chance.choice(list(Kind))})
    if what is What.HALF_CLOSE or (what in (What.STALL, What.SWALLOW) and chance.random() < 0.3):
        ways = frozenset({chance.choice(list(Way))})
    seconds = chance.choice([0.3, 2.0, 8.0, FOR_GOOD])
    return Fault(what, place, delay, seconds, (), kinds, ways)


def _draw_place(chance: random.Random) -> Place:
    where = chance.random()
    if where < 0.4:
        return chance.choice(_EVENTS)
    if where < 0.7:
        return AtMessage(chance.choice(_REQUESTS), chance.random() < 0.5, chance.random() < 0.5)
    if where < 0.85:
        kind, way = chance.choice(list(Kind)), chance.choice(list(Way))
        most = {Kind.CONTROL: 4000, Kind.DISK: 6 * MIB, Kind.MEMORY: 400 * KIB}[kind]
        if way is Way.BACK or chance.random() < 0.5:
            most = 2000
        return AtByte(kind, way, chance.randrange(most))
    return AtTime(chance.uniform(0, 0.5))
