"""A model of two sides that follow the state tables, and a search through everything that can happen to them.

What is assumed beside the tables:

- A side does a row's actions in order and takes nothing up before it is done with them; only a cancel may
  come in between. An action that failed is followed by the event in ``AFTER_FAILURE``; what could not be
  forgotten or taken back is tried again by ``cont``, from the action that failed on.
- A record that could not be written may be the old one or the new one. A destination that dies keeps what it
  has flushed, until something else is written over it. What a guest wrote is safe once it is acknowledged, on
  the disk of the side that took it.
- A connection keeps order. It may break at any moment, and either side may read on from it for a while.
- A destination answers GO for the migration at hand by its table, and REFUSED for one that its record says
  it has refused. About any other it says nothing: it may not be the destination that was meant.
- Locks keep nobody out of a disk on shared storage: hosts need not see each other's.
- An operator keeps a side only if the other side's record says that it was released or has refused, or if the
  other is dead for good; writes that a guest made on a side that is dead for good are lost with it.
- A destination that has ended in good order, and whose source knows that it ran, may stay as it is: people
  ended it.
- A record holds the disk's version as it was handed over. A side that is started on a record that is older
  than its disk does not start.
- Records are lost or restored while their side is down. Then it can be that neither side runs until somebody
  decides, but never both. What is lost at the source can't be made up for.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from qmon.migration.phases import Phase, Stand
from qmon.migration.states import DESTINATION, SOURCE, Action, Event, Table

AFTER_FAILURE: Mapping[Action, tuple[Event, ...]] = {
    Action.CLOSE_GATES: (Event.OVERDUE, Event.FAIL),
    Action.LET_GO: (Event.FAIL,),
    Action.RECORD_GONE: (Event.FAIL,),
    Action.RECORD_MOVED: (),
    Action.RECORD_COPYING: (Event.FAIL,),
    Action.RETAKE: (Event.FAIL,),
    Action.RECORD_PARTIAL: (Event.FAIL,),
    Action.RECORD_BACK: (Event.FAIL,),
    Action.FORGET_PARTIAL: (),
    Action.LOCK: (Event.REFUSED, Event.FAIL),
    Action.FLUSH: (Event.FAIL,),
    Action.RECORD_PREPARED: (Event.FAIL,),
    Action.SEND_PREPARED: (Event.FAIL,),
    Action.RECORD_RUNNING: (Event.REFUSED,),
    Action.RECORD_REFUSED: (Event.FAIL,),
    Action.RECORD_SETTLED: (),
    Action.RECORD_ENDED: (),
}
"""What a side does about an action that failed: the first of these that its table knows in the phase."""

TRIED_AGAIN = frozenset({Action.FORGET, Action.TAKE_BACK})
"""Actions that a machine stands still without, until ``cont`` tries them again."""

RECORDS = {
    Action.RECORD_GONE: Stand.GONE,
    Action.RECORD_MOVED: Stand.MOVED,
    Action.RECORD_PREPARED: Stand.PREPARED,
    Action.RECORD_RUNNING: Stand.RUNNING,
    Action.RECORD_REFUSED: Stand.REFUSED,
    Action.RECORD_SETTLED: Stand.SETTLED,
    Action.RECORD_ENDED: Stand.ENDED,
}
RAN = (Stand.RUNNING, Stand.SETTLED, Stand.ENDED)
RESUMABLE = frozenset({Phase.PAUSED, Phase.RECOVER})
BEFORE_GO = frozenset({Phase.SETUP, Phase.ACTIVE, Phase.PRE_SWITCHOVER, Phase.SWITCHOVER, Phase.PREPARED})
STRANGER = -1
"""The connection, and the migration, of a source that is none of ours and never gets to its end."""

PARTIAL = -1
"""The version of a disk that holds some of this and some of that."""


class Life(enum.IntEnum):
    UP = 0
    DOWN = 1
    DEAD = 2
    """For good."""


class Kind(enum.Enum):
    """Whose doing a step is. A promise may count on the sides', and on the operator's once one is needed."""

    SOURCE = "source"
    DESTINATION = "destination"
    OPERATOR = "operator"
    FAULT = "fault"
    GUEST = "guest"


class Message(NamedTuple):
    name: str
    value: int = 0
    line: int = 0
    """The number of the resume that it belongs to."""


class Connection(NamedTuple):
    """What is on its way, to the destination (``up``) and back; and who still holds its end."""

    up: tuple[Message, ...] = ()
    down: tuple[Message, ...] = ()
    source: bool = True
    destination: bool = True


class Record(NamedTuple):
    stand: Stand
    id: int
    disk: int = PARTIAL
    """The disk's version when it was written, where that is to stay until the other side has answered."""


class Source(NamedTuple):
    life: Life = Life.UP
    phase: Phase = Phase.NONE
    todo: tuple[Action, ...] = ()
    stuck: bool = False
    record: Record | None = None
    id: int = 0
    held: bool = True
    gate: str = "open"
    disk: int = 0
    link: int | None = None
    sent: int = PARTIAL
    finished: bool = False
    overdue: int = 0
    awaits_back: bool = False
    line: int = 0
    """How often it was resumed; its record says so, too."""

    @property
    def runs(self) -> bool:
        return self.life is Life.UP and self.held and self.gate == "open"


