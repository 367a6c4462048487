"""Everything that can happen to the pair: both sides' steps, the guardian's, new consoles, and what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from qmon.remote.migration.agreement.capabilities import wanted
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.recovery.resume import Start, resumed_destination, resumed_source
from qmon.remote.migration.states import DESTINATION, SOURCE, Action, Event, Table
from tests.remote.migration.model import destination_console, source_console
from tests.remote.migration.model.destination_console import DestinationConsole
from tests.remote.migration.model.pair import (
    Console,
    Kind,
    Pair,
    Step,
    broken_copies,
    cancelled,
    cut_stream,
    destination_dies,
    destination_qemu_steps,
    source_dies,
    source_qemu_steps,
)
from tests.remote.migration.model.source_console import SourceConsole, done, undone

Failure = tuple[str, Pair]


@dataclass(frozen=True)
class World:
    """Two tables, the rules for a new console, and how much may happen."""

    source: Table = field(default_factory=lambda: SOURCE)
    destination: Table = field(default_factory=lambda: DESTINATION)
    resumed_source: Callable[[str, str, str], Start] = resumed_source
    resumed_destination: Callable[[str, str, str], Start] = resumed_destination
    faults: int = 2
    """How many things fail: a process, the line, an action."""
    kinds: frozenset[str] = frozenset({"consoles", "qemus", "line", "actions", "copies"})
    """What fails. ``copies``: one that has ended without an error differs from its disk."""
    capabilities: Mapping[str, bool] = field(
        default_factory=lambda: {**wanted(is_source=True), **wanted(is_source=False)}
    )
    """What both sides set up."""
    yanks: bool = True
    """Whether a console, or the guardian, can free a QEMU whose monitor is frozen."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_s", SourceConsole(self.source, yanks=self.yanks))
        object.__setattr__(self, "_d", DestinationConsole(self.destination))

    _s: SourceConsole = field(init=False)
    _d: DestinationConsole = field(init=False)

    def steps(self, p: Pair) -> Iterator[Step]:
        """Everything that can happen next: what it is called, whose doing it is, and what comes of it."""
        if p == Pair():
            yield from self._begin(p)
        for label, after in (*source_qemu_steps(p, self.capabilities), *destination_qemu_steps(p)):
            yield label, Kind.OWN, after
        yield from self._s.steps(p)
        yield from self._d.steps(p)
        yield from self._reconnect(p)
        yield from self._guardian(p)
        yield from self._restarts(p)
        if p.stalled:
            yield "the data connections go on", Kind.LINE, p._replace(stalled=False)
        if p.silent:
            if "open" in (p.sc.link, p.dc.link):
                yield "the silence is noticed", Kind.OWN, _lost(p)
            yield "the line is back", Kind.LINE, p._replace(silent=False)
        if p.faults < self.faults:
            for label, after in self._failures(p):
                yield label, Kind.FAULT, after._replace(faults=p.faults + 1)

    def _begin(self, p: Pair) -> Iterator[Step]:
        after = self._s.fire(p, Event.START)
        there = after and self._d.fire(after, Event.START)
        if there:
            sc = there.sc._replace(link="open", next=Event.AGREED)
            yield "migrate", Kind.OWN, there._replace(sc=sc, dc=there.dc._replace(link="open", knows=True))

    def _reconnect(self, p: Pair) -> Iterator[Step]:
        if not p.sc.alive or p.sc.phase is not Phase.DOUBT or p.sc.todo or p.sc.next or p.silent:
            return
        there = p if p.sc.link == "open" else self._d.connects(p)
        if there and (after := self._s.fire(there, Event.RECONNECTED)):
            yield "source: RECONNECTED", Kind.OWN, after._replace(sc=after.sc._replace(link="open"))

    def _guardian(self, p: Pair) -> Iterator[Step]:
        if p.guardian != "there" or p.sc.alive or not p.s.alive or (p.is_frozen and not self.yanks):
            return
        # What is to be taken back stands in the record.
        leaves = p.s.status in ("device", "completed") or p.s.record is None
        for after in [p] if leaves else map(undone, cancelled(p)):
            yield "guardian", Kind.OWN, after._replace(guardian="none")

    def _restarts(self, p: Pair) -> Iterator[Step]:
        yield from _persons(p)
        if not p.sc.alive and p.s.alive and p.guardian != "there" and not p.is_frozen:
            console = Console()
            if p.s.record is not None:
                phase, event = self.resumed_source(p.s.record.value, p.s.status, p.s.guest)
                console = Console(phase=phase, next=event)
            yield "new console at the source", Kind.RESTART, p._replace(sc=console)
        if not p.dc.alive and p.d.alive:
            console = Console()
            if p.d.record is not None:
                status = {"reading": "active", "loaded": "completed"}.get(p.d.memory, p.d.memory)
                state = "paused" if p.d.guest == "stopped" else p.d.guest
                phase, event = self.resumed_destination(p.d.record.value, status, state)
                perhaps = event is Event.RUN
                console = Console(phase=phase, next=event, knows=True, perhaps=perhaps)
            yield "new console at the destination", Kind.RESTART, p._replace(dc=console)

    # What fails

    def _failures(self, p: Pair) -> Iterator[Failure]:
        if "consoles" in self.kinds:
            yield from _consoles_die(p)
        if "qemus" in self.kinds:
            yield from _qemus_fail(p)
        if "line" in self.kinds:
            yield from _line_fails(p)
        if "actions" in self.kinds:
            yield from self._actions_fail(p)
        if "copies" in self.kinds and p.sc.todo[:1] == (Action.END_COPIES,) and p.s.copies == "ready":
            differs = p._replace(s=p.s._replace(copies="none"), d=p.d._replace(disk="differs"))
            yield "the copy differs", done(differs)

    def _actions_fail(self, p: Pair) -> Iterator[Failure]:
        if p.sc.next is Event.AGREED:
            yield "they do not agree", self._s.fail(p)
        for action in p.sc.todo[:1]:
            if action in source_console.MAY_FAIL and p.s.alive and not p.is_frozen:
                yield f"source: {action.name} fails", self._s.fail(p)
        for action in p.dc.todo[:1]:
            if action in destination_console.MAY_FAIL and p.d.alive:
                yield f"destination: {action.name} fails", self._d.fail(p)


