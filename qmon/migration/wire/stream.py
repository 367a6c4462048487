"""The stream from source to destination, as bytes: QEMU's container with qmon's records inside.

Pure: a ``RecordWriter`` gathers what to send, a ``StreamReader`` is given what came and yields items.

The container (QEMU, docs/devel/migration; migration/savevm.c)::

    "QEVM" version:u32 · 07 len:u32 machine-name
    01 section:u32 len:u8 name instance:u32 version:u32  RECORDS  7e section:u32
    02 section:u32  RECORDS  7e section:u32          any number
    03 section:u32  RECORDS  7e section:u32
    02 section:u32  BACK RECORDS  7e section:u32     where the source goes back, from here again
    08 command:u16 len:u16 data                      GO, and HEARD when it has been answered
    00

RECORDS is a run of records; the last is END. A record is a header of 32 bytes and ``payload`` bytes::

    checksum:u64 kind:u8 flags:u8 drive:u16 length:u32 sequence:u64 offset:u64

All integers are big-endian. The checksum is XXH3 64 over the rest of the header and the payload. Sequence
numbers go up by one from 0. The digest of a stream is XXH3 64 over the checksums of its records so far.
"""

from __future__ import annotations

import enum
import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import xxhash

from qmon.errors import QmonError

MAGIC = b"QEVM"
VERSION = 3
MACHINE = b"qmon"
"""The name in the configuration section: a QEMU that is sent this says that its machine type differs."""

SECTION_NAME = b"qmon-disks"
SECTION_VERSION = 1
SECTION_ID = 1
COMMAND_GO, COMMAND_HEARD = 0x7101, 0x7102
"""Numbers that QEMU's enum qemu_vm_cmd does not use."""

MAX_PAYLOAD = 1 << 20
DATA_PAYLOAD = 512 << 10
"""What a sender puts into one DATA record: where one is cut by the end of a buffer, little has to move."""

BATCH_SIZE = 1 << 20
"""Payload that is read and sent at once; measured between 256 KiB and 1 MiB."""

BUFFER_SIZE = MAX_PAYLOAD + DATA_PAYLOAD
"""Of a reader's buffer: the largest record fits, and more is not kept in a processor's cache."""

MAX_ZERO_LENGTH = 1 << 30
MAX_HELLO = 1 << 20
MAX_TEXT = 4096
IOV_LIMIT = 512
"""Half of Linux's IOV_MAX: one record takes two places."""

HEADER = struct.Struct(">QBBHIQQ")
_HEAD = struct.Struct(">BBHIQQ")
_SECTION_START = struct.Struct(f">BIB{len(SECTION_NAME)}sII")
_SECTION = struct.Struct(">BI")
_PREAMBLE = MAGIC + struct.pack(">I", VERSION) + b"\x07" + struct.pack(">I", len(MACHINE)) + MACHINE
_CHECKSUM = struct.Struct(">Q")
_FINISH = struct.Struct(">QQB")
_COMMAND = struct.Struct(">BHH16sQ")


class Mark(enum.IntEnum):
    """The first byte of each piece of the container (QEMU, migration/savevm.c: QEMU_VM_*)."""

    EOF = 0x00
    SECTION_START = 0x01
    SECTION_PART = 0x02
    SECTION_END = 0x03
    CONFIGURATION = 0x07
    COMMAND = 0x08
    SECTION_FOOTER = 0x7E


class Kind(enum.IntEnum):
    """What a record is."""

    HELLO = 1
    """``payload`` is the offer, in JSON."""
    DATA = 2
    """``payload`` belongs at ``offset`` of ``drive``."""
    ZERO = 3
    """``length`` bytes at ``offset`` of ``drive`` read as zeros; no payload."""
    FLUSH = 4
    """Flush all drives and answer with this record's sequence number."""
    FINISH = 5
    """``payload`` is what was sent before it, and how to go on: records:u64, digest:u64, running:u8."""
    END = 6
    """The end of this section's records."""
    PROGRESS = 7
    """``offset`` is how many bytes the source still holds, for the person at the destination."""
    BACK = 8
    """The source has gone back: FINISH holds no more, and more comes. First behind the last part."""
    COMPARE = 9
    """``payload`` says what ``drive`` is at the source: see ``qmon.migration.compare``."""
    WITHDRAW = 10
    """The source goes no further; ``payload`` says why, in UTF-8."""


_WITHOUT_PAYLOAD = frozenset({Kind.ZERO, Kind.FLUSH, Kind.END, Kind.PROGRESS, Kind.BACK})