class Destination(NamedTuple):
    life: Life = Life.UP
    phase: Phase = Phase.NONE
    todo: tuple[Action, ...] = ()
    record: Record | None = None
    id: int = 0
    held: bool = False
    open: bool = False
    disk: int = PARTIAL
    flushed: int = PARTIAL
    whole: int = PARTIAL
    owner: int | None = None
    reply: int | None = None
    line: int = 0
    """The last resume that it has taken up; its record says so, too."""

    @property
    def runs(self) -> bool:
        return self.life is Life.UP and self.held and self.open


class State(NamedTuple):
    s: Source = Source()
    d: Destination = Destination()
    connections: tuple[Connection | None, ...] = (None, None)
    acknowledged: int = 0
    shared: int = 0
    """The version that another host reads, on shared storage."""
    released: bool = False
    """Whether an operator has released the source."""
    backup: tuple[Record | None, Record | None] | None = None
    """Both sides' records as they were saved once."""


Step = tuple[str, Kind, State]


@dataclass(frozen=True)
class Model:
    """Two tables, and how much may happen."""

    source: Table = field(default_factory=lambda: SOURCE)
    destination: Table = field(default_factory=lambda: DESTINATION)
    writes: int = 1
    attempts: int = 1
    stranger: bool = True
    shared_storage: bool = False
    failures: bool = True
    """Whether actions fail."""
    deaths: bool = True
    pauses: bool = False
    """Whether the source stands still at the switchover until an operator lets it go on."""
    loses: str = ""
    """Which side, "source" or "destination", may lose its record."""
    restores: bool = False
    """Whether a side's record may be replaced by one of before."""
    compares: bool = True
    """Whether a side that is started compares its record with its disk."""
    renames: bool = False
    """Whether a side may be started on its image by another name."""
    by_name: bool = False
    """Whether a record is found by the image's name alone."""
    owned: bool = True
    """Whether a side leaves the other's record alone, which lies beside its own."""
    overdue: int = 0
    """How often a switchover takes too long."""
    resumes: int = 0
    """How often an operator may resume the migration; with 0 a broken line before GO ends it."""
    counts_lines: bool = True
    """Whether the destination refuses a resume that is older than one that it has taken up."""
    in_turn: bool = True
    """Whether the destination finishes a row before it takes up what comes by another connection."""

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next: what it is called, whose doing it is, and what comes of it."""
        yield from self._guest(state)
        yield from self._source_steps(state)
        yield from self._destination_steps(state)
        yield from self._losses(state)
        if self.deaths:
            yield from self._lives(state)

    def _guest(self, state: State) -> Iterator[Step]:
        s, d, version = state.s, state.d, state.acknowledged + 1
        if version > self.writes:
            return
        if s.runs:
            yield (
                "guest writes at the source",
                Kind.GUEST,
                state._replace(s=s._replace(disk=version), acknowledged=version),
            )
        if d.runs:
            yield (
                "guest writes at the destination",
                Kind.GUEST,
                state._replace(
                    d=d._replace(disk=version, flushed=version), acknowledged=version, shared=version
                ),
            )

    # The source.

    def _fire_source(self, state: State, event: Event) -> State | None:
        row = self.source.get(state.s.phase, {}).get(event)
        if row is None:
            return None
        todo = state.s.todo + row.actions if event is Event.CANCEL else row.actions
        return state._replace(s=state.s._replace(phase=row.to, todo=todo, stuck=False))

    def _source_steps(self, state: State) -> Iterator[Step]:
        s = state.s
        if s.life is not Life.UP:
            return
        if after := self._fire_source(state, Event.CANCEL):
            yield "source: CANCEL", Kind.OPERATOR, after
        if s.todo:
            yield from self._source_acts(state)
            if not s.stuck:
                return
        if s.link is not None and s.phase not in BEFORE_GO | RESUMABLE | {Phase.GONE}:
            yield "source hangs up", Kind.SOURCE, _close(state, s.link, "source")
            return
        if s.id < self.attempts and (after := self._fire_source(state, Event.START)):
            fresh = after.s._replace(
                id=s.id + 1, sent=PARTIAL, finished=False, overdue=0, awaits_back=False, line=0
            )
            slot = _free(state)
            if slot is None or state.d.life is not Life.UP:
                if failed := self._fire_source(after._replace(s=fresh), Event.FAIL):
                    yield "source: START, no connection, FAIL", Kind.GUEST, failed
            else:
                up = (Message("HELLO", fresh.id),)
                yield (
                    "source: START, says HELLO",
                    Kind.GUEST,
                    _put(after._replace(s=fresh._replace(link=slot)), slot, Connection(up)),
                )
        if s.phase in BEFORE_GO and (after := self._fire_source(state, Event.FAIL)):
            yield "source: FAIL", Kind.SOURCE, after
        if s.phase is Phase.CANCELLING:
            for event in (Event.STOPPED, Event.FAIL, Event.LOST):
                if after := self._fire_source(state, event):
                    yield f"source: {event.name}", Kind.SOURCE, after
        if s.phase is Phase.ACTIVE and s.finished:
            # It took too long behind FINISH.
            after = state._replace(s=s._replace(finished=False, awaits_back=True))
            yield "source sends BACK", Kind.SOURCE, _send_up(after, Message("BACK"))
        elif s.phase is Phase.ACTIVE and not s.awaits_back:
            if s.sent != s.disk and not self.shared_storage:
                yield (
                    f"source sends DATA {s.disk}",
                    Kind.SOURCE,
                    _send_up(state._replace(s=s._replace(sent=s.disk)), Message("DATA", s.disk)),
                )
            if after := self._fire_source(state, Event.CONVERGED):
                yield "source: CONVERGED", Kind.SOURCE, after
            if self.pauses and (after := self._fire_source(state, Event.PAUSE)):
                yield "source: PAUSE", Kind.SOURCE, after
        if s.phase is Phase.PRE_SWITCHOVER and (after := self._fire_source(state, Event.CONTINUE)):
            yield "source: CONTINUE", Kind.OPERATOR, after
        if s.phase is Phase.SWITCHOVER and not s.finished:
            after = state._replace(s=s._replace(finished=True, sent=s.disk))
            if s.sent != s.disk and not self.shared_storage:
                after = _send_up(after, Message("DATA", s.disk))
            yield (
                f"source sends the rest, FINISH {s.disk}",
                Kind.SOURCE,
                _send_up(after, Message("FINISH", s.disk)),
            )
        if s.overdue < self.overdue and (after := self._fire_source(state, Event.OVERDUE)):
            after = after._replace(s=after.s._replace(overdue=s.overdue + 1))
            yield "source: OVERDUE", Kind.FAULT, after
        if s.phase is Phase.PREPARED and (after := self._fire_source(state, Event.GO)):
            yield "source: GO", Kind.SOURCE, after
        yield from self._source_resumes(state)
        if s.phase is Phase.DOUBT:
            slot = _free(state)
            if slot is not None and state.d.life is Life.UP:
                after = self._fire_source(state, Event.RECONNECTED)
                if after:
                    after = after._replace(s=after.s._replace(link=slot))
                    yield "source: RECONNECTED", Kind.SOURCE, _put(after, slot, Connection())
        yield from self._source_decisions(state)
        yield from self._source_hears(state)

    def _source_resumes(self, state: State) -> Iterator[Step]:
        slot = _free(state)
        s = state.s
        if (
            slot is None
            or state.d.life is not Life.UP
            or s.phase is not Phase.PAUSED
            or s.line == self.resumes
        ):
            return
        if after := self._fire_source(state, Event.RESUME):
            again = after.s._replace(
                link=slot, sent=PARTIAL, finished=False, awaits_back=False, line=s.line + 1
            )
            up = (Message("RESUME", again.id, again.line),)
            yield "source: RESUME", Kind.OPERATOR, _put(after._replace(s=again), slot, Connection(up))

    def _break(self, event: Event, table: Table, phase: Phase) -> Event:
        """What the loss of a connection is to a side: BREAK, if it may go on."""
        may_go_on = self.resumes and Event.BREAK in table.get(phase, {})
        return Event.BREAK if may_go_on else event

    def _source_decisions(self, state: State) -> Iterator[Step]:
        """What an operator decides who knows of the other side."""
        refused = _says(state.d.record, state.s.id, Stand.REFUSED)
        if state.d.life is Life.DEAD or refused:
            after = self._fire_source(state, Event.KEEP)
            if after and not (after.s.todo == () and after.s.phase is state.s.phase):
                here = max(state.s.disk, state.shared) if self.shared_storage else state.s.disk
                acknowledged = here if state.d.life is Life.DEAD else state.acknowledged
                yield "source: KEEP", Kind.OPERATOR, after._replace(acknowledged=acknowledged)
        if after := self._fire_source(state, Event.RELEASE):
            yield "source: RELEASE", Kind.OPERATOR, after._replace(released=True)

    def _source_hears(self, state: State) -> Iterator[Step]:
        s = state.s
        connection = None if s.link is None else state.connections[s.link]
        if s.link is None or connection is None or not connection.down:
            return
        message, rest = connection.down[0], connection.down[1:]
        read = _put(state, s.link, connection._replace(down=rest))
        event = Event[message.name]
        if event is Event.BACK:
            yield "source hears BACK", Kind.SOURCE, read._replace(s=s._replace(awaits_back=False))
            return
        if event is Event.PREPARED and s.awaits_back:
            yield "source hears PREPARED too late", Kind.SOURCE, read
            return
        if event is Event.PREPARED and (not s.finished or s.phase is Phase.ACTIVE):
            return
        after = self._fire_source(read, event)
        yield f"source hears {message.name}", Kind.SOURCE, after or read

    def _source_acts(self, state: State) -> Iterator[Step]:
        s = state.s
        action, rest = s.todo[0], s.todo[1:]
        by = "cont, source" if s.stuck else "source"
        done = state._replace(s=s._replace(todo=rest, stuck=False))
        yield f"{by}: {action.name}", Kind.SOURCE, self._source_does(done, action)
        if not self.failures or s.stuck or action not in AFTER_FAILURE.keys() | TRIED_AGAIN:
            return
        for half in {state, self._source_does(state, action)} if _may_be_half_done(action) else {state}:
            if action in TRIED_AGAIN:
                after = half._replace(s=half.s._replace(stuck=True))
            else:
                after = half._replace(s=half.s._replace(todo=()))
                for event in AFTER_FAILURE.get(action, ()):
                    if gone_on := self._fire_source(after, event):
                        after = gone_on
                        break
            if after != state:
                written = ", but is done" if half is not state else ""
                yield f"source: {action.name} fails{written}", Kind.FAULT, after

    def _source_does(self, state: State, action: Action) -> State:
        s = state.s
        match action:
            case Action.CLOSE_GATES:
                return state._replace(s=s._replace(gate="closed"))
            case Action.OPEN_GATES:
                return state._replace(s=s._replace(gate="open"))
            case Action.RECORD_COPYING:
                record = Record(Stand.COPYING, s.id) if self.resumes else s.record
                return state._replace(s=s._replace(record=record))
            case Action.RETAKE:
                return state._replace(s=s._replace(held=True, gate="open"))
            case Action.LET_GO:
                return state._replace(s=s._replace(held=False), shared=max(state.shared, s.disk))
            case Action.RECORD_GONE | Action.RECORD_MOVED:
                disk = s.disk if action is Action.RECORD_GONE and not self.shared_storage else PARTIAL
                other = state.d if self.owned else state.d._replace(record=None)
                return state._replace(s=s._replace(record=Record(RECORDS[action], s.id, disk)), d=other)
            case Action.SEND_HEARD:
                return _send_up(state, Message("HEARD", s.id))
            case Action.FORGET:
                return state._replace(s=s._replace(record=None))
            case Action.SEND_GO:
                return _send_up(state, Message("GO", s.id))
            case Action.TAKE_BACK:
                disk = max(s.disk, state.shared) if self.shared_storage else s.disk
                return state._replace(s=s._replace(held=True, gate="open", disk=disk), released=False)
            case Action.TURN_AWAY | Action.FORWARD:  # what is forwarded is not served here
                return state._replace(s=s._replace(gate="away"))
        raise AssertionError(f"{action.name} is not a source's")

    # The destination.

    def _fire_destination(self, state: State, event: Event, reply: int | None = None) -> State | None:
        row = self.destination.get(state.d.phase, {}).get(event)
        if row is None:
            return None
        todo = row.actions + state.d.todo
        return state._replace(d=state.d._replace(phase=row.to, todo=todo, reply=reply))

    def _destination_steps(self, state: State) -> Iterator[Step]:
        d = state.d
        if d.life is not Life.UP:
            return
        if d.todo:
            yield from self._destination_acts(state)
            if not self.in_turn and d.phase in (Phase.COMPLETED, Phase.SETTLED):
                yield from self._destination_hears(state)
            return
        if d.phase is Phase.SETUP and (after := self._fire_destination(state, Event.AGREED)):
            owner = d.owner if d.owner is not None else STRANGER
            id_ = _hello_of(state, owner)
            accepted = self.destination[Phase.ACTIVE][Event.ACCEPTED].actions if id_ > 0 else ()
            fresh = after.d._replace(id=id_, whole=PARTIAL, disk=PARTIAL, flushed=PARTIAL)
            fresh = fresh._replace(todo=accepted + fresh.todo, line=0)
            yield "destination: AGREED", Kind.DESTINATION, after._replace(d=fresh)
            return
        if d.phase is Phase.RECOVER and d.owner is not None:
            if after := self._fire_destination(state, Event.AGREED):
                yield (
                    "destination: AGREED again",
                    Kind.DESTINATION,
                    _send_down(after, d.owner, Message("AGREED")),
                )
            return
        if d.phase in RESUMABLE and (after := self._fire_destination(state, Event.FAIL)):
            yield "destination: CANCEL", Kind.OPERATOR, after
        if d.phase is Phase.GONE:
            if after := self._fire_destination(state, Event.RUNNING, d.reply):
                yield "destination: RUNNING", Kind.DESTINATION, after
            return
        if d.owner == STRANGER and (after := self._fire_destination(state, Event.LOST)):
            yield (
                "destination: the stranger is LOST",
                Kind.DESTINATION,
                after._replace(d=after.d._replace(owner=None)),
            )
        elif self.stranger and d.id != STRANGER and (after := self._fire_destination(state, Event.START)):
            yield (
                "destination: a stranger's HELLO",
                Kind.FAULT,
                after._replace(d=after.d._replace(owner=STRANGER)),
            )
        s = state.s
        released = state.released and _says(s.record, d.id, Stand.MOVED) and s.phase is Phase.COMPLETED
        if s.life is Life.DEAD or released:
            after = self._fire_destination(state, Event.KEEP)
            if after:
                dead = state.s.life is Life.DEAD
                there = state.shared if self.shared_storage else d.whole
                yield (
                    "destination: KEEP",
                    Kind.OPERATOR,
                    after._replace(acknowledged=there if dead else state.acknowledged),
                )
        if after := self._fire_destination(state, Event.RELEASE):
            yield "destination: RELEASE", Kind.OPERATOR, after
        yield from self._destination_hears(state)

    def _destination_hears(self, state: State) -> Iterator[Step]:
        for slot, connection in enumerate(state.connections):
            if connection is None or not connection.destination or not connection.up:
                continue
            if state.d.phase is Phase.SETUP and slot == state.d.owner:
                continue  # it waits for AGREED
            message, rest = connection.up[0], connection.up[1:]
            read = _put(state, slot, connection._replace(up=rest))
            after = self._take(state, read, slot, message)
            yield f"destination hears {message.name} {message.value}", Kind.DESTINATION, after

    def _take(self, state: State, read: State, slot: int, message: Message) -> State:
        d = read.d
        hang_up = _close(read, slot, "destination")
        own = slot == d.owner and d.phase is Phase.ACTIVE
        match message.name:
            case "HELLO":
                # It stays first in line until its migration has been agreed on: its id is in it.
                after = self._fire_destination(state, Event.START)
                return after._replace(d=after.d._replace(owner=slot)) if after else hang_up
            case "RESUME" if message.value == d.id and d.owner is None:
                is_new = message.line > d.line or not self.counts_lines
                after = self._fire_destination(read, Event.RESUME) if is_new else None
                return after._replace(d=after.d._replace(owner=slot, line=message.line)) if after else hang_up
            case "DATA" if own:
                return read._replace(d=d._replace(disk=message.value, flushed=PARTIAL))
            case "BACK" if slot == d.owner:
                return self._fire_destination(read, Event.BACK, slot) or hang_up
            case "FINISH" if own:
                if self.shared_storage or d.disk == message.value:
                    finished = self._fire_destination(read, Event.FINISHED, slot)
                    if finished:
                        return finished._replace(d=finished.d._replace(whole=message.value))
                return self._fire_destination(hang_up, Event.FAIL) or hang_up
            case "GO":
                answered = None
                if message.value == d.id:
                    answered = self._fire_destination(read, Event.GO, slot)
                if answered is None and _says(d.record, message.value, Stand.REFUSED):
                    return _send_down(read, slot, Message("REFUSED"))
                if message.value != d.id and _says(d.record, message.value, *RAN):
                    return _send_down(read, slot, Message("RUNNING"))
                return answered or hang_up
            case "HEARD" if message.value == d.id:
                return self._fire_destination(read, Event.HEARD) or read
            case "HEARD":
                return read
        return hang_up

    def _destination_acts(self, state: State) -> Iterator[Step]:
        d = state.d
        action, rest = d.todo[0], d.todo[1:]
        done = state._replace(d=d._replace(todo=rest))
        yield f"destination: {action.name}", Kind.DESTINATION, self._destination_does(done, action)
        if not self.failures or action not in AFTER_FAILURE:
            return
        for half in {state, self._destination_does(state, action)} if _may_be_half_done(action) else {state}:
            after = half._replace(d=half.d._replace(todo=()))
            for event in AFTER_FAILURE[action]:
                if gone_on := self._fire_destination(after, event, d.reply):
                    after = gone_on
                    break
            written = ", but is done" if half is not state else ""
            yield f"destination: {action.name} fails{written}", Kind.FAULT, after

    def _destination_does(self, state: State, action: Action) -> State:
        d = state.d
        match action:
            case Action.LOCK if d.phase is not Phase.GONE:
                # What is shared is the source's as yet.
                after = state._replace(d=d._replace(held=not self.shared_storage))
                return after if d.owner in (None, STRANGER) else _agree(after, d.owner)
            case Action.LOCK:
                disk = state.shared if self.shared_storage else d.disk
                return state._replace(
                    d=d._replace(held=True, disk=disk, flushed=disk if self.shared_storage else d.flushed)
                )
            case Action.GIVE_UP:
                if d.owner not in (None, STRANGER) and Action.SEND_REFUSED not in d.todo:
                    state = _close(state, d.owner, "destination")
                return state._replace(d=state.d._replace(held=False, open=False, owner=None))
            case Action.FLUSH:
                return state._replace(d=d._replace(flushed=d.disk))
            case Action.RECORD_PARTIAL if not self.resumes:
                return state
            case Action.FORGET_PARTIAL:
                is_partial = _says(d.record, d.id, Stand.PARTIAL)
                return state._replace(d=d._replace(record=None)) if is_partial else state
            case Action.RECORD_BACK | Action.RECORD_PARTIAL:
                stand = Stand.PARTIAL if self.resumes else Stand.REFUSED
                return state._replace(d=d._replace(record=Record(stand, d.id))) if d.id > 0 else state
            case action if action in RECORDS:
                if d.id <= 0:
                    return state
                waits = action is Action.RECORD_PREPARED and not self.shared_storage
                record = Record(RECORDS[action], d.id, d.flushed if waits else PARTIAL)
                other = state.s if self.owned or waits else state.s._replace(record=None)
                return state._replace(d=d._replace(record=record), s=other)
            case Action.RUN:
                return state._replace(d=d._replace(open=True))
            case Action.SEND_PREPARED | Action.SEND_BACK | Action.SEND_RUNNING | Action.SEND_REFUSED:
                return _send_down(state, d.reply, Message(action.name.removeprefix("SEND_")))
        raise AssertionError(f"{action.name} is not a destination's")

    # What breaks.

    def _losses(self, state: State) -> Iterator[Step]:
        """A side finds a connection broken; it must, once the other has hung up and all is read."""
        for slot, connection in enumerate(state.connections):
            if connection is None:
                continue
            s, d = state.s, state.d
            if connection.source and s.link == slot and s.life is Life.UP and not s.todo:
                after = _close(state, slot, "source")
                event = self._break(Event.LOST, self.source, s.phase)
                after = self._fire_source(after, event) or after
                # A source that waits for an answer gives up waiting: that is no fault.
                patience = s.phase is Phase.GONE or not (connection.destination or connection.down)
                yield "source: LOST", Kind.SOURCE if patience else Kind.FAULT, after
            if connection.destination and d.life is Life.UP and not d.todo and d.phase is not Phase.GONE:
                after = _close(state, slot, "destination")
                if d.owner == slot:
                    after = after._replace(d=after.d._replace(owner=None))
                    event = self._break(Event.LOST, self.destination, d.phase)
                    after = self._fire_destination(after, event) or after
                over = not (connection.source or connection.up)
                yield "destination: LOST", Kind.DESTINATION if over else Kind.FAULT, after

    def _lives(self, state: State) -> Iterator[Step]:
        s, d = state.s, state.d
        match s.life:
            case Life.UP:
                after = state
                for slot in range(len(state.connections)):
                    after = _close(after, slot, "source")
                down = s._replace(life=Life.DOWN, todo=(), stuck=False, held=False, gate="closed", link=None)
                shared = max(state.shared, s.disk) if s.held else state.shared
                yield "source dies", Kind.OPERATOR, after._replace(s=down, shared=shared)
            case Life.DOWN:
                yield "source is dead for good", Kind.FAULT, state._replace(s=s._replace(life=Life.DEAD))
                yield from self._source_starts(state)
        match d.life:
            case Life.UP:
                yield "destination dies", Kind.OPERATOR, _without_destination(state)
                ended = None if d.todo else self._fire_destination(state, Event.END)
                if ended:
                    for action in ended.d.todo:
                        ended = self._destination_does(ended, action)
                    yield "destination ends in good order", Kind.OPERATOR, _without_destination(ended)
            case Life.DOWN:
                yield "destination is dead for good", Kind.FAULT, state._replace(d=d._replace(life=Life.DEAD))
                yield from self._destination_starts(state)
        if self.restores and state.backup is None and (s.record or d.record):
            yield "records are saved", Kind.GUEST, state._replace(backup=(s.record, d.record))

    def _source_starts(self, state: State) -> Iterator[Step]:
        s = state.s
        if self.compares and s.record and s.record.disk not in (PARTIAL, s.disk):
            return
        yield "source restarts", Kind.SOURCE, state._replace(s=self._restarted_source(state))
        if self.renames and s.record:
            found = None if self.by_name else s.record
            renamed = state._replace(s=s._replace(record=found))
            yield (
                "source restarts by another name",
                Kind.FAULT,
                state._replace(s=self._restarted_source(renamed)),
            )
        if self.loses == "source" and s.record:
            yield "source's record is lost", Kind.FAULT, state._replace(s=s._replace(record=None))
        if state.backup and state.backup[0] and s.record != state.backup[0]:
            restored = state._replace(s=s._replace(record=state.backup[0]), backup=(None, None))
            yield "source's record is restored", Kind.FAULT, restored

    def _destination_starts(self, state: State) -> Iterator[Step]:
        d = state.d
        if not (self.compares and d.record and d.record.disk not in (PARTIAL, d.flushed)):
            yield "destination restarts", Kind.DESTINATION, state._replace(d=_restarted_destination(d))
            if self.renames and self.by_name and d.record:
                renamed = d._replace(record=None)
                yield (
                    "destination restarts by another name",
                    Kind.FAULT,
                    state._replace(d=_restarted_destination(renamed)),
                )
        if self.loses == "destination" and d.record:
            yield "destination's record is lost", Kind.FAULT, state._replace(d=d._replace(record=None))
        if state.backup and state.backup[1] and d.record != state.backup[1]:
            restored = d._replace(record=state.backup[1])
            yield (
                "destination's record is restored",
                Kind.FAULT,
                state._replace(d=restored, backup=(None, None)),
            )

    def _restarted_source(self, state: State) -> Source:
        s = state.s._replace(life=Life.UP)
        match s.record:
            case Record(Stand.GONE, id_):
                return s._replace(phase=Phase.DOUBT, id=id_)
            case Record(Stand.COPYING, id_):
                return s._replace(phase=Phase.PAUSED, id=id_, held=True, gate="open")
            case Record(Stand.MOVED, id_):
                return s._replace(phase=Phase.COMPLETED, id=id_, gate="away")
        disk = max(s.disk, state.shared) if self.shared_storage else s.disk
        return s._replace(phase=Phase.NONE, held=True, gate="open", disk=disk)


def _says(record: Record | None, id_: int, *stands: Stand) -> bool:
    """Whether a record is of a migration, and says one of these."""
    return record is not None and record.id == id_ and record.stand in stands


def _without_destination(state: State) -> State:
    """The destination's process has gone."""
    for slot in range(len(state.connections)):
        state = _close(state, slot, "destination")
    gone = state.d._replace(
        life=Life.DOWN, todo=(), held=False, open=False, disk=state.d.flushed, owner=None, reply=None
    )
    return state._replace(d=gone)


