"""The source's console in the model: what ``qmon.remote.migration.source`` does with its table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import NOT_INTERRUPTED, Action, Event, Table
from tests.remote.migration.model.pair import (
    UNDER_WAY,
    Console,
    Kind,
    Pair,
    Step,
    broken_copies,
    cancelled,
    runs_at_source,
)

REQUESTS = {
    Action.PREPARE_THERE: "PREPARE",
    Action.START_MEMORY: "MEMORY",
    Action.CLOSE_THERE: "CLOSE",
    Action.SEND_RUN: "RUN",
    Action.SEND_HEARD: "HEARD",
    Action.SEND_CALL_OFF: "CALL_OFF",
}
BEST_EFFORT = frozenset({Action.SEND_HEARD, Action.SEND_CALL_OFF, Action.RECORD_RAN})
"""Actions whose failure changes nothing."""
NEEDS_QEMU = frozenset(
    {
        Action.RECORD,
        Action.RECORD_RAN,
        Action.SET_UP,
        Action.ADD_TARGETS,
        Action.START_COPIES,
        Action.START_MEMORY,
        Action.END_COPIES,
        Action.CHECK_COPIES,
        Action.REMOVE_TARGETS,
        Action.CONTINUE,
        Action.TAKE_BACK,
        Action.RUN_HERE,
        Action.UNDO,
    }
)
MAY_FAIL = NEEDS_QEMU - {Action.TAKE_BACK, Action.RECORD_RAN}


class Outcome(NamedTuple):
    """What an action may come to."""

    pair: Pair
    is_done: bool = True


class SourceConsole:
    """``yanks``: whether it can free a QEMU whose monitor is frozen."""

    def __init__(self, table: Table, *, yanks: bool = True) -> None:
        self._table = table
        self._yanks = yanks

    def fire(self, p: Pair, event: Event) -> Pair | None:
        row = self._table.get(p.sc.phase, {}).get(event)
        if row is None:
            return None
        told = p.sc.told and row.to is p.sc.phase
        console = p.sc._replace(phase=row.to, todo=row.actions, asked="", answer="", next=None, told=told)
        return p._replace(sc=console)

    def fail(self, p: Pair) -> Pair:
        """An action has failed."""
        event = Event.FAIL
        if not p.s.alive:
            event = self._died(p)
        return self.fire(p, event) or _without_row(p)

    def steps(self, p: Pair) -> Iterator[Step]:
        c = p.sc
        if not c.alive:
            return
        yield from self._hears(p)
        if c.next in (None, Event.AGREED) and (not c.todo or c.todo[0] not in NOT_INTERRUPTED):
            yield from self._interrupted(p)
        if c.todo:
            for after in self._does(p, c.todo[0]):
                yield f"source: {c.todo[0].name}", Kind.OWN, after
            return
        event = c.next or self._event(p)
        if event:
            yield f"source: {event.name}", Kind.OWN, self.fire(p, event) or _without_row(p)
        if not c.phase.is_under_way and c.link == "open":
            closed = p._replace(sc=c._replace(link="none"), down=(), dc=_lost(p.dc))
            yield "source hangs up", Kind.OWN, closed

    def _interrupted(self, p: Pair) -> Iterator[Step]:
        """What ends an action, or the wait in a phase."""
        if after := self.fire(p, Event.CANCEL):
            yield "source: CANCEL", Kind.OPERATOR, after
        if p.sc.link == "lost":
            gone = p._replace(sc=p.sc._replace(link="none"), down=())
            yield "source: LOST", Kind.OWN, self.fire(gone, Event.LOST) or gone
        # Each step in which the guest stands still is bounded.
        stands = p.sc.phase in (Phase.MOVING, Phase.PAUSED, Phase.SWITCHING)
        if p.has_stalled and stands and p.s.alive and (after := self.fire(p, Event.FAIL)):
            yield "source: it takes too long, FAIL", Kind.OWN, after
        # The rule in the notice's text.
        if not p.d.alive and not p.ran and (after := self.fire(p, Event.KEEP)):
            yield "source: KEEP", Kind.OPERATOR, after
        if p.ran and (after := self.fire(p, Event.RELEASE)):
            yield "source: RELEASE", Kind.OPERATOR, after

    def _hears(self, p: Pair) -> Iterator[Step]:
        if not p.down or p.sc.link == "none" or p.silent:
            return
        message, after = p.down[0], p._replace(down=p.down[1:])
        request, _, answer = message.partition(" ")
        if request == p.sc.asked:
            after = self._answered(after, p.sc.todo[0], answer)
        yield f"source hears {message}", Kind.OWN, after

    def _event(self, p: Pair) -> Event | None:
        """Return what the wait in a phase ends with."""
        s = p.s
        match p.sc.phase:
            case Phase.UNDOING | Phase.CANCELLING:
                return Event.UNDONE
            case Phase.PAUSED:
                return Event.WHOLE
            case Phase.COPYING | Phase.MOVING | Phase.SWITCHING if not s.alive:
                return self._died(p)
            case _ if p.is_frozen:
                return None
            case Phase.COPYING:
                return {"ready": Event.READY, "broken": Event.FAIL}.get(s.copies)
            case Phase.MOVING:
                return self._until_stopped(p)
            case Phase.SWITCHING:
                return Event.SENT if s.status == "completed" else self._back(p)
        return None

    def _died(self, p: Pair) -> Event:
        """Return the event for the QEMU's end. It said RESUME before it ran the guest again."""
        rows = self._table.get(p.sc.phase, {})
        if p.stale and p.sc.phase is Phase.SWITCHING and Event.BACK in rows:
            return Event.BACK
        return Event.DIED if Event.DIED in rows else Event.FAIL

    def _until_stopped(self, p: Pair) -> Event | None:
        if p.s.status == "pre-switchover":
            return Event.STOPPED
        return self._back(p) or (Event.FAIL if p.s.copies == "broken" else None)

    def _back(self, p: Pair) -> Event | None:
        return Event.BACK if p.s.status in ("failed", "cancelled", "none") else None

    # Actions

    def _does(self, p: Pair, action: Action) -> Iterator[Pair]:
        if action in NEEDS_QEMU and not p.s.alive:
            is_done = action is Action.UNDO or action in BEST_EFFORT
            yield done(p) if is_done else self.fail(p)
        elif action in NEEDS_QEMU and p.is_frozen and not (action is Action.TAKE_BACK and self._yanks):
            return
        elif action in REQUESTS and not p.sc.answer:
            yield from self._asks(p, action)
        else:
            for after, is_done in _outcomes(p, action):
                yield done(after) if is_done else self.fail(after)

    def _asks(self, p: Pair, action: Action) -> Iterator[Pair]:
        c, name = p.sc, REQUESTS[action]
        if c.link != "open":
            yield self._answered(p, action, "")
        elif c.asked != name:
            yield p._replace(sc=c._replace(asked=name), up=(*p.up, name))

    def _answered(self, p: Pair, action: Action, answer: str) -> Pair:
        """An answer has come, or can't come any more: ""."""
        if action is Action.SEND_RUN:
            events = {"runs": Event.RUNS, "refused": Event.REFUSED, "": Event.LOST}
            after = done(p)
            return after._replace(sc=after.sc._replace(next=events.get(answer, Event.FAIL)))
        if action in BEST_EFFORT:
            return done(p)
        if answer != "ok":
            return self.fail(p)
        # ``migrate`` comes behind the destination's answer.
        return p._replace(sc=p.sc._replace(answer="ok")) if action is Action.START_MEMORY else done(p)


