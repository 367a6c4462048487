"""Decodes the stream: takes the bytes that arrived, and yields records and commands. Pure."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

import xxhash

from qmon.migration.wire.strangers import not_a_source
from qmon.migration.wire.stream import (
    CHECKSUM,
    COMMAND,
    COMMAND_FORWARD,
    COMMAND_GO,
    COMMAND_HEARD,
    FINISH,
    HEADER,
    MAGIC,
    MAX_PAYLOAD,
    PREAMBLE,
    SECTION_NAME,
    SECTION_VERSION,
    WITHOUT_PAYLOAD,
    DamagedError,
    Digest,
    Go,
    Heard,
    Kind,
    Mark,
    Record,
    StreamError,
    checksum_of,
    section_end,
    section_footer,
    section_part,
    section_start,
)
from qmon.notation.strangers import FIRST_BYTES

ALIGNMENT = 4096
BUFFER_SIZE = ALIGNMENT + MAX_PAYLOAD
"""Bytes of a reader's buffer: it holds the largest record, and a processor's cache holds little more."""

ORIGIN = ALIGNMENT - HEADER.size
"""Where a record begins in the buffer, so that its payload is aligned."""

LARGE = 256 << 10
"""A record of at least this size is received to its end and no further. Nothing needs to be moved then."""

Item = Record | Go | Heard | Mark


class StreamReader:
    """Takes bytes in pieces of any size, and yields the stream's items. Its memory is bounded.

    Fill ``room()``, report the number of bytes with ``filled``, then take all ``items()``. A Record's payload
    is a view of that room: use it before the next call of ``room``. The constructor raises OSError if there
    is no memory.
    """

    def __init__(self) -> None:
        # mmap: pages take no memory until their first use, and are freed at once.
        self._buffer = memoryview(mmap.mmap(-1, BUFFER_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._start = self._end = ORIGIN
        self._wanted = 0
        """The size of the incomplete record at ``_start``, 0 if it is not known."""
        self._position = 0
        # Not a bound method: a reader that refers to itself would keep its buffer until garbage collection.
        self._parse: Callable[[StreamReader], Item | None] = StreamReader._parse_preamble
        self._expected = 0
        self._last_part = False
        self._goes_back = False
        """Whether a part has begun after the last part, so that BACK must be its first record."""
        self._greeted = False
        self._awaited = COMMAND_GO
        self.digest = Digest()

    def room(self) -> memoryview:
        """Return where to put the next bytes; never empty. Moves an incomplete item to ORIGIN."""
        if self._start != ORIGIN:
            left = self._end - self._start
            self._buffer[ORIGIN : ORIGIN + left] = self._buffer[self._start : self._end]
            self._start, self._end = ORIGIN, ORIGIN + left
        stop = ORIGIN + self._wanted if self._wanted >= LARGE else BUFFER_SIZE
        return self._buffer[self._end : stop]

    def filled(self, count: int) -> None:
        """Report that ``count`` bytes were put into the room."""
        self._end += count

    def items(self) -> Iterator[Item]:
        """Yield each complete item. Raises StreamError; after that the stream can't be used."""
        while self._start < self._end:
            before = self._start
            item = self._parse(self)
            if item is not None:
                yield item
            elif self._start == before:
                return

    @property
    def at_boundary(self) -> bool:
        """Whether no incomplete item is in the buffer."""
        return self._start == self._end

    def _peek(self, count: int) -> memoryview | None:
        if self._end - self._start < count:
            return None
        return self._buffer[self._start : self._start + count]

    def _skip(self, count: int) -> None:
        self._start += count
        self._position += count

    def _error(self, what: str) -> DamagedError:
        return DamagedError(f"not a valid migration stream at byte {self._position}: {what}")

    def _parse_preamble(self) -> Item | None:
        have = bytes(self._buffer[self._start : min(self._end, self._start + len(PREAMBLE))])
        if not PREAMBLE.startswith(have):
            if not MAGIC.startswith(have[: len(MAGIC)]):
                first = bytes(self._buffer[self._start : min(self._end, self._start + FIRST_BYTES)])
                raise self._error(not_a_source(first, MAGIC))
            raise self._error(
                "it is QEMU's own stream, or one of another version of qmon: only a qmon of this version can"
                " send its disks here"
            )
        if len(have) == len(PREAMBLE):
            self._skip(len(PREAMBLE))
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
            case Mark.COMMAND if self._last_part or not self._greeted:  # a source that asks sends no HELLO
                return self._parse_command()
            case _:
                raise self._error(f"unexpected section type {mark.name}")
        have = self._peek(len(expected))
        if have is None:
            return None
        if bytes(have) != expected:
            self._check_version(bytes(have), expected)
            raise self._error(f"unknown section, expected '{SECTION_NAME.decode()}'")
        self._skip(len(expected))
        self._greeted = True
        self._goes_back = self._last_part
        self._last_part = mark is Mark.SECTION_END
        self._parse = StreamReader._parse_record
        return None

    @staticmethod
    def _check_version(have: bytes, expected: bytes) -> None:
        """Raises StreamError if a section differs from the expected one only by the stream's version."""
        if have[:-4] == expected[:-4]:
            version = int.from_bytes(have[-4:])
            raise StreamError(
                f"the source's stream has version {version} and the destination's {SECTION_VERSION}: use the"
                " same version of qmon on both sides"
            )

    def _parse_record(self) -> Item | None:
        header = self._peek(HEADER.size)
        if header is None:
            return None
        checksum, kind_number, flags, drive, length, sequence, offset = HEADER.unpack(header)
        size = 0 if kind_number in WITHOUT_PAYLOAD else length
        # The size is checked before the checksum can be: it bounds memory. Nothing else is trusted yet.
        if size > MAX_PAYLOAD:
            raise self._error(f"a record of {size} bytes, at most {MAX_PAYLOAD} are allowed")
        if kind_number == Kind.FINISH and size != FINISH.size:  # else it might wait for ever
            raise self._error(f"a FINISH of {size} bytes, expected {FINISH.size}")
        whole = self._peek(HEADER.size + size)
        if whole is None:
            self._wanted = HEADER.size + size
            return None
        self._wanted = 0
        payload = whole[HEADER.size :]
        if checksum_of(whole[8 : HEADER.size], payload) != checksum:
            raise self._error(f"checksum mismatch in record {self._expected}")
        if sequence != self._expected:
            raise self._error(f"record {sequence} instead of record {self._expected}")
        try:
            kind = Kind(kind_number)
        except ValueError:
            raise self._error(f"unknown record kind {kind_number}") from None
        if (kind is Kind.BACK) is not self._goes_back:
            where = "after the last part" if self._goes_back else "before the last part"
            raise self._error(f"{kind.name} came {where}")
        self._goes_back = False
        if flags:
            raise self._error(f"unknown flags {flags:#04x} in record {sequence}")
        if kind is Kind.FINISH:
            self._check_finish(payload)
        self.digest.add(whole[:8])
        self._expected += 1
        self._skip(len(whole))
        if kind is Kind.END:
            self._parse = StreamReader._parse_footer
        return Record(kind, drive, offset, length, sequence, payload, checksum)

    def _check_finish(self, payload: memoryview) -> None:
        if bytes(payload[:16]) != FINISH.pack(self.digest.records, self.digest.value, 0, 0)[:16]:
            raise self._error("the digest in FINISH differs from that of the received records")

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
        have = self._peek(COMMAND.size + CHECKSUM.size)
        if have is None:
            return None
        mark, command, length, migration_id, digest = COMMAND.unpack(have[: COMMAND.size])
        is_forward = command == COMMAND_FORWARD and self._awaited == COMMAND_HEARD
        if mark != Mark.COMMAND or not (command == self._awaited or is_forward) or length != 32:
            raise self._error(f"unknown command {command:#06x}")
        if CHECKSUM.unpack(have[COMMAND.size :])[0] != xxhash.xxh3_64_intdigest(have[: COMMAND.size]):
            raise self._error("checksum mismatch in a command")
        self._skip(len(have))
        if command == COMMAND_HEARD:
            self._parse = StreamReader._parse_eof
            return Heard(migration_id)
        if is_forward:
            self._parse = StreamReader._leave
            return Heard(migration_id, forwards=True)
        self._awaited = COMMAND_HEARD
        self._parse = StreamReader._parse_command
        return Go(migration_id, digest)

    def _parse_eof(self) -> Item | None:
        byte = self._buffer[self._start]
        if byte != Mark.EOF:
            raise self._error(f"{byte:#04x} after the last command, expected the end")
        self._skip(1)
        self._parse = StreamReader._parse_nothing
        return Mark.EOF

    def _leave(self) -> Item | None:
        return None  # what follows is not this reader's

    def rest(self) -> bytes:
        """Return the bytes behind FORWARD."""
        return bytes(self._buffer[self._start : self._end])

    def _parse_nothing(self) -> Item | None:
        raise self._error("more bytes after the end")