def _restarted_destination(d: Destination) -> Destination:
    d = d._replace(life=Life.UP)
    match d.record:
        case Record(Stand.PARTIAL, id_):
            return d._replace(phase=Phase.PAUSED, id=id_, held=True)
        case Record(Stand.PREPARED, id_):
            return d._replace(phase=Phase.PREPARED, id=id_)
        case Record(Stand.RUNNING | Stand.SETTLED, id_):
            phase = Phase.COMPLETED if d.record.stand is Stand.RUNNING else Phase.SETTLED
            return d._replace(phase=phase, id=id_, held=True, open=True)
        case Record(Stand.REFUSED, id_):
            return d._replace(phase=Phase.FAILED, id=id_)
    return d._replace(phase=Phase.NONE, id=0)


def _may_be_half_done(action: Action) -> bool:
    return action in RECORDS or action in (
        Action.FORGET,
        Action.FORGET_PARTIAL,
        Action.RECORD_COPYING,
        Action.RECORD_PARTIAL,
        Action.RECORD_BACK,
        Action.SEND_PREPARED,
    )


def _settled(state: State) -> bool:
    """One side runs, or has ended in good order, and the source has stopped asking."""
    asks = state.s.life is Life.UP and state.s.phase in (Phase.GONE, Phase.DOUBT)
    return (state.s.runs != state.d.runs or _has_ended(state.d)) and not asks


