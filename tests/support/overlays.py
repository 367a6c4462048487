"""A host's overlay on a backing image, for incremental copies; qemu-img judges what has arrived."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.images import KIB, MIB, drive, noise
from tests.support.qcow2_images import check, run, run_io

SIZE = 8 * MIB + 1536
"""No multiple of any cluster size."""

Range = tuple[int, int]
"""From a byte up to another one."""


class Host:
    """A folder with a backing image and an overlay on it, which holds nothing yet."""

    def __init__(
        self,
        folder: Path,
        *,
        cluster: int = 64 * KIB,
        compat: str = "1.1",
        size: int = SIZE,
        depth: int = 1,
        base: bytes | None = None,
        base_format: str = "raw",
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.size = size
        self.image = folder / "disk.qcow2"
        raw = folder / "base.img"
        raw.write_bytes(noise(size, 5)[: size - 2 * MIB] + bytes(2 * MIB) if base is None else base)
        below, below_format = raw, "raw"
        if base_format == "qcow2":
            below, below_format = folder / "base.qcow2", "qcow2"
            run("convert", "-f", "raw", "-O", "qcow2", raw, below)
        self.base = below
        for number in range(1, depth):
            middle = folder / f"middle{number}.qcow2"
            run("create", "-q", "-f", "qcow2", "-b", below.name, "-F", below_format, middle)
            run_io(middle, f"write -P {number} {number * 192 * KIB} 128k", "write -z 1M 64k")
            below, below_format = middle, "qcow2"
        self.create(below, below_format, cluster, compat)
        self._make = below, below_format, cluster, compat

    def create(self, below: Path, below_format: str, cluster: int, compat: str) -> None:
        options = f"cluster_size={cluster},compat={compat}"
        run(
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            options,
            "-b",
            below.name,
            "-F",
            below_format,
            self.image,
            self.size,
        )

    def create_anew(self) -> None:
        self.image.unlink()
        self.create(*self._make)

    @property
    def options(self) -> list[str]:
        return drive(self.image, format="qcow2")


def allocated(image: Path) -> list[Range]:
    """What qemu-img finds allocated in an image itself, as (start, end)."""
    found: list[Range] = []
    for each in json.loads(run("map", "--output=json", image)):
        if each["depth"] == 0 and each.get("present", True):
            start, end = each["start"], each["start"] + each["length"]
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, end))
    return found


def same_overlays(source: Host, target: Host) -> None:
    """Both hold the same, in the same places, and nothing is wrong with them."""
    for host in (source, target):
        check(host.image)
    run("compare", source.image, target.image)
    assert allocated(target.image) == allocated(source.image)


def scatter(image: Path, size: int = SIZE, *, zeros: bool = True) -> None:
    """Put data and zero clusters into an overlay, here and there, and at its end."""
    run_io(
        image,
        "write -P 17 0 4096",
        "write -P 18 300k 200k",
        "write -P 19 2M 1M",
        *(["write -z 1M 256k", "write -z 5M 128k"] if zeros else []),
        f"write -P 20 {size - 512} 512",
    )