def _persons(p: Pair) -> Iterator[Step]:
    """People leave a console whose migration has ended, and use the guest."""
    if p.sc.alive and p.sc.phase is not Phase.NONE and not p.sc.phase.is_under_way and not p.sc.todo:
        after = _lost(p)._replace(sc=Console(alive=False), down=())
        yield "a person leaves the source's console", Kind.OPERATOR, after
    is_over = p.dc.phase in (Phase.SETTLED, Phase.FAILED, Phase.REFUSED)
    if p.dc.alive and is_over and not p.dc.todo and not p.dc.asked:
        after = _lost(p)._replace(dc=Console(alive=False), up=())
        yield "a person leaves the destination's console", Kind.OPERATOR, after
    knows = p.dc.alive and p.dc.phase in (Phase.COMPLETED, Phase.SETTLED)
    if p.d.guest == "running":
        if knows and not p.dc.todo and p.dc.next is None:
            after = p._replace(d=p.d._replace(guest="stopped"))
            yield "a person stops the guest at the destination", Kind.OPERATOR, after
        after = p._replace(d=p.d._replace(guest="io-error"))
        yield "the guest stops by itself at the destination", Kind.OPERATOR, after


def _consoles_die(p: Pair) -> Iterator[Failure]:
    if p.sc.alive:
        after = _lost(p)._replace(sc=Console(alive=False), down=())
        if p.s.status == "none" and p.stream == "open":
            after = after._replace(stream="cut")
        yield "source's console dies", after
    if p.guardian == "there":
        yield "the guardian dies", p._replace(guardian="dead")
    if p.dc.alive:
        after = broken_copies(_lost(p))._replace(dc=Console(alive=False), up=())
        if p.d.memory == "none" and p.stream == "open":
            after = after._replace(stream="cut")
        yield "destination's console dies", after


def _qemus_fail(p: Pair) -> Iterator[Failure]:
    if p.s.alive:
        for each in source_dies(p):
            yield "source's QEMU dies", each
    if p.d.alive:
        yield "destination's QEMU dies", destination_dies(p)
        if p.d.memory == "reading":
            yield "destination's QEMU can't load", p._replace(stream="cut")


def _line_fails(p: Pair) -> Iterator[Failure]:
    if not p.silent:
        yield "the line is silent", p._replace(silent=True)
    if not p.has_stalled:
        yield "the data connections stall", p._replace(stalled=True)
    for each in cut_stream(broken_copies(_lost(p))):
        yield "the line is cut", each


def _lost(p: Pair) -> Pair:
    """The connection between the consoles has ended, which neither has noticed."""
    sc = p.sc._replace(link="lost") if p.sc.link == "open" else p.sc
    dc = p.dc._replace(link="lost") if p.dc.link == "open" else p.dc
    return p._replace(sc=sc, dc=dc)