def _has_ended(d: Destination) -> bool:
    return d.record is not None and d.record.stand is Stand.ENDED


def _has_arrived(d: Destination) -> bool:
    if d.life is Life.UP:
        return d.phase in (Phase.PREPARED, Phase.GONE, Phase.COMPLETED, Phase.SETTLED)
    recorded = d.record is not None and d.record.stand in (Stand.PREPARED, *RAN)
    return d.life is Life.DOWN and recorded


def _free(state: State) -> int | None:
    return next((slot for slot, used in enumerate(state.connections) if used is None), None)


def _put(state: State, slot: int, connection: Connection) -> State:
    """Replace a connection; what nobody is there to read is lost."""
    if not connection.source:
        connection = connection._replace(down=())
    if not connection.destination:
        connection = connection._replace(up=())
    kept = connection if connection.source or connection.destination else None
    slots = list(state.connections)
    slots[slot] = kept
    return state._replace(connections=tuple(slots))


def _close(state: State, slot: int, end: str) -> State:
    connection = state.connections[slot]
    if connection is None:
        return state
    if end == "source":
        if state.s.link == slot:
            state = state._replace(s=state.s._replace(link=None))
        return _put(state, slot, connection._replace(source=False))
    if state.d.reply == slot:
        state = state._replace(d=state.d._replace(reply=None))
    return _put(state, slot, connection._replace(destination=False))


