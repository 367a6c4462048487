"""What one run does, drawn from its seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from tests.support.proxy import Fault, Place, Rule, Way
from tests.torture import disks

KIB = 1 << 10
MIB = 1 << 20

_SWITCHOVER: list[tuple[str, Way, int]] = [
    # The landmark, its way, and how many bytes from there on are of interest.
    ("last part", Way.STREAM, 64),
    ("FINISH", Way.STREAM, 57 + 32 + 5),
    ("GO", Way.STREAM, 29 + 8),
    ("HEARD", Way.STREAM, 29 + 8 + 1),
    ("PREPARED", Way.ANSWERS, 4 + 24),
    ("RUNNING", Way.ANSWERS, 4 + 8),
]
_BEFORE: list[tuple[str, Way, int]] = [("AGREED", Way.ANSWERS, 12), ("FLUSHED", Way.ANSWERS, 20)]

_FORWARDING: list[tuple[str, Way, int]] = [
    ("TAKES REQUESTS", Way.ANSWERS, 4 + 9),
    ("FORWARD", Way.STREAM, 29 + 8 + 60),
    ("FORWARD", Way.STREAM, 20_000),
    ("FORWARD", Way.STREAM, 150_000),
    ("TAKES REQUESTS", Way.ANSWERS, 3000),
]
"""The beginning of what is forwarded, and any place in it."""

_FAULTS = [fault for fault in Fault if fault not in (Fault.SIGNAL, Fault.SLOW)]


@dataclass(frozen=True, slots=True)
class Kill:
    """Who is killed, when, and who of them is started again."""

    victims: tuple[str, ...]
    restarted: tuple[str, ...]
    rule: Rule | None
    """The place in the stream at which it happens; None for a moment after the beginning."""
    delay: float
    """Seconds from that place, or from the beginning."""
    away: float
    """Seconds that the victims are gone."""
    orderly: bool = False
    """Whether they are asked to end, and not killed."""
    renamed: bool = False
    """Whether they are started again on their images by other names."""

    def __str__(self) -> str:
        when = f"{self.delay * 1000:.1f} ms after {self.rule.place if self.rule else 'the start'}"
        end = "end" if self.orderly else "kill"
        again = "restart by other names" if self.renamed else "restart"
        return f"{end} {'+'.join(self.victims)} {when}, {again} {'+'.join(self.restarted) or 'none'}"


@dataclass(frozen=True, slots=True)
class Interruption:
    """One interruption of a migration, and how it is resumed."""

    what: str
    """``pause`` at a side, ``cut`` of the line, or ``kill`` or ``end`` of sides."""
    victims: tuple[str, ...]
    delay: float
    """Seconds from the beginning or the last resume."""
    route: str
    """How it is resumed: by the ``proxy``, ``direct``, by ``another`` address of the destination, or by a
    ``command``."""

    def __str__(self) -> str:
        return f"{self.what} {'+'.join(self.victims)} after {self.delay:.2f} s, resume by {self.route}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. ``sizes`` are of the drives in bytes, ``bandwidth`` in MiB/s (0: no limit)."""

    seed: int
    kind: str
    sizes: tuple[int, ...]
    shared: bool
    bandwidth: int
    rules: tuple[Rule, ...] = ()
    refuse: float = 0.0
    kill: Kill | None = None
    disks: str = disks.RAW
    locked: bool = True
    """Whether both sides are on one host, and see each other's locks."""
    one_folder: bool = False
    """Whether both sides keep their records in one folder."""
    interruptions: tuple[Interruption, ...] = ()
    """Of a migration that can be resumed, one after the other."""
    bitmaps: bool = False
    """Whether dirty bitmaps go along."""

    @property
    def command(self) -> str:
        """The line that begins the migration, up to the URI."""
        if self.shared:
            return "migrate -d"
        return "migrate -d blk inc" if self.disks == disks.OVERLAY else "migrate -d blk"

    def __str__(self) -> str:
        what = str(self.kill) if self.kill else ", then ".join(map(str, self.rules or self.interruptions))
        more = [f"{len(self.sizes)} drives"] * (len(self.sizes) > 1) + ["shared"] * self.shared
        more += ["on two hosts, without locks"] * (not self.locked) + ["one state folder"] * self.one_folder
        more += [f"{self.disks} disks"] * (self.disks != disks.RAW) + ["with bitmaps"] * self.bitmaps
        more += [f"connections refused for {self.refuse:g} s"] * (self.refuse > 0)
        return ", ".join([what, *more])


def draw(kind: str, seed: int) -> Scenario:
    """The scenario of a seed; in every third one bitmaps go along."""
    return replace(_draw(kind, seed), bitmaps=random.Random(f"bitmaps {kind} {seed}").random() < 1 / 3)


