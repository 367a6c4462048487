"""What one run does, drawn from its seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.support.proxy import Fault, Place, Rule, Way
from tests.torture import disks

KIB = 1 << 10
MIB = 1 << 20

_SWITCHOVER: list[tuple[str, Way, int]] = [
    # The landmark, its way, and how many bytes from there on are of interest.
    ("last part", Way.STREAM, 64),
    ("FINISH", Way.STREAM, 49 + 32 + 5),
    ("GO", Way.STREAM, 29 + 8),
    ("HEARD", Way.STREAM, 29 + 8 + 1),
    ("PREPARED", Way.ANSWERS, 4 + 24),
    ("RUNNING", Way.ANSWERS, 4 + 8),
]
_BEFORE: list[tuple[str, Way, int]] = [("AGREED", Way.ANSWERS, 12), ("FLUSHED", Way.ANSWERS, 20)]

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

    @property
    def command(self) -> str:
        """The line that begins the migration, up to the URI."""
        if self.shared:
            return "migrate -d"
        return "migrate -d blk inc" if self.disks == disks.OVERLAY else "migrate -d blk"

    def __str__(self) -> str:
        what = str(self.kill) if self.kill else ", then ".join(str(rule) for rule in self.rules)
        more = [f"{len(self.sizes)} drives"] * (len(self.sizes) > 1) + ["shared"] * self.shared
        more += ["on two hosts, without locks"] * (not self.locked) + ["one state folder"] * self.one_folder
        more += [f"{self.disks} disks"] * (self.disks != disks.RAW)
        more += [f"connections refused for {self.refuse:g} s"] * (self.refuse > 0)
        return ", ".join([what, *more])


def draw(kind: str, seed: int) -> Scenario:
    """The scenario of a seed."""
    chance = random.Random(f"{kind} {seed}")
    shared = chance.random() < 0.2
    sizes = [chance.randrange(4 * MIB, 8 * MIB, 64 * KIB)]
    if chance.random() < 0.25:
        sizes.append(chance.randrange(1 * MIB, 2 * MIB, 4 * KIB))
    of = chance.choice(disks.KINDS)
    locked = not (shared and chance.random() < 0.7)
    one_folder = chance.random() < 0.5
    if kind == "kill":
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
    rules = [_draw_slow(chance) if kind == "slow" else _draw_rule(chance, 0 if shared else sum(sizes))]
    if chance.random() < 0.2:
        rules.append(_draw_rule(chance, 100))  # of the connection that asks again
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