def _send_up(state: State, message: Message) -> State:
    slot = state.s.link
    connection = None if slot is None else state.connections[slot]
    if slot is None or connection is None:
        return state
    return _put(state, slot, connection._replace(up=(*connection.up, message)))


def _send_down(state: State, slot: int | None, message: Message) -> State:
    connection = None if slot is None else state.connections[slot]
    if slot is None or connection is None or not connection.destination:
        return state
    return _put(state, slot, connection._replace(down=(*connection.down, message)))


def _hello_of(state: State, owner: int) -> int:
    connection = None if owner == STRANGER else state.connections[owner]
    return connection.up[0].value if connection and connection.up else STRANGER


def _agree(state: State, slot: int) -> State:
    """The hello has been dealt with, and is answered."""
    connection = state.connections[slot]
    assert connection is not None
    return _send_down(_put(state, slot, connection._replace(up=connection.up[1:])), slot, Message("AGREED"))


@dataclass
class Finding:
    """A promise that is not kept, and the shortest way there."""

    promise: str
    trace: list[str]

    def __str__(self) -> str:
        return f"{self.promise}\n  " + "\n  ".join(self.trace)


class Search:
    """All states that a model can get into, each reached by the fewest steps."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._states: list[State] = [State()]
        self._before: list[tuple[int, str]] = [(0, "")]
        self._after: list[list[tuple[Kind, int]]] = []

    def __len__(self) -> int:
        return len(self._states)

    def run(self) -> Finding | None:
        """Look at every state, and return the first that breaks a promise."""
        numbers = {self._states[0]: 0}
        # The list grows while it is walked: states are numbered in the order in which they are found.
        for number, state in enumerate(self._states):
            broken = broken_promise(state)
            if broken in KEPT_ALWAYS or (broken and self._is_whole):
                return Finding(broken, self._way_to(number))
            out: list[tuple[Kind, int]] = []
            for label, kind, after in self._model.steps(state):
                found = numbers.setdefault(after, len(self._states))
                if found == len(self._states):
                    self._states.append(after)
                    self._before.append((number, label))
                out.append((kind, found))
            self._after.append(out)
        return self._dead_end() if self._is_whole else None

    @property
    def _is_whole(self) -> bool:
        """Whether all promises count, since nothing is forgotten that was recorded."""
        return not (self._model.loses or self._model.restores)

    @property
    def completes(self) -> bool:
        """Whether a migration can also go well."""
        return any(s.phase is Phase.COMPLETED and d.runs and s.gate == "away" for s, d, *_ in self._states)

    def _way_to(self, number: int) -> list[str]:
        way = []
        while number:
            number, label = self._before[number]
            way.append(label)
        return way[::-1]

    def _dead_end(self) -> Finding | None:
        """A state from which what should come can't come any more."""
        alone = self._reaching(lambda state: state.s.runs, lambda state, kind: kind is Kind.SOURCE)
        both = self._reaching(_settled, _counted_on)
        for number, state in enumerate(self._states):
            s, d = state.s, state.d
            may_go_back = s.life is Life.UP and s.phase in BEFORE_GO | RESUMABLE | {Phase.CANCELLING}
            if may_go_back and number not in alone:
                return Finding(RUNS_ON, self._way_to(number))
            # With the source dead for good nobody is left to run with what has not arrived, or was refused.
            if (s.life is not Life.DEAD or _has_arrived(d)) and number not in both:
                return Finding(NO_DEAD_END, self._way_to(number))
        return None

    def _reaching(self, good: Callable[[State], bool], counts: Callable[[State, Kind], bool]) -> set[int]:
        """The states from which steps that count can lead to a good one."""
        back: list[list[int]] = [[] for _ in self._states]
        for number, out in enumerate(self._after):
            for kind, after in out:
                if counts(self._states[number], kind):
                    back[after].append(number)
        left = [number for number, state in enumerate(self._states) if good(state)]
        found = set(left)
        while left:
            for number in back[left.pop()]:
                if number not in found:
                    found.add(number)
                    left.append(number)
        return found


