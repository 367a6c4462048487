"""The layout of the stream from source to destination: QEMU's container with qmon's records inside.

``writer`` encodes it, ``reader`` decodes it. All three are pure.

The container (QEMU, docs/devel/migration; migration/savevm.c)::

    "QEVM" version:u32 · 07 len:u32 machine-name
    01 section:u32 len:u8 name instance:u32 version:u32  RECORDS  7e section:u32
    02 section:u32  RECORDS  7e section:u32          any number
    03 section:u32  RECORDS  7e section:u32
    02 section:u32  BACK RECORDS  7e section:u32     if the source goes back; then as above
    08 command:u16 len:u16 data                      GO, and HEARD after the answer
    00

FORWARD in the place of HEARD says that requests follow instead of the end (``forward``).

RECORDS is a run of records; the last is END. A record is a header of 32 bytes and ``payload`` bytes::

    checksum:u64 kind:u8 flags:u8 drive:u16 length:u32 sequence:u64 offset:u64

All integers are big-endian. The checksum is XXH3 64 over the payload; its seed is XXH3 64 over the rest of
the header. Without a payload it is the seed. Sequence numbers go up by one from 0. The digest of a stream is
XXH3 64 over the checksums of its records so far.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

import xxhash

from qmon.errors import QmonError

MAGIC = b"QEVM"
VERSION = 3
MACHINE = b"qmon"
"""The name in the configuration section: a QEMU that receives it reports another machine type."""

SECTION_NAME = b"qmon-disks"
SECTION_VERSION = 3
"""The stream version: both sides need the same one."""

SECTION_ID = 1
COMMAND_GO, COMMAND_HEARD, COMMAND_FORWARD = 0x7101, 0x7102, 0x7103
"""Numbers that QEMU's enum qemu_vm_cmd does not use."""

MAX_PAYLOAD = 1 << 20
REGION = MAX_PAYLOAD
"""A DATA record lies within one region of a drive: bytes from a multiple of this on."""

MAX_ZERO_LENGTH = 1 << 30
MAX_HELLO = 1 << 20
MAX_TEXT = 4096

HEADER = struct.Struct(">QBBHIQQ")
HEAD = struct.Struct(">BBHIQQ")
_SECTION_START = struct.Struct(f">BIB{len(SECTION_NAME)}sII")
_SECTION = struct.Struct(">BI")
PREAMBLE = MAGIC + struct.pack(">I", VERSION) + b"\x07" + struct.pack(">I", len(MACHINE)) + MACHINE
"""The stream's first bytes: magic, version, configuration."""
CHECKSUM = struct.Struct(">Q")
FINISH = struct.Struct(">QQBQ")
COMMAND = struct.Struct(">BHH16sQ")
OPENING_SIZE = len(PREAMBLE) + min(_SECTION_START.size + HEADER.size, COMMAND.size + CHECKSUM.size)
"""Bytes that every source sends together at the start: of an offer, a question or a channel."""


class Mark(enum.IntEnum):
    """The first byte of each element of the container (QEMU, migration/savevm.c: QEMU_VM_*)."""

    EOF = 0x00
    SECTION_START = 0x01
    SECTION_PART = 0x02
    SECTION_END = 0x03
    CONFIGURATION = 0x07
    COMMAND = 0x08
    SECTION_FOOTER = 0x7E


class Kind(enum.IntEnum):
    """The kinds of records."""

    HELLO = 1
    """``payload`` is the offer, in JSON."""
    DATA = 2
    """``payload`` belongs at ``offset`` of ``drive``."""
    ZERO = 3
    """``length`` bytes at ``offset`` of ``drive`` read as zeros; no payload."""
    FLUSH = 4
    """Flush all drives and answer with this record's sequence number."""
    FINISH = 5
    """``payload``: count and digest of the records before it, whether to run, and the digest of the regions'
    checksums: u64, u64, u8, u64."""
    END = 6
    """The end of this section's records."""
    PROGRESS = 7
    """``offset`` is the number of bytes still to be sent, for display at the destination."""
    BACK = 8
    """The source takes FINISH back and sends more. First record of a part after the last part."""
    COMPARE = 9
    """``payload`` identifies ``drive`` at the source: see ``qmon.migration.compare``."""
    WITHDRAW = 10
    """The source gives up; ``payload`` is the reason in UTF-8."""
    TRIAL = 11
    """As HELLO, but nothing is to be migrated: the destination says whether it would accept the offer."""
    PROBE = 12
    """Only in a trial: ``payload`` is thrown away, so that the line's rate can be measured."""
    ANSWERS = 13
    """After HELLO, if that asks for it: ``offset`` is 1 if the source hears the answers, else 0."""
    CHANNEL = 14
    """The first record of a further connection for data (multifd): ``payload`` is the migration's id."""
    PACKED = 15
    """As DATA, on a channel only: ``payload`` is packed (``wire/packing.py``)."""
    CONFIRM = 16
    """Say at once what is applied: somebody waits for it. No payload."""
    BITMAP = 17
    """``payload`` has marks of the dirty bitmap number ``drive`` in the offer, from chunk ``offset`` on
    (``wire/bitmaps.py``)."""


