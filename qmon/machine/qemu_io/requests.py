"""The functions of qemu-io's commands: their requests and their output (QEMU: qemu-io-cmds.c)."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qmon.block.accounts import Counters
from qmon.block.node import Buffer, Kind, Node
from qmon.errors import reason
from qmon.machine.qemu_io.text import (
    RequestError,
    dump,
    read_number,
    read_pattern,
    size_text,
)

SECTOR = 512
MAX_REQUEST = 2147483136
"""QEMU's BDRV_REQUEST_MAX_BYTES."""

MAX_SHOWN = 1 << 20
"""The most bytes that ``-v`` shows: each takes four characters."""

DEFAULT_PATTERN = 0xCD
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Medium:
    """The disk of a command: its node, the counters of its requests, and its image."""

    node: Node
    counters: Counters
    image: Mapping[str, Any]
    """The ImageInfo (qapi/block-core.json)."""


@dataclass(slots=True)
class Outcome:
    """The output of a command: standard output, standard error, and whether it has failed."""

    lines: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A parsed command line: options by letter, and the remaining words."""

    name: str
    usage: str
    options: dict[str, str]
    words: list[str]

    def has(self, letter: str) -> bool:
        return letter in self.options

    @property
    def pattern(self) -> int:
        text = self.options.get("P")
        return DEFAULT_PATTERN if text is None else read_pattern(text)


def _report(given: Given, outcome: Outcome, verb: str, offset: int, count: int, started: float) -> None:
    seconds = max(time.monotonic() - started, 1e-9)
    hours, rest = divmod(seconds, 3600)
    minutes, whole = divmod(rest, 60)
    if given.has("C"):
        clock = f"{hours:.0f}:{minutes:02.0f}:{int(whole):02d}.{int(whole % 1 * 100):02d}"
        outcome.lines.append(f"{count},1,{clock},{count / seconds:.3f},{1 / seconds:.3f}")
        return
    clock = f"{int(whole):02d}.{int(whole % 1 * 100):02d} sec"
    if hours or minutes:
        clock = f"{hours:.0f}:{minutes:02.0f}:{clock.removesuffix(' sec')}"
    outcome.lines.append(f"{verb} {count}/{count} bytes at offset {offset}")
    rate = f"{size_text(count / seconds)}/sec and {1 / seconds:.4f} ops/sec"
    outcome.lines.append(f"{size_text(count)}, 1 ops; {clock} ({rate})")


def _check_range(medium: Medium, offset: int, count: int, what: str) -> None:
    if offset + count > medium.node.size:
        raise RequestError(f"{what} failed: {os.strerror(errno.EIO)}")


def _failed(what: str, error: OSError) -> RequestError:
    return RequestError(f"{what} failed: {reason(error)}")


def _flush(medium: Medium) -> None:
    started = time.monotonic_ns()
    medium.node.flush()
    medium.counters.count_flush(started)


def read(given: Given, medium: Medium, outcome: Outcome) -> None:
    if len(given.words) != 2:
        raise RequestError(given.usage)
    part_start = read_number(given.options["s"]) if given.has("s") else 0
    part_length = read_number(given.options["l"]) if given.has("l") else None
    offset, count = (read_number(word) for word in given.words)
    if count > MAX_REQUEST:
        raise RequestError(f"length cannot exceed {MAX_REQUEST}, given {given.words[1]}")
    if not given.has("P") and (given.has("l") or given.has("s")):
        raise RequestError(given.usage)
    if part_length is None:
        part_length = count - part_start
    if part_length < 0 or part_start + part_length > count:
        raise RequestError("pattern verification range exceeds end of read data")
    if given.has("b"):
        _check_aligned(offset, count)
        raise RequestError(f"read failed: {os.strerror(errno.EOPNOTSUPP)}")
    _read_data(given, medium, outcome, offset, count, (part_start, part_length), "read")


def _check_aligned(offset: int, count: int) -> None:
    for name, value in (("offset", offset), ("count", count)):
        if value % SECTOR:
            raise RequestError(f"{value} is not a sector-aligned value for '{name}'")


def read_vector(given: Given, medium: Medium, outcome: Outcome) -> None:
    if given.has("i"):
        outcome.lines.append("injecting invalid read request")
        return
    offset, count = _vector(given)
    _read_data(given, medium, outcome, offset, count, (0, count), "readv")


def _vector(given: Given) -> tuple[int, int]:
    """Return the offset, and the sum of the lengths. Raises RequestError."""
    if len(given.words) < 2:
        raise RequestError(given.usage)
    offset = read_number(given.words[0])
    count = 0
    for word in given.words[1:]:
        length = read_number(word)
        if length > MAX_REQUEST:
            raise RequestError(f"Argument '{word}' exceeds maximum size {MAX_REQUEST}")
        count += length
    if count > MAX_REQUEST:
        raise RequestError(f"The total number of bytes exceed the maximum size {MAX_REQUEST}")
    return offset, count


def _read_data(
    given: Given,
    medium: Medium,
    outcome: Outcome,
    offset: int,
    count: int,
    part: tuple[int, int],
    what: str,
) -> None:
    """Read; compare ``part`` with the pattern if one is given; show the data with ``-v``."""
    if given.has("v") and count > MAX_SHOWN:
        raise RequestError(f"{given.name}: -v shows at most {MAX_SHOWN} bytes, given {count}")
    _check_range(medium, offset, count, what)
    started, started_ns = time.monotonic(), time.monotonic_ns()
    shown: list[bytes] = []
    matches = True
    buffer = memoryview(bytearray(min(count, PIECE)))
    try:
        for done in range(0, count, PIECE):
            piece = buffer[: min(PIECE, count - done)]
            medium.node.read_into(offset + done, piece)
            if given.has("P"):
                first = max(part[0] - done, 0)
                last = min(part[0] + part[1] - done, len(piece))
                if first < last:
                    matches &= bytes(piece[first:last]) == bytes([given.pattern]) * (last - first)
            if given.has("v"):
                shown.append(bytes(piece))
    except OSError as error:
        medium.counters.failed_rd_operations += 1
        raise _failed(what, error) from error
    medium.counters.count_read(count, started_ns)
    if not matches:
        outcome.lines.append(f"Pattern verification failed at offset {offset + part[0]}, {part[1]} bytes")
        outcome.failed = True
    if given.has("q"):
        return
    if given.has("v"):
        outcome.lines += dump(b"".join(shown), offset)
    _report(given, outcome, "read", offset, count, started)


def write(given: Given, medium: Medium, outcome: Outcome) -> None:
    _check_write(given)
    offset, count = (read_number(word) for word in given.words)
    if count > MAX_REQUEST and not given.has("n"):
        raise RequestError(f"length cannot exceed {MAX_REQUEST} without -n, given {given.words[1]}")
    if given.has("b") or given.has("c"):
        _check_aligned(offset, count)
    if given.has("b") or (given.has("c") and not given.has("z")):
        if not given.has("b"):
            _check_range(medium, offset, count, "write")
        raise RequestError(f"write failed: {os.strerror(errno.EOPNOTSUPP)}")
    data: Buffer
    if given.has("s"):
        source = _source(given.options["s"], outcome)
        if source is None:
            outcome.failed = True
            return
        data = source
    else:
        data = bytes([given.pattern])
    _write_data(given, medium, outcome, offset, count, bytes(data), "write")


def _check_write(given: Given) -> None:
    if len(given.words) != 2:
        raise RequestError(given.usage)
    if given.has("b") and given.has("z"):
        raise RequestError("-b and -z cannot be specified at the same time")
    if given.has("f") and (given.has("b") or given.has("c")):
        raise RequestError("-f and -b or -c cannot be specified at the same time")
    for letter in "nu":
        if given.has(letter) and not given.has("z"):
            raise RequestError(f"-{letter} requires -z to be specified")
    if sum(given.has(letter) for letter in "zPs") > 1:
        raise RequestError("Only one of -z, -P, and -s can be specified at the same time")


def _source(path: str, outcome: Outcome) -> bytes | None:
    """Return the contents of a file, which a write repeats. On an error, add a complaint and return None."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            content = file.read(PIECE)
    except (OSError, ValueError) as error:
        outcome.complaints.append(f"{path}: {reason(error)}")
        return None
    if not content:
        outcome.complaints.append(f"{path}: file is empty")
        return None
    return content


