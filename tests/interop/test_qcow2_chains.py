"""Chains of images as QEMU finds, reads and locks them: how their names are meant, how unlike they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qmon.block.image import look_at_image, open_image
from tests.interop.peers import require
from tests.interop.qcow2_images import read, run, run_io

HERE, THERE = b"C" * 1024, b"S" * 1024


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


def seen_by_qemu(image: Path | str, cwd: Path) -> tuple[str, bytes | None]:
    """What qemu-img says when it reads an image, and what the image holds."""
    out = cwd / "seen"
    out.unlink(missing_ok=True)
    words = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd)
    return done.stderr, out.read_bytes() if done.returncode == 0 else None


@pytest.mark.parametrize(
    "name",
    [
        "base.img",
        "./base.img",
        "../base.img",
        "../else/../images/base.img",
        "file:base.img",
        "file:images/base.img",
        "link",
        "{folder}/images/base.img",
        "file:{folder}/base.img",
        "{folder}/else/base.img",
    ],
)
@pytest.mark.parametrize("overlay", ["images/disk.qcow2", "else/disk.qcow2"])
def test_a_backing_file_is_looked_for_where_qemu_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, overlay: str
) -> None:
    """``else`` is a link to a folder beside ``images``, and ``else/disk.qcow2`` one to the image."""
    monkeypatch.chdir(tmp_path)
    for folder in (Path("images"), Path("real/else")):
        folder.mkdir(parents=True)
    Path("else").symlink_to("real/else")
    Path("base.img").write_bytes(HERE)
    Path("images/base.img").write_bytes(THERE)
    Path("real/else/base.img").write_bytes(b"E" * 1024)
    Path("images/link").symlink_to("../base.img")
    Path("real/else/disk.qcow2").symlink_to("../../images/disk.qcow2")
    name = name.format(folder=tmp_path)
    run("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", "images/disk.qcow2", 1024)
    message, held = seen_by_qemu(overlay, tmp_path)
    if held is None:
        assert "No such file" in message
        with pytest.raises(OSError, match=r"Could not open backing file: .*No such file"):
            open_image(overlay, "qcow2", read_only=True)
        return
    node = open_image(overlay, "qcow2", read_only=True)
    assert read(node) == held
    node.close()
    assert [layer.format for layer in look_at_image(overlay, "qcow2")] == ["qcow2", "raw"]


@pytest.mark.parametrize(
    "name",
    [
        'json:{{"driver":"raw","file":{{"driver":"file","filename":"{folder}/base.img"}}}}',
        "nbd:unix:{folder}/absent",
        "a:b",
    ],
)
def test_a_backing_file_that_is_no_plain_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "base.img").write_bytes(HERE)
    image, name = tmp_path / "disk.qcow2", name.format(folder=tmp_path)
    run("create", "-q", "-u", "-f", "qcow2", "-b", name, "-F", "raw", image, 1024)
    with pytest.raises(OSError, match=r"Could not open backing file: .* is not a file's name") as failure:
        open_image(str(image), "qcow2")
    assert name in str(failure.value)
    assert "\n" not in str(failure.value)
    was_left_alone(image)


def was_left_alone(image: Path) -> None:
    """No lock was left behind."""
    run("rebase", "-u", "-b", "", image)
    run_io(image, "write 0 512")