WITHOUT_PAYLOAD = frozenset(
    {Kind.ZERO, Kind.FLUSH, Kind.END, Kind.PROGRESS, Kind.BACK, Kind.ANSWERS, Kind.CONFIRM}
)


class StreamError(QmonError):
    """The stream is invalid; the message says where, and what was expected."""


class DamagedError(StreamError):
    """The bytes are not what a source has sent, or end too early."""


@dataclass(frozen=True, slots=True)
class Finish:
    """What FINISH says."""

    records: int
    digest: int
    """Count and digest of the records before it."""
    running: bool
    """Whether the destination is to run."""
    chains: int
    """The digest of the regions' checksums (``chains``)."""


@dataclass(slots=True)
class Record:
    """One record. ``payload`` is valid until the next call of the reader's ``room``."""

    kind: Kind
    drive: int
    offset: int
    length: int
    sequence: int
    payload: memoryview
    checksum: int = 0

    @property
    def finish(self) -> Finish:
        """What FINISH says."""
        records, digest, running, chains = FINISH.unpack(self.payload)
        return Finish(records, digest, bool(running), chains)

    @property
    def text(self) -> str:
        """WITHDRAW's reason, without characters that control a terminal."""
        text = bytes(self.payload[:MAX_TEXT]).decode(errors="replace")
        return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


@dataclass(frozen=True, slots=True)
class Go:
    """The command to run: the migration's id, and the digest of all records."""

    migration_id: bytes
    digest: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The source knows that the destination runs, and has recorded it."""

    migration_id: bytes
    forwards: bool = False
    """Whether forwarded requests follow, and not the end."""


def checksum_of(head: bytes | memoryview, payload: bytes | memoryview) -> int:
    """Return a record's checksum. ``head`` is the header after the checksum."""
    seed = xxhash.xxh3_64_intdigest(head)
    return xxhash.xxh3_64_intdigest(payload, seed) if payload else seed


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


def may_begin(first: bytes) -> bool:
    """Whether these are the first bytes of a stream, and not yet so many as a source sends together."""
    return len(first) < OPENING_SIZE and PREAMBLE.startswith(first[: len(PREAMBLE)])


def section_start() -> bytes:
    """Return the header of the section's first part, before HELLO."""
    return _SECTION_START.pack(
        Mark.SECTION_START, SECTION_ID, len(SECTION_NAME), SECTION_NAME, 0, SECTION_VERSION
    )


def section_part() -> bytes:
    """Return the header of a further part of the section."""
    return _SECTION.pack(Mark.SECTION_PART, SECTION_ID)


def section_end() -> bytes:
    """Return the header of the last part of the section."""
    return _SECTION.pack(Mark.SECTION_END, SECTION_ID)


def section_footer() -> bytes:
    """Return the footer of a part, after its END."""
    return _SECTION.pack(Mark.SECTION_FOOTER, SECTION_ID)


def go(migration_id: bytes, digest: int) -> bytes:
    """Return the GO command, the point of no return. ``migration_id`` is 16 bytes."""
    return _command(COMMAND_GO, migration_id, digest)


def heard(migration_id: bytes) -> bytes:
    """Return the HEARD command and the container's end. ``migration_id`` is 16 bytes."""
    return _command(COMMAND_HEARD, migration_id, 0) + bytes([Mark.EOF])


def forwards(migration_id: bytes) -> bytes:
    """Return the FORWARD command: HEARD, after which requests follow. ``migration_id`` is 16 bytes."""
    return _command(COMMAND_FORWARD, migration_id, 0)


def unheard_end(migration_id: bytes, digest: int) -> bytes:
    """Return all that follows FINISH in a stream that nobody answers. ``migration_id`` is 16 bytes."""
    return go(migration_id, digest) + heard(migration_id)


def _command(number: int, migration_id: bytes, digest: int) -> bytes:
    head = COMMAND.pack(Mark.COMMAND, number, 32, migration_id, digest)
    return head + CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))