def _outcomes(p: Pair, action: Action) -> Iterator[Outcome]:
    """Yield what an action may come to; nothing if it waits."""
    s = p.s
    match action:
        case Action.RECORD | Action.RECORD_RAN:
            yield Outcome(p._replace(s=s._replace(record=p.sc.phase)))
        case Action.GUARD | Action.UNGUARD:
            there = action is Action.GUARD and s.alive
            yield Outcome(p._replace(guardian="there" if there else "none"))
        case Action.TELL:
            yield Outcome(p._replace(sc=p.sc._replace(told=True)))
        case Action.SET_UP:
            yield Outcome(p._replace(s=s._replace(is_set=True)))
        case Action.ADD_TARGETS if p.has_stalled:
            return
        case Action.CHECK_COPIES if p.silent:
            return
        case Action.ADD_TARGETS:
            there = p.dc.alive and p.dc.phase is Phase.COPYING and p.d.exports
            yield Outcome(p._replace(s=s._replace(targets=True), stream="open") if there else p, there)
        case Action.START_COPIES:
            copies = "running" if p.d.exports and p.dc.alive else "broken"
            yield Outcome(p._replace(s=s._replace(copies=copies)) if s.targets else p, s.targets)
        case Action.START_MEMORY:
            yield Outcome(p._replace(s=s._replace(status="active")), p.stream != "none")
        case Action.END_COPIES:
            yield from _end_copies(p)
        case Action.CHECK_COPIES:
            yield Outcome(p, p.d.disk == "whole" and p.dc.alive and p.d.exports)
        case Action.REMOVE_TARGETS:
            free = s.copies == "none"
            yield Outcome(p._replace(s=s._replace(targets=False)) if free else p, free)
        case Action.CONTINUE:
            waits = s.status == "pre-switchover" and not s.targets
            yield Outcome(p._replace(s=s._replace(status="device")) if waits else p, waits)
        case Action.TAKE_BACK:
            yield from map(Outcome, cancelled(p))
        case Action.RUN_HERE:
            yield Outcome(runs_at_source(p, s.status) if s.guest == "postmigrate" else p)
        case Action.UNDO:
            yield Outcome(undone(p))
        case _:
            yield Outcome(p)


def _end_copies(p: Pair) -> Iterator[Outcome]:
    """``block-job-cancel`` without force: the copy is as the disk is now."""
    match p.s.copies:
        case "ready" if p.has_stalled:
            return
        case "ready":
            disk = "whole" if p.s.guest != "running" else "partial"
            yield Outcome(p._replace(s=p.s._replace(copies="none"), d=p.d._replace(disk=disk)))
        case "running":
            yield Outcome(broken_copies(p), is_done=False)
        case _:
            yield Outcome(p, is_done=False)


def undone(p: Pair) -> Pair:
    """What was changed in the source's QEMU is taken back, its record last."""
    stream = "cut" if p.stream == "open" and p.s.status not in UNDER_WAY else p.stream
    s = p.s._replace(copies="none", targets=False, is_set=False, record=None)
    return p._replace(s=s, stream=stream)


def _without_row(p: Pair) -> Pair:
    return p._replace(sc=p.sc._replace(todo=(), asked="", answer="", next=None, is_lost=True))


def done(p: Pair) -> Pair:
    """The console has done the first of its actions."""
    return p._replace(sc=p.sc._replace(todo=p.sc.todo[1:], asked="", answer=""))


def _lost(console: Console) -> Console:
    return console._replace(link="lost") if console.link == "open" else console
