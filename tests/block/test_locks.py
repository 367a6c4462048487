"""Image locks: the bytes that others see, who keeps whom out, and that a refusal leaves no trace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qmon.block.locks import ImageLockedError
from qmon.block.raw import RawNode
from tests.support.locks_probe import Holder, locked_bytes


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return path


class TestPositions:
    def test_a_running_guests_disk(self, image: Path) -> None:
        node = RawNode(str(image))
        assert locked_bytes(image) == {100, 101, 201}
        node.close()
        assert locked_bytes(image) == set()

    def test_a_read_only_disk(self, image: Path) -> None:
        node = RawNode(str(image), read_only=True)
        assert locked_bytes(image) == {100, 201}
        node.close()
        assert locked_bytes(image) == set()

    def test_a_look_without_a_lock(self, image: Path) -> None:
        node = RawNode(str(image), lock=False)
        assert locked_bytes(image) == set()
        node.close()

    def test_resize_is_locked_only_while_it_lasts(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[set[int]] = []
        truncate = os.ftruncate

        def watched(fd: int, size: int) -> None:
            seen.append(locked_bytes(image))
            truncate(fd, size)

        monkeypatch.setattr(os, "ftruncate", watched)
        node = RawNode(str(image))
        node.resize(8192)
        assert seen == [{100, 101, 103, 201, 203}]
        assert locked_bytes(image) == {100, 101, 201}
        assert (node.size, image.stat().st_size) == (8192, 8192)
        node.close()

    def test_a_failed_resize_lets_go_of_its_lock(self, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(fd: int, size: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "ftruncate", fail)
        node = RawNode(str(image))
        with pytest.raises(OSError, match="No space left"):
            node.resize(8192)
        assert node.size == 4096
        assert locked_bytes(image) == {100, 101, 201}
        node.close()


class TestConflicts:
    @pytest.mark.parametrize(
        ("first_read_only", "second_read_only"), [(False, False), (False, True), (True, False)]
    )
    def test_one_who_writes_uses_an_image_alone(
        self, image: Path, first_read_only: bool, second_read_only: bool
    ) -> None:
        first = RawNode(str(image), read_only=first_read_only)
        before = locked_bytes(image)
        with pytest.raises(ImageLockedError) as caught:
            RawNode(str(image), read_only=second_read_only)
        wanted = 'Failed to get shared "write" lock' if second_read_only else 'Failed to get "write" lock'
        assert str(caught.value.strerror) == f"{wanted}: is another process using the image [{image}]?"
        assert locked_bytes(image) == before, "who was refused left a lock behind, or took another's"
        first.close()
        RawNode(str(image), read_only=second_read_only).close()

    def test_readers_share(self, image: Path) -> None:
        first, second = RawNode(str(image), read_only=True), RawNode(str(image), read_only=True)
        first.close()
        assert locked_bytes(image) == {100, 201}
        second.close()

    def test_an_image_in_use_can_be_looked_at_without_a_lock(self, image: Path) -> None:
        node = RawNode(str(image))
        RawNode(str(image), lock=False).close()
        assert locked_bytes(image) == {100, 101, 201}
        node.close()

    @pytest.mark.parametrize(
        ("held", "refused"),
        [
            (200, 'Failed to get "consistent read" lock'),
            (201, 'Failed to get "write" lock'),
            (101, 'Failed to get shared "write" lock'),
        ],
    )
    def test_each_byte_keeps_out_whom_it_excludes(self, image: Path, held: int, refused: str) -> None:
        with Holder(image, held), pytest.raises(ImageLockedError, match=refused):
            RawNode(str(image))

    @pytest.mark.parametrize("held", [100, 102, 103, 202, 203])
    def test_no_other_byte_keeps_a_disk_from_being_opened(self, image: Path, held: int) -> None:
        with Holder(image, held):
            RawNode(str(image)).close()

    @pytest.mark.parametrize(
        ("held", "refused"), [(203, 'get "resize" lock'), (103, 'get shared "resize" lock')]
    )
    def test_a_size_that_another_relies_on_stays(self, image: Path, held: int, refused: str) -> None:
        node = RawNode(str(image))
        with Holder(image, held):
            with pytest.raises(ImageLockedError, match=refused):
                node.resize(8192)
            assert (node.size, image.stat().st_size) == (4096, 4096)
            assert locked_bytes(image) == {100, 101, 201, held}
        node.resize(8192)
        node.close()

    def test_what_another_tries_for_a_moment_does_not_fail_a_resize(
        self, image: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who opens an image locks first and looks then: a resize that is done must not be told as failed."""
        holders: list[Holder] = []
        truncate = os.ftruncate

        def meet(fd: int, size: int) -> None:
            truncate(fd, size)
            holders.append(Holder(image, 101, 201))

        monkeypatch.setattr(os, "ftruncate", meet)
        node = RawNode(str(image))
        node.resize(8192)
        assert node.size == 8192
        for holder in holders:
            holder.__exit__()
        assert locked_bytes(image) == {100, 101, 201}
        node.close()