class StreamError(QmonError):
    """What came is not a stream that fits; the message says where and what was expected."""


@dataclass(slots=True)
class Record:
    """One record as it came. ``payload`` is valid until the reader is given more room."""

    kind: Kind
    drive: int
    offset: int
    length: int
    sequence: int
    payload: memoryview

    @property
    def finish(self) -> tuple[int, int, bool]:
        """What a FINISH record says: the records and the digest before it, and whether to run."""
        records, digest, running = _FINISH.unpack(self.payload)
        return records, digest, bool(running)

    @property
    def text(self) -> str:
        """WITHDRAW's reason, without what a terminal would take for more than text."""
        text = bytes(self.payload[:MAX_TEXT]).decode(errors="replace")
        return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


@dataclass(frozen=True, slots=True)
class Go:
    """The command to run: which migration it is, and the digest of what was sent."""

    migration_id: bytes
    digest: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The source knows that the destination runs, and has recorded it."""

    migration_id: bytes


class Digest:
    """The running digest of a stream's records."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_64()
        self.records = 0

    def add(self, checksum: bytes | memoryview) -> None:
        self._state.update(checksum)
        self.records += 1

    @property
    def value(self) -> int:
        return self._state.intdigest()


def preamble() -> bytes:
    """The stream's first bytes: magic, version, configuration."""
    return _PREAMBLE


def section_start() -> bytes:
    """Opens the section for the first time, before HELLO."""
    return _SECTION_START.pack(
        Mark.SECTION_START, SECTION_ID, len(SECTION_NAME), SECTION_NAME, 0, SECTION_VERSION
    )


def section_part() -> bytes:
    """Opens a further part of the section."""
    return _SECTION.pack(Mark.SECTION_PART, SECTION_ID)


def section_end() -> bytes:
    """Opens the last part of the section."""
    return _SECTION.pack(Mark.SECTION_END, SECTION_ID)


def section_footer() -> bytes:
    """Closes a part, behind its END."""
    return _SECTION.pack(Mark.SECTION_FOOTER, SECTION_ID)


def go(migration_id: bytes, digest: int) -> bytes:
    """The point of no return. ``migration_id`` is 16 bytes."""
    return _command(COMMAND_GO, migration_id, digest)


def heard(migration_id: bytes) -> bytes:
    """The last word, and the container's end. ``migration_id`` is 16 bytes."""
    return _command(COMMAND_HEARD, migration_id, 0) + bytes([Mark.EOF])


def _command(number: int, migration_id: bytes, digest: int) -> bytes:
    head = _COMMAND.pack(Mark.COMMAND, number, 32, migration_id, digest)
    return head + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))


