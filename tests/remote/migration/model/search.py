"""All states that the pair can get into, and the promises that must hold in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import NOT_INTERRUPTED
from tests.remote.migration.model.pair import Kind, Pair
from tests.remote.migration.model.world import World

ONE_RUNS = "at most one guest runs"
NEVER_BACK = "a guest goes on from where it was, with every number that it wrote"
WHOLE = "a destination runs on disks that are whole"
EXPORTS_CLOSED = "a destination runs when nobody else writes to its disks"
BROUGHT_BACK = "the guardian brings back a guest whose console has died before the hand-over"
GOES_ON = "while all that is needed is there, the guest goes on without a person"
TOLD = "a guest that can't go on by itself has a line that says who decides"
DECIDED = "what a line says that a person may do, ends it"
CLEAN = "a migration that has ended leaves nothing behind"
COMPLETED_MEANS = "a source's QEMU says completed only when the destination has loaded the guest"
EVERY_EVENT = "a console knows what to do about everything that comes"
REFUSED_MEANS = "a destination says that it never will only when a new console can read so, too"
STAYS_STOPPED = "a guest that a person has stopped stays so"
ENDS = "a console does not wait for ever without a line"
BECOMES_CLEAN = "every migration ends, and what it leaves behind can be removed"
COMPLETES = "a migration in which nothing fails, and that nobody cancels, completes"
CANCELS = "a person can cancel until the guest is handed over"


@dataclass
class Finding:
    """A promise that is not kept, and the shortest way there."""

    promise: str
    trace: list[str]

    def __str__(self) -> str:
        return f"{self.promise}\n  " + "\n  ".join(self.trace)


def broken_promise(p: Pair) -> str | None:
    """Return the promise that this state breaks by itself."""
    here, there = p.s.guest == "running", p.d.guest == "running"
    if here and there:
        return ONE_RUNS
    if (here and p.ran) or (there and p.stale):
        return NEVER_BACK
    if there and p.d.disk != "whole":
        return WHOLE
    if there and p.d.exports:
        return EXPORTS_CLOSED
    if p.restarted and p.faults <= 1:
        return STAYS_STOPPED
    if p.s.status == "completed" and p.d.memory == "reading":
        return COMPLETED_MEANS
    if p.sc.is_lost or p.dc.is_lost:
        return EVERY_EVENT
    if "RUN refused" in p.down and p.d.alive and p.d.record is not Phase.REFUSED:
        return REFUSED_MEANS
    return _broken_at_rest(p)


def _broken_at_rest(p: Pair) -> str | None:
    """Return the promise that a console breaks that has nothing to do."""
    if p.dc.alive and not p.dc.todo and not p.dc.asked and p.dc.next is None:
        waits = p.dc.phase in (Phase.ARRIVED, Phase.COMPLETED) and p.dc.link == "none"
        if waits and not p.dc.told:
            return TOLD
    in_doubt = p.sc.alive and not p.sc.todo and p.sc.next is None and p.sc.phase is Phase.DOUBT
    if in_doubt and not p.sc.told:
        return TOLD
    has_ended = p.sc.alive and not p.sc.todo and not p.sc.phase.is_under_way and p.sc.next is None
    if p.sc.alive and p.sc.phase is not Phase.NONE and has_ended and not (_is_source_clean(p) or p.sc.told):
        return CLEAN
    if p.dc.alive and not p.dc.todo and p.d.alive and p.dc.phase in (Phase.SETTLED, Phase.FAILED):
        return None if _is_destination_clean(p) else CLEAN
    return None


def _is_source_clean(p: Pair) -> bool:
    s = p.s
    if not s.alive:
        return True
    return (
        s.copies == "none" and not s.targets and not s.is_set and s.record is None and p.guardian != "there"
    )


def _is_destination_clean(p: Pair) -> bool:
    d = p.d
    if d.memory == "failed" or d.record is Phase.REFUSED:
        return True  # used up: it can only be ended
    return not d.exports and not d.is_set and d.record is None


def is_settled(p: Pair) -> bool:
    """Whether the guest runs, or has died with its QEMU."""
    if p.s.guest == "running" or (p.d.alive and p.ran):
        return True
    holds_it = p.d.alive and p.d.memory == "loaded" and not p.stale and p.d.record is not Phase.REFUSED
    may_get_it = p.d.alive and p.d.memory == "reading" and p.stream in ("all", "orphan")
    has_run = p.ran and not p.d.alive
    return has_run or not (p.s.alive or holds_it or may_get_it)


def is_told(p: Pair) -> bool:
    return (p.sc.alive and p.sc.told) or (p.dc.alive and p.dc.told)


def _is_clean(p: Pair) -> bool:
    has_ended = not (p.sc.alive and p.sc.phase.is_under_way) and not (p.dc.alive and p.dc.phase.is_under_way)
    here = _is_source_clean(p)
    # A guest that has arrived and was never run here stands in a QEMU that can only be ended.
    holds = p.d.alive and p.d.memory == "loaded" and p.d.guest == "paused" and p.stale
    there = not p.d.alive or _is_destination_clean(p) or holds
    return here and there and (has_ended or not p.d.alive or holds)


def _goes_on(p: Pair) -> bool:
    """The guest goes on, or its QEMU can't run it, which is said."""
    return is_settled(p) or (p.sc.told and not p.sc.phase.is_under_way)


