"""What a pair of QEMUs and consoles is made of in the model, and how both QEMUs behave.

The QEMUs' behaviour is what QEMU 7.2 and 10 were seen to do:

- ``pre-switchover``: the guest stands still until somebody acts. The source does not notice there that the
  destination has gone.
- ``device``: with a return path the source says ``completed`` when the destination has loaded all, and runs
  the guest again if the connection breaks first. Without one it says ``completed`` when all is sent.
- A cancel in ``device`` runs the guest at the source, also if the destination has loaded all meanwhile.
- A destination that was told to stop holds its guest when it has loaded it, else it runs it at once. One that
  can't load exits, or stays and is used up.
- On a silent connection a source in ``active`` is frozen with its monitor; only an out-of-band yank helps.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import Action, Event


class Kind(enum.Enum):
    """Whose doing a step is."""

    OWN = "the consoles', the QEMUs' and the guardian's own"
    RESTART = "a new console is started"
    LINE = "the line is there again"
    OPERATOR = "a person cancels or decides"
    FAULT = "something fails"


class SourceQemu(NamedTuple):
    alive: bool = True
    guest: str = "running"
    """``running``, ``finish-migrate`` (stopped for the migration) or ``postmigrate``."""
    status: str = "none"
    copies: str = "none"
    """``none``, ``running``, ``ready``, or ``broken``: ended with an error."""
    targets: bool = False
    is_set: bool = False
    """Whether the capabilities are as the migration needs them."""
    record: Phase | None = None


class DestinationQemu(NamedTuple):
    alive: bool = True
    held: bool = False
    """Whether it was told to stop."""
    memory: str = "none"
    """``none``, ``reading``, ``loaded`` or ``failed``."""
    guest: str = "inmigrate"
    """``inmigrate``, ``paused``, ``running``, ``stopped`` by a person, or ``io-error``: stopped by itself."""
    exports: bool = False
    disk: str = "partial"
    """``partial``, ``whole`` (as the source's) or ``differs``: ended without an error, but not whole."""
    is_set: bool = False
    record: Phase | None = None


class Console(NamedTuple):
    alive: bool = True
    phase: Phase = Phase.NONE
    todo: tuple[Action, ...] = ()
    link: str = "none"
    """``none``, ``open`` or ``lost``, which has not been noticed."""
    asked: str = ""
    """Source: the request whose answer it waits for. Destination: the one that it carries out."""
    answer: str = ""
    next: Event | None = None
    """The event that it takes when it has nothing to do."""
    told: bool = False
    """Whether its person was told who decides."""
    perhaps: bool = False
    """Destination: whether it is not known that the guest has not run."""
    is_lost: bool = False
    """Whether something has come for which its table has no row."""
    knows: bool = False
    """Destination: whether the migration at hand is the source's."""


class Pair(NamedTuple):
    s: SourceQemu = SourceQemu()
    d: DestinationQemu = DestinationQemu()
    sc: Console = Console()
    dc: Console = Console()
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    silent: bool = False
    """Whether nothing passes between the two hosts."""
    stalled: bool = False
    """Whether the connections of the memory and the disks carry nothing."""
    stream: str = "none"
    """The memory's connection: ``none``, ``open``, ``all``: everything is sent, ``cut``, or ``orphan``: the
    source sees it cut, but everything has reached the destination."""
    guardian: str = "none"
    """``none``, ``there`` or ``dead``."""
    ran: bool = False
    """Whether the guest has run at the destination."""
    stale: bool = False
    """Whether the guest has run at the source since its memory was complete."""
    restarted: bool = False
    """Whether the guest was started at the destination after a person had stopped it."""
    faults: int = 0

    @property
    def is_frozen(self) -> bool:
        """Whether the source's monitor does not answer."""
        return self.has_stalled and self.s.status == "active"

    @property
    def has_stalled(self) -> bool:
        return self.silent or self.stalled


Step = tuple[str, Kind, Pair]
UNDER_WAY = ("active", "pre-switchover", "device")


def runs_at_source(p: Pair, status: str) -> Pair:
    """The source's QEMU has ended its migration and runs the guest."""
    stale = p.stale or p.stream in ("all", "orphan") or p.d.memory == "loaded"
    disk = "partial" if p.d.guest != "running" else p.d.disk
    return p._replace(s=p.s._replace(guest="running", status=status), d=p.d._replace(disk=disk), stale=stale)


def cut_stream(p: Pair) -> list[Pair]:
    """The memory's connection ends; what was sent may have arrived, or not."""
    match p.stream:
        case "all":
            return [p._replace(stream="orphan"), p._replace(stream="cut")]
        case "open":
            return [p._replace(stream="cut")]
    return [p]


def cancelled(p: Pair, status: str = "cancelled") -> list[Pair]:
    """``migrate_cancel``, or a yank."""
    if p.s.status not in UNDER_WAY:
        return [p]
    return [runs_at_source(each, status) for each in cut_stream(p)]


def broken_copies(p: Pair) -> Pair:
    if p.s.copies in ("running", "ready"):
        return p._replace(s=p.s._replace(copies="broken"))
    return p


def source_dies(p: Pair) -> list[Pair]:
    gone = p._replace(s=SourceQemu(alive=False, guest="gone"), guardian="none")
    return cut_stream(gone)


def destination_dies(p: Pair) -> Pair:
    gone = DestinationQemu(alive=False, guest="gone", disk=p.d.disk)
    stream = "cut" if p.stream in ("open", "all") else p.stream
    return broken_copies(p._replace(d=gone, stream=stream))


def loaded(p: Pair) -> Pair:
    guest = "paused" if p.d.held else "running"
    return p._replace(d=p.d._replace(memory="loaded", guest=guest), ran=p.ran or not p.d.held)


def source_qemu_steps(p: Pair, capabilities: Mapping[str, bool]) -> list[tuple[str, Pair]]:
    """What the source's QEMU does by itself."""
    s, d = p.s, p.d
    found: list[tuple[str, Pair]] = []
    if not s.alive or p.has_stalled:
        return found
    if s.copies == "running" and d.exports and d.alive:
        found.append(("mirrors are ready", p._replace(s=s._replace(copies="ready"))))
    if s.status == "active" and p.stream == "open" and d.memory == "reading":
        # Without pause-before-switchover it goes on by itself.
        pauses = s.is_set and capabilities["pause-before-switchover"]
        status = "pre-switchover" if pauses else "device"
        stopped = s._replace(status=status, guest="finish-migrate")
        found.append((f"source QEMU: STOP, {status}", p._replace(s=stopped)))
    if s.status in ("active", "device") and p.stream in ("cut", "orphan"):
        found.append(("source QEMU: failed, RESUME", runs_at_source(p, "failed")))
    if s.status == "device" and p.stream == "open":
        found.append(("source QEMU sends the rest", p._replace(stream="all")))
    if s.status == "device" and p.stream == "all":
        with_return_path = s.is_set and d.is_set and capabilities["return-path"]
        if d.memory == "loaded" or not with_return_path:
            done = s._replace(status="completed", guest="postmigrate")
            found.append(("source QEMU: completed", p._replace(s=done)))
    return found


def destination_qemu_steps(p: Pair) -> list[tuple[str, Pair]]:
    """What the destination's QEMU does by itself."""
    if not p.d.alive or p.d.memory != "reading":
        return []
    found = []
    if p.stream == "orphan" or (p.stream == "all" and not p.has_stalled):
        found.append(("destination QEMU: completed", loaded(p)))
    if p.stream == "cut":
        found.append(
            ("destination QEMU: failed", p._replace(d=p.d._replace(memory="failed"))),
        )
        found.append(("destination QEMU exits", destination_dies(p)))
    return found
