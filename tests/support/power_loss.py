"""Files as a disk may hold them after a power failure: all that was flushed, any part of what was not.

What is done to the files below images is written down in one log. From it the files are made as they may be
found after any moment. A flush settles what had ended in its own file when it began, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

from qmon.block import image_file
from qmon.block.file import FileNode
from qmon.block.node import Buffer
from qmon.block.qcow2 import create

SECTOR = 512
"""What lands as one."""

_NEVER = sys.maxsize
_RECORDED = (image_file, create)
"""Who opens files to write them."""

Change = Callable[[bytearray], None]


@dataclass(slots=True, kw_only=True, eq=False)
class Event:
    """Something done to a file between two ticks of the log's clock; this one is a flush."""

    path: str
    begun: int = 0
    ended: int = _NEVER

    def parts(self, at_once: int = SECTOR) -> Iterator[Change]:
        """The changes that it is made of, each of which may land or not."""
        yield from ()

    def land(self, file: bytearray) -> None:
        """All of it."""
        for part in self.parts(_NEVER):
            part(file)


@dataclass(slots=True, kw_only=True, eq=False)
class Write(Event):
    offset: int
    data: bytes

    def parts(self, at_once: int = SECTOR) -> Iterator[Change]:
        for start, end in _pieces(self.offset, len(self.data), at_once):
            yield partial(_put, start=start, data=self.data[start - self.offset : end - self.offset])


@dataclass(slots=True, kw_only=True, eq=False)
class Hole(Event):
    offset: int
    length: int

    def parts(self, at_once: int = SECTOR) -> Iterator[Change]:
        for start, end in _pieces(self.offset, self.length, at_once):
            yield partial(_punch, start=start, end=end)


@dataclass(slots=True, kw_only=True, eq=False)
class Length(Event):
    size: int

    def parts(self, at_once: int = SECTOR) -> Iterator[Change]:
        yield self._change

    def _change(self, file: bytearray) -> None:
        del file[self.size :]
        file.extend(bytes(self.size - len(file)))


def _pieces(offset: int, length: int, at_once: int) -> Iterator[tuple[int, int]]:
    start, end = offset, offset + length
    while start < end:
        stop = min(end, start - start % at_once + at_once)
        yield start, stop
        start = stop


def _put(file: bytearray, start: int, data: bytes) -> None:
    file.extend(bytes(max(0, start - len(file))))
    file[start : start + len(data)] = data


def _punch(file: bytearray, start: int, end: int) -> None:
    count = max(0, min(end, len(file)) - start)
    file[start : start + count] = bytes(count)


Lands = Callable[[Sequence[Event]], Mapping[int, float]]
"""All of an event (1.0), none of it (0.0), or each of its sectors by this chance."""


class Recorder:
    """The log of what is done to files, by any number of threads."""

    def __init__(self, files: Iterable[Path], pause: Callable[[], None] = lambda: None) -> None:
        """``files`` are there when it begins, flushed; ``pause`` comes before anything is done to one."""
        self.before = {str(path): path.read_bytes() for path in files}
        self.events: list[Event] = []
        self._pause = pause
        self._lock = threading.Lock()
        self.clock = 0

    def tick(self) -> int:
        with self._lock:
            self.clock += 1
            return self.clock

    @contextlib.contextmanager
    def doing(self, event: Event) -> Iterator[None]:
        """An event that begins and ends with the body; one that fails has never ended."""
        with self._lock:
            self.clock += 1
            event.begun = self.clock
            self.events.append(event)
        self._pause()
        yield
        event.ended = self.tick()

    def file_type(self) -> type[FileNode]:
        """A file that writes down what is done to it."""
        recorder = self

        class RecordedFile(FileNode):
            def write(self, offset: int, data: Buffer) -> None:
                with recorder.doing(Write(path=self.path, offset=offset, data=bytes(data))):
                    super().write(offset, data)

            def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
                if unmap:
                    with recorder.doing(Hole(path=self.path, offset=offset, length=length)):
                        super().zero(offset, length)
                else:
                    super().zero(offset, length, unmap=False)  # which writes

            def give_back(self, offset: int, length: int) -> None:
                with recorder.doing(Hole(path=self.path, offset=offset, length=length)):
                    super().give_back(offset, length)

            def resize(self, size: int) -> None:
                with recorder.doing(Length(path=self.path, size=size)):
                    super().resize(size)

            def flush(self) -> None:
                with recorder.doing(Event(path=self.path)):
                    super().flush()

        return RecordedFile

    @property
    def flushes(self) -> list[Event]:
        """Of all files and folders."""
        return [event for event in self.events if type(event) is Event]

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Have every image that is opened meanwhile lie on such files."""
        recorded = self.file_type()
        with contextlib.ExitStack() as stack:
            for module in _RECORDED:
                stack.enter_context(mock.patch.object(module, "FileNode", recorded))
            stack.enter_context(mock.patch.object(create, "_sync_folder", self._sync_folder))
            yield

    def _sync_folder(self, path: str) -> None:
        """A folder that is flushed keeps the names of its files."""
        with self.doing(Event(path=os.path.dirname(path))):
            pass

    def survivors(
        self, moment: int, chance: random.Random, lands: Lands | None = None
    ) -> Mapping[str, bytes | None]:
        """What each file holds when the power fails at a tick of the clock; None: it is not there.

        ``lands`` says of what is not flushed how much lands, each by its id; else it is as chance has it.
        """
        flushed: dict[str, int] = {}
        for event in self.flushes:
            if event.ended <= moment:
                flushed[event.path] = max(event.begun, flushed.get(event.path, 0))
        changes = [e for e in self.events if e.begun <= moment and type(e) is not Event]
        open_ones = [event for event in changes if event.ended > flushed.get(event.path, 0)]
        landed = lands(open_ones) if lands else _what_lands(open_ones, chance)
        files = {path: bytearray(data) for path, data in self.before.items()}
        gone = set()
        for event in changes:
            if event.path not in files:
                files[event.path] = bytearray()
                is_named = flushed.get(os.path.dirname(event.path), 0) > event.begun
                if not is_named and chance.random() < 0.3:
                    gone.add(event.path)
            share = landed.get(id(event), 1.0)  # what is flushed is not among them
            if share == 1.0:
                event.land(files[event.path])
            elif share:
                for part in event.parts():
                    if chance.random() < share:
                        part(files[event.path])
        return {path: None if path in gone else bytes(data) for path, data in files.items()}


def _what_lands(events: Sequence[Event], chance: random.Random) -> Mapping[int, float]:
    shares = dict.fromkeys(map(id, events), 0.0)
    if not events:
        return shares
    one = chance.randrange(len(events))
    share = chance.choice([0.1, 0.5, 0.9, 1.0])
    chosen: Iterable[Event] = [event for event in events if chance.random() < share]
    match chance.choice(["some", "some", "some", "one", "but one", "last", "one file"]):
        case "one":
            chosen = [events[one]]
        case "but one":
            chosen = [*events[:one], *events[one + 1 :]]
        case "last":
            chosen = events[one:]
        case "one file":
            chosen = [event for event in events if event.path == events[one].path]
    for event in chosen:
        shares[id(event)] = chance.choice([0.1, 0.5, 0.9]) if chance.random() < 0.3 else 1.0
    return shares