def _has_ended_here(p: Pair) -> bool:
    return not p.sc.alive or not p.sc.phase.is_under_way


def _has_ended_there(p: Pair) -> bool:
    return not p.dc.alive or not p.dc.phase.is_under_way or not p.d.alive


def _is_brought_back(p: Pair) -> bool:
    return is_settled(p) and (_is_source_clean(p) or p.s.status in ("device", "completed"))


def _is_completed(p: Pair) -> bool:
    return p.sc.phase is Phase.COMPLETED and p.ran and _is_clean(p)


def _should_complete(p: Pair) -> bool:
    return p.faults == 0 and p.sc.phase.is_under_way and p.sc.phase not in _CANCELLED


def _is_all_there(p: Pair) -> bool:
    return p.s.alive and p.d.alive and p.sc.alive and p.dc.alive and not p.silent


def _is_linked(p: Pair) -> bool:
    return _is_all_there(p) and p.sc.link == p.dc.link == "open"


def _waits_for_guardian(p: Pair) -> bool:
    had_it = p.s.status not in ("device", "completed") and p.guardian != "dead"
    return p.s.alive and not p.sc.alive and had_it and p.faults <= 1


_CANCELLED = (Phase.CANCELLING, Phase.CANCELLED)
BEFORE_SWITCHING = (Phase.SETUP, Phase.COPYING, Phase.MOVING, Phase.PAUSED)


OWN = frozenset({Kind.OWN})
RESTARTED = OWN | {Kind.RESTART}
REPAIRED = RESTARTED | {Kind.LINE}
DECIDING = REPAIRED | {Kind.OPERATOR}


class Search:
    """All states that a world can get into, each reached by the fewest steps."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._states: list[Pair] = [Pair()]
        self._before: list[tuple[int, str]] = [(0, "")]
        self._after: list[list[tuple[Kind, int]]] = []
        self._backwards: list[list[tuple[Kind, int]]] = []

    def __len__(self) -> int:
        return len(self._states)

    @property
    def states(self) -> Iterable[Pair]:
        return self._states

    def run(self) -> Finding | None:
        """Look at every state, and return the first that breaks a promise."""
        numbers = {self._states[0]: 0}
        # The list grows while it is walked: states are numbered in the order in which they are found.
        for number, state in enumerate(self._states):
            if broken := broken_promise(state):
                return Finding(broken, self._way_to(number))
            out: list[tuple[Kind, int]] = []
            for label, kind, after in self._world.steps(state):
                found = numbers.setdefault(after, len(self._states))
                if found == len(self._states):
                    self._states.append(after)
                    self._before.append((number, label))
                out.append((kind, found))
            self._after.append(out)
        return self._dead_end()

    def _way_to(self, number: int) -> list[str]:
        way = []
        while number:
            number, label = self._before[number]
            way.append(label)
        return way[::-1]

    def _dead_end(self) -> Finding | None:
        """A state from which what should come can't come any more."""
        self._backwards = [[] for _ in self._states]
        for number, out in enumerate(self._after):
            for kind, after in out:
                self._backwards[after].append((kind, number))
        alone = self._reaching(_goes_on, OWN)
        repaired = self._reaching(_goes_on, REPAIRED)
        told = self._reaching(lambda p: is_settled(p) or is_told(p), RESTARTED)
        decided = self._reaching(is_settled, DECIDING)
        clean = self._reaching(_is_clean, DECIDING)
        completed = self._reaching(_is_completed, OWN)
        brought_back = self._reaching(_is_brought_back, OWN)
        ends_here = self._reaching(_has_ended_here, OWN)
        ends_there = self._reaching(_has_ended_there, OWN)
        ends = self._reaching(lambda p: _has_ended_here(p) or is_told(p), OWN)
        for number, p in enumerate(self._states):
            for promise, applies, kept in (
                (COMPLETES, number == 0 or _should_complete(p), completed),
                (BROUGHT_BACK, _waits_for_guardian(p), brought_back),
                (ENDS, p.sc.alive and not p.stalled, ends),
                (ENDS, _is_all_there(p) and not p.stalled, ends_here),
                (ENDS, _is_linked(p) and not p.stalled, ends_there),
                (GOES_ON, _is_all_there(p), alone),
                (GOES_ON, p.s.alive and p.d.alive, repaired),
                (TOLD, True, told),
                (DECIDED, True, decided),
                (BECOMES_CLEAN, True, clean),
            ):
                if applies and number not in kept:
                    return Finding(promise, self._way_to(number))
            is_free = not p.sc.todo or p.sc.todo[0] not in NOT_INTERRUPTED
            if (
                p.sc.alive
                and p.sc.phase in BEFORE_SWITCHING
                and is_free
                and p.sc.next is None
                and not self._may_cancel(number)
            ):
                return Finding(CANCELS, self._way_to(number))
        return None

    def _may_cancel(self, number: int) -> bool:
        return any(
            self._states[after].sc.phase in _CANCELLED
            for kind, after in self._after[number]
            if kind is Kind.OPERATOR
        )

    def _reaching(self, good: Callable[[Pair], bool], kinds: frozenset[Kind]) -> set[int]:
        """Return the states from which steps of these kinds can lead to a good one."""
        left = [number for number, state in enumerate(self._states) if good(state)]
        found = set(left)
        while left:
            for kind, number in self._backwards[left.pop()]:
                if kind in kinds and number not in found:
                    found.add(number)
                    left.append(number)
        return found