WRITES_KEPT = "a write that was acknowledged is on the disk of the side that runs"
ONE_RUNS = "at most one side runs"
COMPLETED_MEANS = "completed means that the destination holds every byte, flushed, and runs"
RUNS_ON = "a migration that fails or is cancelled before GO leaves the source running"
SERVED = "guests are served while the source copies"
NO_DEAD_END = "nothing hangs for ever"
KEPT_ALWAYS = (WRITES_KEPT, ONE_RUNS)
"""The promises that also hold where records are lost or restored."""


def _counted_on(state: State, kind: Kind) -> bool:
    """An operator settles, by a restart too, what nobody else can: a side is dead for good or released."""
    if kind is Kind.OPERATOR:
        return Life.DEAD in (state.s.life, state.d.life) or state.released
    return kind in (Kind.SOURCE, Kind.DESTINATION)


def broken_promise(state: State) -> str | None:
    """The promise that this state breaks."""
    s, d = state.s, state.d
    if s.runs and d.runs:
        return ONE_RUNS
    if (s.runs and s.disk != state.acknowledged) or (d.runs and d.disk != state.acknowledged):
        return WRITES_KEPT
    if s.life is not Life.UP or s.todo:
        return None
    if s.phase is Phase.COMPLETED and not state.released:
        stands_still = d.life is Life.UP and not d.runs and not _has_ended(d)
        if not _says(d.record, s.id, *RAN) or stands_still or d.flushed != d.disk:
            return COMPLETED_MEANS
    if s.phase in (Phase.NONE, Phase.FAILED, Phase.CANCELLED) and not s.runs:
        return RUNS_ON
    if s.phase in RESUMABLE | {Phase.ACTIVE} and not s.runs:
        return SERVED
    if s.phase is Phase.COMPLETED and s.gate != "away":
        return NO_DEAD_END
    return None
