"""The destination's console in the model: what ``qmon.remote.migration.destination`` does with its table."""

from __future__ import annotations

from collections.abc import Iterator

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import Action, Event, Table
from tests.remote.migration.model.pair import Kind, Pair, Step, broken_copies

NEEDS_QEMU = frozenset(
    {
        Action.RECORD,
        Action.SET_UP,
        Action.HOLD,
        Action.EXPORT,
        Action.TAKE_MEMORY,
        Action.CLOSE_EXPORTS,
        Action.RECORD_RUN,
        Action.RUN,
    }
)
"""Actions that fail when the QEMU has ended; UNDO and RECORD_REFUSED have nothing to do then."""
MAY_FAIL = NEEDS_QEMU | {Action.RECORD_REFUSED}


class DestinationConsole:
    def __init__(self, table: Table) -> None:
        self._table = table

    def fire(self, p: Pair, event: Event) -> Pair | None:
        row = self._table.get(p.dc.phase, {}).get(event)
        if row is None:
            return None
        told = p.dc.told and row.to is p.dc.phase
        return p._replace(dc=p.dc._replace(phase=row.to, todo=row.actions, next=None, told=told))

    def fail(self, p: Pair, *, perhaps_run: bool = False) -> Pair:
        """An action has failed. ``perhaps_run``: the QEMU has ended over ``cont``."""
        event = Event.FAIL if p.d.alive else Event.BROKEN
        p = p._replace(dc=p.dc._replace(todo=(), perhaps=p.dc.perhaps or perhaps_run))
        if p.dc.phase is Phase.RUNNING:
            event = Event.BROKEN if p.dc.perhaps else Event.FAIL
        p = answered(p, "error") if p.dc.asked not in ("", "RUN") else p
        return self.fire(p, event) or p

    def steps(self, p: Pair) -> Iterator[Step]:
        c = p.dc
        if not c.alive:
            return
        if c.todo[:1] == (Action.RUN,) and not p.d.alive:
            yield "destination: RUN, and then it ends", Kind.OWN, self._does(p._replace(ran=True), Action.RUN)
        if c.todo:
            yield f"destination: {c.todo[0].name}", Kind.OWN, self._settled(self._does(p, c.todo[0]))
        elif c.next is not None:
            yield f"destination: {c.next.name}", Kind.OWN, self.fire(p, c.next) or p
        elif c.phase is Phase.RUNNING:
            if after := self.fire(p, Event.STARTED):
                yield "destination: STARTED", Kind.OWN, self._settled(after)
        elif c.asked:
            yield f"destination answers {c.asked}", Kind.OWN, self._settled(p)
        else:
            yield from self._hears(p)
            yield from self._sees(p)
            yield from self._decides(p)

    def _sees(self, p: Pair) -> Iterator[Step]:
        if p.dc.link == "lost":
            gone = p._replace(dc=p.dc._replace(link="none"), up=())
            yield "destination: LOST", Kind.OWN, self.fire(gone, Event.LOST) or gone
        event = None
        if not p.d.alive and p.dc.phase is Phase.MOVING:
            event = Event.BROKEN
        elif p.dc.phase is Phase.MOVING:
            event = {"failed": Event.BROKEN, "loaded": Event.LOADED}.get(p.d.memory)
        if event and (after := self.fire(p, event)):
            yield f"destination: {event.name}", Kind.OWN, after

    def _decides(self, p: Pair) -> Iterator[Step]:
        """A person decides, by the rule in the notice's text."""
        if p.dc.link == "open":
            return
        # The source's QEMU has ended, and has not run the guest again.
        may_keep = not p.s.alive and not p.stale
        if p.dc.phase is Phase.COMPLETED:
            may_keep = not p.s.alive or p.s.record in (None, Phase.COMPLETED)
        if may_keep and (after := self.fire(p, Event.KEEP)):
            yield "destination: KEEP", Kind.OPERATOR, after
        # The guest runs at the source.
        if p.stale and (after := self.fire(p, Event.RELEASE)):
            yield "destination: RELEASE", Kind.OPERATOR, after

    def _hears(self, p: Pair) -> Iterator[Step]:
        if not p.up or p.dc.link == "none" or p.silent:
            return
        request, after = p.up[0], p._replace(up=p.up[1:])
        after = after._replace(dc=after.dc._replace(asked=request))
        if request == "RUN" and p.dc.phase is Phase.MOVING:
            if p.d.memory == "reading":
                yield "destination: RUN waits in vain", Kind.OWN, answered(after, "unknown")
            return
        fired = self.fire(after, Event[request])
        answer = self._answer(p, request, is_taken=False)
        done = self._settled(fired) if fired else answered(after, answer)
        yield f"destination hears {request}", Kind.OWN, done

    def _settled(self, p: Pair) -> Pair:
        """Answer when all is done that was asked for."""
        if not p.dc.asked or p.dc.todo or p.dc.phase is Phase.RUNNING:
            return p
        return answered(p, self._answer(p, p.dc.asked, is_taken=True))

    def _answer(self, p: Pair, request: str, *, is_taken: bool) -> str:
        if request != "RUN":
            return "ok" if is_taken or request in ("HEARD", "CALL_OFF") else "error"
        if p.dc.phase in (Phase.COMPLETED, Phase.SETTLED):
            return "runs"
        is_kept = not p.d.alive or p.d.record is Phase.REFUSED
        return "refused" if p.dc.phase is Phase.REFUSED and is_taken and is_kept else "unknown"

    def connects(self, p: Pair) -> Pair | None:
        """The source's console connects again, and asks by the migration's id."""
        if not p.dc.alive:
            return None
        fresh = p
        if not p.dc.knows:
            if p.dc.todo or p.dc.phase not in (Phase.NONE, Phase.FAILED):
                return None
            fresh = self.fire(p, Event.START) or p
        return fresh._replace(dc=fresh.dc._replace(link="open", asked="", knows=True), up=(), down=())

    def _does(self, p: Pair, action: Action) -> Pair:
        if action in NEEDS_QEMU and not p.d.alive:
            return self.fail(p, perhaps_run=action is Action.RUN)
        after = _effect(p, action)
        if after is None:
            return self.fail(p)
        return after._replace(dc=after.dc._replace(todo=after.dc.todo[1:]))


