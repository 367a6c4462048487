"""What a drive's options say about its image and limits, in terms of files and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qmon.errors import CommandError
from qmon.machine.throttle_group import ThrottleGroup
from qmon.machine.user_object import UserObject
from qmon.notation.drive_options import DriveOptions, node_options, with_image
from qmon.notation.file_names import image_name
from qmon.notation.nbd_names import NBD
from qmon.notation.node_reader import Find, NodeReader, is_json


def resolved(settings: DriveOptions, find: Find) -> DriveOptions:
    """Return settings with an image's path and what backs it, in place of a ``json:`` name or options.

    ``find`` returns an image by its node's name. Raises UsageError or CommandError.
    """
    if settings.options or settings.format == NBD or is_json(settings.file):
        spec = NodeReader(find).read(node_options(settings), settings.file)
        return with_image(settings, spec)
    return replace(settings, file=image_name(settings.file))


def group_of(settings: DriveOptions, objects: Mapping[str, UserObject]) -> ThrottleGroup | None:
    """Return the throttle group of a new node, None if it has none. Raises CommandError."""
    if not settings.is_node or settings.group is None:
        return None
    group = objects.get(settings.group)
    if not isinstance(group, ThrottleGroup):
        raise CommandError(f"Throttle group '{settings.group}' does not exist")
    return group