class RecordWriter:
    """Gathers records and container pieces into a list of buffers for one ``sendmsg``.

    Payloads are filled in place: take ``room(length)``, fill it, then call ``data``. The buffers are valid
    until ``clear``.
    """

    def __init__(self, capacity: int = BATCH_SIZE) -> None:
        self._buffer = memoryview(bytearray(capacity))
        self._used = 0
        self.buffers: list[bytes | memoryview] = []
        self.size = 0
        """Bytes gathered."""
        self.next_sequence = 0
        self.digest = Digest()

    def free(self) -> int:
        """How many payload bytes fit before ``clear``; 0 when the list of buffers is full."""
        return len(self._buffer) - self._used if len(self.buffers) < IOV_LIMIT else 0

    def room(self, length: int) -> memoryview:
        """A place for ``length`` payload bytes, at most ``free()``."""
        start, self._used = self._used, self._used + length
        return self._buffer[start : self._used]

    def take_back(self, length: int) -> None:
        """Give back the end of the last room: it was not needed."""
        self._used -= length

    def raw(self, piece: bytes) -> None:
        """Add a piece of the container."""
        self.buffers.append(piece)
        self.size += len(piece)

    def data(self, drive: int, offset: int, payload: memoryview) -> None:
        """Add DATA records for a payload of any length."""
        for start in range(0, len(payload), DATA_PAYLOAD):
            piece = payload[start : start + DATA_PAYLOAD]
            self._add(Kind.DATA, drive, offset + start, len(piece), piece)

    def zero(self, drive: int, offset: int, length: int) -> None:
        """Add a ZERO record of at most MAX_ZERO_LENGTH bytes."""
        self._add(Kind.ZERO, drive, offset, length)

    def hello(self, offer: bytes) -> None:
        """Add a HELLO record."""
        self._add(Kind.HELLO, 0, 0, len(offer), offer)

    def flush(self) -> int:
        """Add a FLUSH record; return its sequence number."""
        self._add(Kind.FLUSH, 0, 0, 0)
        return self.next_sequence - 1

    def progress(self, remaining: int) -> None:
        """Add a PROGRESS record: ``remaining`` bytes are still to be sent."""
        self._add(Kind.PROGRESS, 0, remaining, 0)

    def finish(self, running: bool) -> tuple[int, int]:
        """Add a FINISH record; return the count and the digest of the records before it."""
        records, digest = self.digest.records, self.digest.value
        payload = _FINISH.pack(records, digest, running)
        self._add(Kind.FINISH, 0, 0, len(payload), payload)
        return records, digest

    def back(self) -> None:
        """Add a BACK record."""
        self._add(Kind.BACK, 0, 0, 0)

    def compare(self, drive: int, question: bytes) -> None:
        """Add a COMPARE record."""
        self._add(Kind.COMPARE, drive, 0, len(question), question)

    def withdraw(self, why: str) -> None:
        """Add a WITHDRAW record."""
        text = why.encode(errors="backslashreplace")[:MAX_TEXT]  # a file's name may be no UTF-8
        self._add(Kind.WITHDRAW, 0, 0, len(text), text)

    def end(self) -> None:
        """Add an END record."""
        self._add(Kind.END, 0, 0, 0)

    def clear(self) -> None:
        """Forget what was gathered: it has been sent."""
        self.buffers.clear()
        self.size = self._used = 0

    def _add(
        self, kind: Kind, drive: int, offset: int, length: int, payload: bytes | memoryview | None = None
    ) -> None:
        head = _HEAD.pack(kind, 0, drive, length, self.next_sequence, offset)
        state = xxhash.xxh3_64(head)
        if payload is not None:
            state.update(payload)
        checksum = state.digest()
        self.digest.add(checksum)
        self.next_sequence += 1
        self.raw(checksum + head)
        if payload is not None:
            self.buffers.append(payload)
            self.size += len(payload)


Item = Record | Go | Heard | Mark