def _effect(p: Pair, action: Action) -> Pair | None:
    """Return what an action comes to; None: it fails."""
    d = p.d
    match action:
        case Action.RECORD | Action.RECORD_RUN | Action.RECORD_REFUSED if d.alive:
            return p._replace(d=d._replace(record=p.dc.phase))
        case Action.SET_UP:
            return p._replace(d=d._replace(is_set=True))
        case Action.HOLD:
            return p._replace(d=d._replace(held=True))
        case Action.EXPORT:
            return p._replace(d=d._replace(exports=True))
        case Action.TAKE_MEMORY:
            return None if p.stream == "none" else p._replace(d=d._replace(memory="reading"))
        case Action.CLOSE_EXPORTS:
            return broken_copies(p)._replace(d=d._replace(exports=False))
        case Action.RUN if d.guest == "io-error":
            return None
        case Action.RUN if d.guest == "inmigrate":
            return p._replace(d=d._replace(held=False))
        case Action.RUN:
            restarted = p.restarted or d.guest == "stopped"
            return p._replace(d=d._replace(guest="running"), ran=True, restarted=restarted)
        case Action.TELL:
            return p._replace(dc=p.dc._replace(told=p.dc.link != "open"))
        case Action.UNDO:
            return _undone(p)
    return p


def _undone(p: Pair) -> Pair:
    """What was changed in the destination's QEMU is taken back, its record last."""
    after = broken_copies(p)
    if p.stream == "open" and p.d.memory == "none":
        after = after._replace(stream="cut")
    knows = p.dc.knows and p.dc.phase is Phase.SETTLED
    after = after._replace(dc=p.dc._replace(knows=knows))
    return after._replace(d=p.d._replace(exports=False, is_set=False, record=None)) if p.d.alive else after


def answered(p: Pair, answer: str) -> Pair:
    down = (*p.down, f"{p.dc.asked} {answer}") if p.dc.link != "none" else p.down
    return p._replace(dc=p.dc._replace(asked=""), down=down)