def write_vector(given: Given, medium: Medium, outcome: Outcome) -> None:
    if given.has("u") and not given.has("z"):
        raise RequestError("-u requires -z to be specified")
    if given.has("i"):
        outcome.lines.append("injecting invalid write request")
        return
    if given.has("z") and len(given.words) != 2:
        raise RequestError("-z supports only a single length parameter")
    offset, count = _vector(given)
    what = "aio_write" if given.name == "aio_write" else "writev"
    _write_data(given, medium, outcome, offset, count, bytes([given.pattern]), what)


def _write_data(
    given: Given, medium: Medium, outcome: Outcome, offset: int, count: int, data: bytes, what: str
) -> None:
    """Write zeros, or ``data`` repeatedly. Raises RequestError."""
    _check_range(medium, offset, count, what)
    started, started_ns = time.monotonic(), time.monotonic_ns()
    try:
        if given.has("z"):
            medium.node.zero(offset, count, unmap=given.has("u"))
        else:
            block = data * -(-min(count, PIECE) // len(data))
            for done in range(0, count, len(block) or 1):
                medium.node.write(offset + done, memoryview(block)[: count - done])
        medium.counters.count_write(count, started_ns)
        if given.has("f"):
            _flush(medium)
    except OSError as error:
        medium.counters.failed_wr_operations += 1
        raise _failed(what, error) from error
    if not given.has("q"):
        _report(given, outcome, "wrote", offset, count, started)


def discard(given: Given, medium: Medium, outcome: Outcome) -> None:
    if len(given.words) != 2:
        raise RequestError(given.usage)
    offset, count = (read_number(word) for word in given.words)
    if count > MAX_REQUEST:
        raise RequestError(f"length cannot exceed {MAX_REQUEST}, given {given.words[1]}")
    _check_range(medium, offset, count, "discard")
    started, started_ns = time.monotonic(), time.monotonic_ns()
    try:
        medium.node.discard(offset, count)
    except OSError as error:
        medium.counters.failed_unmap_operations += 1
        raise _failed("discard", error) from error
    medium.counters.count_discard(count, started_ns)
    if not given.has("q"):
        _report(given, outcome, "discard", offset, count, started)


def flush_disk(given: Given, medium: Medium, outcome: Outcome) -> None:
    try:
        _flush(medium)
    except OSError as error:
        medium.counters.failed_flush_operations += 1
        raise _failed("flush", error) from error


def length(given: Given, medium: Medium, outcome: Outcome) -> None:
    try:
        medium.node.extents(0, 0)
    except OSError as error:
        raise RequestError(f"getlength: {reason(error)}") from error
    outcome.lines.append(size_text(medium.node.size))


def info(given: Given, medium: Medium, outcome: Outcome) -> None:
    image = medium.image
    cluster_size = image.get("cluster-size", 0)
    specific = image.get("format-specific", {}).get("data", {})
    entry_size = 16 if specific.get("extended-l2") else 8
    table_reach = cluster_size * cluster_size // entry_size
    state_offset = -(-medium.node.size // table_reach) * table_reach if table_reach else 0
    outcome.lines += [
        f"format name: {image.get('format', '')}",
        f"cluster size: {size_text(cluster_size)}",
        f"vm state offset: {size_text(state_offset)}",
    ]
    if specific:
        outcome.lines.append("Format specific information:")
    for name, value in specific.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        outcome.lines.append(f"    {name.replace('-', ' ')}: {shown}")


def _allocation(medium: Medium, offset: int, count: int) -> Iterator[tuple[int, bool]]:
    """Yield runs in order: their length, and whether they are allocated in this image. Raises OSError."""
    length, allocated = 0, True
    for extent in medium.node.extents(offset, count):
        here = extent.kind is not Kind.BACKING
        if length and here is not allocated:
            yield length, allocated
            length = 0
        length, allocated = length + extent.length, here
    if length:
        yield length, allocated


def alloc(given: Given, medium: Medium, outcome: Outcome) -> None:
    offset = read_number(given.words[0])
    count = read_number(given.words[1]) if len(given.words) > 1 else SECTOR
    count = max(0, min(count, medium.node.size - offset))
    try:
        total = sum(length for length, here in _allocation(medium, offset, count) if here)
    except OSError as error:
        raise _failed("is_allocated", error) from error
    outcome.lines.append(f"{total}/{count} bytes allocated at offset {size_text(offset)}")


def map_(given: Given, medium: Medium, outcome: Outcome) -> None:
    offset = 0
    try:
        for length, here in _allocation(medium, 0, medium.node.size):
            state = "    allocated" if here else "not allocated"
            outcome.lines.append(
                f"{size_text(length)} ({length:#x}) bytes {state} at offset {size_text(offset)} ({offset:#x})"
            )
            offset += length
    except OSError as error:
        raise RequestError(f"failed to get allocation status: {reason(error)}") from error


def wait_for_all(given: Given, medium: Medium, outcome: Outcome) -> None:
    """Flush: no request outlives its command, but QEMU's aio_flush also counts as a flush."""
    flush_disk(given, medium, outcome)
