"""One damaged qcow2 image: read and written here in a process of its own, and put to QEMU."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import resource
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from qmon.block.image import open_image
from qmon.block.node import Node
from tests.fuzz.qcow2_shapes import NAME, damage

PIECE = 4096
MOST_READ = 8 << 20
"""Of a disk whose size is damaged."""

CPU_SECONDS = 1
MEMORY = 200 << 20
_CPU_LIMIT = 5
"""Where a process that does not come to an end is ended."""

Pieces = list[bytes | None]
"""What is read of a disk, PIECE bytes each; None is an I/O error."""


@dataclass(slots=True)
class Result:
    """What came of a trial: ``problems`` are broken promises, ``outcome`` is a word for the summary."""

    what: str
    outcome: str = ""
    problems: list[str] = field(default_factory=list)
    message: str = ""
    """With which it was refused here, while QEMU reads it."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a process of its own found out, or why not."""

    refused: str | None = None
    pieces: Pieces | None = None
    written: dict[int, bytes] | None = None
    touched: frozenset[int] = frozenset()
    fault: str | None = None
    seconds: float = 0.0


def try_out(good: Path, seed: int) -> Result:
    """Damage the image in a folder, or rather a copy of it, and see."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="qmon-fuzz-") as name:
        folder = Path(name)
        for file in good.iterdir():
            shutil.copy(file, folder)
        image = folder / NAME
        data, what = damage((good / NAME).read_bytes(), chance)
        image.write_bytes(data)
        result = Result(what)
        ours = _in_process(lambda: _read(image))
        _note(result, "read", ours)
        theirs = _qemu_reads(image)
        _compare(result, ours, theirs)
        if image.read_bytes() != data:
            result.problems.append("reading changed the image")
        before = _errors(image)
        said = _in_process(lambda: _write(image, chance.getrandbits(32)))
        _note(result, "write", said)
        if said.refused is None and said.fault is None:
            _judge(result, image, said, before, theirs)
        return result


def _note(result: Result, doing: str, said: _Said) -> None:
    if said.fault is not None:
        result.problems.append(f"{doing}: {said.fault}")
    elif said.seconds > CPU_SECONDS:
        result.problems.append(f"{doing}: took {said.seconds:.1f} s")


def _compare(result: Result, ours: _Said, theirs: Pieces | None) -> None:
    if ours.pieces is None:
        result.outcome = "refused" if theirs is None else "refused, read by QEMU"
        result.message = ours.refused or ""
        return
    if theirs is None:
        result.outcome = "read, refused by QEMU"
        return
    result.outcome = "read"
    for number, (mine, other) in enumerate(zip(ours.pieces, theirs, strict=False)):
        if mine is None:
            result.outcome = "read in part"
        if mine is not None and other is not None and mine != other:
            result.problems.append(f"read other bytes than QEMU at {number * PIECE:#x}")
            return


def _judge(result: Result, image: Path, said: _Said, before: int | None, theirs: Pieces | None) -> None:
    """A write makes nothing worse."""
    assert said.written is not None
    after = _errors(image)
    if before is not None and (after is None or after > before):
        result.problems.append(f"writing made {after} errors of {before}")
    if before == 0 and theirs is not None:
        now = _qemu_reads(image)
        if now is None:
            result.problems.append("QEMU can't read it any more after writing")
            return
        for number, (old, new) in enumerate(zip(theirs, now, strict=False)):
            wanted = said.written.get(number, None if number in said.touched else old)
            if wanted is not None and new is not None and wanted != new:
                kind = "written" if number in said.written else "other"
                result.problems.append(f"{kind} bytes are wrong after writing at {number * PIECE:#x}")
                return


def _errors(image: Path) -> int | None:
    """What qemu-img check finds wrong, leaks apart; None where it can't tell."""
    words = ["qemu-img", "check", "-f", "qcow2", "--output=json", str(image)]
    done = _qemu(words, image.parent)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return None
    if found.get("check-errors"):
        return None
    return int(found.get("corruptions", 0))


