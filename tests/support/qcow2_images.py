"""qcow2 images as qemu-img makes them, and what it says of them afterwards."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from qmon.block.node import Node
from tests.support.images import noise
from tests.support.peers import require

CLUSTER_SIZES = (512, 4096, 65536, 2 << 20)
CONTENT = 300 << 10
CONTENTS = ("none", "data", "snapshot", "zeros", "packed", "bitmap", "metadata", "falloc", "full")
"""The last three are what qemu-img calls preallocation; a backing file rules them out."""


@dataclass(frozen=True)
class Recipe:
    """How an image is made; ``backing`` names what is behind it, which reaches ``backing_size`` bytes."""

    cluster_size: int
    size: int
    compat: str = "1.1"
    refcount_bits: int = 16
    backing: str | None = None
    backing_size: int = 0
    content: str = "none"
    """What qemu-img does besides, one of CONTENTS; it can't do everything everywhere."""
    lazy: bool = False

    @property
    def has_snapshot(self) -> bool:
        return self.content == "snapshot" and self.refcount_bits > 1

    @property
    def is_packed(self) -> bool:
        """Whether it is compressed: several of its clusters in one of the file, if counts can be so high."""
        return self.content == "packed" and self.backing is None and self.refcount_bits >= 8

    def make(self, folder: Path) -> tuple[Path, bytes]:
        """Make the image and return it with what it holds."""
        options = f"cluster_size={self.cluster_size},compat={self.compat},refcount_bits={self.refcount_bits}"
        image = folder / "disk.qcow2"
        held = bytearray(self.size)
        more: list[str] = []
        if self.backing is not None:
            base = folder / "base"
            inside = bytearray(noise(self.backing_size))
            inside[4096:70000] = bytes(len(inside[4096:70000]))
            (folder / "base.img").write_bytes(inside)
            if self.backing == "raw":
                base = folder / "base.img"
            else:
                packed = ["-c"] if self.backing == "compressed" else []
                run("convert", *packed, "-f", "raw", "-O", "qcow2", folder / "base.img", base)
            more = ["-b", base.name, "-F", "raw" if self.backing == "raw" else "qcow2"]
            held[: len(inside)] = inside[: self.size]
        if self.content in ("metadata", "falloc", "full") and self.backing is None:
            options += f",preallocation={self.content}"
        if self.lazy and self.compat == "1.1":
            options += ",lazy_refcounts=on"
        if self.is_packed:
            held[:] = (noise(9000) + bytes(30000)) * (self.size // 39000) + noise(self.size % 39000)
            (folder / "content").write_bytes(held)
            run("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, folder / "content", image)
        else:
            run("create", "-q", "-f", "qcow2", "-o", options, *more, image, str(self.size))
        if self.content in ("data", "snapshot", "zeros", "bitmap"):
            length = min(CONTENT, self.size)
            write = f"write -P 7 0 {length}"
            zeros = f"write -z 0 {length // 2 // 512 * 512}"
            run_io(image, write, *([zeros] if self.content == "zeros" and self.compat == "1.1" else []))
            held[:length] = b"\7" * length
            if self.content == "zeros" and self.compat == "1.1":
                held[: length // 2 // 512 * 512] = bytes(length // 2 // 512 * 512)
        if self.has_snapshot:
            run("snapshot", "-c", "before", image)
        if self.content == "bitmap" and self.compat == "1.1":
            run("bitmap", "--add", image, "b0")
        return image, bytes(held)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Images up to a few MiB of every kind that qemu-img makes."""
    cluster_size = draw(st.sampled_from(CLUSTER_SIZES))
    compat = draw(st.sampled_from(["0.10", "1.1"]))
    size = draw(st.sampled_from([512, 1 << 20, (1 << 20) + 512, (3 << 20) + 5120]))
    backing = draw(st.sampled_from([None, "raw", "qcow2", "compressed"]))
    return Recipe(
        cluster_size=cluster_size,
        size=size,
        compat=compat,
        refcount_bits=draw(st.sampled_from([1, 2, 8, 16, 64])) if compat == "1.1" else 16,
        backing=backing,
        backing_size=draw(st.sampled_from([512, 200 << 10, 4 << 20])) if backing else 0,
        content=draw(st.sampled_from(CONTENTS)),
        lazy=draw(st.booleans()),
    )


def run(*words: object) -> str:
    """Have qemu-img do something, and return what it printed."""
    require("qemu-img")
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def run_io(image: Path, *lines: str) -> None:
    """Have qemu-io write into an image."""
    require("qemu-io")
    words = [word for line in lines for word in ("-c", line)]
    done = subprocess.run(["qemu-io", *words, str(image)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (lines, done.stdout, done.stderr)


def check(image: Path, *, leaks: bool = False) -> None:
    """qemu-img finds nothing wrong, or nothing but ``leaks``."""
    require("qemu-img")
    done = subprocess.run(["qemu-img", "check", "-q", image], capture_output=True, text=True, check=False)
    assert done.returncode in ((0, 3) if leaks else (0,)), (done.stdout, done.stderr)


def content(image: Path, snapshot: str | None = None) -> bytes:
    """What QEMU reads of an image, or of a snapshot in it."""
    out = image.with_suffix(".raw")
    run("convert", *(["-l", snapshot] if snapshot else []), "-f", "qcow2", "-O", "raw", image, out)
    return out.read_bytes()


def read(node: Node, offset: int = 0, length: int | None = None) -> bytes:
    """Bytes of a node, all by default."""
    buffer = bytearray(b"\xee" * (node.size - offset if length is None else length))
    node.read_into(offset, memoryview(buffer))
    return bytes(buffer)