def _draw(kind: str, seed: int) -> Scenario:
    chance = random.Random(f"{kind} {seed}")
    blocking = kind == "blocking"  # any of the others, while guests' writes wait for the destination
    shared = chance.random() < 0.2 and not blocking
    sizes = [chance.randrange(4 * MIB, 8 * MIB, 64 * KIB)]
    if chance.random() < 0.25:
        sizes.append(chance.randrange(1 * MIB, 2 * MIB, 4 * KIB))
    of = chance.choice(disks.KINDS)
    locked = not (shared and chance.random() < 0.7)
    one_folder = chance.random() < 0.5
    if kind == "recover":
        return Scenario(
            seed,
            kind,
            tuple(sizes),
            shared=False,
            bandwidth=chance.choice([2, 4, 8]),
            disks=of,
            one_folder=one_folder,
            interruptions=tuple(_draw_interruption(chance) for _ in range(chance.choice([2, 5, 10]))),
        )
    if kind == "forward":
        return _draw_forward(chance, seed, sizes, of, shared=shared, one_folder=one_folder and not shared)
    if kind == "kill" or (blocking and chance.random() < 0.4):
        kill = _draw_kill(chance, shared)
        bandwidth = chance.choice([16, 32, 64]) if kill.rule is None else chance.choice([0, 0, 32])
        return Scenario(
            seed,
            kind,
            tuple(sizes),
            shared,
            bandwidth,
            kill=kill,
            disks=of,
            locked=locked,
            one_folder=one_folder and not (shared and locked),  # on one host who is who would not be known
        )
    slow = kind == "slow" or (blocking and chance.random() < 0.1)
    rules = [_draw_slow(chance) if slow else _draw_rule(chance, 0 if shared else sum(sizes))]
    if chance.random() < 0.2:
        rules.append(_draw_rule(chance, 100))  # of the connection that asks again
    if kind == "multifd":  # the first channel has a fault, too
        rules.append(_draw_rule(chance, 0 if shared else sum(sizes) // 2))
    refuse = 2.0 if chance.random() < 0.1 else 0.0
    bandwidth = chance.choice([0, 0, 0, 32])
    return Scenario(
        seed,
        kind,
        tuple(sizes),
        shared,
        bandwidth,
        rules=tuple(rules),
        refuse=refuse,
        disks=of,
        locked=locked,
        one_folder=one_folder,
    )


def _draw_forward(
    chance: random.Random, seed: int, sizes: list[int], of: str, *, shared: bool, one_folder: bool
) -> Scenario:
    """The line breaks, or a side is killed, while the source works on for clients that stay."""
    landmark, way, length = chance.choice(_FORWARDING)
    place = Place(way, chance.randrange(length), landmark)
    rules: tuple[Rule, ...] = ()
    kill = None
    if chance.random() < 0.5:
        fault = chance.choice([*_FAULTS, Fault.FLIP])
        rules = (Rule(place, fault, seconds=chance.choice([0.1, 0.3, 1.0]), bit=chance.randrange(8)),)
    else:
        victim = chance.choice(["source", "target"])
        restarted = (victim,) if victim == "target" or chance.random() < 0.3 else ()
        orderly = chance.random() < 0.35 and victim == "source"
        kill = Kill((victim,), restarted, Rule(place, Fault.SIGNAL), 0.0, chance.choice([0.0, 0.3]), orderly)
    return Scenario(
        seed,
        "forward",
        tuple(sizes),
        shared,
        0,
        rules=rules,
        kill=kill,
        disks=of,
        one_folder=one_folder,
    )


def _draw_interruption(chance: random.Random) -> Interruption:
    what = chance.choice(["pause", "cut", "kill", "kill", "end"])
    victims = {
        "cut": (("line",),),
        "pause": (("source",), ("target",)),
    }.get(what, (("source",), ("target",), ("source", "target")))
    delay = chance.choice([0.0, 0.02, chance.uniform(0, 0.2), chance.uniform(0, 1.5)])
    route = chance.choice(["proxy", "proxy", "direct", "another", "command"])
    return Interruption(what, chance.choice(victims), delay, route)


def _draw_rule(chance: random.Random, size: int) -> Rule:
    return Rule(
        _draw_place(chance, size),
        chance.choice([*_FAULTS, Fault.FLIP]),
        seconds=chance.choice([0.1, 0.3, 1.0]),
        bit=chance.randrange(8),
    )


def _draw_slow(chance: random.Random) -> Rule:
    """The line becomes slow at the switchover, for a while or for longer than anybody waits."""
    landmark = chance.choice(["FLUSH", "FLUSH", "FLUSH", "last part"])  # behind it the gates close
    seconds = chance.choice([0.5, 2.0, 8.0, 300.0])
    return Rule(Place(Way.STREAM, chance.randrange(9), landmark), Fault.SLOW, seconds=seconds)


def _draw_place(chance: random.Random, size: int) -> Place:
    """Half of all places are in the switchover, the others anywhere, the beginning included."""
    where = chance.random()
    if where < 0.55:
        landmark, way, length = chance.choice(_SWITCHOVER)
        return Place(way, chance.randrange(length), landmark)
    if where < 0.62:
        landmark, way, length = chance.choice(_BEFORE)
        return Place(way, chance.randrange(length), landmark)
    if where < 0.75:
        return Place(Way.STREAM, chance.randrange(400))
    if where < 0.82:
        return Place(Way.ANSWERS, chance.randrange(200))
    return Place(Way.STREAM, chance.randrange(int(size * 1.1) + 400))


def _draw_kill(chance: random.Random, shared: bool) -> Kill:
    victims = chance.choice([("source",), ("target",), ("source", "target")])
    restarted = chance.choice([victims, victims, victims, (), victims[:1], victims[-1:]])
    away = chance.choice([0.0, 0.1, 0.8])
    orderly, renamed = chance.random() < 0.35, chance.random() < 0.3
    if chance.random() < 0.3:
        delay = chance.uniform(0, 0.1 if shared else 0.6)
        return Kill(victims, restarted, None, delay, away, orderly, renamed)
    place = _draw_place(chance, 400)
    if chance.random() < 0.7:
        landmark, way, length = chance.choice(_SWITCHOVER)
        place = Place(way, chance.randrange(length), landmark)
    delay = chance.choice([0.0, 0.0, chance.uniform(0, 0.002), chance.uniform(0, 0.02)])
    return Kill(victims, restarted, Rule(place, Fault.SIGNAL), delay, away, orderly, renamed)