def _qemu(words: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    limits = (resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    return subprocess.run(
        words,
        capture_output=True,
        check=False,
        cwd=folder,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(*limits),
    )


def _qemu_reads(image: Path) -> Pieces | None:
    """What QEMU reads, None when it refuses to open it."""
    out = image.with_name("raw")
    words = ["qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"bs={1 << 20}", f"count={MOST_READ >> 20}"]
    words = [*words, f"if={image}", f"of={out}"]
    done = _qemu(words, image.parent)
    salvaged = done.returncode != 0
    if salvaged:
        out.unlink(missing_ok=True)
        words = ["qemu-img", "convert", "--salvage", "-f", "qcow2", "-O", "raw", str(image), str(out)]
        done = _qemu(words, image.parent)
        if done.returncode != 0:
            return None
    with open(out, "rb") as file:
        content = file.read(MOST_READ)
    out.unlink()
    pieces: Pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    if salvaged:  # zeros may stand for an error
        return [piece if piece is not None and any(piece) else None for piece in pieces]
    return pieces


def _in_process(work: Callable[[], _Said]) -> _Said:
    """Have a fork do something, with little memory and time. It says what it found by a pipe."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _be_child(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if not data:
        return _Said(fault=f"the process ended with status {status:#x}")
    said: _Said = pickle.loads(data)
    seconds = usage.ru_utime + usage.ru_stime
    return _Said(said.refused, said.pieces, said.written, said.touched, said.fault, seconds)


def _be_child(work: Callable[[], _Said], writer: int) -> NoReturn:
    try:
        logging.disable()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT, _CPU_LIMIT))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 32, 1 << 32))
        try:
            said = work()
        except BaseException:  # noqa: BLE001 - the parent is told of all
            said = _Said(fault=traceback.format_exc())
        data = memoryview(pickle.dumps(said))
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)


def _read(image: Path) -> _Said:
    os.chdir(image.parent)  # where data files are looked for
    try:
        node = open_image(str(image), "qcow2", read_only=True)
    except OSError as error:
        return _Said(refused=str(error))
    try:
        pieces = [_piece(node, start) for start in range(0, min(node.size, MOST_READ), PIECE)]
        try:
            end = 0
            for extent in node.extents(0, min(node.size, MOST_READ)):
                assert extent.offset == end
                end = extent.end
        except OSError:
            pass  # the same damage again
        return _Said(pieces=pieces)
    finally:
        node.close()


def _piece(node: Node, start: int) -> bytes | None:
    buffer = bytearray(min(PIECE, node.size - start))
    try:
        node.read_into(start, memoryview(buffer))
    except OSError:
        return None
    return bytes(buffer)


def _write(image: Path, seed: int) -> _Said:
    """Write whole pieces until something is refused; what was taken until then can be read."""
    os.chdir(image.parent)
    chance = random.Random(seed)
    try:
        node = open_image(str(image), "qcow2")
    except OSError as error:
        return _Said(refused=str(error))
    written: dict[int, bytes] = {}
    touched: set[int] = set()
    pieces = min(node.size, 1 << 20) // PIECE
    try:
        for _ in range(12 if pieces else 0):
            first = chance.randrange(pieces)
            count = min(pieces - first, chance.choice([1, 1, 2, 5, 30]))
            numbers = range(first, first + count)
            touched.update(numbers)
            for number in numbers:
                written.pop(number, None)
            match chance.choice("wwwzuf"):
                case "w":
                    data = chance.randbytes(PIECE * count)
                    node.write(first * PIECE, data)
                    written |= {n: data[(n - first) * PIECE : (n - first + 1) * PIECE] for n in numbers}
                case "f":
                    node.flush()
                case call:
                    node.zero(first * PIECE, count * PIECE, unmap=call == "u")
                    written |= dict.fromkeys(numbers, bytes(PIECE))
        node.flush()
    except OSError:
        written.clear()  # what was not flushed may be lost
    finally:
        node.close()
    return _Said(written=written, touched=frozenset(touched))