class StreamReader:
    """Takes bytes in pieces of any size, yields the stream's items, and refuses what is none.

    Fill ``room()``, say how much by ``filled``, then take all ``items()``. A Record's payload lies in that
    room, so use it before asking for room again. Memory is bounded whatever comes; to make a reader raises
    OSError where there is none.
    """

    def __init__(self) -> None:
        # Of pages that cost nothing until their first use, and are given back at once.
        self._buffer = memoryview(mmap.mmap(-1, BUFFER_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._start = self._end = 0
        self._position = 0
        # No bound method: a reader that refers to itself would keep its buffer until it is found.
        self._parse: Callable[[StreamReader], Item | None] = StreamReader._parse_preamble
        self._expected = 0
        self._last_part = False
        self._goes_back = False
        """Whether a part has begun behind the last one."""
        self._greeted = False
        self._awaited = COMMAND_GO
        self.digest = Digest()

    def room(self) -> memoryview:
        """Where to put what comes next; never empty. What is there of an incomplete item moves along."""
        if self._start:
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        return self._buffer[self._end :]

    def filled(self, count: int) -> None:
        """``count`` bytes have been put into the room."""
        self._end += count

    def items(self) -> Iterator[Item]:
        """Yield what is complete. Raises StreamError, after which the stream is of no use."""
        while self._start < self._end:
            before = self._start
            item = self._parse(self)
            if item is not None:
                yield item
            elif self._start == before:
                return

    @property
    def at_boundary(self) -> bool:
        """Whether nothing has come, or all that came was complete."""
        return self._start == self._end

    def _peek(self, count: int) -> memoryview | None:
        if self._end - self._start < count:
            return None
        return self._buffer[self._start : self._start + count]

    def _skip(self, count: int) -> None:
        self._start += count
        self._position += count

    def _error(self, what: str) -> StreamError:
        return StreamError(f"not a valid migration stream at byte {self._position}: {what}")

    def _parse_preamble(self) -> Item | None:
        have = bytes(self._buffer[self._start : min(self._end, self._start + len(_PREAMBLE))])
        if not _PREAMBLE.startswith(have):
            if not MAGIC.startswith(have[:4]):
                raise self._error(f"it begins with {have[:4]!r}, not with {MAGIC!r}")
            raise self._error("it is not from a qmon of this version")
        if len(have) == len(_PREAMBLE):
            self._skip(len(_PREAMBLE))
            self._parse = StreamReader._parse_mark
        return None

    def _parse_mark(self) -> Item | None:
        byte = self._buffer[self._start]
        try:
            mark = Mark(byte)
        except ValueError:
            raise self._error(f"unknown section type {byte:#04x}") from None
        match mark:
            case Mark.SECTION_START if not self._greeted:
                expected = section_start()
            case Mark.SECTION_PART if self._greeted:
                expected = section_part()
            case Mark.SECTION_END if self._greeted and not self._last_part:
                expected = section_end()
            case Mark.COMMAND if self._last_part or not self._greeted:  # without a hello it is asked again
                return self._parse_command()
            case _:
                raise self._error(f"unexpected section type {mark.name}")
        have = self._peek(len(expected))
        if have is None:
            return None
        if bytes(have) != expected:
            raise self._error(f"unknown section, expected '{SECTION_NAME.decode()}'")
        self._skip(len(expected))
        self._greeted = True
        self._goes_back = self._last_part
        self._last_part = mark is Mark.SECTION_END
        self._parse = StreamReader._parse_record
        return None

    def _parse_record(self) -> Item | None:
        header = self._peek(HEADER.size)
        if header is None:
            return None
        checksum, kind_number, flags, drive, length, sequence, offset = HEADER.unpack(header)
        size = 0 if kind_number in _WITHOUT_PAYLOAD else length
        # What bounds memory is looked at before the checksum can be: nothing else is trusted yet.
        if size > MAX_PAYLOAD:
            raise self._error(f"a record of {size} bytes, at most {MAX_PAYLOAD} are allowed")
        if kind_number == Kind.FINISH and size != _FINISH.size:  # else it would wait for what never comes
            raise self._error(f"a FINISH of {size} bytes, expected {_FINISH.size}")
        whole = self._peek(HEADER.size + size)
        if whole is None:
            return None
        if xxhash.xxh3_64_intdigest(whole[8:]) != checksum:
            raise self._error(f"checksum mismatch in record {self._expected}")
        if sequence != self._expected:
            raise self._error(f"record {sequence} came where {self._expected} was expected")
        try:
            kind = Kind(kind_number)
        except ValueError:
            raise self._error(f"unknown record kind {kind_number}") from None
        if (kind is Kind.BACK) is not self._goes_back:
            where = "behind the last part" if self._goes_back else "before the last part"
            raise self._error(f"{kind.name} came {where}")
        self._goes_back = False
        if flags:
            raise self._error(f"unknown flags {flags:#04x} in record {sequence}")
        payload = whole[HEADER.size :]
        if kind is Kind.FINISH:
            self._check_finish(payload)
        self.digest.add(whole[:8])
        self._expected += 1
        self._skip(len(whole))
        if kind is Kind.END:
            self._parse = StreamReader._parse_footer
        return Record(kind, drive, offset, length, sequence, payload)

    def _check_finish(self, payload: memoryview) -> None:
        if bytes(payload[:16]) != _FINISH.pack(self.digest.records, self.digest.value, 0)[:16]:
            raise self._error("the digest of what was sent is not that of what came")

    def _parse_footer(self) -> Item | None:
        expected = section_footer()
        have = self._peek(len(expected))
        if have is None:
            return None
        if bytes(have) != expected:
            raise self._error("a section without its footer")
        self._skip(len(expected))
        self._parse = StreamReader._parse_mark
        return None

    def _parse_command(self) -> Item | None:
        have = self._peek(_COMMAND.size + _CHECKSUM.size)
        if have is None:
            return None
        mark, command, length, migration_id, digest = _COMMAND.unpack(have[: _COMMAND.size])
        if mark != Mark.COMMAND or command != self._awaited or length != 32:
            raise self._error(f"unknown command {command:#06x}")
        if _CHECKSUM.unpack(have[_COMMAND.size :])[0] != xxhash.xxh3_64_intdigest(have[: _COMMAND.size]):
            raise self._error("checksum mismatch in a command")
        self._skip(len(have))
        if command == COMMAND_HEARD:
            self._parse = StreamReader._parse_eof
            return Heard(migration_id)
        self._awaited = COMMAND_HEARD
        self._parse = StreamReader._parse_command
        return Go(migration_id, digest)

    def _parse_eof(self) -> Item | None:
        byte = self._buffer[self._start]
        if byte != Mark.EOF:
            raise self._error(f"{byte:#04x} came behind the last command, expected the end")
        self._skip(1)
        self._parse = StreamReader._parse_nothing
        return Mark.EOF

    def _parse_nothing(self) -> Item | None:
        raise self._error("bytes came behind the end")
