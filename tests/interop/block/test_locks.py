"""Images that a real QEMU holds are kept from us, and ours from it, where QEMU would do so to itself."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.block.locks import ImageLockedError
from qmon.block.raw import RawNode
from tests.support.locks_probe import locked_bytes
from tests.support.peers import require
from tests.support.waiting import PATIENCE

SIZE = 1 << 20
MACHINE = ("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-nodefaults", "-display", "none")
DISK = ("-device", "virtio-blk-pci,drive=d0")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


def qemu_io(image: Path, *options: str, command: str = "read 0 512") -> subprocess.CompletedProcess[str]:
    line = ["qemu-io", "-f", "raw", *options, "-c", command, str(image)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)


@contextlib.contextmanager
def running(*command: str, greets: Path) -> Iterator[None]:
    """A peer that holds an image: all is opened once it greets on its socket."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_greeted(greets):
            assert process.poll() is None, f"{command[0]} did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def _is_greeted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        try:
            client.connect(str(path))
        except OSError:
            return False
        if client.recv(1) == b"{":
            # QMP greets from a thread of its own while the devices are made: a command waits for them
            client.sendall(b'{"execute": "qmp_capabilities"}\n')
            answer = b""
            while b'"return"' not in answer:
                piece = client.recv(4096)
                assert piece, answer
                answer += piece
        return True


def exported(image: Path, *options: str) -> contextlib.AbstractContextManager[None]:
    where = image.with_name("nbd.sock")
    return running("qemu-nbd", "-f", "raw", "-t", "-k", str(where), *options, str(image), greets=where)


def guest(image: Path, *device: str, readonly: str = "off") -> contextlib.AbstractContextManager[None]:
    """A running machine whose disk ``d0`` is the image, attached when ``device`` says to what."""
    where = image.with_name("qmp.sock")
    drive = f"file={image},id=d0,format=raw,if=none,readonly={readonly}"
    return running(*MACHINE, "-qmp", f"unix:{where},server,nowait", "-drive", drive, *device, greets=where)


class TestOursKeepsOutQemu:
    def test_a_disk_is_not_written_by_another(self, image: Path) -> None:
        require("qemu-io", "qemu-img")
        node = RawNode(str(image))
        refused = qemu_io(image, command="write 0 512")
        assert refused.returncode != 0
        assert 'Failed to get "write" lock' in refused.stderr
        resized = subprocess.run(
            ["qemu-img", "resize", "-f", "raw", str(image), "2M"], capture_output=True, text=True, check=False
        )
        assert resized.returncode != 0
        assert image.stat().st_size == SIZE
        node.close()
        assert qemu_io(image, command="write 0 512").returncode == 0

    def test_a_disk_that_is_written_is_no_read_only_disk_of_a_guest(self, image: Path) -> None:
        require("qemu-system-x86_64", "qemu-io")
        node = RawNode(str(image))
        refused = subprocess.run(
            [*MACHINE, "-drive", f"file={image},id=d0,format=raw,if=none,readonly=on", *DISK],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert 'Failed to get shared "write" lock' in refused.stderr
        assert qemu_io(image, "-r").returncode == 0, "who only looks is kept out"
        node.close()

    def test_a_read_only_disk_is_shared_with_readers_only(self, image: Path) -> None:
        require("qemu-io")
        node = RawNode(str(image), read_only=True)
        assert qemu_io(image, "-r").returncode == 0
        assert qemu_io(image, command="write 0 512").returncode != 0
        node.close()


class TestQemuKeepsOutOurs:
    def test_a_guests_disk(self, image: Path) -> None:
        require("qemu-system-x86_64")
        with guest(image, *DISK):
            held = locked_bytes(image)
            with pytest.raises(ImageLockedError) as caught:
                RawNode(str(image))
            assert str(caught.value.strerror).startswith('Failed to get "write" lock')
            assert str(image) in str(caught.value)
            with pytest.raises(ImageLockedError, match='shared "write" lock'):
                RawNode(str(image), read_only=True)
            assert locked_bytes(image) == held
        node = RawNode(str(image))
        assert locked_bytes(image) == held, "a disk of ours is not locked as a disk of QEMU's"
        node.close()

    def test_a_read_only_guests_disk(self, image: Path) -> None:
        require("qemu-system-x86_64")
        with guest(image, *DISK, readonly="on"):
            held = locked_bytes(image)
            node = RawNode(str(image), read_only=True)
            assert locked_bytes(image) == held, "a disk of ours is not locked as a disk of QEMU's"
            node.close()
            with pytest.raises(ImageLockedError, match='Failed to get "write" lock'):
                RawNode(str(image))

    def test_a_drive_that_nobody_uses_yet(self, image: Path) -> None:
        """QEMU locks one byte only of a drive without a device: two may hold it until one is used."""
        require("qemu-system-x86_64")
        with guest(image):
            assert locked_bytes(image) == {100}
            RawNode(str(image)).close()

    def test_an_exported_disk(self, image: Path) -> None:
        require("qemu-nbd")
        with exported(image):
            with pytest.raises(ImageLockedError, match='shared "write" lock'):
                RawNode(str(image))
            assert locked_bytes(image) == {100, 101, 203}

    def test_a_disk_exported_to_readers_keeps_its_size(self, image: Path) -> None:
        require("qemu-nbd")
        with exported(image, "-r"):
            node = RawNode(str(image))
            with pytest.raises(ImageLockedError, match='Failed to get "resize" lock'):
                node.resize(2 * SIZE)
            node.close()
        assert image.stat().st_size == SIZE

    def test_a_disk_of_ours_can_be_exported_to_readers(self, image: Path) -> None:
        """A raw image's resize permission is held only while resizing: else this would be refused."""
        require("qemu-nbd")
        node = RawNode(str(image))
        node.resize(2 * SIZE)
        with exported(image, "-r"):
            pass
        node.close()
