"""Opens the images of drives. An error names the file, as QEMU's does. All may block."""

from __future__ import annotations

from collections.abc import Callable

from qmon.block.image import FORMATS
from qmon.block.image_file import RemoteFileError, keeping_remote
from qmon.block.qcow2.header import Qcow2Error
from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from qmon.notation.nbd_names import NBD


def check_format(format: str | None) -> None:
    """Raises CommandError for an unknown format; None means that it will be probed."""
    if format is not None and format not in (*FORMATS, NBD):
        raise CommandError(f"Unknown driver '{format}'")


def look_at(settings: DriveOptions, new_name: Callable[[], str]) -> Drive:
    """Read an image's header; return an inactive drive for it. Raises CommandError.

    Its exports of other servers stay connected until it is closed.
    """
    try:
        with keeping_remote():
            drive = Drive(settings, new_name)
            drive.chain.hold_remote()
            return drive
    except IsADirectoryError as error:
        raise CommandError(f"'file' driver requires '{settings.file}' to be a regular file") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte, or that can't be encoded
        raise _not_opened(settings, error) from error


def lock(drive: Drive) -> None:
    """Open and lock a drive's image. Raises CommandError."""
    try:
        drive.activate()
    except (OSError, ValueError) as error:
        raise _not_opened(drive.settings, error) from error


def _not_opened(settings: DriveOptions, error: OSError | ValueError) -> CommandError:
    """The error about an image that can't be opened. For a damaged node QEMU names no file."""
    if isinstance(error, RemoteFileError) or (settings.is_node and isinstance(error, Qcow2Error)):
        return CommandError(reason(error))
    return CommandError(f"Could not open '{settings.file}': {reason(error)}")
